package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed/store"
)

var lifeClauses = []Clause{
	clause("wait/wakes", "a view follows within milliseconds", func(ctx context.Context, s store.Store) {
		for i := range uint64(5) {
			h := head(ctx, s)
			woke := make(chan error, 1)
			go func() { woke <- store.Wait(ctx, s, h, time.Minute/2) }()
			must(ctx, s, write("a/1", store.Exactly(i), evs(1)...))
			check(<-woke, "wait")
			equal(len(all(ctx, s, h, store.Filter{})), 1, "records after the wait")
		}
	}),
	clause("wait/not-when-there-is-more", "a follower must not sleep over what is there", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		start := time.Now()
		check(store.Wait(ctx, s, store.Start, time.Minute/2), "wait")
		if d := time.Since(start); d > time.Minute/4 {
			fail("waited %v although there was a record", d)
		}
	}),
	clause("wait/ends", "a program that stops must not hang", func(ctx context.Context, s store.Store) {
		check(store.Wait(ctx, s, store.Start, 10*time.Millisecond), "wait until the poll")
		gone, cancel := context.WithCancel(ctx)
		time.AfterFunc(10*time.Millisecond, cancel)
		wantIs(store.Wait(gone, s, store.Start, time.Minute/2), context.Canceled, "wait with a context that ends")
	}),
	clause("close/refuses", "after the end nothing must seem to work", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		put(ctx, s, "v", "k", `{}`)
		check(s.Close(), "close")
		_, appendErr := s.Append(ctx, write("a/1", store.Any, evs(1)...))
		_, headErr := s.Head(ctx)
		_, getErr := s.Get(ctx, "v", "k")
		calls := map[string]error{
			"append": appendErr, "head": headErr, "get": getErr,
			"write": s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: store.AnyRev, Data: []byte(`{}`)}),
		}
		for _, calls["read"] = range s.Read(ctx, "a/1", store.Range{}) {
		}
		for _, calls["read all"] = range s.ReadAll(ctx, store.Start, store.Filter{}) {
		}
		for _, calls["list"] = range s.List(ctx, "v", "", "") {
		}
		for _, calls["find"] = range store.Find(ctx, s, "v", store.Query{}) {
		}
		for name, err := range calls {
			wantIs(err, store.ErrUnavailable, "%s after close", name)
		}
		check(s.Close(), "close again")
	}),
	clause("close/while-working", "a program that stops in the middle must neither hang nor lie", func(ctx context.Context, s store.Store) {
		acked := make(chan int, 8)
		for w := range 8 {
			go func() {
				n := 0
				for {
					_, err := s.Append(ctx, write(fmt.Sprintf("a/%d", w), store.Exactly(uint64(n)), evs(1)...))
					if err != nil {
						if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
							n = -1
						}
						acked <- n
						return
					}
					n++
				}
			}()
		}
		time.Sleep(20 * time.Millisecond)
		check(s.Close(), "close")
		for range 8 {
			if n := <-acked; n < 0 {
				fail("an append after close failed with something other than ErrUnavailable")
			}
		}
	}),
}

// durable is a promise about what is there after opening again.
type durable struct {
	name   string
	why    string
	before func(context.Context, store.Store) error
	after  func(context.Context, store.Store) error
}

func durableClause(name, why string, before, after func(context.Context, store.Store)) durable {
	return durable{name, why, clause(name, why, before).Check, clause(name, why, after).Check}
}

var durableClauses = []durable{
	durableClause("log", "what was acknowledged is there after a restart",
		func(ctx context.Context, s store.Store) { mixed(ctx, s) },
		func(ctx context.Context, s store.Store) {
			want := []string{"a/1@1", "a/1@2", "b/1@1", "$c/x@1", "ab/1@1", "a/2@1"}
			equalSlices(places(all(ctx, s, store.Start, store.Filter{})), want, "log")
			equalSlices(places(all(ctx, s, store.Start, store.Filter{Categories: []string{"a"}, Types: []string{"y"}})), []string{"a/1@2"}, "filtered")
			equal(len(all(ctx, s, head(ctx, s), store.Filter{})), 0, "records after the head")
			_, err := s.Append(ctx, write("a/1", store.Exactly(1), evs(1)...))
			wantConflict(err, "a/1", 2)
			w := must(ctx, s, write("a/1", store.Exactly(2), evs(1)...))
			recs := all(ctx, s, store.Start, store.Filter{})
			if w[0].Position.Seq <= recs[len(recs)-2].Position.Seq || w[0].Time.Before(recs[len(recs)-2].Time) {
				fail("position or time went back: %v after %v", w[0], recs[len(recs)-2])
			}
		}),
	durableClause("documents", "views and checkpoints are there after a restart",
		func(ctx context.Context, s store.Store) {
			check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes")
			put(ctx, s, "v", "a", `{"n":1}`)
			put(ctx, s, "v", "a", `{"n":2}`)
			put(ctx, s, "v", "b", `{"n":3}`)
			check(s.Write(ctx, store.Change{Coll: "v", Key: "b", Rev: store.AnyRev}), "delete")
		},
		func(ctx context.Context, s store.Store) {
			d := get(ctx, s, "v", "a")
			equal(string(d.Data), `{"n":2}`, "data")
			equal(d.Rev, 2, "revision")
			wantNoDoc(ctx, s, "v", "b")
			q := store.Query{Where: []store.Cond{{Field: "n", Op: "=", Value: int64(2)}}}
			equalSlices(keys(collect(store.Find(ctx, s, "v", q), "find")), []string{"a"}, "found")
		}),
	durableClause("compacted", "what was given up must not come back, nor its positions",
		func(ctx context.Context, s store.Store) {
			must(ctx, s, write("a/1", store.None, evs(2)...))
			must(ctx, s, write("$c/1", store.None, evs(3)...))
			if _, err := store.Compact(ctx, s); !errors.Is(err, errors.ErrUnsupported) {
				compact(ctx, s, whole(ctx, s, "$c/1"))
			}
			put(ctx, s, "v", "head", string(head(ctx, s)))
		},
		func(ctx context.Context, s store.Store) {
			left := 5
			if _, err := store.Compact(ctx, s); !errors.Is(err, errors.ErrUnsupported) {
				equal(len(stream(ctx, s, "$c/1")), 0, "records of what was given up")
				left = 2
			}
			equal(len(all(ctx, s, store.Start, store.Filter{})), left, "records")
			h := head(ctx, s)
			equal(string(h), string(get(ctx, s, "v", "head").Data), "head")
			w := must(ctx, s, write("b/1", store.None, evs(1)...))[0]
			equal(h.Covers(w.Position), false, "the old head covers what is written next")
			equalSlices(places(all(ctx, s, h, store.Filter{})), []string{"b/1@1"}, "records after the old head")
		}),
	durableClause("empty", "opening a new store twice is not an error",
		func(context.Context, store.Store) {},
		func(ctx context.Context, s store.Store) { equal(head(ctx, s), store.Start, "head") }),
}
