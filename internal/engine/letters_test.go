package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// A mood is a handler's opinion of some events, which can change.
type mood struct {
	mu  sync.Mutex
	bad map[string]bool
}

func badly(at ...string) *mood {
	m := &mood{bad: map[string]bool{}}
	m.dislike(at...)
	return m
}

func (m *mood) dislike(at ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range at {
		m.bad[a] = true
	}
}

// relent likes some of them, or all.
func (m *mood) relent(at ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(at) == 0 {
		clear(m.bad)
	}
	for _, a := range at {
		delete(m.bad, a)
	}
}

func (m *mood) fail(rec store.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad[fmt.Sprintf("%s@%d", rec.Stream, rec.Version)] {
		return Permanent(errBad)
	}
	return nil
}

func TestRedrive(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				m := badly("a/1@2", "a/1@4", "a/2@1")
				add(t, s, "a/1", 5)
				add(t, s, "a/2", 2)
				r := run(t, s, follower(func(h *ledger) { h.fail = m.fail }))
				r.wait()
				if n, err := r.Redrive(t.Context(), "ledger.2"); n != 0 || !errors.Is(err, errBad) || !strings.Contains(err.Error(), "ledger.2") {
					t.Errorf("still bad: %d, %v", n, err)
				}
				l, err := r.DeadLetter(t.Context(), "ledger.2")
				if err != nil || l.Attempts != 2 || l.State != StateDead {
					t.Errorf("%+v, %v", l, err)
				}
				m.relent("a/1@2")
				// Asked for one that waits, it begins with the first.
				if n, err := r.Redrive(t.Context(), "ledger.5"); n != 2 || !errors.Is(err, errBad) || !strings.Contains(err.Error(), "ledger.4") {
					t.Errorf("one is good now: %d, %v", n, err)
				}
				r.expect("a/1", 1, 2, 3)
				if got := r.parked(); got != "a/1@4 dead, a/1@5 waiting, a/2@1 dead, a/2@2 waiting" {
					t.Error(got)
				}
				m.relent()
				if n, err := r.Redrive(t.Context(), "ledger.4"); n != 2 || err != nil {
					t.Errorf("all good: %d, %v", n, err)
				}
				r.expect("a/1", 1, 2, 3, 4, 5)
				if _, err := r.Redrive(t.Context(), "ledger.4"); !errors.Is(err, ErrNoDeadLetter) {
					t.Error(err)
				}
				if got := r.parked(); got != "a/2@1 dead, a/2@2 waiting" {
					t.Error("another sequence was touched: " + got)
				}
			})
		})
	}
}

func TestRedriveAll(t *testing.T) {
	for _, parts := range []int{1, 3} {
		within(t, func(t *testing.T) {
			s := newShelf()
			m := badly()
			for i := range 10 {
				m.dislike(fmt.Sprintf("a/%d@2", i))
				add(t, s, fmt.Sprintf("a/%d", i), 3)
			}
			f := pure(func(h *ledger) { h.fail = m.fail })
			f.Partitions = parts
			r := run(t, s, f)
			r.wait()
			m.relent()
			m.dislike("a/4@3")
			if n, err := r.RedriveAll(t.Context(), "ledger"); n != 19 || !errors.Is(err, errBad) {
				t.Errorf("%d, %v", n, err)
			}
			if got := r.parked(); got != "a/4@3 dead" {
				t.Error(got)
			}
		})
	}
}

func TestDiscard(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@2", "a/1@4")
		add(t, s, "a/1", 5)
		r := run(t, s, pure(func(h *ledger) { h.fail = m.fail }))
		r.wait()
		if err := r.Discard(t.Context(), "ledger.2", "a test order", "ann"); err != nil {
			t.Fatal(err)
		}
		r.expect("a/1", 1, 3)
		if got := r.parked(); got != "a/1@4 dead, a/1@5 waiting" {
			t.Error(got)
		}
		var note discarded
		for d, err := range s.List(t.Context(), discardedColl("ledger"), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(d.Data, &note); err != nil {
				t.Fatal(err)
			}
		}
		if note.ID != "ledger.2" || note.Why != "a test order" || note.By != "ann" || note.Discarded.IsZero() || string(note.Data) != `{"by":1}` || note.Reason != "bad event" {
			t.Errorf("the note says %+v", note)
		}
		if err := r.Discard(t.Context(), "ledger.2", "again", "ann"); !errors.Is(err, ErrNoDeadLetter) {
			t.Error(err)
		}
		// One that only waits can be given up too.
		if err := r.Discard(t.Context(), "ledger.5", "not needed", "ann"); err != nil {
			t.Fatal(err)
		}
		m.relent()
		if n, err := r.Redrive(t.Context(), "ledger.4"); n != 1 || err != nil {
			t.Error(n, err)
		}
		r.expect("a/1", 1, 3, 4)
	})
}

// Who asks something of a program that has just started need not ask again: what
// begins is waited for, and one that never does is said not to run.
func TestLettersOfFollowersThatBegin(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@1", "a/1@2")
		add(t, s, "a/1", 3)
		f := pure(func(h *ledger) { h.fail = m.fail })
		r := run(t, s, f)
		r.wait()
		r.stop()
		e, err := New(Config{Store: s, Followers: []Follower{f}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := e.Discard(t.Context(), "ledger.1", "because", "ann"); !errors.Is(err, ErrNotRunning) || time.Since(began) != beginning {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Redrive(gone, "ledger.1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(time.Second)
			e.Run(ctx)
		})
		if err := e.Discard(t.Context(), "ledger.1", "because", "ann"); err != nil {
			t.Error(err)
		}
		m.relent()
		if n, err := e.RedriveAll(t.Context(), "ledger"); n != 2 || err != nil {
			t.Error(n, err)
		}
		stop()
		all.Wait()
		if _, err := e.RedriveSome(t.Context(), "ledger", []string{"ledger.1"}); !errors.Is(err, ErrNotRunning) {
			t.Error(err)
		}
	})
}

// Nobody waits for what does not begin: one that cannot, or that is over before it
// has begun.
func TestLettersOfFollowersThatCannotBegin(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@1")
		add(t, s, "a/1", 2)
		f := pure(func(h *ledger) { h.fail = m.fail })
		r := run(t, s, f)
		r.wait()
		r.stop()
		f.Prepare = func(context.Context, uint64) error { return errors.New("no room for the index") }
		r = run(t, s, f)
		refused := func(e *Engine) {
			t.Helper()
			began := time.Now()
			if _, err := e.Redrive(t.Context(), "ledger.1"); !errors.Is(err, ErrNotRunning) || time.Since(began) > time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
		refused(r.Engine)
		time.Sleep(time.Minute)
		refused(r.Engine)
		if _, err := r.Redrive(t.Context(), "ledger.1"); !strings.Contains(err.Error(), "no room for the index") {
			t.Error(err)
		}
		r.stop()
		refused(r.Engine)

		guest, err := New(Config{Store: s, Followers: []Follower{f}, Logger: quiet(), Guest: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		guest.Run(ctx)
		refused(guest)
	})
}

// Who gives a redrive up has an answer of its own, while a worker is at it still.
func TestRedriveThatIsGivenUp(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@1")
		add(t, s, "a/1", 2)
		r := run(t, s, pure(func(h *ledger) {
			h.fail = func(rec store.Record) error { time.Sleep(time.Second); return m.fail(rec) }
		}))
		r.wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if out, err := r.RedriveSome(ctx, "ledger", []string{"ledger.1"}); !errors.Is(err, context.DeadlineExceeded) || len(out.Failed) != 0 {
			t.Errorf("%+v, %v", out, err)
		}
		time.Sleep(time.Minute)
		if l, err := r.DeadLetter(t.Context(), "ledger.1"); err != nil || l.Attempts < 2 {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

func TestLettersOfFollowersThatDoNotRun(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@1")
		add(t, s, "a/1", 2)
		f := pure(func(h *ledger) { h.fail = m.fail })
		r := run(t, s, f)
		r.wait()
		refused := func(when string) {
			t.Helper()
			if got := r.parked(); got != "a/1@1 dead, a/1@2 waiting" {
				t.Errorf("%s: %s", when, got)
			}
			if _, err := r.Redrive(t.Context(), "ledger.1"); !errors.Is(err, ErrNotRunning) {
				t.Errorf("%s: %v", when, err)
			}
			if _, err := r.RedriveAll(t.Context(), "ledger"); !errors.Is(err, ErrNotRunning) {
				t.Errorf("%s: %v", when, err)
			}
			if err := r.Discard(t.Context(), "ledger.1", "because", "ann"); !errors.Is(err, ErrNotRunning) {
				t.Errorf("%s: %v", when, err)
			}
		}
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		refused("paused")
		if err := r.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		r.stop()
		refused("stopped")
		for _, id := range []string{"", "ledger", "ledger.x", "ledger.9", "nobody.1", "ledger.1,1:2"} {
			if _, err := r.DeadLetter(t.Context(), id); !errors.Is(err, ErrNoDeadLetter) {
				t.Errorf("letter %q: %v", id, err)
			}
		}
	})
}

func TestPagesOfDeadLetters(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		var fs []Follower
		for _, name := range []string{"b", "a.x", "c"} {
			f := pure(func(h *ledger) {
				h.coll = name
				h.fail = func(store.Record) error { return Permanent(errBad) }
			})
			f.Name = name
			fs = append(fs, f)
		}
		add(t, s, "a/1", 4)
		r := run(t, s, fs...)
		r.wait()
		var got []string
		for after, pages := "", 0; ; pages++ {
			ls, next, err := r.DeadLetters(t.Context(), "", after, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range ls {
				got = append(got, l.ID)
			}
			if after = next; next == "" {
				break
			}
			if len(ls) != 3 || pages > 10 {
				t.Fatalf("page of %d", len(ls))
			}
		}
		want := strings.Fields("a.x.1 a.x.2 a.x.3 a.x.4 b.1 b.2 b.3 b.4 c.1 c.2 c.3 c.4")
		if !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		ls, next, err := r.DeadLetters(t.Context(), "b", "b.2", 0)
		if err != nil || next != "" || len(ls) != 2 || ls[0].ID != "b.3" {
			t.Errorf("%v %q %v", ls, next, err)
		}
		if _, _, err := r.DeadLetters(t.Context(), "nobody", "", 1); !errors.Is(err, ErrUnknownFollower) {
			t.Error(err)
		}
		if _, _, err := r.DeadLetters(t.Context(), "", "what", 1); !errors.Is(err, ErrNoDeadLetter) {
			t.Error(err)
		}
	})
}

// A redrive whose commit fails leaves nothing behind in the handler.
func TestRedriveCannotCommit(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly("a/1@2")
		add(t, s, "a/1", 3)
		r := run(t, s, pure(func(h *ledger) { h.fail = m.fail }))
		r.wait()
		m.relent()
		s.failWrites(func(_ int, changes []store.Change) (before, after error) {
			s.write = nil
			return &store.ConflictError{Coll: changes[0].Coll, Key: changes[0].Key, Version: 9}, nil
		})
		if n, err := r.Redrive(t.Context(), "ledger.2"); n != 0 || err == nil {
			t.Errorf("%d, %v", n, err)
		}
		r.expect("a/1", 1)
		if n, err := r.Redrive(t.Context(), "ledger.2"); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		r.expect("a/1", 1, 2, 3)
	})
}

// Who asks and does not want to wait longer need not.
func TestRedriveAndLeave(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 1)
		var slow atomic.Bool
		r := run(t, s, effectful(func(h *ledger) {
			h.fail = func(store.Record) error {
				if !slow.Swap(true) {
					return Permanent(errBad)
				}
				time.Sleep(10 * time.Second)
				return nil
			}
		}))
		r.wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Redrive(ctx, "ledger.1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		r.expect("a/1", 1)
	})
}
