// Package split keeps the log in one store and documents (views, checkpoints,
// snapshots) in another: for a log that is made to be copied to several
// servers, and views that are made to be searched.
//
// The two do not share a transaction, and need not: a follower's cursor is a
// document, and is committed with its effects. Should the documents be lost,
// the followers build them again from the log.
package split

import (
	"context"
	"errors"
	"iter"

	"github.com/deed-dev/deed/store"
)

// A Store is a [store.Store] made of two.
type Store struct {
	store.Log
	store.Docs
	log, docs store.Store
}

// New returns a store whose log is that of one store and whose documents are
// those of another.
func New(log, docs store.Store) *Store { return &Store{Log: log, Docs: docs, log: log, docs: docs} }

// Close closes both stores.
func (s *Store) Close() error { return errors.Join(s.docs.Close(), s.log.Close()) }

// Shared says whether several processes may use both.
func (s *Store) Shared() bool { return store.IsShared(s.log) && store.IsShared(s.docs) }

// Volatile says what either of them may lose.
func (s *Store) Volatile() string {
	log, docs := store.VolatileReason(s.log), store.VolatileReason(s.docs)
	switch {
	case log == "" || log == docs:
		return docs
	case docs == "":
		return log
	}
	return log + "; " + docs
}

// Wait implements [store.Waiter] by the log's.
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	if w, ok := s.log.(store.Waiter); ok {
		return w.Wait(ctx, after)
	}
	<-ctx.Done() // who waits looks now and then
	return ctx.Err()
}

// Tail implements [store.Tailer] by the log's.
func (s *Store) Tail(ctx context.Context, after store.Cursor, f store.Filter) (store.Cursor, iter.Seq2[store.Record, error], error) {
	return store.Tail(ctx, s.log, after, f)
}

// GetMany implements [store.Getter] by that of the documents' store, if it is
// one.
func (s *Store) GetMany(ctx context.Context, coll string, keys []string) (map[string]store.Doc, error) {
	return store.GetMany(ctx, s.docs, coll, keys)
}

// EnsureIndexes implements [store.Indexer] by that of the documents' store, if
// it is one.
func (s *Store) EnsureIndexes(ctx context.Context, coll string, fields []string) error {
	return store.EnsureIndexes(ctx, s.docs, coll, fields)
}

// Find implements [store.Indexer].
func (s *Store) Find(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
	return store.Find(ctx, s.docs, coll, q)
}

// EnsureSearch implements [store.Searcher] by that of the documents' store, if it
// is one.
func (s *Store) EnsureSearch(ctx context.Context, coll string, fields []string) error {
	return store.EnsureSearch(ctx, s.docs, coll, fields)
}

// DocsStore is the one that keeps documents.
func (s *Store) DocsStore() store.Store { return s.docs }

// Count implements [store.Counter].
func (s *Store) Count(ctx context.Context, coll string, q store.Query) (int, error) {
	return store.Count(ctx, s.docs, coll, q)
}

// DropColl implements [store.Dropper].
func (s *Store) DropColl(ctx context.Context, coll string) error {
	return store.DropColl(ctx, s.docs, coll)
}

// Snapshot implements [store.Snapshotter] by that of the documents' store.
func (s *Store) Snapshot(ctx context.Context, look func(store.Reading) error) error {
	return store.Snapshot(ctx, s.docs, look)
}
