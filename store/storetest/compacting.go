package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/deed-dev/deed/store"
)

// compactClauses hold for stores that are compactors; others pass.
var compactClauses = []Clause{
	compactClause("compact/whole-streams", "half a command would be done again from where its records end", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("$c/1", store.None, evs(3)...))
		must(ctx, s, write("a/1", store.None, evs(2)...))
		must(ctx, s, write("$c/1", store.Exactly(3), evs(1)...), write("$c/2", store.None, evs(1)...))
		equalSlices(compact(ctx, s, whole(ctx, s, "$c/1"), whole(ctx, s, "$c/2")), []uint64{4, 1}, "records removed")
		equalSlices(places(all(ctx, s, store.Start, store.Filter{})), []string{"a/1@1", "a/1@2"}, "log")
		equal(len(all(ctx, s, store.Start, store.Filter{Categories: []string{"$c"}})), 0, "records of the category")
		for _, name := range []string{"$c/1", "$c/2"} {
			equal(len(stream(ctx, s, name)), 0, "records of %s", name)
			equal(len(collect(s.Read(ctx, name, store.Range{Backward: true}), "read backward")), 0, "records of %s, backward", name)
			_, err := s.Append(ctx, write(name, store.Exists, evs(1)...))
			wantConflict(err, name, 0)
		}
	}),
	compactClause("compact/begins-again", "who asks again under a name that was given up must not be told that it exists", func(ctx context.Context, s store.Store) {
		first := write("$c/1", store.None, evs(2)...)
		must(ctx, s, first)
		compact(ctx, s, whole(ctx, s, "$c/1"))
		again := must(ctx, s, first) // the same ids: what was given up did not happen
		equal(again[0].Repeated, false, "repeated")
		equal(again[0].Version, 2, "version")
		equal(must(ctx, s, write("$c/1", store.Exactly(2), evs(1)...))[0].Version, 3, "version after that")
		equalSlices(versions(stream(ctx, s, "$c/1")), []uint64{1, 2, 3}, "versions")
	}),
	compactClause("compact/moved-on-stays", "a command that is asked again meanwhile must not be forgotten", func(ctx context.Context, s store.Store) {
		for _, name := range []string{"$c/moved", "$c/renewed", "$c/still", "$c/ahead"} {
			must(ctx, s, write(name, store.None, evs(2)...))
		}
		moved, renewed, still, ahead := whole(ctx, s, "$c/moved"), whole(ctx, s, "$c/renewed"), whole(ctx, s, "$c/still"), whole(ctx, s, "$c/ahead")
		must(ctx, s, write("$c/moved", store.Exactly(2), evs(1)...))
		compact(ctx, s, renewed)
		must(ctx, s, write("$c/renewed", store.None, evs(2)...)) // at the same version, and another one
		ahead.Last.Seq += 10
		got := compact(ctx, s, moved, still, renewed, store.Whole{Stream: "$c/none", Last: still.Last}, ahead)
		equalSlices(got, []uint64{0, 2, 0, 0, 0}, "records removed")
		for name, n := range map[string]int{"$c/moved": 3, "$c/renewed": 2, "$c/still": 0, "$c/ahead": 2} {
			equal(len(stream(ctx, s, name)), n, "records of %s", name)
		}
	}),
	compactClause("compact/others-unchanged", "what stays must stay as it was written", func(ctx context.Context, s store.Store) {
		for i := range 40 {
			must(ctx, s, write(fmt.Sprintf("%s/%d", []string{"a", "$c"}[i%2], i%6), store.Any, evs(1+i%3)...))
		}
		var want []store.Record
		for _, r := range all(ctx, s, store.Start, store.Filter{}) {
			if store.Category(r.Stream) == "a" {
				want = append(want, r)
			}
		}
		compact(ctx, s, whole(ctx, s, "$c/1"), whole(ctx, s, "$c/3"), whole(ctx, s, "$c/5"))
		got := all(ctx, s, store.Start, store.Filter{})
		equal(len(got), len(want), "records")
		for i, r := range got {
			w := want[i]
			if r.ID != w.ID || r.Position != w.Position || r.Version != w.Version || !r.Time.Equal(w.Time) || string(r.Data) != string(w.Data) || string(r.Meta) != string(w.Meta) {
				fail("record %d is %+v, was %+v", i, r, w)
			}
		}
		before := uint64(len(stream(ctx, s, "a/0")))
		equal(must(ctx, s, write("a/0", store.Exactly(before), evs(1)...))[0].Version, before+1, "version of what goes on")
	}),
	compactClause("compact/cursors", "a follower must go on from wherever it was, over any gap", func(ctx context.Context, s store.Store) {
		for i := range 30 {
			must(ctx, s, write(fmt.Sprintf("$c/%d", i), store.None, evs(40)...))
			must(ctx, s, write(fmt.Sprintf("a/%d", i%3), store.Any, evs(1)...))
		}
		before := all(ctx, s, store.Start, store.Filter{})
		var gone []store.Whole
		for i := range 29 {
			gone = append(gone, whole(ctx, s, fmt.Sprintf("$c/%d", i)))
		}
		compact(ctx, s, gone...)
		for n := 0; n < len(before); n += 13 {
			after, want := store.CursorAt(before[n].Position), []string{}
			for _, r := range before[n+1:] {
				if store.Category(r.Stream) == "a" || r.Stream == "$c/29" {
					want = append(want, fmt.Sprintf("%s@%d", r.Stream, r.Version))
				}
			}
			equalSlices(places(all(ctx, s, after, store.Filter{})), want, "records after %s", after)
			equalSlices(places(all(ctx, s, after, store.Filter{Limit: 3})), want[:min(3, len(want))], "three records after %s", after)
			_, recs, err := store.Tail(ctx, s, after, store.Filter{})
			check(err, "tail")
			equalSlices(places(collect(recs, "tail")), want, "tail after %s", after)
			parts := 0
			for p := range 3 {
				parts += len(all(ctx, s, after, store.Filter{Partition: p, Partitions: 3}))
			}
			equal(parts, len(want), "records of all partitions after %s", after)
		}
	}),
	compactClause("compact/head-stays", "a position that is given twice is passed over by whoever has read it", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		last := must(ctx, s, write("$c/1", store.None, evs(3)...))[0]
		h := head(ctx, s)
		compact(ctx, s, whole(ctx, s, "$c/1"))
		equal(head(ctx, s), h, "head")
		equal(len(all(ctx, s, h, store.Filter{})), 0, "records after the head")
		w := must(ctx, s, write("a/2", store.None, evs(1)...))[0]
		if w.Position.Seq <= last.Position.Seq || w.Time.Before(last.Time) {
			fail("what comes next is %+v, the last of what was given up was %+v", w, last)
		}
		equalSlices(places(all(ctx, s, h, store.Filter{})), []string{"a/2@1"}, "records after the old head")
	}),
	compactClause("compact/while-reading", "a command of which only the end is seen, or only the beginning, is another command", func(ctx context.Context, s store.Store) {
		for _, backward := range []bool{false, true} {
			for _, renewed := range []bool{false, true} {
				must(ctx, s, write("$c/1", store.Any, evs(5000)...))
				seen, failed := []store.ID{}, error(nil)
				want := map[store.ID]bool{}
				for _, r := range stream(ctx, s, "$c/1") {
					want[r.ID] = true
				}
				for r, err := range s.Read(ctx, "$c/1", store.Range{Backward: backward}) {
					if failed = err; err != nil {
						break
					}
					if seen = append(seen, r.ID); len(seen) == 1 {
						compact(ctx, s, whole(ctx, s, "$c/1"))
						if renewed {
							must(ctx, s, write("$c/1", store.None, evs(9000)...))
						}
					}
					if !want[r.ID] {
						fail("a record of another stream under the same name was read")
					}
				}
				if failed != nil {
					wantIs(failed, store.ErrUnavailable, "reading on")
				} else {
					equal(len(seen), len(want), "records")
				}
				if renewed {
					compact(ctx, s, whole(ctx, s, "$c/1"))
				}
			}
		}
	}),
	compactClause("compact/while-appending", "of a command that moves on while it is given up, all must stay or all must go", func(ctx context.Context, s store.Store) {
		const rounds = 40
		for i := range rounds {
			name := fmt.Sprintf("$c/%d", i)
			must(ctx, s, write(name, store.None, evs(2)...), write(fmt.Sprintf("a/%d", i), store.None, evs(1)...))
			w := whole(ctx, s, name)
			var both sync.WaitGroup
			var removed []uint64
			var compactErr, appendErr, otherErr error
			both.Go(func() { removed, compactErr = store.Compact(ctx, s, w) })
			both.Go(func() { _, appendErr = s.Append(ctx, write(name, store.Exactly(2), evs(1)...)) })
			both.Go(func() { _, otherErr = s.Append(ctx, write(fmt.Sprintf("a/%d", i), store.Exactly(1), evs(1)...)) })
			both.Wait()
			check(compactErr, "compact")
			check(otherErr, "append to another stream")
			if removed[0] == 0 {
				check(appendErr, "append to the stream that stays")
				equalSlices(versions(stream(ctx, s, name)), []uint64{1, 2, 3}, "versions")
				continue
			}
			wantConflict(appendErr, name, 0)
			equal(len(stream(ctx, s, name)), 0, "records")
		}
		recs := all(ctx, s, store.Start, store.Filter{Categories: []string{"a"}})
		equal(len(recs), 2*rounds, "records of others")
		wantContiguous(all(ctx, s, store.Start, store.Filter{}))
	}),
	compactClause("compact/many", "what has come together in a year goes in batches", func(ctx context.Context, s store.Store) {
		var gone []store.Whole
		for i := range 12 {
			var writes []store.Write
			for j := range 300 {
				writes = append(writes, write(fmt.Sprintf("$c/%d-%d", i, j), store.None, evs(2)...))
			}
			for k, w := range must(ctx, s, append(writes, write("a/1", store.Any, evs(1)...))...)[:300] {
				gone = append(gone, store.Whole{Stream: writes[k].Stream, Last: w.Position})
			}
		}
		n := uint64(0)
		for len(gone) > 0 {
			for _, r := range compact(ctx, s, gone[:min(1000, len(gone))]...) {
				n += r
			}
			gone = gone[min(1000, len(gone)):]
		}
		equal(n, 12*600, "records removed")
		equal(len(all(ctx, s, store.Start, store.Filter{})), 12, "records that stay")
	}),
	compactClause("compact/invalid", "what one store accepts and another refuses cannot be moved between them", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("$c/1", store.None, evs(1)...))
		w := whole(ctx, s, "$c/1")
		for name, streams := range map[string][]store.Whole{"empty": {{}}, "newline": {{Stream: "a\n", Last: w.Last}}, "twice": {w, w}, "too many": make([]store.Whole, store.MaxEvents+1)} {
			_, err := store.Compact(ctx, s, streams...)
			wantIs(err, store.ErrInvalid, "%s", name)
		}
		equal(len(compact(ctx, s)), 0, "answers to nothing")
		equal(len(stream(ctx, s, "$c/1")), 1, "records")
		check(s.Close(), "close")
		_, err := store.Compact(ctx, s, w)
		wantIs(err, store.ErrUnavailable, "after close")
	}),
}

// compactClause is a clause that a store passes if it gives up no streams.
func compactClause(name, why string, f func(ctx context.Context, s store.Store)) Clause {
	return clause(name, why, func(ctx context.Context, s store.Store) {
		if _, err := store.Compact(ctx, s); !errors.Is(err, errors.ErrUnsupported) {
			f(ctx, s)
		}
	})
}

// whole is a stream as it is now.
func whole(ctx context.Context, s store.Store, name string) store.Whole {
	for _, r := range collect(s.Read(ctx, name, store.Range{Backward: true, Limit: 1}), "read "+name) {
		return store.Whole{Stream: name, Last: r.Position}
	}
	fail("%s has no records", name)
	return store.Whole{}
}

func compact(ctx context.Context, s store.Store, streams ...store.Whole) []uint64 {
	n, err := store.Compact(ctx, s, streams...)
	check(err, "compact")
	equal(len(n), len(streams), "answers")
	return n
}
