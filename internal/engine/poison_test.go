package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

var errBad = errors.New("bad event")

// forgotten is the map nobody made.
func forgotten() map[string]int { return nil }

// Whatever a handler does wrong, the record is parked with its sequence,
// leaves nothing behind, and everything else goes on.
func TestPoison(t *testing.T) {
	kinds := map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful}
	for name, c := range map[string]struct {
		fail   func() error
		state  string
		reason string
		stack  bool
	}{
		"error":     {func() error { return errBad }, StateRetrying, "bad event", false},
		"permanent": {func() error { return fmt.Errorf("no: %w", Permanent(errBad)) }, StateDead, "no: bad event", false},
		"panic":     {func() error { panic("oops") }, StateDead, "panic: oops", true},
		"nil map":   {func() error { forgotten()["x"] = 1; return nil }, StateDead, "panic: assignment to entry in nil map", true},
	} {
		for kind, follower := range kinds {
			t.Run(name+" "+kind, func(t *testing.T) {
				within(t, func(t *testing.T) {
					s := newShelf()
					add(t, s, "a/1", 2)
					add(t, s, "a/2", 2)
					add(t, s, "a/1", 3)
					add(t, s, "a/3", 2)
					f := follower(func(h *ledger) { h.fail = at("a/1", 2, c.fail) })
					f.Retry = Retry{First: time.Hour}
					r := run(t, s, f)
					r.wait()
					r.expect("a/1", 1)
					r.expect("a/2", 1, 2)
					r.expect("a/3", 1, 2)
					want := "a/1@2 " + c.state + ", a/1@3 waiting, a/1@4 waiting, a/1@5 waiting"
					if got := r.parked(); got != want {
						t.Errorf("parked: %s\nwant    %s", got, want)
					}
					add(t, s, "a/1", 1)
					add(t, s, "a/2", 1)
					r.wait()
					r.expect("a/1", 1)
					r.expect("a/2", 1, 2, 3)
					if got := r.parked(); got != want+", a/1@6 waiting" {
						t.Errorf("parked: %s", got)
					}
					l, err := r.DeadLetter(t.Context(), "ledger.2")
					if err != nil {
						t.Fatal(err)
					}
					if l.Reason != c.reason || l.Attempts != 1 || (l.Stack != "") != c.stack {
						t.Errorf("reason %q, %d attempts, stack %q", l.Reason, l.Attempts, l.Stack)
					}
					if c.stack && !strings.Contains(l.Stack, "poison_test.go") {
						t.Errorf("the stack does not show the handler:\n%s", l.Stack)
					}
					if st := r.status(); st.Dead+st.Retrying != 1 || st.Waiting != 4 || st.State != StateRunning {
						t.Errorf("%+v", st)
					}
				})
			})
		}
	}
}

// A Flush that fails is blamed on the record that brought it about.
func TestPoisonShowsWhenFlushing(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				for range 3 {
					add(t, s, "a/1", 1)
					add(t, s, "a/2", 1)
				}
				r := run(t, s, follower(func(h *ledger) {
					h.direct = false
					h.flush = func(stream string, versions []uint64) error {
						if stream == "a/1" && slices.Contains(versions, 2) {
							return Permanent(errBad)
						}
						return nil
					}
				}))
				r.wait()
				r.expect("a/1", 1)
				r.expect("a/2", 1, 2, 3)
				if got := r.parked(); got != "a/1@2 dead, a/1@3 waiting" {
					t.Error(got)
				}
			})
		})
	}
}

// A document that no store accepts is the fault of the record, not of the
// store.
func TestPoisonThatCannotBeStored(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 1)
		f := pure(nil)
		f.New = func(uint64) Handler {
			return &ledger{direct: true, coll: "bad\ncollection"}
		}
		r := run(t, s, f)
		r.wait()
		if got := r.parked(); got != "a/1@1 dead" {
			t.Error(got)
		}
	})
}

// In a batch where every other record is bad, the good ones are not handled
// again for each of the bad.
func TestManyPoisonousRecords(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		const n = 3000
		for i := range n {
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		calls := 0
		r := run(t, s, pure(func(h *ledger) {
			h.fail = func(rec store.Record) error {
				calls++
				if rec.Position.Seq%2 == 0 {
					return Permanent(errBad)
				}
				return nil
			}
		}))
		r.wait()
		if st := r.status(); st.Dead != n/2 || len(r.book()) != n/2 {
			t.Errorf("%d dead, %d documents", st.Dead, len(r.book()))
		}
		if calls > 3*n {
			t.Errorf("%d calls for %d records", calls, n)
		}
	})
}

// A handler with outside effects is not given a record twice because another
// one of the batch fails.
func TestPoisonRepeatsNothingOutside(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		for i := range 50 {
			add(t, s, fmt.Sprintf("a/%d", i), 2)
		}
		sent := map[uint64]int{}
		f := effectful(nil)
		f.New = func(uint64) Handler {
			return &sender{sent: sent, hook: func(_ context.Context, rec store.Record) error {
				return at("a/7", 1, func() error { return Permanent(errBad) })(rec)
			}}
		}
		r := run(t, s, f)
		r.wait()
		for seq, n := range sent {
			if n != 1 {
				t.Errorf("record %d was handled %d times", seq, n)
			}
		}
		if len(sent) != 99 {
			t.Errorf("%d records handled, want 99", len(sent))
		}
	})
}

func TestRetrySucceeds(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				add(t, s, "a/1", 4)
				var tries []time.Time
				f := follower(func(h *ledger) {
					h.fail = at("a/1", 2, func() error {
						// A Pure handler's first failure comes twice: once more
						// with nothing before it.
						if tries = append(tries, time.Now()); time.Since(tries[0]) < 20*time.Second {
							return errBad
						}
						return nil
					})
				})
				f.Retry = Retry{First: 10 * time.Second, Max: 15 * time.Second}
				r := run(t, s, f)
				r.wait()
				if got := r.parked(); got != "a/1@2 retrying, a/1@3 waiting, a/1@4 waiting" {
					t.Fatal(got)
				}
				time.Sleep(13 * time.Second)
				l, err := r.DeadLetter(t.Context(), "ledger.2")
				if err != nil {
					t.Fatal(err)
				}
				wait := l.NextAt.Sub(l.LastAt)
				if l.Attempts != 2 || wait < 12*time.Second || wait > 18*time.Second {
					t.Errorf("after the second attempt: %d attempts, next in %v", l.Attempts, wait)
				}
				if string(l.Data) != `{"by":1}` || string(l.Meta) != `{"actor":"ann"}` {
					t.Errorf("the letter has lost its data: %s %s", l.Data, l.Meta)
				}
				time.Sleep(18 * time.Second)
				if got := r.parked(); got != "" {
					t.Errorf("still parked: %s", got)
				}
				r.expect("a/1", 1, 2, 3, 4)
				add(t, s, "a/1", 1)
				r.wait()
				r.expect("a/1", upTo(5)...)
				if st := r.status(); st.Retrying+st.Waiting+st.Dead != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestRetriesAreExhausted(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 1)
		f := effectful(func(h *ledger) { h.fail = func(store.Record) error { return errBad } })
		f.Retry = Retry{Attempts: 4, First: time.Second, Max: 2 * time.Second}
		r := run(t, s, f)
		time.Sleep(time.Minute)
		l, err := r.DeadLetter(t.Context(), "ledger.1")
		if err != nil {
			t.Fatal(err)
		}
		if l.State != StateDead || l.Attempts != 4 || !l.NextAt.IsZero() {
			t.Errorf("%+v", l)
		}
		if d := l.LastAt.Sub(l.FirstAt); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("gave up after %v, want about 1 + 2 + 2 s", d)
		}
	})
}

func TestRetryWaits(t *testing.T) {
	for _, c := range []struct {
		r        Retry
		attempts int
		want     time.Duration
	}{
		{Retry{}, 1, 100 * time.Millisecond},
		{Retry{}, 4, 800 * time.Millisecond},
		{Retry{}, 20, time.Minute},
		{Retry{}, 1000, time.Minute},
		{Retry{First: time.Second, Max: 3 * time.Second}, 2, 2 * time.Second},
		{Retry{First: time.Second, Max: 3 * time.Second}, 3, 3 * time.Second},
	} {
		differ := map[time.Duration]bool{}
		for range 100 {
			d := c.r.Wait(c.attempts)
			differ[d] = true
			if d < c.want*4/5 || d > c.want*6/5+1 {
				t.Errorf("%+v: %v after %d attempts, want about %v", c.r, d, c.attempts, c.want)
			}
		}
		if len(differ) < 10 {
			t.Errorf("%+v: no jitter", c.r)
		}
	}
}

// Dead letters outlive the program; nothing waits for ever because it ended
// between two letters of a sequence.
func TestRestartWithDeadLetters(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 3)
		var bad atomic.Bool
		bad.Store(true)
		f := pure(func(h *ledger) {
			h.fail = at("a/1", 1, func() error {
				if bad.Load() {
					return Permanent(errBad)
				}
				return nil
			})
		})
		r := run(t, s, f)
		r.wait()
		r.stop()
		r = run(t, s, f)
		add(t, s, "a/1", 1)
		r.wait()
		if got := r.parked(); got != "a/1@1 dead, a/1@2 waiting, a/1@3 waiting, a/1@4 waiting" {
			t.Error(got)
		}
		r.stop()
		// As if it had ended right after the first had been handled at last.
		bad.Store(false)
		err := s.Write(t.Context(),
			store.Change{Coll: deadColl("ledger"), Key: deadKey(1, store.Position{Seq: 1}), Rev: store.AnyRev},
			store.Change{Coll: ledgerColl(1), Key: "a/1", Rev: store.AnyRev, Data: []byte("[1]")})
		if err != nil {
			t.Fatal(err)
		}
		r = run(t, s, f)
		time.Sleep(time.Second)
		r.expect("a/1", 1, 2, 3, 4)
		if got := r.parked(); got != "" {
			t.Error(got)
		}
	})
}

// A record can belong to several sequences; what waits behind it waits in
// all of them.
func TestSequencesThatMeet(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		for _, keys := range []string{"x", "y", "z", "xy", "y", "z", "x"} {
			add(t, s, "a/"+keys, 1)
		}
		f := pure(func(h *ledger) {
			h.keys = func(rec store.Record) []string { return strings.Split(store.Category(rec.Stream[2:]), "") }
			h.fail = at("a/x", 1, func() error { return Permanent(errBad) })
		})
		r := run(t, s, f)
		r.wait()
		if got := r.parked(); got != "a/x@1 dead, a/xy@1 waiting, a/y@2 waiting, a/x@2 waiting" {
			t.Error(got)
		}
		r.expect("a/z", 1, 2)
		r.expect("a/y", 1)
	})
}

// A retry leaves the dead ones of connected sequences alone.
func TestRetryDoesNotTouchTheDead(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		for _, keys := range []string{"x", "y", "xy", "x"} {
			add(t, s, "a/"+keys, 1)
		}
		tries := map[string]int{}
		f := effectful(func(h *ledger) {
			h.keys = func(rec store.Record) []string { return strings.Split(rec.Stream[2:], "") }
			h.fail = func(rec store.Record) error {
				tries[fmt.Sprintf("%s@%d", rec.Stream, rec.Version)]++
				switch {
				case rec.Stream == "a/y":
					return Permanent(errBad)
				case rec.Stream == "a/x" && rec.Version == 1 && tries["a/x@1"] < 3:
					return errBad
				}
				return nil
			}
		})
		r := run(t, s, f)
		r.wait()
		time.Sleep(time.Minute)
		if got := r.parked(); got != "a/y@1 dead, a/xy@1 waiting, a/x@2 waiting" {
			t.Error(got)
		}
		if tries["a/y@1"] != 1 || tries["a/x@1"] != 3 {
			t.Error(tries)
		}
	})
}

// While dead letters are tried again, new records are handled too.
func TestLongSequenceDoesNotHoldOthersUp(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 800)
		var bad atomic.Bool
		bad.Store(true)
		f := effectful(func(h *ledger) {
			h.fail = func(rec store.Record) error {
				if rec.Stream != "a/1" {
					return nil
				}
				if bad.Load() {
					return errBad
				}
				time.Sleep(50 * time.Millisecond)
				return nil
			}
		})
		f.Retry = Retry{First: time.Minute}
		r := run(t, s, f)
		r.wait()
		bad.Store(false)
		time.Sleep(75 * time.Second) // the sequence takes 40 s
		if st := r.status(); st.Waiting == 0 {
			t.Fatal("the sequence is done already")
		}
		began := time.Now()
		p := add(t, s, "a/2", 1)
		if err := r.WaitFor(t.Context(), "ledger", p); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*ownRedrive {
			t.Errorf("another stream waited %v", d)
		}
		time.Sleep(time.Minute)
		r.expect("a/1", upTo(800)...)
	})
}

// A record whose copy would not fit the document is parked without it.
func TestLargePoison(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		data, err := json.Marshal(strings.Repeat("x", store.MaxData-10))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Append(t.Context(), store.Write{Stream: "a/1", Expect: store.None, Events: []store.Event{
			{ID: store.ID{1}, Type: "added", Data: data, Meta: []byte("not json")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		f := pure(func(h *ledger) {
			h.fail = func(store.Record) error { panic(strings.Repeat("y", store.MaxData)) }
		})
		r := run(t, s, f)
		r.wait()
		l, err := r.DeadLetter(t.Context(), "ledger.1")
		if err != nil {
			t.Fatal(err)
		}
		if l.Data != nil || l.Meta != nil || len(l.Reason) > maxReason+10 || len(l.Stack) > maxStack+10 {
			t.Errorf("data %d, meta %d, reason %d, stack %d bytes", len(l.Data), len(l.Meta), len(l.Reason), len(l.Stack))
		}
	})
}

// A record that cannot be read again must not keep its follower from the rest.
func TestPoisonThatVanished(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 1)
		f := effectful(func(h *ledger) {
			h.fail = at("a/1", 1, func() error { return errBad })
		})
		f.Retry = Retry{First: time.Minute}
		r := run(t, s, f)
		r.wait()
		key := deadKey(1, store.Position{Seq: 1})
		d, err := s.Get(t.Context(), deadColl("ledger"), key)
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		gone := strings.Replace(string(d.Data), `"version":1`, `"version":7`, 1)
		if err := s.Write(t.Context(), store.Change{Coll: deadColl("ledger"), Key: key, Rev: d.Rev, Data: []byte(gone)}); err != nil {
			t.Fatal(err)
		}
		r = run(t, s, f)
		time.Sleep(2 * time.Minute)
		add(t, s, "a/2", 1)
		r.wait()
		r.expect("a/2", 1)
		l, err := r.DeadLetter(t.Context(), "ledger.1")
		if err != nil {
			t.Fatal(err)
		}
		if l.State != StateDead || !strings.Contains(l.Reason, "is gone") || l.Data == nil {
			t.Errorf("%+v", l)
		}
	})
}
