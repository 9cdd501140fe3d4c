package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/deed-dev/deed/store"
)

// bothClauses hold for stores that record events and change documents in one go;
// others pass.
var bothClauses = []Clause{
	bothClause("both/all-or-nothing", "a view that is updated with the events must never have what was refused", func(ctx context.Context, s store.Atomic, all store.Store) {
		put(ctx, all, "v", "k", `{"n":1}`)
		got, err := s.AppendWith(ctx, []store.Write{write("a/1", store.None, evs(2)...), write("a/2", store.None, evs(1)...)}, []store.Change{change("k", 1, 2), change("l", 0, 1)}, nil)
		check(err, "append with documents")
		equal(got[0].Version, 2, "version")
		equal(got[1].Position.Seq > got[0].Position.Seq, true, "positions grow")
		equal(string(get(ctx, all, "v", "k").Data), `{"n":2}`, "changed")
		equal(string(get(ctx, all, "v", "l").Data), `{"n":1}`, "new")

		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(1), evs(1)...)}, []store.Change{change("k", 2, 3)}, nil)
		wantConflict(err, "a/1", 2)
		equal(get(ctx, all, "v", "k").Rev, 2, "revision after a conflict of a stream")
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(2), evs(1)...), write("a/3", store.None, evs(1)...)}, []store.Change{change("l", 1, 2), change("k", 1, 3)}, nil)
		wantDocConflict(err, "k", 2)
		equalSlices(versions(stream(ctx, all, "a/1")), []uint64{1, 2}, "the stream after a conflict of a document")
		equal(len(stream(ctx, all, "a/3")), 0, "the new stream after a conflict of a document")
		equal(get(ctx, all, "v", "l").Rev, 1, "the other document after a conflict of a document")
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(9), evs(1)...)}, []store.Change{change("k", 1, 3)}, nil)
		wantConflict(err, "a/1", 2) // of both, the stream is named
		_, err = s.AppendWith(ctx, []store.Write{write("a/3", store.None, evs(1)...)}, []store.Change{{Coll: "v", Key: "k", Rev: 2}}, nil)
		check(err, "delete with an append")
		_, err = all.Get(ctx, "v", "k")
		wantIs(err, store.ErrNotFound, "what was deleted")
	}),
	bothClause("both/repeated", "a lost answer is settled by asking again, and documents change once", func(ctx context.Context, s store.Atomic, all store.Store) {
		w, c := []store.Write{write("a/1", store.None, evs(2)...)}, []store.Change{change("k", 0, 1)}
		first, err := s.AppendWith(ctx, w, c, nil)
		check(err, "append")
		put(ctx, all, "v", "k", `{"n":7}`)
		again, err := s.AppendWith(ctx, w, c, nil)
		check(err, "append again")
		equal(again[0].Repeated, true, "repeated")
		equal(again[0].Position, first[0].Position, "position")
		any, err := s.AppendWith(ctx, w, []store.Change{{Coll: "v", Key: "k", Rev: store.AnyRev, Data: []byte(`{"n":9}`)}}, nil)
		check(err, "append again, whatever the revision")
		equal(any[0].Repeated, true, "repeated")
		equal(string(get(ctx, all, "v", "k").Data), `{"n":7}`, "document")
		equal(len(stream(ctx, all, "a/1")), 2, "records")
	}),
	bothClause("both/held", "who updates a view with the events must know which documents are shown", func(ctx context.Context, s store.Atomic, all store.Store) {
		put(ctx, all, "w", "plan", `{}`)
		hold := []store.Hold{{Coll: "w", Key: "plan", Rev: 1}}
		_, err := s.AppendWith(ctx, []store.Write{write("a/1", store.None, evs(1)...)}, []store.Change{change("k", 0, 1)}, hold)
		check(err, "append")
		equal(get(ctx, all, "w", "plan").Rev, 1, "revision of what is held")
		put(ctx, all, "w", "plan", `{}`)
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(1), evs(1)...)}, []store.Change{change("k", 1, 2)}, hold)
		wantDocConflict(err, "plan", 2)
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(1), evs(1)...)}, nil, []store.Hold{{Coll: "never", Key: "k", Rev: 1}})
		wantDocConflict(err, "k", 0)
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(1), evs(1)...)}, nil, []store.Hold{{Coll: "w", Key: "plan"}})
		wantIs(err, store.ErrInvalid, "held at no revision")
		_, err = s.AppendWith(ctx, []store.Write{write("a/1", store.Exactly(1), evs(1)...)}, []store.Change{{Coll: "w", Key: "plan", Rev: 2, Data: []byte(`{}`)}}, []store.Hold{{Coll: "w", Key: "plan", Rev: 2}})
		wantIs(err, store.ErrInvalid, "held and changed")
		equal(len(stream(ctx, all, "a/1")), 1, "records")
	}),
	bothClause("both/races", "of two who change the same document one has to look again", func(ctx context.Context, s store.Atomic, all store.Store) {
		put(ctx, all, "v", "k", `{"n":0}`)
		var wins atomic.Int64
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for i := range 8 {
			wg.Go(func() {
				for n := 0; n < 10; {
					d, err := all.Get(ctx, "v", "k")
					if err == nil {
						w := write(fmt.Sprintf("a/%d", i), store.Exactly(uint64(n)), evs(1)...)
						_, err = s.AppendWith(ctx, []store.Write{w}, []store.Change{{Coll: "v", Key: "k", Rev: d.Rev, Data: fmt.Appendf(nil, `{"n":%d}`, d.Rev)}}, nil)
					}
					var conflict *store.ConflictError
					switch {
					case err == nil:
						n++
						wins.Add(1)
					case !errors.As(err, &conflict) || conflict.Coll != "v":
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			check(err, "race")
		}
		equal(wins.Load(), 80, "appends")
		equal(get(ctx, all, "v", "k").Rev, 81, "revision")
		equal(len(collect(all.ReadAll(ctx, store.Start, store.Filter{}), "read all")), 80, "records")
	}),
}

func bothClause(name, why string, f func(ctx context.Context, s store.Atomic, all store.Store)) Clause {
	return clause(name, why, func(ctx context.Context, s store.Store) {
		if a, ok := s.(store.Atomic); ok {
			f(ctx, a, s)
		}
	})
}

func change(key string, rev uint64, n int) store.Change {
	return store.Change{Coll: "v", Key: key, Rev: rev, Data: fmt.Appendf(nil, `{"n":%d}`, n)}
}
