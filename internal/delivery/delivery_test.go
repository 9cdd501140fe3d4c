package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A place takes in events, unless it is told otherwise.
type place struct {
	mu    sync.Mutex
	got   []string // ids, in the order in which they came
	tries []string // also of those it did not take
	at    []time.Time
	now   int // deliveries under way
	most  int
	fail  func(Event) error
	takes time.Duration
}

func (p *place) Deliver(ctx context.Context, events []Event) error {
	p.mu.Lock()
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.now--
		p.mu.Unlock()
	}()
	if p.takes > 0 {
		select {
		case <-time.After(p.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, e := range events {
		p.mu.Lock()
		p.tries, p.at = append(p.tries, e.ID), append(p.at, time.Now())
		fail := p.fail
		p.mu.Unlock()
		if fail != nil {
			if err := fail(e); err != nil {
				return err
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events {
		p.got = append(p.got, e.ID)
	}
	return nil
}

func (p *place) set(fail func(Event) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = fail
}

func (p *place) ids() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

// times returns when an event was tried, from the first time on.
func (p *place) times(id string) (out []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var first time.Time
	for i, tried := range p.tries {
		if tried != id {
			continue
		}
		if first.IsZero() {
			first = p.at[i]
		}
		out = append(out, p.at[i].Sub(first).Truncate(time.Second))
	}
	return out
}

// plain makes one event of each record; its key is the stream.
func plain(rec *store.Record) ([]Event, error) {
	return []Event{{ID: fmt.Sprintf("%s:%d", rec.Stream, rec.Version), Type: rec.Type, PartitionKey: rec.Stream}}, nil
}

// An unsure store fails to write, if it is told to.
type unsure struct {
	*mem.Store
	mu    sync.Mutex
	fails int
}

func (u *unsure) fail(times int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fails = times
}

func (u *unsure) Write(ctx context.Context, changes ...store.Change) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fails > 0 {
		u.fails--
		return store.ErrUnavailable
	}
	return u.Store.Write(ctx, changes...)
}

// A rig delivers what is recorded to a place.
type rig struct {
	t      *testing.T
	store  *unsure
	engine *engine.Engine
	place  *place
	gone   []string
}

// inRig runs f in simulated time, with a follower that delivers to a place.
func inRig(t *testing.T, change func(*Route, *engine.Follower), f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: &unsure{Store: mem.New()}, place: &place{}}
		route := Route{
			Publish: plain, Outlet: NewOutlet(r.place, func(why string) { r.gone = append(r.gone, why) }),
			Attempts: func(string) (string, string) { return "attempts", "a" },
		}
		follower := engine.Follower{Name: "sub", Kind: "subscription", Outward: true, Retry: engine.Retry{Schedule: []time.Duration{5 * time.Second, 5 * time.Minute}}}
		if change != nil {
			change(&route, &follower)
		}
		follower.New = func(uint64) engine.Handler { return NewHandler(route) }
		var err error
		r.engine, err = engine.New(engine.Config{Store: r.store, Followers: []engine.Follower{follower}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var end sync.WaitGroup
		end.Go(func() { r.engine.Run(ctx) })
		f(r)
		cancel()
		end.Wait()
	})
}

var lastID uint64

// append records events: "a b a" is one in the stream k/a, one in k/b and another in k/a.
func (r *rig) append(streams ...string) {
	r.t.Helper()
	for _, s := range streams {
		lastID++
		id := store.ID{15: byte(lastID), 14: byte(lastID >> 8), 13: byte(lastID >> 16)}
		if _, err := r.store.Append(r.t.Context(), store.Write{Stream: "k/" + s, Expect: store.Any, Events: []store.Event{{ID: id, Type: "happened", Data: []byte("{}")}}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) status() engine.Status { return r.engine.Status()[0] }

// settle lets time pass.
func (r *rig) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) got(want ...string) {
	r.t.Helper()
	if got := r.place.ids(); !slices.Equal(got, want) {
		r.t.Errorf("delivered %q, want %q", got, want)
	}
}

// inOrder reports whether each stream's events came in order, each once, and how many there are.
func (r *rig) inOrder() int {
	r.t.Helper()
	last := map[string]int{}
	got := r.place.ids()
	for _, id := range got {
		var stream string
		var version int
		i := len(id) - 1
		for id[i] != ':' {
			i--
		}
		stream = id[:i]
		fmt.Sscan(id[i+1:], &version)
		if version != last[stream]+1 {
			r.t.Errorf("%s came after version %d", id, last[stream])
		}
		last[stream] = version
	}
	return len(got)
}

// One key that fails is parked with what comes after it; others go on, and all
// of it comes in order when it is redriven.
func TestOneKeyFails(t *testing.T) {
	for _, batch := range []int{1, 10} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			inRig(t, func(r *Route, _ *engine.Follower) { r.Batch = batch }, func(r *rig) {
				r.place.set(func(e Event) error {
					if e.PartitionKey == "k/bad" {
						return errors.New("no")
					}
					return nil
				})
				for range 10 {
					r.append("a", "bad", "b", "bad", "a")
				}
				r.settle(2 * time.Second)
				if n := r.inOrder(); n != 30 {
					t.Errorf("%d delivered, want 30", n)
				}
				if s := r.status(); s.Retrying != 1 || s.Waiting != 19 || s.Behind != 0 {
					t.Errorf("%+v", s)
				}
				r.settle(10 * time.Minute)
				if s := r.status(); s.Dead != 1 || s.Waiting != 19 {
					t.Errorf("%+v", s)
				}
				r.place.set(nil)
				letters, _, err := r.engine.DeadLetters(r.t.Context(), "sub", "", 1)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := r.engine.Redrive(r.t.Context(), letters[0].ID); n != 20 || err != nil {
					t.Errorf("%d redriven, %v", n, err)
				}
				if n := r.inOrder(); n != 50 {
					t.Errorf("%d delivered, want 50", n)
				}
			})
		})
	}
}

// A message is tried again as the schedule says, give or take a fifth.
func TestSchedule(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.place.set(func(e Event) error { return errors.New("no") })
		r.append("a")
		r.settle(10 * time.Minute)
		at := r.place.times("k/a:1")
		if len(at) != 3 || at[1] < 4*time.Second || at[1] > 7*time.Second || at[2]-at[1] < 4*time.Minute || at[2]-at[1] > 7*time.Minute {
			t.Errorf("tried at %v", at)
		}
		if s := r.status(); s.Dead != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A place that is away gets nothing but a try now and then, and nothing more is
// parked than those tries; when it is back it gets everything.
func TestAway(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.place.set(func(e Event) error { return errors.New("down") })
		for i := range 200 {
			r.append(fmt.Sprint(i))
		}
		r.settle(10 * time.Minute)
		s := r.status()
		if parked := s.Retrying + s.Waiting + s.Dead; parked > 40 || s.State != engine.StateBlocked || s.Behind < 150 || s.LastError == "" {
			t.Errorf("%+v", s)
		}
		if tries := len(r.place.tries); tries > 60 {
			t.Errorf("%d tries in 10 minutes", tries)
		}
		r.place.set(nil)
		r.settle(time.Hour)
		if _, err := r.engine.RedriveAll(r.t.Context(), "sub"); err != nil {
			t.Fatal(err)
		}
		if n := r.inOrder(); n != 200 {
			t.Errorf("%d delivered, want 200", n)
		}
	})
}

// A place that is busy is left alone for as long as it says.
func TestBusy(t *testing.T) {
	inRig(t, func(r *Route, _ *engine.Follower) { r.Parallel = 1 }, func(r *rig) {
		busy := true
		r.place.set(func(e Event) error {
			if busy {
				busy = false
				return Busy{errors.New("429"), 90 * time.Second}
			}
			return nil
		})
		r.append("a", "b", "c")
		r.settle(80 * time.Second)
		r.got()
		r.settle(20 * time.Second)
		if n := len(r.place.ids()); n != 3 {
			t.Errorf("%d delivered: %q", n, r.place.ids())
		}
		if at := r.place.times("k/a:1"); len(at) != 2 || at[1] < 90*time.Second {
			t.Errorf("tried at %v", at)
		}
	})
}

// A place that wants nothing more gets nothing more.
func TestGone(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.place.set(func(e Event) error { return Gone{errors.New("410")} })
		r.append("a")
		r.settle(5 * time.Second)
		if len(r.gone) != 1 || r.status().State != engine.StateBlocked || r.status().Retrying != 0 {
			t.Errorf("%q, %+v", r.gone, r.status())
		}
	})
}

// What hangs for one key holds up nobody else, and comes after all.
func TestSlow(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		r.place.takes = 20 * time.Second
		r.append("slow")
		r.settle(100 * time.Millisecond)
		r.place.mu.Lock()
		r.place.takes = 0
		r.place.mu.Unlock()
		r.append("slow", "a", "b")
		r.settle(1500 * time.Millisecond)
		r.append("a")
		r.settle(100 * time.Millisecond)
		if n := r.inOrder(); n != 3 {
			t.Errorf("%q", r.place.ids())
		}
		r.settle(20 * time.Second)
		if n := r.inOrder(); n != 5 {
			t.Errorf("%q", r.place.ids())
		}
		if s := r.status(); s.Retrying+s.Waiting+s.Dead != 0 {
			t.Errorf("%+v", s)
		}
		if tries := r.place.times("k/slow:1"); len(tries) != 1 {
			t.Errorf("tried %d times", len(tries))
		}
	})
}

// Many keys are delivered at once, but not more than may be, and events that
// are batched stay in order.
func TestParallel(t *testing.T) {
	for _, c := range []struct{ parallel, batch int }{{4, 1}, {3, 7}} {
		inRig(t, func(r *Route, _ *engine.Follower) { r.Parallel, r.Batch = c.parallel, c.batch }, func(r *rig) {
			r.place.takes = 10 * time.Millisecond
			for i := range 400 {
				r.append(fmt.Sprint(i % 20))
			}
			r.settle(time.Minute)
			if n := r.inOrder(); n != 400 || r.place.most != c.parallel {
				t.Errorf("%d delivered, %d at once", n, r.place.most)
			}
		})
	}
}

// What was delivered and could not be noted is not delivered again, as long as
// the process lives.
func TestCommitFails(t *testing.T) {
	inRig(t, nil, func(r *rig) {
		for i := range 50 {
			r.append(fmt.Sprint(i % 5))
		}
		r.store.fail(3)
		r.settle(time.Minute)
		if n := r.inOrder(); n != 50 {
			t.Errorf("%d delivered", n)
		}
		d, err := r.store.Get(r.t.Context(), "attempts", "a")
		var attempts []Attempt
		if err != nil || json.Unmarshal(d.Data, &attempts) != nil || len(attempts) == 0 {
			t.Errorf("%s, %v", d.Data, err)
		}
	})
}

// An event that cannot be made public is a dead letter, and so is what a
// panicking target gets.
func TestCannotBeMade(t *testing.T) {
	inRig(t, func(r *Route, _ *engine.Follower) {
		r.Publish = func(rec *store.Record) ([]Event, error) {
			if rec.Stream == "k/odd" {
				panic("odd")
			}
			return plain(rec)
		}
	}, func(r *rig) {
		r.append("odd", "a", "odd", "b")
		r.settle(time.Second)
		if s := r.status(); s.Dead+s.Waiting != 2 || len(r.place.ids()) != 2 {
			t.Errorf("%+v %q", s, r.place.ids())
		}
	})
}

// Written by hand or not, an event is the same JSON.
func TestJSON(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 70, time.UTC)
	for _, e := range []Event{
		{},
		{SpecVersion: "1.0", ID: "a/ö 1:2", Source: "/s", Type: "t.v1", Subject: "a/\"\n\u2028<&>", Time: at, ContentType: "application/json", PartitionKey: "k", Sequence: "1", Data: json.RawMessage(`{"a":[1]}`)},
		{ID: "x", Time: at, DataSchema: "d", Aggregate: "a", Correlation: "c", Causation: "b", TraceParent: "t", Data: json.RawMessage(`null`)},
	} {
		want, err := wire.Marshal(e)
		got, err2 := e.AppendJSON(nil)
		if err != nil || err2 != nil || string(got) != string(want) {
			t.Errorf("%s\n%s\n%v %v", got, want, err, err2)
		}
	}
	if _, err := (&Event{ID: "\xff"}).AppendJSON(nil); err == nil {
		t.Error("what is not UTF-8 is written")
	}
}
