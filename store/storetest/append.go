package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

var appendClauses = []Clause{
	clause("append/versions", "folding a stream counts on versions 1, 2, 3 without gaps", func(ctx context.Context, s store.Store) {
		w := must(ctx, s, write("a/1", store.None, evs(3)...))
		equal(w[0].Version, 3, "version after three events")
		w = must(ctx, s, write("a/1", store.Exactly(3), evs(2)...))
		equal(w[0].Version, 5, "version after two more")
		equalSlices(versions(stream(ctx, s, "a/1")), []uint64{1, 2, 3, 4, 5}, "versions")
	}),
	clause("append/positions-grow", "a receipt's position tells whether a view has seen it", func(ctx context.Context, s store.Store) {
		last := uint64(0)
		for i := range 5 {
			w := must(ctx, s, write(fmt.Sprintf("a/%d", i%2), store.Any, evs(2)...))
			if w[0].Position.Seq <= last {
				fail("position %v after %d", w[0].Position, last)
			}
			last = w[0].Position.Seq
		}
	}),
	clause("append/written-is-where-it-is", "the position in a receipt must be that of the last event", func(ctx context.Context, s store.Store) {
		w := must(ctx, s, write("a/1", store.None, evs(2)...), write("a/2", store.None, evs(1)...))
		for i, name := range []string{"a/1", "a/2"} {
			recs := stream(ctx, s, name)
			last := recs[len(recs)-1]
			equal(w[i].Position, last.Position, "position written to %s", name)
			equal(w[i].Version, last.Version, "version written to %s", name)
			equal(w[i].Time.Equal(last.Time), true, "time written to %s is %v, read %v", name, w[i].Time, last.Time)
			equal(w[i].Repeated, false, "repeated")
		}
	}),
	clause("append/none-refuses-existing", "two creations of one entity must not both succeed", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		_, err := s.Append(ctx, write("a/1", store.None, evs(1)...))
		wantConflict(err, "a/1", 1)
	}),
	clause("append/exact-refuses-other", "a decision on an old state must not be recorded", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(3)...))
		for _, v := range []uint64{1, 2, 4, math.MaxInt64} {
			_, err := s.Append(ctx, write("a/1", store.Exactly(v), evs(1)...))
			wantConflict(err, "a/1", 3)
		}
		_, err := s.Append(ctx, write("a/none", store.Exactly(1), evs(1)...))
		wantConflict(err, "a/none", 0)
	}),
	clause("append/exists", "an event that needs an entity must not create it", func(ctx context.Context, s store.Store) {
		_, err := s.Append(ctx, write("a/1", store.Exists, evs(1)...))
		wantConflict(err, "a/1", 0)
		must(ctx, s, write("a/1", store.None, evs(1)...))
		equal(must(ctx, s, write("a/1", store.Exists, evs(1)...))[0].Version, 2, "version")
	}),
	clause("append/any", "audit events are appended without knowing the stream", func(ctx context.Context, s store.Store) {
		equal(must(ctx, s, write("a/1", store.Any, evs(1)...))[0].Version, 1, "version of a new stream")
		equal(must(ctx, s, write("a/1", store.Any, evs(2)...))[0].Version, 3, "version of an old one")
	}),
	clause("append/refused-consumes-nothing", "a gap in versions would make a stream unreadable", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		for range 3 {
			_, err := s.Append(ctx, write("a/1", store.None, evs(4)...))
			wantConflict(err, "a/1", 1)
		}
		must(ctx, s, write("a/1", store.Exactly(1), evs(1)...))
		equalSlices(versions(stream(ctx, s, "a/1")), []uint64{1, 2}, "versions")
		equal(len(all(ctx, s, store.Start, store.Filter{})), 2, "records in the log")
	}),
	clause("append/several-streams", "an event, its claims and its command's outcome are one", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		w := must(ctx, s, write("a/1", store.Exactly(1), evs(2)...), write("b/1", store.None, evs(1)...), write("c/1", store.Any, evs(1)...))
		equalSlices([]uint64{w[0].Version, w[1].Version, w[2].Version}, []uint64{3, 1, 1}, "versions")
		for name, n := range map[string]int{"a/1": 3, "b/1": 1, "c/1": 1} {
			equal(len(stream(ctx, s, name)), n, "events of %s", name)
		}
	}),
	clause("append/all-or-nothing", "a claim that is taken must keep the event out that takes it", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("b/1", store.None, evs(1)...))
		before := head(ctx, s)
		_, err := s.Append(ctx, write("a/1", store.None, evs(2)...), write("b/1", store.None, evs(1)...), write("c/1", store.Any, evs(1)...))
		wantConflict(err, "b/1", 1)
		for _, name := range []string{"a/1", "c/1"} {
			equal(len(stream(ctx, s, name)), 0, "events of %s", name)
		}
		equal(head(ctx, s), before, "head")
		must(ctx, s, write("a/1", store.None, evs(1)...)) // the name is not taken either
	}),
	clause("append/expectation-only", "a command may depend on a stream it does not write to", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(2)...))
		w := must(ctx, s, write("a/1", store.Exactly(2)), write("b/1", store.None, evs(1)...))
		equal(w[0].Version, 2, "version of the stream that was only looked at")
		_, err := s.Append(ctx, write("a/1", store.Exactly(1)), write("b/2", store.None, evs(1)...))
		wantConflict(err, "a/1", 2)
		equal(len(stream(ctx, s, "b/2")), 0, "events of b/2")
		must(ctx, s, write("c/1", store.None))
		equal(len(stream(ctx, s, "c/1")), 0, "events of c/1")
		must(ctx, s, write("c/1", store.None, evs(1)...))
	}),
	clause("append/order", "the events of a command tell a story", func(ctx context.Context, s store.Store) {
		events := []store.Event{ev("first"), ev("second"), ev("third")}
		must(ctx, s, write("a/1", store.None, events...))
		for i, r := range stream(ctx, s, "a/1") {
			equal(r.Type, events[i].Type, "type of event %d", i)
			equal(r.ID, events[i].ID, "id of event %d", i)
		}
	}),
	clause("append/invalid", "what one store accepts and another refuses cannot be moved between them", func(ctx context.Context, s store.Store) {
		long := strings.Repeat("n", store.MaxName+1)
		noID := ev("x")
		noID.ID = store.ID{}
		for name, writes := range map[string][]store.Write{
			"nothing":           {},
			"empty stream":      {write("", store.None, evs(1)...)},
			"NUL in stream":     {write("a/\x00", store.None, evs(1)...)},
			"newline in stream": {write("a/\n", store.None, evs(1)...)},
			"invalid UTF-8":     {write("a/\xff", store.None, evs(1)...)},
			"long stream":       {write(long, store.None, evs(1)...)},
			"empty type":        {write("a/1", store.None, ev(""))},
			"long type":         {write("a/1", store.None, ev(long))},
			"no id":             {write("a/1", store.None, noID)},
			"stream twice":      {write("a/1", store.None, evs(1)...), write("a/1", store.Exactly(1), evs(1)...)},
			"no expectation":    {write("a/1", store.Expect(-3), evs(1)...)},
			"too large":         {write("a/1", store.None, ev("x", strings.Repeat(" ", store.MaxData+1)))},
			"too many":          {write("a/1", store.None, evs(store.MaxEvents+1)...)},
		} {
			_, err := s.Append(ctx, writes...)
			wantIs(err, store.ErrInvalid, "%s", name)
		}
		equal(len(all(ctx, s, store.Start, store.Filter{})), 0, "records")
	}),
	clause("append/one-of-many-wins", "two commands must not both decide on the same state", func(ctx context.Context, s store.Store) {
		for round := range 20 {
			name := fmt.Sprintf("a/%d", round)
			won, lost := race(8, func(int) error {
				_, err := s.Append(ctx, write(name, store.None, evs(1)...))
				return err
			})
			equal(won, 1, "appends that won")
			equal(lost, 7, "appends that met a conflict")
			equal(len(stream(ctx, s, name)), 1, "events")
		}
	}),
	clause("append/crossing-streams", "two transfers in opposite directions must neither deadlock nor mix", func(ctx context.Context, s store.Store) {
		for round := range 20 {
			a, b := fmt.Sprintf("a/%d", round), fmt.Sprintf("b/%d", round)
			won, _ := race(8, func(i int) error {
				writes := []store.Write{write(a, store.None, evs(1)...), write(b, store.None, evs(1)...)}
				if i%2 == 1 {
					writes[0], writes[1] = writes[1], writes[0]
				}
				_, err := s.Append(ctx, writes...)
				return err
			})
			equal(won, 1, "appends that won")
			equal(len(stream(ctx, s, a))+len(stream(ctx, s, b)), 2, "events")
		}
	}),
	clause("append/many-at-once", "throughput must not cost correctness", func(ctx context.Context, s store.Store) {
		const writers, each = 16, 25
		won, lost := race(writers, func(w int) error {
			for i := range each {
				if _, err := s.Append(ctx, write(fmt.Sprintf("a/%d", w), store.Exactly(uint64(i)), evs(1)...)); err != nil {
					return err
				}
			}
			return nil
		})
		equal(won, writers, "writers that got through")
		equal(lost, 0, "conflicts")
		seen := map[store.Position]bool{}
		for _, r := range all(ctx, s, store.Start, store.Filter{}) {
			equal(seen[r.Position], false, "position %v given twice", r.Position)
			seen[r.Position] = true
		}
		equal(len(seen), writers*each, "records")
	}),
	clause("append/conflict-spares-neighbours", "in a group commit one conflict must not fail the others", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("hot/1", store.None, evs(1)...))
		var all sync.WaitGroup
		errs := make([]error, 64)
		for i := range errs {
			all.Go(func() {
				w := write(fmt.Sprintf("a/%d", i), store.None, evs(1)...)
				if i%4 == 0 {
					w = write("hot/1", store.None, evs(1)...)
				}
				_, errs[i] = s.Append(ctx, w)
			})
		}
		all.Wait()
		for i, err := range errs {
			if i%4 == 0 {
				wantConflict(err, "hot/1", 1)
			} else {
				check(err, "append %d", i)
			}
		}
	}),
	clause("append/keeps-its-own-bytes", "a caller that reuses a buffer must not change history", func(ctx context.Context, s store.Store) {
		e := ev("x", `{"a":1}`)
		must(ctx, s, write("a/1", store.None, e))
		copy(e.Data, "broken!")
		copy(e.Meta, "broken!")
		r := stream(ctx, s, "a/1")[0]
		equal(string(r.Data), `{"a":1}`, "data")
		equal(string(r.Meta), `{"actor":"a"}`, "meta")
	}),
	clause("append/cancelled", "a caller that gives up must learn that nothing, or nobody knows what, happened", func(ctx context.Context, s store.Store) {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Append(gone, write("a/1", store.None, evs(1)...))
		if err == nil {
			fail("an append with a cancelled context succeeded")
		}
		if !errors.Is(err, store.ErrUnknown) && len(stream(ctx, s, "a/1")) > 0 {
			fail("the append happened, but the error is %v", err)
		}
	}),
	clause("append/time", "as-of a time must be a prefix of the log", func(ctx context.Context, s store.Store) {
		start := time.Now().Add(-time.Minute)
		for i := range 20 {
			must(ctx, s, write(fmt.Sprintf("a/%d", i%3), store.Any, evs(1)...))
		}
		last := start
		for _, r := range all(ctx, s, store.Start, store.Filter{}) {
			if r.Time.Before(last) || r.Time.After(time.Now().Add(time.Minute)) {
				fail("%s@%d was recorded at %v, the one before at %v", r.Stream, r.Version, r.Time, last)
			}
			equal(r.Time.Location(), time.UTC, "location of the time")
			equal(r.Time.Truncate(time.Microsecond).Equal(r.Time), true, "%v is in whole microseconds", r.Time)
			last = r.Time
		}
	}),
	clause("append/large", "an import appends many events at once", func(ctx context.Context, s store.Store) {
		big := `{"text":"` + strings.Repeat("ü", 1<<19) + `"}`
		must(ctx, s, write("a/big", store.None, ev("x", big)))
		equal(string(stream(ctx, s, "a/big")[0].Data), big, "one MiB of data")
		must(ctx, s, write("a/many", store.None, evs(5000)...))
		recs := stream(ctx, s, "a/many")
		equal(len(recs), 5000, "events")
		equal(recs[4999].Version, 5000, "last version")
	}),
}

// race calls f from n goroutines at once and counts successes and conflicts;
// any other error fails.
func race(n int, f func(i int) error) (won, lost int) {
	var all sync.WaitGroup
	errs := make([]error, n)
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() { <-begin; errs[i] = f(i) })
	}
	close(begin)
	all.Wait()
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		if _, ok := errors.AsType[*store.ConflictError](err); !ok {
			fail("got %v, want success or a conflict", err)
		}
		lost++
	}
	return won, lost
}

var repeatClauses = []Clause{
	clause("repeat/same-again", "a lost answer must be safe to ask for again", func(ctx context.Context, s store.Store) {
		w := write("a/1", store.None, evs(2)...)
		first := must(ctx, s, w)
		again := must(ctx, s, w)
		equal(again[0].Repeated, true, "repeated")
		equal(again[0].Version, first[0].Version, "version")
		equal(again[0].Position, first[0].Position, "position")
		equal(again[0].Time.Equal(first[0].Time), true, "time")
		equal(len(stream(ctx, s, "a/1")), 2, "events")
	}),
	clause("repeat/later", "the answer may be asked for again long after", func(ctx context.Context, s store.Store) {
		w := write("a/1", store.None, evs(1)...)
		first := must(ctx, s, w)
		must(ctx, s, write("a/1", store.Exactly(1), evs(3)...))
		again := must(ctx, s, w)
		equal(again[0].Version, first[0].Version, "version")
		equal(again[0].Repeated, true, "repeated")
		equal(len(stream(ctx, s, "a/1")), 4, "events")
	}),
	clause("repeat/several-streams", "commands append to several streams", func(ctx context.Context, s store.Store) {
		ws := []store.Write{write("a/1", store.None, evs(2)...), write("b/1", store.None, evs(1)...)}
		first := must(ctx, s, ws...)
		again := must(ctx, s, ws...)
		for i := range ws {
			equal(again[i].Repeated, true, "repeated")
			equal(again[i].Position, first[i].Position, "position")
		}
		equal(len(all(ctx, s, store.Start, store.Filter{})), 3, "records")
	}),
	clause("repeat/other-ids-conflict", "another command's events at that place are a conflict", func(ctx context.Context, s store.Store) {
		w := write("a/1", store.None, evs(2)...)
		must(ctx, s, w)
		other := w
		other.Events = []store.Event{w.Events[0], ev("x")}
		_, err := s.Append(ctx, other)
		wantConflict(err, "a/1", 2)
		other.Events = []store.Event{w.Events[1], w.Events[0]}
		_, err = s.Append(ctx, other)
		wantConflict(err, "a/1", 2)
	}),
	clause("repeat/longer-conflicts", "half of what is asked has happened: that is not the same append", func(ctx context.Context, s store.Store) {
		w := write("a/1", store.None, evs(1)...)
		must(ctx, s, w)
		w.Events = append(w.Events, ev("x"))
		_, err := s.Append(ctx, w)
		wantConflict(err, "a/1", 1)
		equal(len(stream(ctx, s, "a/1")), 1, "events")
	}),
	clause("repeat/half-conflicts", "one stream of two matches: that is not the same append", func(ctx context.Context, s store.Store) {
		a := write("a/1", store.None, evs(1)...)
		must(ctx, s, a)
		_, err := s.Append(ctx, a, write("b/1", store.None, evs(1)...))
		wantConflict(err, "a/1", 1)
		equal(len(stream(ctx, s, "b/1")), 0, "events of b/1")
	}),
	clause("repeat/at-once", "a client and its proxy may both ask again", func(ctx context.Context, s store.Store) {
		w := write("a/1", store.None, evs(3)...)
		won, lost := race(8, func(int) error { _, err := s.Append(ctx, w); return err })
		equal(won, 8, "appends that succeeded")
		equal(lost, 0, "conflicts")
		equal(len(stream(ctx, s, "a/1")), 3, "events")
	}),
}
