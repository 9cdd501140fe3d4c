package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
)

// slowly makes a ledger take a while for each record, in generations from a
// given one on.
func slowly(from uint64, d time.Duration) Follower {
	f := pure(nil)
	f.New = func(gen uint64) Handler {
		h := &ledger{coll: ledgerColl(gen)}
		if gen >= from {
			h.fail = func(store.Record) error { time.Sleep(d); return nil }
		}
		return h
	}
	return f
}

// gone fails unless nothing is left of a generation.
func (r *rig) gone(gen uint64) {
	r.t.Helper()
	for _, at := range []struct{ coll, prefix string }{
		{ledgerColl(gen), ""}, {cursorColl, cursorPrefix("ledger", gen)}, {deadColl("ledger"), deadPrefix(gen)},
	} {
		for d, err := range r.s.List(r.t.Context(), at.coll, at.prefix, "") {
			r.t.Errorf("left of generation %d: %s/%s (%v)", gen, at.coll, d.Key, err)
		}
	}
}

// goes fails unless the documents that readers saw before are kept, and are
// gone when they are discarded.
func (r *rig) goes(gen uint64) {
	r.t.Helper()
	if st, err := r.Rebuilding(r.t.Context(), "ledger"); err != nil || st.Former == nil || st.Former.Generation != gen || st.Rebuild != nil {
		r.t.Errorf("%+v, %v", st, err)
	}
	if len(book(r.t, r.s, gen)) == 0 {
		r.t.Errorf("nothing of generation %d is kept", gen)
	}
	if err := r.DiscardFormer(r.t.Context(), "ledger"); err != nil {
		r.t.Error(err)
	}
	time.Sleep(time.Minute)
	r.gone(gen)
}

func (r *rig) generation() uint64 {
	r.t.Helper()
	gen, err := r.Generation(r.t.Context(), "ledger")
	if err != nil {
		r.t.Fatal(err)
	}
	return gen
}

// Readers see the old documents, which go on changing, until the new ones
// have caught up; at no moment do they see less than what was handled before.
func TestRebuildWhileAppending(t *testing.T) {
	for _, parts := range []int{1, 3} {
		within(t, func(t *testing.T) {
			s := newShelf()
			for i := range 20 {
				add(t, s, fmt.Sprintf("a/%d", i), 100)
			}
			r := run(t, s, parted(slowly(2, time.Millisecond), parts))
			r.wait()
			if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			rebuilding := 0
			seen := 0
			for i := 0; r.generation() == 1; i++ {
				if i > 10_000 {
					t.Fatal("the rebuild does not end")
				}
				add(t, s, fmt.Sprintf("a/%d", i%20), 1)
				r.wait()
				if st := r.status(); st.State == StateRebuilding && st.Rebuild != nil && st.Rebuild.Generation == 2 && st.Rebuild.Behind > 0 {
					rebuilding++
				}
				n := 0
				for _, versions := range r.book() {
					n += len(versions)
				}
				if want := 2000 + i + 1; n < seen || n != want {
					t.Fatalf("documents hold %d records, want %d", n, want)
				}
				seen = n
				time.Sleep(3 * time.Millisecond)
			}
			if rebuilding < 100 {
				t.Errorf("only %d looks at the rebuild under way", rebuilding)
			}
			r.wait()
			r.same()
			synctest.Wait()
			if r.generation() != 2 {
				t.Errorf("generation %d", r.generation())
			}
			r.goes(1)
			if st := r.status(); st.State != StateRunning || st.Rebuild != nil || st.Generation != 2 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A restart goes on with the rebuild, and does not take the new documents
// for complete before they are.
func TestRebuildGoesOnAfterRestart(t *testing.T) {
	for _, parts := range []int{1, 2} {
		within(t, func(t *testing.T) {
			s := newShelf()
			for i := range 10 {
				add(t, s, fmt.Sprintf("a/%d", i), 100)
			}
			f := parted(slowly(2, 10*time.Millisecond), parts)
			r := run(t, s, f)
			r.wait()
			if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
				t.Fatal(err)
			}
			restarts := 0
			last := uint64(1001)
			for ; r.generation() == 1; restarts++ {
				time.Sleep(500 * time.Millisecond)
				r.same()
				if p := r.status().Rebuild; p != nil {
					if p.Behind >= last {
						t.Errorf("the rebuild began again: %d behind, %d before", p.Behind, last)
					}
					last = p.Behind
				}
				r.stop()
				r = run(t, s, f)
				r.wait()
				if restarts > 50 {
					t.Fatal("the rebuild does not end")
				}
			}
			if restarts < 5 {
				t.Errorf("it took only %d restarts", restarts)
			}
			r.same()
			time.Sleep(time.Second)
			r.goes(1)
		})
	}
}

func TestRebuildAgainAndAgain(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 300)
		r := run(t, s, slowly(2, time.Millisecond))
		r.wait()
		for range 4 {
			if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if gen := r.generation(); gen != 5 {
			t.Errorf("generation %d, want 5", gen)
		}
		r.same()
		r.goes(1)
		for gen := range uint64(5) {
			r.gone(gen)
		}
		if err := r.Rebuild(t.Context(), "nobody", false); !errors.Is(err, ErrUnknownFollower) {
			t.Error(err)
		}
	})
}

func TestHandlersCannotBeRebuilt(t *testing.T) {
	within(t, func(t *testing.T) {
		r := run(t, newShelf(), effectful(nil))
		if err := r.Rebuild(t.Context(), "ledger", false); !errors.Is(err, ErrNotRebuildable) {
			t.Error(err)
		}
	})
}

// A rebuild that was asked for while paused, or paused under way, waits.
func TestRebuildPaused(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 500)
		r := run(t, s, slowly(2, 10*time.Millisecond))
		r.wait()
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if st := r.status(); st.State != StatePaused || st.Generation != 1 {
			t.Errorf("%+v", st)
		}
		if err := r.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if r.generation() != 1 {
			t.Error("too early")
		}
		time.Sleep(3 * time.Second)
		if r.generation() != 2 {
			t.Error("not rebuilt")
		}
		r.same()
	})
}

// The rebuilt generation has dead letters of its own; those of the old one
// go with it.
func TestRebuildMendsDeadLetters(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 4)
		add(t, s, "a/2", 4)
		f := pure(nil)
		f.New = func(gen uint64) Handler {
			bad := map[uint64]string{1: "a/1", 2: "a/2"}[gen]
			return &ledger{coll: ledgerColl(gen), fail: at(bad, 3, func() error { return Permanent(errBad) })}
		}
		r := run(t, s, f)
		r.wait()
		if got := r.parked(); got != "a/1@3 dead, a/1@4 waiting" {
			t.Error(got)
		}
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := r.parked(); got != "a/2@3 dead, a/2@4 waiting" {
			t.Error(got)
		}
		r.expect("a/1", 1, 2, 3, 4)
		r.expect("a/2", 1, 2)
		r.goes(1)
		if st := r.status(); st.Dead != 1 || st.Waiting != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Another program on the same store learns which documents to read, and
// stops to write the old ones.
func TestRebuildByAnotherNode(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 10)
		r, other := run(t, s, pure(nil)), run(t, s, pure(nil))
		reader, err := New(Config{Store: s, Followers: []Follower{pure(nil)}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		if gen, err := reader.Generation(t.Context(), "ledger"); gen != 1 || err != nil {
			t.Error(gen, err)
		}
		r.wait()
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		add(t, s, "a/1", 10)
		time.Sleep(10 * time.Second)
		for _, e := range []*Engine{r.Engine, other.Engine, reader} {
			if gen, err := e.Generation(t.Context(), "ledger"); gen != 2 || err != nil {
				t.Errorf("generation %d, %v", gen, err)
			}
		}
		add(t, s, "a/1", 10)
		r.wait()
		other.wait()
		r.same()
		r.goes(1)
	})
}

// A lateLooker is a store that takes its time with the first list of
// checkpoints.
type lateLooker struct {
	*shelf
	looked atomic.Bool
}

func (s *lateLooker) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	if coll == cursorColl && !s.looked.Swap(true) {
		time.Sleep(time.Minute)
	}
	return s.shelf.List(ctx, coll, prefix, after)
}

// A node that is about to begin with a generation, and is held up until
// another one has replaced and removed it, leaves nothing of it behind.
func TestRebuildWhileAnotherNodeBegins(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 10)
		r, late := run(t, s, pure(nil)), run(t, &lateLooker{shelf: s}, pure(nil))
		r.wait()
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		add(t, s, "a/1", 10)
		r.wait()
		late.wait()
		r.same()
		r.goes(1)
	})
}

// A switch that the store refuses is made up for.
func TestRebuildSwitchFails(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 100)
		r := run(t, s, pure(nil))
		r.wait()
		var refused atomic.Int32
		s.failWrites(func(_ int, changes []store.Change) (before, after error) {
			if changes[0].Coll == followerColl && slices.Contains(changes[0].Data, 'r') && refused.Load() > 0 && refused.Load() < 4 {
				refused.Add(1)
				return errDown, nil
			}
			if changes[0].Coll == followerColl {
				refused.CompareAndSwap(0, 1)
			}
			return nil, nil
		})
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := refused.Load(); n != 4 {
			t.Errorf("%d", n)
		}
		if r.generation() != 2 {
			t.Error("not rebuilt")
		}
		add(t, s, "a/1", 1)
		r.wait()
		r.same()
		r.goes(1)
	})
}

func TestPrepareFails(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 1)
		f := pure(nil)
		calls := 0
		f.Prepare = func(_ context.Context, _ uint64) error {
			if calls++; calls < 3 {
				return errDown
			}
			return nil
		}
		r := run(t, s, f)
		time.Sleep(10 * time.Millisecond)
		if st := r.status(); st.State != StateTrouble || st.LastError != errDown.Error() {
			t.Errorf("%+v", st)
		}
		r.wait()
		r.same()
	})
}

// A stopping is a store on which a switch is stored in the moment that the
// program is stopped.
type stopping struct {
	store.Store
	stop func()
}

func (s *stopping) Write(ctx context.Context, changes ...store.Change) error {
	if err := s.Store.Write(ctx, changes...); err != nil || s.stop == nil || changes[0].Coll != followerColl || len(changes) == 1 {
		return err
	}
	go s.stop()
	time.Sleep(time.Second)
	return ctx.Err()
}

// A program that is stopped in the moment of a switch still says that it was.
func TestSwitchIsToldByWhoStops(t *testing.T) {
	within(t, func(t *testing.T) {
		s := &stopping{Store: newShelf()}
		add(t, s.Store, "a/1", 3)
		var told []string
		r := start(t, Config{Store: s, Followers: []Follower{pure(nil)}, Logger: quiet(), Notices: func(_ context.Context, n Notice) { told = append(told, n.What) }})
		r.wait()
		s.stop = r.stop
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		r.stop()
		if !slices.Equal(told, []string{Switched}) {
			t.Errorf("told %v", told)
		}
	})
}
