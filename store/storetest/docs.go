package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/deed-dev/deed/store"
)

func wantDocConflict(err error, key string, rev uint64) {
	c, ok := errors.AsType[*store.ConflictError](err)
	if !ok || c.Key != key || c.Version != rev {
		fail("got %v, want a conflict on %s at revision %d", err, key, rev)
	}
}

func get(ctx context.Context, s store.Store, coll, key string) store.Doc {
	d, err := s.Get(ctx, coll, key)
	check(err, "get %s/%s", coll, key)
	return d
}

func wantNoDoc(ctx context.Context, s store.Store, coll, key string) {
	_, err := s.Get(ctx, coll, key)
	wantIs(err, store.ErrNotFound, "get %s/%s", coll, key)
}

var docClauses = []Clause{
	clause("docs/put-and-get", "a view's document is what was written last", func(ctx context.Context, s store.Store) {
		wantNoDoc(ctx, s, "v", "k")
		put(ctx, s, "v", "k", `{"text":"zwölf 🙂"}`)
		d := get(ctx, s, "v", "k")
		equal(string(d.Data), `{"text":"zwölf 🙂"}`, "data")
		equal(d.Key, "k", "key")
		equal(d.Rev, 1, "revision")
		put(ctx, s, "v", "k", `{}`)
		d = get(ctx, s, "v", "k")
		equal(string(d.Data), `{}`, "data")
		equal(d.Rev, 2, "revision")
	}),
	clause("docs/compare-and-swap", "two workers with one checkpoint must notice each other", func(ctx context.Context, s store.Store) {
		c := store.Change{Coll: "v", Key: "k", Rev: 1, Data: []byte(`{}`)}
		wantDocConflict(s.Write(ctx, c), "k", 0)
		c.Rev = 0
		check(s.Write(ctx, c), "create")
		wantDocConflict(s.Write(ctx, c), "k", 1)
		c.Rev = 1
		check(s.Write(ctx, c), "change")
		wantDocConflict(s.Write(ctx, c), "k", 2)
		equal(get(ctx, s, "v", "k").Rev, 2, "revision")
	}),
	clause("docs/one-of-many-wins", "one worker gets the lease", func(ctx context.Context, s store.Store) {
		for round := range uint64(20) {
			won, lost := race(8, func(i int) error {
				return s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: round, Data: fmt.Appendf(nil, `{"by":%d}`, i)})
			})
			equal(won, 1, "writers that won")
			equal(lost, 7, "writers that met a conflict")
		}
	}),
	clause("docs/delete", "a dropped document is gone", func(ctx context.Context, s store.Store) {
		put(ctx, s, "v", "k", `{}`)
		wantDocConflict(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: 7}), "k", 1)
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: 1}), "delete")
		wantNoDoc(ctx, s, "v", "k")
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: 0}), "delete what is not there")
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: store.AnyRev}), "delete what is not there")
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: 0, Data: []byte(`1`)}), "create anew")
		equal(string(get(ctx, s, "v", "k").Data), "1", "data")
	}),
	clause("docs/all-or-nothing", "a batch's documents and its cursor are one", func(ctx context.Context, s store.Store) {
		put(ctx, s, "v", "a", `1`)
		put(ctx, s, "v", "gone", `1`)
		doc := func(key string, rev uint64, data string) store.Change {
			return store.Change{Coll: "v", Key: key, Rev: rev, Data: []byte(data)}
		}
		err := s.Write(ctx, doc("a", store.AnyRev, `2`), doc("b", 0, `2`), store.Change{Coll: "v", Key: "gone", Rev: 1}, store.Change{Coll: "w", Key: "c", Rev: 3, Data: []byte(`2`)})
		wantDocConflict(err, "c", 0)
		equal(string(get(ctx, s, "v", "a").Data), "1", "data of a")
		wantNoDoc(ctx, s, "v", "b")
		get(ctx, s, "v", "gone")
		check(s.Write(ctx, doc("a", 1, `2`), doc("b", 0, `2`), store.Change{Coll: "v", Key: "gone", Rev: 1}, store.Change{Coll: "w", Key: "c", Data: []byte(`2`)}), "write")
		equal(string(get(ctx, s, "v", "a").Data), "2", "data of a")
		equal(string(get(ctx, s, "w", "c").Data), "2", "data of c")
		wantNoDoc(ctx, s, "v", "gone")
	}),
	clause("docs/collections-apart", "two views may use the same keys", func(ctx context.Context, s store.Store) {
		put(ctx, s, "v", "k", `1`)
		put(ctx, s, "V", "k", `2`)
		put(ctx, s, "v", "K", `3`)
		equal(string(get(ctx, s, "v", "k").Data), "1", "v/k")
		equal(string(get(ctx, s, "V", "k").Data), "2", "V/k")
		equal(string(get(ctx, s, "v", "K").Data), "3", "v/K")
		wantNoDoc(ctx, s, "V", "K")
	}),
	clause("docs/invalid", "what one store accepts and another refuses cannot be moved between them", func(ctx context.Context, s store.Store) {
		ok := store.Change{Coll: "v", Key: "k", Data: []byte(`1`)}
		for name, changes := range map[string][]store.Change{
			"no collection": {{Key: "k", Data: []byte(`1`)}},
			"no key":        {{Coll: "v", Data: []byte(`1`)}},
			"NUL in key":    {{Coll: "v", Key: "\x00", Data: []byte(`1`)}},
			"twice":         {ok, ok},
			"too large":     {{Coll: "v", Key: "k", Data: make([]byte, store.MaxData+1)}},
		} {
			wantIs(s.Write(ctx, changes...), store.ErrInvalid, "%s", name)
		}
		wantNoDoc(ctx, s, "v", "k")
	}),
	clause("docs/own-bytes", "a caller that reuses a buffer must not change a document", func(ctx context.Context, s store.Store) {
		data := []byte(`{"a":1}`)
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Data: data}), "write")
		copy(data, "broken!")
		d := get(ctx, s, "v", "k")
		equal(string(d.Data), `{"a":1}`, "data")
		copy(d.Data, "broken!")
		for d := range s.List(ctx, "v", "", "") {
			equal(string(d.Data), `{"a":1}`, "listed data")
		}
	}),
	clause("docs/list", "a page of a view is in the order of its keys", func(ctx context.Context, s store.Store) {
		want := []string{"A", "a", "a/1", "a/10", "a/2", "b", "zwölf", "zz"}
		for _, i := range rand.Perm(len(want)) {
			put(ctx, s, "v", want[i], `{"k":"`+want[i]+`"}`)
		}
		slices.Sort(want)
		put(ctx, s, "w", "other", `1`)
		for _, c := range []struct{ prefix, after string }{{"", ""}, {"a", ""}, {"a/", ""}, {"", "a/1"}, {"a/", "a/1"}, {"a", "b"}, {"none", ""}, {"", "zz"}} {
			var expect []string
			for _, k := range want {
				if k > c.after && len(k) >= len(c.prefix) && k[:len(c.prefix)] == c.prefix {
					expect = append(expect, k)
				}
			}
			docs := collect(s.List(ctx, "v", c.prefix, c.after), "list")
			equalSlices(keys(docs), expect, "list %+v", c)
			for _, d := range docs {
				equal(string(d.Data), `{"k":"`+d.Key+`"}`, "data of %s", d.Key)
				equal(d.Rev, 1, "revision of %s", d.Key)
			}
		}
	}),
	clause("docs/list-long", "what is read in pieces must be whole", func(ctx context.Context, s store.Store) {
		want := putMany(ctx, s, "v", 1300, `{}`)
		list, find := s.List(ctx, "v", "k", ""), store.Find(ctx, s, "v", store.Query{})
		for range 2 { // each time reads anew
			equalSlices(keys(collect(list, "list")), want, "list")
			equalSlices(keys(collect(find, "find")), want, "find")
		}
	}),
	clause("docs/list-while-writing", "a reader of a view must not stand in the way of its writer", func(ctx context.Context, s store.Store) {
		putMany(ctx, s, "v", 50, `{}`)
		seen := map[string]bool{}
		for d, err := range s.List(ctx, "v", "", "") {
			check(err, "list")
			equal(seen[d.Key], false, "%s listed twice", d.Key)
			seen[d.Key] = true
			put(ctx, s, "v", d.Key, `{"changed":true}`)
		}
		equal(len(seen), 50, "documents")
	}),
	clause("docs/drop", "a rebuilt view leaves nothing behind", func(ctx context.Context, s store.Store) {
		check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes")
		putMany(ctx, s, "v", 30, `{"n":1}`)
		put(ctx, s, "w", "k", `{}`)
		check(store.DropColl(ctx, s, "v"), "drop")
		equal(len(collect(s.List(ctx, "v", "", ""), "list")), 0, "documents left")
		get(ctx, s, "w", "k")
		check(store.DropColl(ctx, s, "v"), "drop again")
		check(store.DropColl(ctx, s, "never"), "drop what never was")
		put(ctx, s, "v", "k", `{"n":2}`)
		equal(string(get(ctx, s, "v", "k").Data), `{"n":2}`, "data")
	}),
	clause("docs/snapshot", "two generations of a view are compared while both go on", func(ctx context.Context, s store.Store) {
		putMany(ctx, s, "v", 1300, `{"n":1}`)
		put(ctx, s, "w", "k", `{"n":1}`)
		err := store.Snapshot(ctx, s, func(then store.Reading) error {
			d, err := then.Get(ctx, "w", "k")
			check(err, "get")
			equal(string(d.Data), `{"n":1}`, "data")
			check(s.Write(ctx,
				store.Change{Coll: "w", Key: "k", Rev: store.AnyRev, Data: []byte(`{"n":2}`)},
				store.Change{Coll: "v", Key: "k01250", Rev: store.AnyRev, Data: []byte(`{"n":2}`)},
				store.Change{Coll: "v", Key: "k01260", Rev: store.AnyRev},
				store.Change{Coll: "v", Key: "z", Rev: store.AnyRev, Data: []byte(`{"n":2}`)},
			), "write meanwhile")
			n := 0
			for d, err := range then.List(ctx, "v", "", "") {
				check(err, "list")
				equal(string(d.Data), `{"n":1}`, "data of %s", d.Key)
				n++
			}
			equal(n, 1300, "documents")
			if d, err = then.Get(ctx, "w", "k"); err != nil || string(d.Data) != `{"n":1}` {
				fail("got %s, %v, want what was there before", d.Data, err)
			}
			_, err = then.Get(ctx, "v", "z")
			wantIs(err, store.ErrNotFound, "get one that was made meanwhile")
			return errLooked
		})
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		wantIs(err, errLooked, "what look returned")
		equal(string(get(ctx, s, "w", "k").Data), `{"n":2}`, "data")
		equal(len(collect(s.List(ctx, "v", "", ""), "list")), 1300, "documents")
	}),
}

var errLooked = errors.New("looked")

var findClauses = []Clause{
	clause("find/where", "the console filters views", func(ctx context.Context, s store.Store) {
		fruits(ctx, s)
		for _, c := range []struct {
			cond store.Cond
			want []string
		}{
			{store.Cond{Field: "n", Op: "=", Value: int64(2)}, []string{"b", "c"}},
			{store.Cond{Field: "n", Op: "!=", Value: int64(2)}, []string{"a", "d", "e", "f", "g"}},
			{store.Cond{Field: "n", Op: ">", Value: 1.5}, []string{"b", "c", "d", "g"}},
			{store.Cond{Field: "n", Op: "<=", Value: int64(2)}, []string{"a", "b", "c", "f"}},
			{store.Cond{Field: "n", Op: "=", Value: nil}, []string{"e"}},
			{store.Cond{Field: "n", Op: "!=", Value: nil}, []string{"a", "b", "c", "d", "f", "g"}},
			{store.Cond{Field: "s", Op: ">=", Value: "b"}, []string{"b", "c"}},
			{store.Cond{Field: "s", Op: "=", Value: "ä'%_"}, []string{"c"}},
			{store.Cond{Field: "sub.x", Op: "=", Value: int64(7)}, []string{"d"}},
			{store.Cond{Field: "sub", Op: "=", Value: nil}, []string{"a", "b", "c", "d", "e", "f", "g"}},
			{store.Cond{Field: "ok", Op: "=", Value: true}, []string{"a"}},
			{store.Cond{Field: "ok", Op: "<", Value: true}, []string{"b"}},
		} {
			q := store.Query{Where: []store.Cond{c.cond}}
			equalSlices(keys(collect(store.Find(ctx, s, "v", q), "find")), c.want, "%+v", c.cond)
		}
	}),
	clause("find/sort", "the console sorts views", func(ctx context.Context, s store.Store) {
		fruits(ctx, s)
		for _, c := range []struct {
			q    store.Query
			want []string
		}{
			{store.Query{Sort: "n"}, []string{"e", "f", "a", "b", "c", "d", "g"}},
			{store.Query{Sort: "n", Desc: true}, []string{"g", "d", "c", "b", "a", "f", "e"}},
			{store.Query{Desc: true, Limit: 2}, []string{"g", "f"}},
			{store.Query{After: &store.Mark{Value: int64(2), Key: "e"}}, []string{"f", "g"}},
			{store.Query{Sort: "n", Limit: 3}, []string{"e", "f", "a"}},
			{store.Query{Sort: "n", After: &store.Mark{Value: int64(2), Key: "b"}}, []string{"c", "d", "g"}},
			{store.Query{Sort: "n", After: &store.Mark{Value: nil, Key: "e"}}, []string{"f", "a", "b", "c", "d", "g"}},
			{store.Query{Sort: "n", Desc: true, After: &store.Mark{Value: int64(2), Key: "b"}}, []string{"a", "f", "e"}},
		} {
			equalSlices(keys(collect(store.Find(ctx, s, "v", c.q), "find")), c.want, "%+v", c.q)
		}
	}),
	clause("find/like-the-reference", "a filter means the same on every store", func(ctx context.Context, s store.Store) {
		r := rand.New(rand.NewPCG(1, 2))
		var changes []store.Change
		for i := range 300 {
			changes = append(changes, store.Change{Coll: "v", Key: fmt.Sprintf("k%03d", r.IntN(1000)+1000*i), Data: []byte(randomDoc(r))})
		}
		check(s.Write(ctx, changes...), "write")
		check(store.EnsureIndexes(ctx, s, "v", []string{"a", "b.c"}), "indexes")
		all := collect(s.List(ctx, "v", "", ""), "list")
		docs := func(yield func(store.Doc, error) bool) {
			for i := 0; i < len(all) && yield(all[i], nil); i++ {
			}
		}
		queries := 150
		if _, own := s.(store.Indexer); !own {
			queries = 15 // the answer is a scan, too
		}
		for range queries {
			q := randomQuery(r)
			want := keys(collect(store.Scan(docs, q), "scan"))
			equalSlices(keys(collect(store.Find(ctx, s, "v", q), "find")), want, "%+v", q)
		}
	}),
	clause("find/follows-changes", "an index that lags shows what is no longer so", func(ctx context.Context, s store.Store) {
		check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes")
		put(ctx, s, "v", "k", `{"n":1}`)
		check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes again")
		put(ctx, s, "v", "k", `{"n":2}`)
		put(ctx, s, "other", "k", `{"n":1}`)
		is := func(n int64) []string {
			return keys(collect(store.Find(ctx, s, "v", store.Query{Where: []store.Cond{{Field: "n", Op: "=", Value: n}}}), "find"))
		}
		equalSlices(is(1), nil, "documents with 1")
		equalSlices(is(2), []string{"k"}, "documents with 2")
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: store.AnyRev}), "delete")
		equalSlices(is(2), nil, "documents with 2")
	}),
	clause("find/count", "a page says how many there are in all", func(ctx context.Context, s store.Store) {
		fruits(ctx, s)
		put(ctx, s, "w", "a", `{"n":2}`)
		for _, c := range []struct {
			q    store.Query
			want int
		}{
			{store.Query{}, 7},
			{store.Query{Where: []store.Cond{{Field: "n", Op: "=", Value: int64(2)}}}, 2},
			{store.Query{Where: []store.Cond{{Field: "n", Op: "!=", Value: int64(2)}, {Field: "ok", Op: "=", Value: nil}}}, 4},
			{store.Query{Where: []store.Cond{{Field: "sub", Op: "=", Value: nil}}, Sort: "n", After: &store.Mark{Value: int64(2), Key: "b"}, Limit: 1}, 7},
			{store.Query{Where: []store.Cond{{Field: "none", Op: "=", Value: int64(1)}}}, 0},
		} {
			n, err := store.Count(ctx, s, "v", c.q)
			check(err, "count")
			equal(n, c.want, "%+v", c.q)
		}
		n, err := store.Count(ctx, s, "never", store.Query{})
		check(err, "count nothing")
		equal(n, 0, "documents of no collection")
		_, err = store.Count(ctx, s, "v", store.Query{Where: []store.Cond{{Field: "n", Op: "LIKE", Value: "%"}}})
		wantIs(err, store.ErrInvalid, "count what is no condition")
	}),
	clause("find/invalid", "a filter comes from outside", func(ctx context.Context, s store.Store) {
		put(ctx, s, "v", "k", `{}`)
		for name, q := range map[string]store.Query{
			"operator": {Where: []store.Cond{{Field: "n", Op: "LIKE", Value: "%"}}},
			"field":    {Where: []store.Cond{{Field: `n"') OR 1=1 --`, Op: "=", Value: "x"}}},
			"value":    {Where: []store.Cond{{Field: "n", Op: "=", Value: []byte("x")}}},
			"sort":     {Sort: "n;"},
			"mark":     {Sort: "n", After: &store.Mark{Value: struct{}{}, Key: "k"}},
		} {
			var got error
			for _, got = range store.Find(ctx, s, "v", q) {
			}
			wantIs(got, store.ErrInvalid, "%s", name)
		}
	}),
}

func fruits(ctx context.Context, s store.Store) {
	check(store.EnsureIndexes(ctx, s, "v", []string{"n", "s", "sub.x", "ok"}), "indexes")
	for key, data := range map[string]string{
		"a": `{"n":1,"s":"a","ok":true}`, "b": `{"n":2,"s":"b","ok":false}`, "c": `{"n":2.0,"s":"ä'%_"}`,
		"d": `{"n":3,"sub":{"x":7}}`, "e": `{"n":null,"sub":[7]}`, "f": `{"n":false}`, "g": `{"n":"text"}`,
	} {
		put(ctx, s, "v", key, data)
	}
}

func randomScalar(r *rand.Rand) (string, any) {
	switch r.IntN(8) {
	case 0:
		return "null", nil
	case 1:
		return "true", true
	case 2:
		return "false", false
	case 3:
		f := float64(r.IntN(20)) / 4
		return fmt.Sprintf("%g", f), f
	case 4:
		return "9007199254740993", int64(9007199254740993)
	case 5:
		s := []string{"", "a", "b", "Z", "ä", "a b", "10", "'"}[r.IntN(8)]
		return `"` + s + `"`, s
	}
	n := int64(r.IntN(6)) - 2
	return fmt.Sprint(n), n
}

func randomDoc(r *rand.Rand) string {
	a, _ := randomScalar(r)
	c, _ := randomScalar(r)
	switch r.IntN(6) {
	case 0:
		return `{}`
	case 1:
		return `{"a":[` + a + `],"b":` + c + `}`
	case 2:
		return `{"b":{"c":` + c + `}}`
	}
	return `{"a":` + a + `,"b":{"c":` + c + `}}`
}

func randomQuery(r *rand.Rand) store.Query {
	fields := []string{"a", "b.c", "b", "none"}
	var q store.Query
	for range r.IntN(3) {
		_, v := randomScalar(r)
		q.Where = append(q.Where, store.Cond{Field: fields[r.IntN(4)], Op: []string{"=", "!=", "<", "<=", ">", ">="}[r.IntN(6)], Value: v})
	}
	if r.IntN(3) > 0 {
		q.Sort = fields[r.IntN(4)]
	}
	q.Desc = r.IntN(2) == 0
	if r.IntN(2) == 0 {
		q.After = &store.Mark{Key: fmt.Sprintf("k%03d", r.IntN(300_000))}
		if q.Sort != "" {
			_, q.After.Value = randomScalar(r)
		}
	}
	if r.IntN(2) == 0 {
		q.Limit = 1 + r.IntN(20)
	}
	return q
}
