package split

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Compact implements [store.Compactor] by the log's store, if it is one.
func (s *Store) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	return store.Compact(ctx, s.log, streams...)
}
