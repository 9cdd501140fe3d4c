package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
)

func TestNewRefuses(t *testing.T) {
	named := func(name string) Follower { f := pure(nil); f.Name = name; return f }
	for _, c := range []struct {
		why       string
		followers []Follower
		want      string // "" = accepted
	}{
		{"no followers are fine", nil, ""},
		{"different names", []Follower{named("b"), named("a"), named("c")}, ""},
		{"one name twice", []Follower{named("a"), named("b"), named("a")}, `two followers are named "a"`},
		{"no name", []Follower{named("")}, "is empty"},
		{"a slash", []Follower{named("a/b")}, "no slash"},
		{"no handler", []Follower{{Name: "a"}}, "set New"},
		{"a filter with partitions", []Follower{{Name: "a", New: pure(nil).New, Filter: store.Filter{Partitions: 2}}}, "categories and types only"},
	} {
		_, err := New(Config{Store: newShelf(), Followers: c.followers})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.why, err, c.want)
		}
	}
}

func TestFollows(t *testing.T) {
	for _, f := range []Follower{pure(nil), effectful(nil)} {
		within(t, func(t *testing.T) {
			s := newShelf()
			for i := range 15 {
				add(t, s, fmt.Sprintf("a/s%d", i), 100)
			}
			r := run(t, s, f)
			add(t, s, "b/1", 1)
			add(t, s, "a/2", 3)
			r.wait()
			r.same()
			add(t, s, "a/2", 1)
			r.wait()
			r.same()
			if n := s.wrote(); n > 10 {
				t.Errorf("%d writes for four appends", n)
			}
		})
	}
}

func TestLatency(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		for range 20 {
			time.Sleep(70 * time.Millisecond)
			began := time.Now()
			add(t, s, "a/1", 1)
			r.wait()
			if d := time.Since(began); d > 2*pause {
				t.Fatalf("taken in after %v", d)
			}
		}
	})
}

// A wake-up may be lost: a follower looks for itself.
func TestPolls(t *testing.T) {
	within(t, func(t *testing.T) {
		s := struct{ store.Store }{newShelf()} // hides the Waiter
		r := run(t, s, pure(nil))
		synctest.Wait()
		began := time.Now()
		add(t, s, "a/1", 1)
		r.wait()
		if d := time.Since(began); d > time.Second {
			t.Errorf("taken in after %v", d)
		}
		r.expect("a/1", 1)
	})
}

// What a follower does not want must not cost it a write per append; it
// counts as handled at once nevertheless.
func TestUnwantedRecordsAreCheap(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		synctest.Wait()
		began, before := time.Now(), s.wrote()
		for range 300 {
			p := add(t, s, "b/1", 1)
			if err := r.WaitFor(t.Context(), "ledger", p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n, most := s.wrote()-before, int(time.Since(began)/time.Second)+2; n > most {
			t.Errorf("%d writes in %v, want at most %d", n, time.Since(began), most)
		}
		time.Sleep(2 * time.Second)
		saved, err := loadCheckpoints(t.Context(), s, "ledger", 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := least(saved.Cursors); got != "300" {
			t.Errorf("cursor saved in the end: %q, want 300", got)
		}
		before = s.wrote()
		time.Sleep(time.Minute)
		if n := s.wrote() - before; n > 0 {
			t.Errorf("%d writes while nothing happened", n)
		}
	})
}

// What a handler did outside must not be done again only because it changed
// no document.
func TestEffectsWithoutDocumentsAreCommitted(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		sent := map[uint64]int{}
		f := effectful(nil)
		f.New = func(uint64) Handler { return &sender{sent: sent} }
		r := run(t, s, f)
		for range 5 {
			add(t, s, "a/1", 1)
			r.wait()
			saved, err := loadCheckpoints(t.Context(), s, "ledger", 1)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := least(saved.Cursors), r.Cursor("ledger"); got != want {
				t.Fatalf("saved %q, handled %q", got, want)
			}
		}
	})
}

// A sender does something outside, and changes no document.
type sender struct {
	sent map[uint64]int
	hook func(ctx context.Context, rec store.Record) error
}

func (h *sender) Keys(rec store.Record) []string { return []string{rec.Stream} }
func (h *sender) Handle(ctx context.Context, _ *Tx, rec store.Record) error {
	h.sent[rec.Position.Seq]++
	if h.hook != nil {
		return h.hook(ctx, rec)
	}
	return nil
}
func (h *sender) Flush(context.Context, *Tx) error { return nil }
func (h *sender) Reset()                           {}

// A program that ends does not do again what it has done.
func TestEndCommitsWhatWasDone(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 100)
		sent := map[uint64]int{}
		f := effectful(nil)
		f.New = func(uint64) Handler {
			return &sender{sent: sent, hook: func(context.Context, store.Record) error { time.Sleep(time.Millisecond); return nil }}
		}
		for range 4 {
			r := run(t, s, f)
			time.Sleep(20*time.Millisecond + 500*time.Microsecond)
			r.stop()
		}
		r := run(t, s, f)
		r.wait()
		for seq, n := range sent {
			if n != 1 {
				t.Errorf("record %d was handled %d times", seq, n)
			}
		}
		if len(sent) != 100 {
			t.Errorf("%d records handled, want 100", len(sent))
		}
	})
}

// Records handled slowly are committed now and then.
func TestSlowHandlerCommits(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 50)
		f := effectful(nil)
		f.New = func(uint64) Handler {
			return &sender{sent: map[uint64]int{}, hook: func(context.Context, store.Record) error { time.Sleep(100 * time.Millisecond); return nil }}
		}
		r := run(t, s, f)
		time.Sleep(2500*time.Millisecond - time.Microsecond)
		st := r.status()
		if got := st.Cursor.Seq(0); got < 20 || got > 25 {
			t.Errorf("cursor at %d after 2.5 s of 100 ms each", got)
		}
		if age := time.Since(*st.Heartbeat); age > maxHold+100*time.Millisecond {
			t.Errorf("heartbeat is %v old", age)
		}
	})
}

func TestHandlerGetsADeadline(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		f := effectful(nil)
		f.Timeout, f.Retry = 5*time.Second, Retry{Attempts: 1}
		f.New = func(uint64) Handler {
			return &sender{sent: map[uint64]int{}, hook: func(ctx context.Context, _ store.Record) error { <-ctx.Done(); return ctx.Err() }}
		}
		r := run(t, s, f)
		add(t, s, "a/1", 1)
		began := time.Now()
		r.wait()
		if d := time.Since(began); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("given up after %v", d)
		}
		if got := r.parked(); got != "a/1@1 dead" {
			t.Error(got)
		}
	})
}

func TestWaitFor(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		p := add(t, s, "a/1", 1)
		if err := r.WaitFor(t.Context(), "ledger", p); err != nil {
			t.Error(err)
		}
		r.expect("a/1", 1)
		if err := r.WaitFor(t.Context(), "nobody", p); !errors.Is(err, ErrUnknownFollower) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.WaitFor(ctx, "ledger", store.Position{Seq: 99}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestPauseOutlivesRestart(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		p1 := add(t, s, "a/1", 1)
		r.wait()
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		p2 := add(t, s, "a/1", 1)
		time.Sleep(time.Minute)
		for range 2 {
			if st := r.status(); st.State != StatePaused {
				t.Errorf("state %q", st.State)
			}
			r.expect("a/1", 1)
			if err := r.WaitFor(t.Context(), "ledger", p1); err != nil {
				t.Errorf("waiting for what was handled before: %v", err)
			}
			if err := r.WaitFor(t.Context(), "ledger", p2); !errors.Is(err, ErrPaused) {
				t.Errorf("waiting for more: %v", err)
			}
			r.stop()
			r = run(t, s, pure(nil))
			time.Sleep(time.Minute)
		}
		if err := r.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		if st := r.status(); st.State != StateRunning {
			t.Errorf("state %q after resuming", st.State)
		}
		r.wait()
		r.expect("a/1", 1, 2)
		if err := r.Pause(t.Context(), "nobody"); !errors.Is(err, ErrUnknownFollower) {
			t.Error(err)
		}
	})
}

// Somebody who waits learns that the follower was paused.
func TestPauseEndsWaiting(t *testing.T) {
	within(t, func(t *testing.T) {
		r := run(t, newShelf(), pure(nil))
		said := make(chan error)
		go func() { said <- r.WaitFor(t.Context(), "ledger", store.Position{Seq: 1}) }()
		synctest.Wait()
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		if err := <-said; !errors.Is(err, ErrPaused) {
			t.Error(err)
		}
	})
}

// A paused follower does not keep the caller from waiting for the others.
func TestWaitAllWithAPausedFollower(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		paused := pure(func(h *ledger) { h.coll = "paused" })
		paused.Name = "a-paused"
		r := run(t, s, paused, pure(nil))
		if err := r.Pause(t.Context(), "a-paused"); err != nil {
			t.Fatal(err)
		}
		p := add(t, s, "a/1", 1)
		if err := r.WaitAll(t.Context(), p); !errors.Is(err, ErrPaused) || !strings.Contains(err.Error(), "a-paused") {
			t.Error(err)
		}
		r.expect("a/1", 1)
	})
}

// Intents can be changed where Run does not run, and by another node.
func TestAnotherNodePauses(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		other, err := New(Config{Store: s, Followers: []Follower{pure(nil)}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := other.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if st := r.status(); st.State != StatePaused {
			t.Errorf("state %q", st.State)
		}
		if err := other.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if st := r.status(); st.State != StateRunning {
			t.Errorf("state %q", st.State)
		}
	})
}

func TestFollowersAreIndependent(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		bad := effectful(func(h *ledger) {
			h.coll = "bad"
			h.fail = func(store.Record) error { panic("always") }
		})
		bad.Name = "bad"
		r := run(t, s, bad, pure(nil))
		add(t, s, "a/1", 3)
		r.wait()
		r.expect("a/1", 1, 2, 3)
		if got := slices.Collect(func(yield func(string) bool) {
			for _, st := range r.Status() {
				_ = yield(st.Name + " " + st.State)
			}
		}); !slices.Equal(got, []string{"bad running", "ledger running"}) {
			t.Error(got)
		}
	})
}

// A follower that lets records gather commits less often than they come, and looks
// less often what others have. Whoever waits for it does not wait for that.
func TestFollowersThatLetRecordsGather(t *testing.T) {
	within(t, func(t *testing.T) {
		for _, gather := range []time.Duration{0, 100 * time.Millisecond} {
			var looks atomic.Int64
			s := newShelf()
			s.head = func() error { looks.Add(1); return nil }
			f := pure(nil)
			f.Gather = gather
			r := run(t, s, f)
			r.wait()
			commits := func(stream string) int {
				before := s.wrote()
				for range 100 {
					add(t, s, stream, 1)
					time.Sleep(5 * time.Millisecond)
				}
				return s.wrote() - before
			}
			var at []time.Duration
			s.failWrites(func(int, []store.Change) (before, after error) {
				at = append(at, time.Duration(time.Now().UnixNano())%(100*time.Millisecond))
				return nil, nil
			})
			if n := commits("a/1"); gather == 0 && n < 100 || gather > 0 && n > 10 {
				t.Errorf("%v: %d commits", gather, n)
			}
			s.failWrites(nil)
			if gather > 0 && slices.ContainsFunc(at[len(at)-3:], func(d time.Duration) bool { return d > 0 }) {
				t.Errorf("it commits at %v, not when others do", at)
			}
			before := looks.Load()
			commits("b/1")
			if n := looks.Load() - before; gather == 0 && n < 100 || gather > 0 && n > 20 {
				t.Errorf("%v: it looked %d times at what is not for it", gather, n)
			}
			for i := range 10 {
				add(t, s, "b/1", 1)
				time.Sleep(time.Duration(i) * time.Millisecond)
				began := time.Now()
				add(t, s, "a/1", 1)
				if r.wait(); time.Since(began) > 2*pause {
					t.Errorf("%v: it was waited for %v", gather, time.Since(began))
				}
			}
			r.same()
			r.stop()
		}
	})
}
