package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
)

// inOrder are field values, each less than the next.
var inOrder = []any{
	nil,
	math.Inf(-1), -1e300, int64(math.MinInt64), int64(-3), -2.5, int64(-2), int64(0), 0.5, int64(1), 1.5, int64(2),
	int64(1<<53 - 1), float64(1 << 53), int64(1<<53 + 1), int64(math.MaxInt64), float64(1 << 63), 1e300, math.Inf(1),
	"", "10", "2", "A", "a", "a ", "aa", "ä", "\uffee", "😀",
}

func TestCompare(t *testing.T) {
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got, want := store.Compare(a, b), cmp.Compare(i, j); got != want {
				t.Errorf("compare %#v and %#v: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]any{{false, int64(0)}, {true, int64(1)}, {true, 1.0}, {int64(2), 2.0}, {int64(math.MinInt64), -float64(1 << 63)}, {0.0, math.Copysign(0, -1)}} {
		if store.Compare(same[0], same[1]) != 0 || store.Compare(same[1], same[0]) != 0 {
			t.Errorf("%#v and %#v are not equal", same[0], same[1])
		}
	}
}

func TestFieldOf(t *testing.T) {
	const doc = `{"n":1,"big":9007199254740993,"huge":18446744073709551616,"f":1.50,"e":1e2,"t":true,"no":false,"s":"zwölf \u0000",
		"nil":null,"list":[1],"sub":{"x":{"y":7},"s":"in"},"":{"":3},"N":2}`
	for _, tt := range []struct {
		field string
		want  any
	}{
		{"n", int64(1)}, {"big", int64(9007199254740993)}, {"huge", 18446744073709551616.0}, {"f", 1.5}, {"e", 100.0},
		{"t", true}, {"no", false}, {"s", "zwölf \x00"}, {"nil", nil}, {"list", nil}, {"list.0", nil}, {"sub", nil},
		{"sub.x.y", int64(7)}, {"sub.s", "in"}, {"sub.x", nil}, {"sub.none", nil}, {"n.x", nil}, {"N", int64(2)}, {"S", nil}, {"none.at.all", nil},
	} {
		if got := store.FieldOf([]byte(doc), tt.field); got != tt.want {
			t.Errorf("%s is %#v, want %#v", tt.field, got, tt.want)
		}
		if got := store.FieldsOf([]byte(doc), []string{"n", tt.field}); got[0] != int64(1) || got[1] != tt.want {
			t.Errorf("n and %s are %#v, want %#v", tt.field, got, tt.want)
		}
	}
	for _, doc := range []string{"", "null", "7", `"n"`, "[]", "{", "not json"} {
		if got := store.FieldOf([]byte(doc), "n"); got != nil {
			t.Errorf("n of %q is %#v, want nil", doc, got)
		}
		if got := store.FieldsOf([]byte(doc), []string{"n", "n.x"}); len(got) != 2 || got[0] != nil || got[1] != nil {
			t.Errorf("n and n.x of %q are %#v, want nil", doc, got)
		}
	}
}

func TestCheckQuery(t *testing.T) {
	where := func(field, op string, v any) store.Query {
		return store.Query{Where: []store.Cond{{Field: field, Op: op, Value: v}}}
	}
	good := []store.Query{{}, {Sort: "a.b-c_9", Limit: 1}, {After: &store.Mark{Key: "k"}}}
	for _, op := range []string{"=", "!=", "<", "<=", ">", ">="} {
		for _, v := range []any{nil, true, int64(1), 1.5, math.Inf(1), "s"} {
			good = append(good, where("n", op, v))
		}
	}
	for _, q := range good {
		if err := store.CheckQuery(q); err != nil {
			t.Errorf("%+v is refused: %v", q, err)
		}
	}
	for _, q := range []store.Query{
		where("n", "", 1.5), where("n", "==", 1.5), where("n", "like", "x"), where("", "=", "x"), where("a..b", "=", "x"), where(".a", "=", "x"),
		where("a'b", "=", "x"), where("ä", "=", "x"), where("a b", "=", "x"), where(strings.Repeat("n", store.MaxName+1), "=", "x"),
		where("n", "=", 1), where("n", "=", []byte("x")), where("n", "=", map[string]any{}), where("n", "=", math.NaN()),
		{Sort: "a\x00"}, {Sort: "n", After: &store.Mark{Value: float32(1)}}, {Sort: "n", After: &store.Mark{Value: math.NaN()}},
	} {
		if err := store.CheckQuery(q); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: got %v, want ErrInvalid", q, err)
		}
		for _, err := range store.Scan(listed(), q) {
			if !errors.Is(err, store.ErrInvalid) {
				t.Errorf("scan for %+v: got %v, want ErrInvalid", q, err)
			}
		}
	}
}

func listed(docs ...store.Doc) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func scan(docs []store.Doc, q store.Query) string {
	var keys []string
	for d, err := range store.Scan(listed(docs...), q) {
		if err != nil {
			return err.Error()
		}
		keys = append(keys, d.Key)
	}
	return strings.Join(keys, " ")
}

func TestScan(t *testing.T) {
	var docs []store.Doc
	for i, data := range []string{`{"n":2}`, `{"n":1}`, `{}`, `{"n":"x"}`, `{"n":2.5}`, `{"n":null}`, `{"n":2}`, `{"n":true}`} {
		docs = append(docs, store.Doc{Key: string(rune('a' + i)), Data: []byte(data)})
	}
	slices.Reverse(docs) // the order they come in does not matter
	n := func(op string, v any) store.Query {
		return store.Query{Where: []store.Cond{{Field: "n", Op: op, Value: v}}}
	}
	for _, tt := range []struct {
		q    store.Query
		want string
	}{
		{store.Query{}, "a b c d e f g h"},
		{store.Query{Desc: true}, "h g f e d c b a"},
		{store.Query{Limit: 2}, "a b"},
		{store.Query{After: &store.Mark{Key: "f"}}, "g h"},
		{store.Query{After: &store.Mark{Value: int64(9), Key: "f"}}, "g h"},
		{store.Query{Sort: "n"}, "c f b h a g e d"},
		{store.Query{Sort: "n", Desc: true}, "d e g a h b f c"},
		{store.Query{Sort: "n", After: &store.Mark{Value: int64(2), Key: "a"}, Limit: 2}, "g e"},
		{store.Query{Sort: "n", Desc: true, After: &store.Mark{Value: nil, Key: "f"}}, "c"},
		{n("=", 2.0), "a g"}, {n("!=", int64(2)), "b c d e f h"}, {n("<", int64(2)), "b h"}, {n("<=", true), "b h"},
		{n(">", int64(2)), "d e"}, {n(">=", "a"), "d"}, {n("=", nil), "c f"}, {n("!=", nil), "a b d e g h"}, {n("<", nil), ""}, {n(">=", nil), ""},
		{store.Query{Where: []store.Cond{{Field: "n", Op: ">", Value: int64(1)}, {Field: "n", Op: "<", Value: "a"}}}, "a e g"},
	} {
		if got := scan(docs, tt.q); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.q, got, tt.want)
		}
	}
}

// A collection that cannot be read to its end is an error, not a short answer.
func TestScanPassesErrorsOn(t *testing.T) {
	torn := func(yield func(store.Doc, error) bool) {
		_ = yield(store.Doc{Key: "a"}, nil) && yield(store.Doc{}, store.ErrCorrupt)
	}
	n := 0
	for _, err := range store.Scan(torn, store.Query{}) {
		if n++; !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	}
	if n != 1 {
		t.Errorf("the loop ran %d times, want once", n)
	}
}

// Whatever comes from outside is refused or answered; and pages, each after
// the last document of the one before, are together the whole.
func FuzzQuery(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, `{"a":{"b":"x"}}`, `{}`, "a.b", "!=", "x", int64(1), false)
	f.Add(`{"n":1}`, `{"n":1.0}`, `{"n":9007199254740993}`, "n", "<=", "", int64(1<<53), true)
	f.Fuzz(func(t *testing.T, x, y, z, field, op, text string, number int64, desc bool) {
		docs := []store.Doc{{Key: "x", Data: []byte(x)}, {Key: "y", Data: []byte(y)}, {Key: "z", Data: []byte(z)}}
		for _, v := range []any{text, number, float64(number) / 3, nil, desc} {
			q := store.Query{Where: []store.Cond{{Field: field, Op: op, Value: v}}, Sort: field, Desc: desc}
			whole := scan(docs, q)
			if err := store.CheckQuery(q); err != nil {
				if whole != err.Error() {
					t.Fatalf("%+v is invalid, but answered by %s", q, whole)
				}
				continue
			}
			var pages []string
			q.Limit = 1
			for range len(docs) + 1 {
				page := scan(docs, q)
				if page == "" {
					break
				}
				pages = append(pages, page)
				q.After = &store.Mark{Value: store.FieldOf(docs[page[0]-'x'].Data, field), Key: page}
			}
			if got := strings.Join(pages, " "); got != whole {
				t.Fatalf("%+v: the pages are %s, the whole is %s", q, got, whole)
			}
		}
	})
}

func ExampleScan() {
	docs := listed(
		store.Doc{Key: "o-1", Data: []byte(`{"city":"Ulm","total":40}`)},
		store.Doc{Key: "o-2", Data: []byte(`{"city":"Bonn","total":9}`)},
		store.Doc{Key: "o-3", Data: []byte(`{"city":"Ulm","total":7}`)},
	)
	q := store.Query{Where: []store.Cond{{Field: "city", Op: "=", Value: "Ulm"}}, Sort: "total"}
	for d, err := range store.Scan(docs, q) {
		fmt.Println(d.Key, err)
	}
	// Output:
	// o-3 <nil>
	// o-1 <nil>
}
