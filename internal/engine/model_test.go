package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// storm makes things go wrong at random while it blows: it fails the store
// before and after writes, while reading, and the handler.
type storm struct {
	mu   sync.Mutex
	rng  *rand.Rand
	wild bool
}

func (st *storm) chance(percent int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.wild && st.rng.IntN(100) < percent
}

func (st *storm) over() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.wild = false
}

func (st *storm) hit(s *shelf) {
	s.write = func(int, []store.Change) (before, after error) {
		switch {
		case st.chance(5):
			return errDown, nil
		case st.chance(5):
			return nil, store.ErrUnknown
		}
		return nil, nil
	}
	s.read = func(store.Record) error { return st.maybe(1, errDown) }
	s.get = func(string, string) error { return st.maybe(2, errDown) }
	s.head = func() error { return st.maybe(2, errDown) }
}

func (st *storm) maybe(percent int, err error) error {
	if st.chance(percent) {
		return err
	}
	return nil
}

// handler is what goes wrong in a handler, for one record.
func (st *storm) handler(store.Record) error {
	switch {
	case st.chance(2):
		time.Sleep(30 * time.Millisecond)
	case st.chance(2):
		panic("on purpose")
	case st.chance(2):
		return Permanent(errBad)
	}
	return st.maybe(4, errBad)
}

// Whatever happens in whatever order, in the end the documents are those of
// a clean fold: nothing left out, nothing twice, nothing out of order. And at
// every moment each document is a clean fold of the beginning of its stream.
func TestAnyHistory(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			within(t, func(t *testing.T) { history(t, seed) })
		})
	}
}

func history(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	st := &storm{rng: rand.New(rand.NewPCG(seed, 2)), wild: true}
	s := newShelf()
	kind := pure
	if seed%3 == 2 {
		kind = effectful
	}
	f := kind(func(h *ledger) {
		h.direct = h.direct || seed%2 == 0
		h.fail = func(rec store.Record) error { return st.handler(rec) }
		if seed%4 == 1 {
			h.flush = func(string, []uint64) error { return st.maybe(1, errBad) }
		}
	})
	f.Retry = Retry{Attempts: 4, First: 50 * time.Millisecond, Max: time.Second}
	st.hit(s)
	r := run(t, s, f)
	ctx := t.Context()
	for i := range 80 {
		switch rng.IntN(14) {
		case 0:
			r.stop()
			f.Partitions = 1 + rng.IntN(4)
			r = run(t, s, f)
		case 1:
			bounded(ctx, func(ctx context.Context) { _ = r.Pause(ctx, "ledger") })
		case 2, 3:
			bounded(ctx, func(ctx context.Context) { _ = r.Resume(ctx, "ledger") })
		case 4:
			bounded(ctx, func(ctx context.Context) { _, _ = r.RedriveAll(ctx, "ledger") })
		case 5:
			if f.Pure {
				rebuilding(ctx, rng, r)
			}
		case 6:
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		default:
			add(t, s, fmt.Sprintf("a/%d", rng.IntN(12)), 1+rng.IntN(20))
			if rng.IntN(3) == 0 {
				add(t, s, "b/1", 1)
			}
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		if i%5 == 4 {
			prefixes(t, s)
		}
	}
	st.over()
	time.Sleep(time.Minute)
	if err := r.Resume(ctx, "ledger"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	_ = r.HaltRebuild(ctx, "ledger", false)
	_ = r.Switch(ctx, "ledger")
	time.Sleep(time.Minute)
	if n, err := r.RedriveAll(ctx, "ledger"); err != nil {
		t.Fatalf("redriven %d: %v", n, err)
	}
	r.wait()
	r.same()
	if got := r.parked(); got != "" {
		t.Errorf("still parked: %s", got)
	}
	if st := r.status(); st.State != StateRunning || st.Behind != 0 || st.LagSeconds != 0 {
		t.Errorf("%+v", st)
	}
	_ = r.DiscardFormer(ctx, "ledger")
	time.Sleep(time.Minute)
	i, _, err := loadIntent(ctx, s, "ledger")
	if err != nil || i.Building > 0 || i.Former > 0 {
		t.Errorf("%+v, %v", i, err)
	}
	for gen := range i.Last + 1 {
		if gen != i.Generation {
			r.gone(gen)
		}
	}
}

// rebuilding does something that people do about rebuilds.
func rebuilding(ctx context.Context, rng *rand.Rand, r *rig) {
	switch rng.IntN(8) {
	case 0, 1:
		_ = r.Rebuild(ctx, "ledger", rng.IntN(2) == 0)
	case 2:
		_ = r.Switch(ctx, "ledger")
	case 3, 4:
		_ = r.RollBack(ctx, "ledger")
	case 5:
		_ = r.CancelRebuild(ctx, "ledger")
	case 6:
		_ = r.HaltRebuild(ctx, "ledger", rng.IntN(2) == 0)
	case 7:
		_ = r.DiscardFormer(ctx, "ledger")
	}
}

// bounded gives up after some time, as a person would.
func bounded(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	f(ctx)
}

// prefixes fails unless each document of any generation is 1, 2, 3, ...
func prefixes(t *testing.T, s *shelf) {
	t.Helper()
	for gen := range uint64(40) {
		for stream, versions := range book(t, s.Store, gen) {
			for i, v := range versions {
				if v != uint64(i)+1 {
					t.Fatalf("generation %d, %s: %v", gen, stream, versions)
				}
			}
		}
	}
}

// A handler that makes a mistake that only shows when its documents are
// read: the test above would notice.
func TestTheModelNotices(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 3)
		h := &ledger{coll: ledgerColl(1), direct: true}
		tx := newTx(s)
		for rec, err := range s.Read(t.Context(), "a/1", store.Range{From: 2}) {
			if err := errors.Join(err, h.Handle(t.Context(), tx, rec)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Write(t.Context(), tx.changes...); err != nil {
			t.Fatal(err)
		}
		if got := book(t, s, 1)["a/1"]; fmt.Sprint(got) != "[2 3]" {
			t.Errorf("%v", got)
		}
	})
}
