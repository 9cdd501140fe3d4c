package split

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// Import implements [store.Importer] by the log's store, if it is one.
func (s *Store) Import(ctx context.Context, recs []store.Record) error {
	return store.Import(ctx, s.log, recs)
}
