package sqlite

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Import implements [store.Importer]: appends that bring their times, one after
// the other in the writer's queue.
func (s *Store) Import(ctx context.Context, recs []store.Record) error {
	var requests []*request
	for _, run := range store.Runs(recs) {
		if err := store.Check(run.Writes); err != nil {
			return err
		}
		r := &request{writes: run.Writes}
		for _, t := range run.Times {
			r.times = append(r.times, t.UnixMicro())
		}
		requests = append(requests, r)
	}
	return s.submit(ctx, requests...)
}
