package mem

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Import implements [store.Importer].
func (s *Store) Import(ctx context.Context, recs []store.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	for _, r := range recs {
		if v := s.version(r.Stream); v != r.Version-1 {
			return &store.ConflictError{Stream: r.Stream, Expect: store.Exactly(r.Version - 1), Version: v}
		}
		if r.Time.After(s.last) {
			s.last = r.Time
		}
		s.record(r.Stream, store.Event{ID: r.ID, Type: r.Type, Data: r.Data, Meta: r.Meta}, r.Time)
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}
