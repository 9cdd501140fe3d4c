package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest/history"
)

func histories(o Options) []Check {
	check := func(stall bool) func(ctx context.Context, p Place) error {
		return func(ctx context.Context, p Place) error { return playHistories(ctx, p, o, stall) }
	}
	return []Check{
		{Name: "histories/restarts", Why: "whatever a client was told must be so, also if the program ends in the middle", Run: check(false)},
		{Name: "histories/stalls", Why: "a commit that comes late must not be passed over by followers, and a lost answer is settled by asking again", Run: check(true)},
	}
}

// playHistories checks random histories on one installation.
func playHistories(ctx context.Context, p Place, o Options, stall bool) error {
	return with(ctx, p, func(in Installation) error {
		sys := &system{ctx: ctx, in: in, net: NewNet(o.Seed), stall: stall && in.Shared()}
		if err := sys.open(); err != nil {
			return err
		}
		defer sys.close()
		for i := range uint64(o.Histories) {
			seed := o.Seed + i
			within, cancel := context.WithTimeout(ctx, clauseTime)
			err := history.Check(within, sys, fmt.Sprintf("h%d", i), seed, history.Options{})
			cancel()
			if err != nil {
				return fmt.Errorf("%w (again: --seed %d)", err, seed)
			}
		}
		return nil
	})
}

// A system is a store used by two processes, or one, that are ended and begun
// again. If it is to stall, the connections of the first do, and break.
type system struct {
	ctx   context.Context
	in    Installation
	net   *Net
	stall bool

	turn   atomic.Uint64
	mu     sync.RWMutex
	stores []store.Store
}

func (s *system) open() error {
	var nets []*Net
	if s.stall {
		s.net.Stall(0.2, 20*time.Millisecond)
		nets = []*Net{s.net, nil}
	} else if nets = []*Net{nil}; s.in.Shared() {
		nets = append(nets, nil)
	}
	stores := make([]store.Store, 0, len(nets))
	for _, n := range nets {
		st, err := s.in.Open(s.ctx, n)
		if err != nil {
			return err
		}
		stores = append(stores, st)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = stores
	return nil
}

func (s *system) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, st := range s.stores {
		errs = append(errs, st.Close())
	}
	s.stores = nil
	return errors.Join(errs...)
}

// Log implements history.System: calls go to one process or the other.
func (s *system) Log() store.Log { return through{s} }

// Crash ends the processes in the middle of their work, or breaks their
// connections.
func (s *system) Crash() error {
	if s.stall {
		s.net.Cut()
		return nil
	}
	if err := s.close(); err != nil {
		return err
	}
	return s.open()
}

// through is a log whose calls are those of whichever process is next.
type through struct{ *system }

var errGone = fmt.Errorf("%w: the process has ended", store.ErrUnavailable)

func (t through) next() (store.Store, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.stores) == 0 {
		return nil, errGone
	}
	return t.stores[t.turn.Add(1)%uint64(len(t.stores))], nil
}

func (t through) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s, err := t.next()
	if err != nil {
		return nil, err
	}
	return s.Append(ctx, writes...)
}

func (t through) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return t.read(func(s store.Store) iter.Seq2[store.Record, error] { return s.Read(ctx, stream, r) })
}

func (t through) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return t.read(func(s store.Store) iter.Seq2[store.Record, error] { return s.ReadAll(ctx, after, f) })
}

func (t through) read(f func(store.Store) iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		s, err := t.next()
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		f(s)(yield)
	}
}

func (t through) Head(ctx context.Context) (store.Cursor, error) {
	s, err := t.next()
	if err != nil {
		return store.Start, err
	}
	return s.Head(ctx)
}
