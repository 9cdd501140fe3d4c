package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/deed-dev/deed/store"
)

// farClauses are about what spares a store that is far away some questions.
var farClauses = []Clause{
	clause("far/tail", "a follower counts as read what comes before the head it was told", func(ctx context.Context, s store.Store) {
		for i := range 40 {
			must(ctx, s, write(fmt.Sprintf("%c/1", 'a'+i%3), store.Any, evs(1+i%7)...))
		}
		whole := all(ctx, s, store.Start, store.Filter{})
		for _, f := range []store.Filter{{}, {Categories: []string{"b"}}, {Limit: 5}, {Categories: []string{"none"}}} {
			for _, after := range []store.Cursor{store.Start, store.CursorAt(whole[20].Position), head(ctx, s)} {
				end, recs, err := store.Tail(ctx, s, after, f)
				check(err, "tail")
				equal(end, head(ctx, s), "head")
				equalSlices(places(collect(recs, "tail")), places(all(ctx, s, after, f)), "records after %q by %+v", after, f)
			}
		}
	}),
	clause("far/tail-while-writing", "a follower counts as read what comes before the head it was told", func(ctx context.Context, s store.Store) {
		const rounds = 60
		done := make(chan error, 1)
		go func() {
			for range rounds {
				if _, err := s.Append(ctx, write("a/1", store.Any, evs(3)...)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		at, seen := store.Start, 0
		for written := false; !written; {
			select {
			case err := <-done:
				check(err, "append")
				written = true // this round reads the rest
			default:
			}
			end, recs, err := store.Tail(ctx, s, at, store.Filter{})
			check(err, "tail")
			for _, r := range collect(recs, "tail") {
				seen++
				equal(r.Version, uint64(seen), "version")
				at = at.Advance(r.Position)
			}
			at = at.Join(end)
		}
		equal(seen, 3*rounds, "records")
	}),
	clause("far/get-many", "a batch begins with the documents as the last one left them", func(ctx context.Context, s store.Store) {
		want, names := map[string]string{}, []string{"none", "gone"}
		put(ctx, s, "v", "gone", `{}`)
		check(s.Write(ctx, store.Change{Coll: "v", Key: "gone", Rev: store.AnyRev}), "delete")
		equal(len(getMany(ctx, s, names)), 0, "documents")
		var changes []store.Change
		for i := range 300 {
			k := fmt.Sprintf("k.%d/ü", i)
			changes = append(changes, store.Change{Coll: "v", Key: k, Data: fmt.Appendf(nil, `{"n":%d}`, i)},
				store.Change{Coll: "w", Key: k, Data: []byte(`{"of":"another collection"}`)})
			want[k], names = fmt.Sprintf("1 {\"n\":%d}", i), append(names, k)
		}
		check(s.Write(ctx, changes...), "write")
		for round := range 20 {
			k := names[2+round]
			put(ctx, s, "v", k, `{"again":true}`)
			want[k] = `2 {"again":true}`
			equalSlices(getMany(ctx, s, names), texts(want), "documents after round %d", round)
		}
	}),
}

func getMany(ctx context.Context, s store.Store, names []string) []string {
	docs, err := store.GetMany(ctx, s, "v", names)
	check(err, "get many")
	got := map[string]string{}
	for k, d := range docs {
		got[k] = fmt.Sprintf("%d %s", d.Rev, d.Data)
		equal(d.Key, k, "key")
	}
	return texts(got)
}

func texts(docs map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(docs)) {
		out = append(out, k+" "+docs[k])
	}
	return out
}
