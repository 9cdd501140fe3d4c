package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/deed-dev/deed/store"
)

const racers = 16

func races(o Options) []Check {
	return []Check{
		{Name: "races/one-expectation", Why: "two commands must not both be decided on the same state", Run: func(ctx context.Context, p Place) error {
			return several(ctx, p, func(stores []store.Store) error { return oneWins(ctx, stores, o.Races) })
		}},
		{Name: "races/several-streams", Why: "a claim and the events that need it are recorded together or not at all", Run: func(ctx context.Context, p Place) error {
			return several(ctx, p, func(stores []store.Store) error { return allOrNothing(ctx, stores, o.Races) })
		}},
		{Name: "races/documents", Why: "of two nodes that take over a partition, one must lose", Run: func(ctx context.Context, p Place) error {
			return several(ctx, p, func(stores []store.Store) error { return oneWrites(ctx, stores, o.Races) })
		}},
	}
}

// several opens an installation as two processes, or one if it has no more.
func several(ctx context.Context, p Place, f func([]store.Store) error) error {
	return with(ctx, p, func(in Installation) (err error) {
		n := 1
		if in.Shared() {
			n = 2
		}
		stores := make([]store.Store, 0, n)
		defer func() {
			for _, s := range stores {
				if e := s.Close(); err == nil {
					err = e
				}
			}
		}()
		for range n {
			s, err := in.Open(ctx, nil)
			if err != nil {
				return err
			}
			stores = append(stores, s)
		}
		return f(stores)
	})
}

// race has all racers do something at once and returns what came of it.
func race(do func(racer int) error) []error {
	var ready, all sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, racers)
	ready.Add(racers)
	for i := range racers {
		all.Go(func() {
			ready.Done()
			<-start
			errs[i] = do(i)
		})
	}
	ready.Wait()
	close(start)
	all.Wait()
	return errs
}

// winners counts those who won. Whoever did not must have met a conflict.
func winners(errs []error) (int, error) {
	n := 0
	for _, err := range errs {
		var conflict *store.ConflictError
		switch {
		case err == nil:
			n++
		case !errors.As(err, &conflict):
			return n, err
		}
	}
	return n, nil
}

func oneWins(ctx context.Context, stores []store.Store, rounds int) error {
	for round := range rounds {
		stream := fmt.Sprintf("race/%d", round/10)
		expect := store.Exactly(uint64(round % 10))
		n, err := winners(race(func(i int) error {
			_, err := stores[i%len(stores)].Append(ctx, store.Write{Stream: stream, Expect: expect, Events: []store.Event{event(i)}})
			return err
		}))
		if err != nil || n != 1 {
			return fmt.Errorf("round %d: %d of %d appends that expect %v succeed (%v)", round, n, racers, expect, err)
		}
	}
	return contiguous(ctx, stores[0])
}

// allOrNothing races for pairs of streams that overlap.
func allOrNothing(ctx context.Context, stores []store.Store, rounds int) error {
	for round := range rounds {
		shared := fmt.Sprintf("claim/%d", round)
		errs := race(func(i int) error {
			_, err := stores[i%len(stores)].Append(ctx,
				store.Write{Stream: fmt.Sprintf("own/%d-%d", round, i), Expect: store.None, Events: []store.Event{event(i)}},
				store.Write{Stream: shared, Expect: store.None, Events: []store.Event{event(i)}})
			return err
		})
		if errors.Is(errors.Join(errs...), errors.ErrUnsupported) {
			return nil // it says so, and the runtime does without
		}
		n, err := winners(errs)
		if err != nil || n != 1 {
			return fmt.Errorf("round %d: %d of %d appends to the same stream succeed (%v)", round, n, racers, err)
		}
		for i, e := range errs {
			has := 0
			for _, err := range stores[0].Read(ctx, fmt.Sprintf("own/%d-%d", round, i), store.Range{}) {
				if err != nil {
					return err
				}
				has++
			}
			if (e == nil) != (has == 1) {
				return fmt.Errorf("round %d: racer %d was told %v, and its other stream has %d events", round, i, e, has)
			}
		}
	}
	return contiguous(ctx, stores[len(stores)-1])
}

func oneWrites(ctx context.Context, stores []store.Store, rounds int) error {
	for round := range uint64(rounds) {
		n, err := winners(race(func(i int) error {
			return stores[i%len(stores)].Write(ctx, store.Change{Coll: "race", Key: "lease", Rev: round, Data: fmt.Appendf(nil, `{"holder":%d}`, i)})
		}))
		if err != nil || n != 1 {
			return fmt.Errorf("round %d: %d of %d writers of the same revision succeed (%v)", round, n, racers, err)
		}
	}
	return nil
}

// contiguous checks that versions have no gaps and ids are unique.
func contiguous(ctx context.Context, s store.Store) error {
	last, ids := map[string]uint64{}, map[store.ID]bool{}
	for rec, err := range s.ReadAll(ctx, store.Start, store.Filter{}) {
		if err != nil {
			return err
		}
		if rec.Version != last[rec.Stream]+1 || ids[rec.ID] {
			return fmt.Errorf("%s@%d comes after version %d, or its id twice", rec.Stream, rec.Version, last[rec.Stream])
		}
		last[rec.Stream], ids[rec.ID] = rec.Version, true
	}
	return nil
}

func event(i int) store.Event {
	e := store.Event{Type: "done", Data: fmt.Appendf(nil, `{"racer":%d}`, i)}
	rand.Read(e.ID[:]) // never fails
	return e
}
