package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// Snapshot implements [store.Snapshotter] by a transaction that reads. As long
// as it lasts, the write-ahead log cannot begin anew, and grows.
func (s *Store) Snapshot(ctx context.Context, look func(store.Reading) error) error {
	if s.opts.Readers < 2 {
		return fmt.Errorf("sqlite: %w: a look at one moment takes a reader of its own", errors.ErrUnsupported)
	}
	var failed error // what look returns is not SQLite's
	err := s.reading(ctx, func(r *reader) (err error) {
		if err := sqlitex.Execute(r.conn, "BEGIN", nil); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, sqlitex.Execute(r.conn, "ROLLBACK", nil)) }()
		// It begins with the first thing that is read.
		if err := sqlitex.Execute(r.conn, "SELECT 1 FROM docs LIMIT 1", nil); err != nil {
			return err
		}
		failed = look(moment{s, r})
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// A moment is the documents as a transaction of a reader sees them.
type moment struct {
	s *Store
	r *reader
}

// lend lends the reader itself, over and over.
func (m moment) lend(ctx context.Context, f func(*reader) error) error {
	if err := m.s.usable(ctx); err != nil {
		return err
	}
	if err := f(m.r); err != nil {
		return m.s.readError(err)
	}
	return nil
}

func (m moment) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	return m.s.getDoc(ctx, m.lend, coll, key)
}

func (m moment) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return m.s.listDocs(ctx, m.lend, coll, prefix, after)
}
