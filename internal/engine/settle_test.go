package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A tray is a handler that leaves the records of some streams open.
type tray struct {
	mu      sync.Mutex
	pending map[string]bool
	refused string   // a stream whose records cannot be handled
	writes  bool     // it writes down what is pending
	written []string // since the last Reset
	handled []string
}

func (h *tray) Keys(rec store.Record) []string { return []string{rec.Stream} }

// Reset takes what was written down for pending: the commit may have failed.
func (h *tray) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, stream := range h.written {
		h.pending[stream] = true
	}
	h.written = nil
}

func (h *tray) Flush(_ context.Context, tx *Tx) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.writes {
		return nil
	}
	for stream := range h.pending {
		if err := tx.Put("tray", stream, []byte("pending")); err != nil {
			return err
		}
		h.written = append(h.written, stream)
	}
	clear(h.pending)
	return nil
}

func (h *tray) Handle(_ context.Context, tx *Tx, rec store.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handled = append(h.handled, fmt.Sprintf("%s@%d", rec.Stream, rec.Version))
	if rec.Stream == h.refused {
		return Permanent(errors.New("on purpose"))
	}
	if h.pending[rec.Stream] && !tx.Open(rec.Stream) {
		return errors.New("it cannot be left open")
	}
	return nil
}

func (h *tray) Settled(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.pending[key]
}

// settle settles streams, or has all that is pending written down.
func (h *tray) settle(streams ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range streams {
		h.writes = h.writes || s == "written down"
		delete(h.pending, s)
	}
}

func (h *tray) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.handled, " ")
}

// What is not settled when a worker ends is handled again, and all that comes
// after it; what is waited for does not wait for that.
func TestOpenRecordsAreHandledAgain(t *testing.T) {
	within(t, func(t *testing.T) {
		s := mem.New()
		begin := func(h *tray) *rig {
			return run(t, s, Follower{Name: "tray", Kind: "runner", Pure: true, Fixed: true, New: func(uint64) Handler { return h }})
		}
		for _, stream := range []string{"a/1", "a/2", "a/3"} {
			add(t, s, stream, 1)
		}
		for i, step := range []struct {
			name    string
			pending []string
			settled []string
			want    string
		}{
			{"two are left open", []string{"a/2", "a/3"}, nil, "a/1@1 a/2@1 a/3@1 a/2@2"},
			{"the later one is settled", []string{"a/2", "a/3"}, []string{"a/3"}, "a/2@1 a/3@1 a/2@2"},
			{"the earlier one is settled", []string{"a/2", "a/3"}, []string{"a/2"}, "a/2@1 a/3@1 a/2@2"},
			{"the other is written down", []string{"a/3"}, []string{"written down"}, "a/3@1 a/2@2"},
			{"nothing is left", nil, nil, ""},
		} {
			h := &tray{pending: map[string]bool{}}
			for _, stream := range step.pending {
				h.pending[stream] = true
			}
			r := begin(h)
			if r.wait(); i == 0 {
				add(t, s, "a/2", 1)
				r.wait()
			}
			time.Sleep(2 * idleSave)
			h.settle(step.settled...)
			if time.Sleep(2 * idleSave); h.said() != step.want {
				t.Errorf("%s: handled %s, want %s", step.name, h.said(), step.want)
			}
			r.stop()
		}
	})
}

// A record that is read again because of an earlier one is not parked twice.
func TestOpenRecordsBeforeADeadLetter(t *testing.T) {
	within(t, func(t *testing.T) {
		s := mem.New()
		for _, stream := range []string{"a/1", "a/2", "a/3", "a/2"} {
			add(t, s, stream, 1)
		}
		for _, want := range []string{"a/1@1 a/2@1 a/1@1 a/2@1 a/3@1", "a/1@1 a/3@1"} {
			h := &tray{pending: map[string]bool{"a/1": true}, refused: "a/2"}
			r := run(t, s, Follower{Name: "tray", Kind: "runner", Pure: true, Fixed: true, New: func(uint64) Handler { return h }})
			r.wait()
			time.Sleep(2 * idleSave)
			if h.said() != want || r.parked() != "a/2@1 dead, a/2@2 waiting" || r.status().State != StateRunning {
				t.Errorf("handled %s, want %s; parked: %s; %+v", h.said(), want, r.parked(), r.status())
			}
			r.stop()
		}
	})
}

// What could not be written down stays open, be it that nothing comes in any more,
// or that the worker ends before it can try again.
func TestOpenRecordsThatCannotBeWrittenDown(t *testing.T) {
	within(t, func(t *testing.T) {
		for _, c := range []struct {
			name  string
			takes time.Duration // to refuse a change
			deaf  bool          // then the store does not answer questions either
			ends  bool          // the worker is told to end meanwhile
		}{
			{"it is tried again", 0, false, false},
			{"the worker ends while the store is away", 0, true, true},
			{"the worker ends while it is tried", time.Second, false, true},
		} {
			s := newShelf()
			var deaf atomic.Bool
			s.get = func(string, string) error {
				if deaf.Load() {
					return errDown
				}
				return nil
			}
			refused := make(chan struct{})
			s.failWrites(func(_ int, changes []store.Change) (before, after error) {
				select {
				case <-refused:
					return nil, nil
				default:
				}
				if changes[0].Coll != "tray" {
					return nil, nil
				}
				deaf.Store(c.deaf)
				close(refused)
				time.Sleep(c.takes)
				return errDown, nil
			})
			begin := func(pending bool) (*tray, *rig) {
				h := &tray{pending: map[string]bool{"a/1": pending}}
				return h, run(t, s, Follower{Name: "tray", Kind: "runner", Pure: true, Fixed: true, New: func(uint64) Handler { return h }})
			}
			add(t, s, "a/1", 1)
			h, r := begin(true)
			r.wait()
			h.settle("written down")
			<-refused
			if c.ends {
				r.stop()
				deaf.Store(false)
				h, r = begin(false)
				if r.wait(); h.said() != "a/1@1" {
					t.Errorf("%s: the next worker handles %q", c.name, h.said())
				}
			} else {
				time.Sleep(time.Minute)
				if _, err := s.Get(t.Context(), "tray", "a/1"); err != nil {
					t.Errorf("%s: it is not written down: %v", c.name, err)
				}
			}
			r.stop()
		}
	})
}
