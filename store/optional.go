package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// The interfaces below are optional. For each there is a function of the same
// purpose that uses it where a store has it and does without where not.

// A Waiter is a store that can wake its readers.
type Waiter interface {
	// Wait returns nil when a record after the cursor may exist, or the
	// error of ctx. It is a hint: it may return early.
	Wait(ctx context.Context, after Cursor) error
}

// Wait returns when a record after the cursor may exist, at the latest after
// poll: a wake-up may be lost, so readers look for themselves now and then.
func Wait(ctx context.Context, s Store, after Cursor, poll time.Duration) error {
	w, ok := s.(Waiter)
	if !ok {
		t := time.NewTimer(poll)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
	within, cancel := context.WithTimeout(ctx, poll)
	defer cancel()
	if err := w.Wait(within, after); err != nil && within.Err() == nil {
		return err
	}
	return ctx.Err()
}

// A Tailer is a store that can begin to read its log while it finds out where
// it ends: followers do both all the time, and a server is far away.
type Tailer interface {
	// Tail returns what Head does, and what ReadAll would yield then, to be
	// ranged over once.
	Tail(ctx context.Context, after Cursor, f Filter) (head Cursor, recs iter.Seq2[Record, error], err error)
}

// Tail returns where a log ends, and the records between a cursor and there.
func Tail(ctx context.Context, s Log, after Cursor, f Filter) (Cursor, iter.Seq2[Record, error], error) {
	if t, ok := s.(Tailer); ok {
		return t.Tail(ctx, after, f)
	}
	head, err := s.Head(ctx)
	return head, s.ReadAll(ctx, after, f), err
}

// A Getter is a store that can read many documents faster than one by one.
type Getter interface {
	// GetMany returns those of some documents of a collection that there are,
	// by key. They may lack what other processes have just written, but
	// nothing that this Store has read or written: a change that names their
	// revisions is refused if they were stale.
	GetMany(ctx context.Context, coll string, keys []string) (map[string]Doc, error)
}

// GetMany returns those of some documents of a collection that there are.
func GetMany(ctx context.Context, s Docs, coll string, keys []string) (map[string]Doc, error) {
	if g, ok := s.(Getter); ok {
		return g.GetMany(ctx, coll, keys)
	}
	docs := map[string]Doc{}
	for _, k := range keys {
		d, err := s.Get(ctx, coll, k)
		switch {
		case err == nil:
			docs[k] = d
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return docs, nil
}

// A Volatile store does not keep its promise of durability (an in-memory
// store, a server that syncs now and then).
type Volatile interface {
	// Volatile returns a sentence that says what can be lost and when, or ""
	// if this store is durable after all.
	Volatile() string
}

// VolatileReason says why a store may lose acknowledged events; "" if it does not.
func VolatileReason(s Store) string {
	if v, ok := s.(Volatile); ok {
		return v.Volatile()
	}
	return ""
}

// A Shared store may be used by several processes at once.
type Shared interface{ Shared() bool }

// IsShared reports whether several processes may use a store.
func IsShared(s Store) bool {
	sh, ok := s.(Shared)
	return ok && sh.Shared()
}

// A Dropper is a store that can delete a whole collection at once.
type Dropper interface {
	// DropColl deletes all documents and indexes of a collection. It need
	// not be atomic; it may be repeated.
	DropColl(ctx context.Context, coll string) error
}

// DropColl deletes all documents of a collection.
func DropColl(ctx context.Context, s Store, coll string) error {
	if d, ok := s.(Dropper); ok {
		return d.DropColl(ctx, coll)
	}
	for d, err := range s.List(ctx, coll, "", "") {
		if err != nil {
			return err
		}
		if err := s.Write(ctx, Change{Coll: coll, Key: d.Key, Rev: AnyRev}); err != nil {
			return err
		}
	}
	return nil
}

// A Reading is what can be read of documents.
type Reading interface {
	Get(ctx context.Context, coll, key string) (Doc, error)
	List(ctx context.Context, coll, prefix, after string) iter.Seq2[Doc, error]
}

// A Snapshotter is a store that can show its documents as they are at one
// moment, however long somebody looks.
type Snapshotter interface {
	// Snapshot calls look with all documents as they are at some moment
	// between the call and the first thing that look reads. Others write
	// meanwhile, which look does not see. It returns what look does. A Reading
	// is used by one goroutine, and not after look has returned.
	Snapshot(ctx context.Context, look func(Reading) error) error
}

// Snapshot calls look with the documents as they are at one moment. A store that
// cannot do that answers with [errors.ErrUnsupported].
func Snapshot(ctx context.Context, s Store, look func(Reading) error) error {
	if ss, ok := s.(Snapshotter); ok {
		return ss.Snapshot(ctx, look)
	}
	return fmt.Errorf("store: %w: no look at all documents as they are at one moment", errors.ErrUnsupported)
}

// An Indexer is a store that can filter and sort documents by their fields
// without reading them all.
type Indexer interface {
	// EnsureIndexes makes finding documents of a collection by each of the
	// fields fast. It may be called again with the same fields.
	EnsureIndexes(ctx context.Context, coll string, fields []string) error
	// Find yields what [Find] promises.
	Find(ctx context.Context, coll string, q Query) iter.Seq2[Doc, error]
}

// EnsureIndexes declares that documents of a collection are going to be
// looked up by fields. A store that is no Indexer ignores it.
func EnsureIndexes(ctx context.Context, s Store, coll string, fields []string) error {
	if ix, ok := s.(Indexer); ok && len(fields) > 0 {
		return ix.EnsureIndexes(ctx, coll, fields)
	}
	return nil
}

// A Counter is a store that can count documents without reading them all.
type Counter interface {
	// Count returns what [Count] promises.
	Count(ctx context.Context, coll string, q Query) (int, error)
}

// A Searcher is a store that can find documents by their words without reading
// them all: Find and Count of it use the index if Query.Text is what was declared.
type Searcher interface {
	// EnsureSearch makes searching the text of fields of a collection fast. Fields
	// that were declared before are forgotten; none = the text is not searched any
	// more. It may be called again with the same fields.
	EnsureSearch(ctx context.Context, coll string, fields []string) error
}

// EnsureSearch declares that documents of a collection are going to be searched
// for words in fields. A store that is no Searcher ignores it.
func EnsureSearch(ctx context.Context, s Store, coll string, fields []string) error {
	for _, f := range fields {
		if err := CheckField(f); err != nil {
			return err
		}
	}
	if x, ok := s.(Searcher); ok {
		return x.EnsureSearch(ctx, coll, fields)
	}
	return nil
}

// An Atomic store can record events and change documents in one go.
type Atomic interface {
	// AppendWith does what Append does, and what Write does with the changes: all or
	// nothing. Each document of holds must be at its revision, too. It fails with a
	// *[ConflictError] that names a stream as Append does, else with one that names a
	// document. If the append has happened before, the changes have happened with it:
	// it succeeds again, and no document is looked at.
	AppendWith(ctx context.Context, writes []Write, changes []Change, holds []Hold) ([]Written, error)
}

// A Hold demands that a document is at a revision, and stays so until what is
// written is written.
type Hold struct {
	Coll string
	Key  string
	Rev  uint64 // from 1
}

// CheckWith reports whether a store may be asked to append and change this.
// Every backend calls it first.
func CheckWith(writes []Write, changes []Change, holds []Hold) error {
	if err := Check(writes); err != nil {
		return err
	}
	all := slices.Clone(changes)
	for _, h := range holds {
		if h.Rev == 0 || h.Rev == AnyRev {
			return fmt.Errorf("%w: document %s/%s is held at no revision", ErrInvalid, h.Coll, h.Key)
		}
		all = append(all, Change{Coll: h.Coll, Key: h.Key, Rev: h.Rev})
	}
	return CheckChanges(all)
}
