package postgres

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// Snapshot implements [store.Snapshotter] by a transaction that reads. As long
// as it lasts, the server keeps what is replaced meanwhile.
func (s *Store) Snapshot(ctx context.Context, look func(store.Reading) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return s.failure(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	return look(moment{s, tx})
}

// A moment is the documents as a transaction sees them.
type moment struct {
	s  *Store
	tx pgx.Tx
}

func (m moment) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	return m.s.getDoc(ctx, m.tx, coll, key)
}

func (m moment) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return m.s.listDocs(ctx, m.tx, coll, prefix, after)
}
