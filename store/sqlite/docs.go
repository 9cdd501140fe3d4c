package sqlite

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Get implements [store.Docs].
func (s *Store) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	return s.getDoc(ctx, s.reading, coll, key)
}

// A lender calls a function with a reader nobody else uses meanwhile.
type lender func(context.Context, func(*reader) error) error

func (s *Store) getDoc(ctx context.Context, lend lender, coll, key string) (store.Doc, error) {
	d := store.Doc{Key: key}
	id, ok := s.names.coll(coll)
	if !ok {
		if err := s.usable(ctx); err != nil {
			return d, err
		}
		return d, fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
	}
	err := lend(ctx, func(r *reader) error {
		st, err := r.conn.Prepare("SELECT rev, sum, data FROM docs WHERE coll = +? AND key = ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindInt64(1, id)
		st.BindText(2, key)
		ok, err := st.Step()
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
		}
		return s.document(r, st, 0, coll, &d)
	})
	return d, err
}

// document reads the rest of a document of which the key is known: revision,
// sum and data are in columns from first. Its checksum is verified.
func (s *Store) document(r *reader, st *lib.Stmt, first int, coll string, d *store.Doc) error {
	rev := st.ColumnInt64(first)
	d.Rev, d.Data = uint64(rev), bytesOf(st, first+2)
	if r.summer.doc(coll, d.Key, d.Data)+rev != st.ColumnInt64(first+1) {
		return s.damaged("document %s/%s fails its checksum", coll, d.Key)
	}
	return nil
}

func bytesOf(st *lib.Stmt, col int) []byte {
	value := st.ColumnReader(col)
	b := make([]byte, value.Len())
	value.Read(b)
	return b
}

// Write implements [store.Docs].
func (s *Store) Write(ctx context.Context, changes ...store.Change) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if len(changes) == 0 {
		return s.usable(ctx)
	}
	return s.submit(ctx, &request{changes: changes})
}

// expected reports whether a document is at another revision than it should be.
func (w *writer) expected(coll, key string, want uint64) (conflict, err error) {
	if want == store.AnyRev {
		return nil, nil
	}
	rev, err := w.revision(coll, key)
	if err == nil && rev != want {
		conflict = &store.ConflictError{Coll: coll, Key: key, Version: rev}
	}
	return conflict, err
}

// change applies changes, if every document is at the expected revision.
func (w *writer) change(changes []store.Change) (conflict, err error) {
	for _, c := range changes {
		if conflict, err = w.expected(c.Coll, c.Key, c.Rev); conflict != nil || err != nil {
			return conflict, err
		}
	}
	for _, c := range changes {
		coll, err := w.coll(c.Coll)
		if err != nil {
			return nil, err
		}
		st := w.st.delete
		if c.Data != nil {
			st = w.st.upsert
			st.BindText(3, string(c.Data))
			st.BindInt64(4, w.summer.doc(c.Coll, c.Key, c.Data))
		}
		st.BindInt64(1, coll)
		st.BindText(2, c.Key)
		if err := run(st); err != nil {
			return nil, err
		}
		if err := w.index(coll, c.Key, c.Data); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (w *writer) revision(coll, key string) (uint64, error) {
	id, ok := w.s.names.coll(coll)
	if !ok {
		return 0, nil
	}
	st := w.st.rev
	st.BindInt64(1, id)
	st.BindText(2, key)
	defer st.Reset()
	if ok, err := st.Step(); !ok || err != nil {
		return 0, err
	}
	return uint64(st.ColumnInt64(0)), nil
}

func (w *writer) coll(name string) (int64, error) {
	if id, ok := w.s.names.coll(name); ok {
		return id, nil
	}
	id := w.s.names.addColl(name)
	w.st.coll.BindInt64(1, id)
	w.st.coll.BindText(2, name)
	return id, run(w.st.coll)
}

// List implements [store.Docs].
func (s *Store) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return s.listDocs(ctx, s.reading, coll, prefix, after)
}

func (s *Store) listDocs(ctx context.Context, lend lender, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		after := after // each range begins there
		var docs []store.Doc
		for {
			var more bool
			var err error
			docs, more, err = s.listChunk(ctx, lend, coll, prefix, after, docs[:0])
			for _, d := range docs {
				if !yield(d, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Doc{}, err)
				return
			}
			if !more {
				return
			}
			after = docs[len(docs)-1].Key
		}
	}
}

const (
	listBehind = "SELECT key, rev, sum, data FROM docs WHERE coll = +? AND key > ? ORDER BY key"
	listFrom   = "SELECT key, rev, sum, data FROM docs WHERE coll = +? AND key >= ? ORDER BY key"
)

// listChunk reads some documents, and reports whether there may be more.
func (s *Store) listChunk(ctx context.Context, lend lender, coll, prefix, after string, docs []store.Doc) (_ []store.Doc, more bool, err error) {
	id, ok := s.names.coll(coll)
	if !ok {
		return docs, false, s.usable(ctx)
	}
	err = lend(ctx, func(r *reader) error {
		query, from := listBehind, after
		if prefix > after {
			query, from = listFrom, prefix
		}
		st, err := r.conn.Prepare(query)
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindInt64(1, id)
		st.BindText(2, from)
		last := after
		for size := 0; len(docs) < chunk && size < chunkBytes; {
			ok, err := st.Step()
			if err != nil || !ok {
				return err
			}
			key := st.ColumnText(0)
			if last != "" && key <= last {
				return s.damaged("document %s/%s is in a wrong place", coll, key)
			}
			last = key
			if !strings.HasPrefix(key, prefix) { // keys are in byte order: there are no more
				return nil
			}
			d := store.Doc{Key: key}
			if err := s.document(r, st, 1, coll, &d); err != nil {
				return err
			}
			docs = append(docs, d)
			size += len(d.Data)
		}
		more = true
		return nil
	})
	return docs, more, err
}

// DropColl implements [store.Dropper]. It deletes bit by bit, so that nobody
// waits long.
func (s *Store) DropColl(ctx context.Context, coll string) error {
	id, ok := s.names.coll(coll)
	if !ok {
		return s.usable(ctx)
	}
	err := s.submit(ctx, &request{exec: func(w *writer) error {
		if err := w.dropIndexes(id); err != nil {
			return err
		}
		return w.dropSearch(id)
	}})
	for more := true; more && err == nil; {
		more, err = s.dropSome(ctx, id)
	}
	return err
}

// dropSome deletes up to 1,000 documents of a collection and reports whether
// there may be more.
func (s *Store) dropSome(ctx context.Context, id int64) (bool, error) {
	var dropped atomic.Int64 // the writer may come to it after the caller has gone
	err := s.submit(ctx, &request{exec: func(w *writer) error {
		n := 0
		for _, table := range []string{"docs", "words"} {
			st, err := w.conn.Prepare("DELETE FROM " + table + " WHERE coll = ?1 AND key IN (SELECT key FROM " + table + " WHERE coll = ?1 LIMIT 1000)")
			if err != nil {
				return err
			}
			st.BindInt64(1, id)
			if err := run(st); err != nil {
				return err
			}
			n += w.conn.Changes()
		}
		dropped.Store(int64(n))
		return nil
	}})
	return dropped.Load() > 0, err
}
