package mem

import (
	"context"
	"slices"

	"github.com/deed-dev/deed/store"
)

// Compact implements [store.Compactor]. Records that are given up leave an
// empty place in the log, so that positions stay what they are. Who reads goes
// on reading the log as it was.
func (s *Store) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	if err := store.CheckWholes(streams); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil || len(streams) == 0 {
		return nil, err
	}
	removed, log := make([]uint64, len(streams)), slices.Clone(s.log)
	for i, w := range streams {
		places := s.streams[w.Stream]
		if len(places) == 0 || s.log[places[len(places)-1]].Position != w.Last {
			continue
		}
		for _, place := range places {
			log[place] = store.Record{}
		}
		delete(s.streams, w.Stream)
		removed[i] = uint64(len(places))
	}
	s.log = log
	return removed, nil
}
