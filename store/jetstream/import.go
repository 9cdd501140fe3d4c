package jetstream

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Import implements [store.Importer]: appends that bring their times, one after
// the other in the writer's queue. What is too much for one batch goes in
// several, so that none overtakes another.
func (s *Store) Import(ctx context.Context, recs []store.Record) error {
	for len(recs) > 0 {
		n, size := 0, 0
		for n < len(recs) && n < maxBatch && size < maxBatchBytes/2 {
			size += len(recs[n].Data) + len(recs[n].Meta)
			n++
		}
		if err := s.importBatch(ctx, recs[:n]); err != nil {
			return err
		}
		recs = recs[n:]
	}
	return nil
}

func (s *Store) importBatch(ctx context.Context, recs []store.Record) error {
	var requests []*request
	for _, run := range store.Runs(recs) {
		if err := store.Check(run.Writes); err != nil {
			return err
		}
		r := &request{writes: run.Writes, times: run.Times}
		if err := s.small(r); err != nil {
			return err
		}
		requests = append(requests, r)
	}
	return s.submit(ctx, requests...)
}
