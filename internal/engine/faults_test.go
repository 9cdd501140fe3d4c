package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
)

// Whichever write of the store fails, before or after it took effect: each
// record takes effect once.
func TestAnyWriteFails(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		for _, when := range []string{"before", "after"} {
			t.Run(kind+" "+when, func(t *testing.T) {
				for nth := 1; ; nth++ {
					done := false
					within(t, func(t *testing.T) {
						s, m := newShelf(), badly("a/2@3")
						hit := false
						s.failWrites(func(n int, _ []store.Change) (before, after error) {
							if n != nth {
								return nil, nil
							}
							hit = true
							if when == "before" {
								return errDown, nil
							}
							return nil, fmt.Errorf("%w: on purpose", store.ErrUnknown)
						})
						add(t, s, "a/2", 5)
						for i := range 30 { // more than a batch
							add(t, s, fmt.Sprintf("a/s%d", i), 20)
						}
						r := run(t, s, follower(func(h *ledger) { h.fail = m.fail }))
						r.wait()
						r.expect("a/2", 1, 2)
						m.relent()
						// The caller learns that it is not known what happened.
						if n, err := r.Redrive(t.Context(), "ledger.3"); err != nil && n == 3 {
							t.Errorf("write %d: all three redriven, and yet %v", nth, err)
						}
						_, _ = r.RedriveAll(t.Context(), "ledger")
						add(t, s, "a/1", 1)
						r.wait()
						time.Sleep(time.Minute) // a redrive that failed goes on by itself
						r.same()
						if got := r.parked(); got != "" {
							t.Errorf("write %d: still parked: %s", nth, got)
						}
						r.stop()
						done = !hit
					})
					if t.Failed() {
						t.Fatalf("write %d failed %s", nth, when)
					}
					if done {
						if nth < 5 {
							t.Fatalf("only %d writes were tried", nth)
						}
						break
					}
				}
			})
		}
	}
}

// A program that ends at any moment goes on exactly where it was.
func TestEndsAtAnyMoment(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				add(t, s, "a/1", 100)
				f := follower(func(h *ledger) {
					h.fail = func(store.Record) error { time.Sleep(time.Millisecond); return nil }
				})
				for i := 0; s.wrote() < 30 && i < 1000; i++ {
					add(t, s, "a/1", 2)
					r := run(t, s, f)
					time.Sleep(time.Duration(i%9) * 700 * time.Microsecond)
					r.stop()
				}
				r := run(t, s, f)
				r.wait()
				r.same()
			})
		})
	}
}

// The store is down for long: everything waits, says so, parks nothing, and
// goes on by itself.
func TestStoreIsDown(t *testing.T) {
	for name, fail := range map[string]func(*shelf, func() error){
		"write": func(s *shelf, down func() error) {
			s.write = func(int, []store.Change) (error, error) { return down(), nil }
		},
		"read": func(s *shelf, down func() error) { s.read = func(store.Record) error { return down() } },
		"head": func(s *shelf, down func() error) { s.head = down },
		"get":  func(s *shelf, down func() error) { s.get = func(string, string) error { return down() } },
		"get, not wrapped": func(s *shelf, down func() error) {
			s.get = func(coll, _ string) error {
				if down() != nil && strings.HasPrefix(coll, "ledger/") {
					return fmt.Errorf("connection reset")
				}
				return nil
			}
		},
	} {
		for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
			t.Run(name+" "+kind, func(t *testing.T) {
				within(t, func(t *testing.T) {
					s := newShelf()
					var up atomic.Bool
					up.Store(true)
					fail(s, func() error {
						if up.Load() {
							return nil
						}
						return errDown
					})
					r := run(t, s, follower(nil))
					add(t, s, "a/1", 10)
					r.wait()
					up.Store(false)
					add(t, s, "a/1", 1)
					add(t, s, "a/2", 1)
					time.Sleep(10 * time.Minute)
					if st := r.status(); st.State != StateTrouble || st.LastError == "" || st.Retrying+st.Dead > 0 {
						t.Errorf("while it is down: %+v", st)
					}
					up.Store(true)
					began := time.Now()
					r.wait()
					if d := time.Since(began); d > 7*time.Second {
						t.Errorf("back after %v", d)
					}
					r.same()
					time.Sleep(7 * time.Second)
					if st := r.status(); st.State != StateRunning {
						t.Errorf("when it is back: %+v", st)
					}
				})
			})
		}
	}
}

// Nothing is read past a damaged record, and all before it is handled.
func TestDamagedRecord(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		var mended atomic.Bool
		s.read = func(rec store.Record) error {
			if rec.Position.Seq == 700 && !mended.Load() {
				return fmt.Errorf("%w: record 700", store.ErrCorrupt)
			}
			return nil
		}
		add(t, s, "a/1", 1000)
		r := run(t, s, pure(nil))
		time.Sleep(time.Minute)
		r.expect("a/1", upTo(699)...)
		if st := r.status(); st.State != StateTrouble || !strings.Contains(st.LastError, "record 700") || st.Cursor != "699" || st.ErrorAt == nil || st.Dead+st.Retrying > 0 {
			t.Errorf("%+v", st)
		}
		mended.Store(true)
		r.wait()
		r.same()
	})
}

// A store that takes only small writes gets small batches.
func TestStoreTakesSmallWritesOnly(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		s.write = func(_ int, changes []store.Change) (before, after error) {
			if len(changes) > 5 {
				return fmt.Errorf("too many changes"), nil
			}
			return nil, nil
		}
		for i := range 40 {
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		r := run(t, s, pure(nil))
		time.Sleep(time.Hour)
		r.wait()
		r.same()
	})
}

// Two programs on one store, which the store's lock should have prevented:
// whoever is overtaken notices, and each record takes effect once.
func TestZombies(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				a, b := run(t, s, follower(nil)), run(t, s, follower(nil))
				for i := range 60 {
					add(t, s, "a/1", 1)
					add(t, s, fmt.Sprintf("a/%d", i%7), 3)
					time.Sleep(time.Duration(i%5) * time.Millisecond)
				}
				a.wait()
				b.wait()
				a.same()
			})
		})
	}
}

// A worker that slept through another's work commits nothing.
func TestZombieWakesUp(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 3)
		var once atomic.Bool
		zombie := run(t, s, pure(func(h *ledger) {
			h.fail = func(rec store.Record) error {
				if rec.Version == 2 && !once.Swap(true) {
					time.Sleep(time.Hour)
				}
				return nil
			}
		}))
		time.Sleep(time.Minute)
		other := run(t, s, pure(nil))
		add(t, s, "a/1", 3)
		other.wait()
		other.same()
		time.Sleep(time.Hour)
		zombie.same()
		add(t, s, "a/1", 1)
		zombie.wait()
		zombie.same()
	})
}

// The end of Run is the end of everything it started, whatever is going on.
func TestRunEndsEverything(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		for range 20 { // so that more is being read ahead
			add(t, s, "a/1", 1000)
		}
		f := pure(func(h *ledger) {
			h.fail = func(store.Record) error { time.Sleep(time.Millisecond); return nil }
		})
		f.Partitions = 3
		r := run(t, s, f)
		time.Sleep(time.Second)
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		began := time.Now()
		r.stop()
		if d := time.Since(began); d > 100*time.Millisecond {
			t.Errorf("it took %v to end", d)
		}
		if st := r.status(); st.State != StateStopped {
			t.Errorf("%+v", st)
		}
	}) // the bubble fails if a goroutine is left
}

// A commit under way when the program ends is waited for.
func TestEndDuringCommit(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		sent := map[uint64]int{}
		f := effectful(nil)
		f.New = func(uint64) Handler { return &sender{sent: sent} }
		slow := slowWrites{s}
		r := run(t, slow, f)
		time.Sleep(2 * time.Second)
		add(t, s, "a/1", 3)
		time.Sleep(500 * time.Millisecond)
		r.stop()
		r = run(t, slow, f)
		synctest.Wait()
		r.wait()
		for seq, n := range sent {
			if n != 1 {
				t.Errorf("record %d was handled %d times", seq, n)
			}
		}
	})
}

// slowWrites is a store whose writes take a second.
type slowWrites struct{ *shelf }

func (s slowWrites) Write(ctx context.Context, changes ...store.Change) error {
	select {
	case <-time.After(time.Second):
		return s.shelf.Write(ctx, changes...)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	}
}
