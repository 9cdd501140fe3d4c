package postgres

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Import implements [store.Importer]: appends that bring their times, in one
// transaction.
func (s *Store) Import(ctx context.Context, recs []store.Record) error {
	if err := s.usable(ctx); err != nil || len(recs) == 0 {
		return err
	}
	var all []*appending
	for _, run := range store.Runs(recs) {
		if err := store.Check(run.Writes); err != nil {
			return err
		}
		a := newAppending(run.Writes)
		for _, t := range run.Times {
			a.times = append(a.times, t.UnixMicro())
		}
		all = append(all, a)
	}
	return s.appends.Submit(ctx, all...)
}
