package postgres_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

var finds = flag.Int("finds", 40, "random queries to compare with the reference")

// values are as awkward as fields can be; strings part before, at and behind what
// an index has of them.
func values() []string {
	var out []string
	for _, s := range []string{"", "a", "\x00", "\x00a", "a\x00b", "ä", "\U0010ffff", "\\", `"`, "%", "null", "1"} {
		out = append(out, quoted(s))
	}
	for _, n := range []int{998, 999, 1000, 1001, 2000} {
		for _, end := range []string{"", "a", "b", "\x00", "ä"} {
			out = append(out, quoted(strings.Repeat("x", n)+end))
		}
	}
	return append(out, "null", "true", "false", "0", "-0", "-0.0", "1", "0.5", "-1", "1.0", "1e3", "1e400", "-1e400", "5e-324", "{}", "[1]",
		"9007199254740991", "9007199254740992", "9007199254740993", "9007199254740992.0", "9223372036854775807", "9223372036854775806",
		"9223372036854775808", "-9223372036854775808", "-9223372036854775807", "-9223372036854775809", "18446744073709551616", "9223372036854775295")
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Find means what store.Scan does, for every query.
func TestFindMeansWhatScanDoes(t *testing.T) {
	t.Parallel()
	s := openWith(t, server.DSN(server.Schema()), nil)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	all := values()
	pick := func() string { return all[rnd.IntN(len(all))] }
	for n := 0; n < 1500; n += 300 { // more than a chunk
		if n == 900 { // those there are get their values, others later
			if err := patiently(func() error { return s.EnsureIndexes(t.Context(), "c", []string{"a", "b.c"}) }); err != nil {
				t.Fatal(err)
			}
		}
		var cs []store.Change
		for i := range 300 {
			cs = append(cs, store.Change{Coll: "c", Key: fmt.Sprintf("%x-%d", rnd.IntN(1<<16), n+i), Data: fmt.Appendf(nil, `{"a":%s,"b":{"c":%s}}`, pick(), pick())})
		}
		if err := patiently(func() error { return s.Write(t.Context(), cs...) }); err != nil {
			t.Fatal(err)
		}
	}
	docs := must[[]store.Doc](t)(collect(s.List(t.Context(), "c", "", "")))
	reference := func(q store.Query) []string {
		return keys(must[[]store.Doc](t)(collect(store.Scan(func(yield func(store.Doc, error) bool) {
			for _, d := range docs {
				if !yield(d, nil) {
					return
				}
			}
		}, q))))
	}
	value := func() any { return store.FieldOf([]byte(`{"v":`+pick()+`}`), "v") }
	for range *finds {
		q := query(rnd, docs, value)
		got, err := collect(s.Find(t.Context(), "c", q))
		if want := reference(q); err != nil || !slices.Equal(keys(got), want) {
			t.Fatalf("seed %d: %.300v finds %d documents, want %d (%v)", seed, fmt.Sprintf("%+v", q), len(got), len(want), err)
		}
	}
}

// query makes a random query. Its mark is that of a document, or a value and a
// key that need not be there.
func query(rnd *rand.Rand, docs []store.Doc, value func() any) store.Query {
	fields := []string{"a", "b.c"}
	q := store.Query{Desc: rnd.IntN(2) == 0, Sort: append(fields, "")[rnd.IntN(3)]}
	for range rnd.IntN(3) {
		ops := []string{"=", "!=", "<", "<=", ">", ">="}
		v := value()
		if f, ok := v.(float64); ok && math.IsNaN(f) {
			v = nil
		}
		q.Where = append(q.Where, store.Cond{Field: fields[rnd.IntN(2)], Op: ops[rnd.IntN(len(ops))], Value: v})
	}
	if rnd.IntN(3) == 0 {
		q.Limit = 1 + rnd.IntN(1500)
	}
	if d := docs[rnd.IntN(len(docs))]; rnd.IntN(3) > 0 {
		q.After = &store.Mark{Key: d.Key}
		if q.Sort != "" {
			if q.After.Value = store.FieldOf(d.Data, q.Sort); rnd.IntN(3) == 0 {
				q.After.Value = value()
			}
		}
	}
	return q
}

func keys(docs []store.Doc) (out []string) {
	for _, d := range docs {
		out = append(out, d.Key)
	}
	return out
}

// A prefix may end anywhere, also where there is no greater one.
func TestListPrefixes(t *testing.T) {
	s := openWith(t, server.DSN(server.Schema()), nil)
	all := []string{"a", "a%", "a_", "aa", "ab", "b", "ÿ", "ÿÿ", "\U0010ffff", "\U0010ffff\U0010ffff", "z"}
	slices.Sort(all)
	for _, k := range all {
		if err := s.Write(t.Context(), store.Change{Coll: "c", Key: k, Data: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range append(slices.Clone(all), "", "a\x00", "\xff", "\xff\xff", "ÿ\xff", "\xf4\x8f") {
		for _, after := range append(slices.Clone(all), "", "\xff") {
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if got, err := collect(s.List(t.Context(), "c", prefix, after)); err != nil || !slices.Equal(keys(got), want) {
				t.Errorf("prefix %q after %q: %q, want %q (%v)", prefix, after, keys(got), want, err)
			}
		}
	}
}
