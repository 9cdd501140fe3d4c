package sqlite

import (
	"context"
	"slices"

	"github.com/deed-dev/deed/store"
)

// AppendWith implements [store.Atomic].
func (s *Store) AppendWith(ctx context.Context, writes []store.Write, changes []store.Change, holds []store.Hold) ([]store.Written, error) {
	if err := store.CheckWith(writes, changes, holds); err != nil {
		return nil, err
	}
	r := &request{writes: writes, changes: changes, holds: holds}
	if err := s.submit(ctx, r); err != nil {
		return nil, err
	}
	return r.written, nil
}

// appendWith appends and changes documents, if both can be done.
func (w *writer) appendWith(r *request, now int64) ([]store.Written, error, error) {
	conflict, err := w.besides(r)
	if err != nil {
		return nil, nil, err
	}
	if conflict != nil {
		return w.unless(r.writes, conflict)
	}
	written, conflict, err := w.append(r.writes, now)
	if err != nil || conflict != nil || slices.ContainsFunc(written, func(x store.Written) bool { return x.Repeated }) {
		return written, conflict, err
	}
	conflict, err = w.change(r.changes)
	return written, conflict, err
}

// besides reports whether the documents are at the revisions they should be at.
func (w *writer) besides(r *request) (conflict, err error) {
	for _, h := range r.holds {
		if conflict, err = w.expected(h.Coll, h.Key, h.Rev); conflict != nil || err != nil {
			return conflict, err
		}
	}
	for _, c := range r.changes {
		if conflict, err = w.expected(c.Coll, c.Key, c.Rev); conflict != nil || err != nil {
			return conflict, err
		}
	}
	return nil, nil
}

// unless gives an append its verdict that cannot be done because of a document: it
// may have been done before, or not be possible for a stream either.
func (w *writer) unless(writes []store.Write, conflict error) ([]store.Written, error, error) {
	heads := make([]streamHead, len(writes))
	for i, wr := range writes {
		var err error
		if heads[i], err = w.find(wr.Stream); err != nil {
			return nil, nil, err
		}
	}
	if written, err := w.repeated(writes, heads); err != nil || written != nil {
		return written, nil, err
	}
	for i, wr := range writes {
		if v := heads[i].version; !wr.Expect.Met(v) {
			return nil, &store.ConflictError{Stream: wr.Stream, Expect: wr.Expect, Version: v}, nil
		}
	}
	return nil, conflict, nil
}
