package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A ledgerOfWork is a store that counts what is written down of instances that
// have something to do.
type ledgerOfWork struct {
	*mem.Store
	notes atomic.Int64
}

func (s *ledgerOfWork) Write(ctx context.Context, changes ...store.Change) error {
	for _, c := range changes {
		if c.Coll == "$pending/instances" && c.Data != nil {
			s.notes.Add(1)
		}
	}
	return s.Store.Write(ctx, changes...)
}

// came is how far the runner of instances has come, as far as is noted.
func (s *ledgerOfWork) came(t *testing.T) (at store.Cursor) {
	t.Helper()
	for d, err := range s.List(t.Context(), "$cursor", "instance-runner/", "") {
		var c struct{ Cursor store.Cursor }
		if err = errors.Join(err, json.Unmarshal(d.Data, &c)); err != nil {
			t.Fatal(err)
		}
		at = c.Cursor
	}
	return at
}

// outing is a saga of steps that do something outside.
func outing(steps ...func(context.Context) error) deed.Saga[string] {
	s := deed.Saga[string]{Name: "outing"}
	for i, do := range steps {
		s.Steps = append(s.Steps, deed.SagaStep[string]{
			Name: string(rune('a' + i)), Retry: deed.Retry{Attempts: 3, First: time.Hour},
			Do: func(ctx context.Context, _ *deed.Work, _ *string) error { return do(ctx) },
		})
	}
	return s
}

// What is done in a moment is not written down; what is not is, be it that a step
// takes long or that it is tried again later, and the runner's checkpoint goes on.
func TestRunnerWritesDownWhatTakesLong(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(context.Context) error
		notes int64
	}{
		{"done at once", func(context.Context) error { return nil }, 0},
		{"it takes long", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 1},
		{"it is tried again later", func(context.Context) error { return errors.New("not now") }, 1},
		{"it fails after a while", func(context.Context) error { time.Sleep(700 * time.Millisecond); return errors.New("not now") }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &ledgerOfWork{Store: mem.New()}
				saga := outing(func(context.Context) error { return nil }, c.do)
				rt, stop := runSlowly(t, s, deed.Domain{Name: "test", Parts: []deed.Part{saga}})
				defer stop()
				if _, err := saga.Start(t.Context(), rt, "1", ""); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				head, err := s.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if at := s.came(t); at != head || s.notes.Load() != c.notes {
					t.Errorf("the checkpoint is at %q of %q, %d notes were written, want %d", at, head, s.notes.Load(), c.notes)
				}
			})
		})
	}
}

// A node is one program's connection to a store that others use too. Once it is
// cut, nothing is written any more.
type node struct {
	*mem.Store
	cut atomic.Bool
}

func (*node) Shared() bool { return true }

func (s *node) Write(ctx context.Context, changes ...store.Change) error {
	if s.cut.Load() {
		return store.ErrUnavailable
	}
	return s.Store.Write(ctx, changes...)
}

// A program looks after instances, then another one does, then the first one
// again. What it remembers of them is old by then, and it reads the records again
// that the other one has not noted to have handled. No step is done again.
func TestRunnerForgetsWhenOthersTookOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := mem.New()
		var mu sync.Mutex
		began, done := map[string]bool{}, map[string]int{}
		saga := outing(func(context.Context) error { return nil }, nil)
		saga.Steps[1].Do = func(ctx context.Context, w *deed.Work, id *string) error {
			mu.Lock()
			first := !began[*id]
			if began[*id] = true; !first {
				done[*id]++
			}
			mu.Unlock()
			if first {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		run := func(s store.Store) (*deed.Runtime, func()) {
			return runWith(t, s, deed.Config{Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{saga}}}})
		}
		one, other := &node{Store: shared}, &node{Store: shared}
		rt, stop := run(one)
		defer stop()
		for i := range 20 {
			id := string(rune('a' + i))
			if _, err := saga.Start(t.Context(), rt, id, id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		_, stopOther := run(other)
		for some := false; !some; time.Sleep(time.Millisecond) {
			mu.Lock()
			some = len(done) > 0
			mu.Unlock()
		}
		other.cut.Store(true) // what it does is recorded, and how far it has come is not
		time.Sleep(time.Second)
		stopOther()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for id, times := range done {
			if times != 1 {
				t.Errorf("the step of %s was done %d times", id, times)
			}
			if i, err := rt.Instances().Get(t.Context(), "saga", "outing", id); err != nil || i.State != deed.InstanceCompleted {
				t.Errorf("%s: %s, %v", id, i.State, err)
			}
		}
	})
}
