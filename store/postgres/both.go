package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// AppendWith implements [store.Atomic]. The head is locked first, then documents:
// whoever writes documents only never waits for the head.
func (s *Store) AppendWith(ctx context.Context, writes []store.Write, changes []store.Change, holds []store.Hold) ([]store.Written, error) {
	if err := store.CheckWith(writes, changes, holds); err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	a := newAppending(writes)
	docs, err := s.newWriting(ctx, changes)
	if err != nil {
		return nil, s.failure(err)
	}
	a.docs.changes, a.docs.colls, a.holds = changes, docs.colls, holds
	a.rows, a.bytes = a.rows+docs.rows, a.bytes+docs.bytes
	for _, h := range holds {
		coll, err := s.coll(ctx, h.Coll)
		if err != nil {
			return nil, s.failure(err)
		}
		a.held = append(a.held, coll)
	}
	if err := s.appends.Submit(ctx, a); err != nil {
		return nil, err
	}
	return a.written, nil
}

func withDocs(batch []*appending) bool {
	return slices.ContainsFunc(batch, func(a *appending) bool { return len(a.docs.changes)+len(a.holds) > 0 })
}

// planWith looks and writes, documents too. It takes three trips to the server.
func (s *Store) planWith(batch []*appending) (p *plan, err error) {
	var docs []*writing
	var held []docID
	for _, a := range batch {
		docs = append(docs, &a.docs)
		for i, h := range a.holds {
			held = append(held, docID{a.held[i], h.Key})
		}
	}
	return p, again(func() error {
		p = s.newPlan()
		return s.transact(carried(batch), func(ctx context.Context, t *transaction) error {
			if err := p.look(ctx, t, batch); err != nil {
				s.forget()
				return err
			}
			var b pgx.Batch
			d := s.newDraft()
			d.look(&b, docs, held)
			if err := t.conn.SendBatch(ctx, &b).Close(); err != nil {
				return err
			}
			for _, a := range batch {
				if err := p.decideWith(ctx, t.conn, a, d); err != nil {
					return err
				}
			}
			switch {
			case len(p.events.pos) > 0 || !d.untouched():
				return t.commit(ctx, func(b *pgx.Batch) { p.writeAll(b); d.write(b) })
			case p.repeats:
				return t.commit(ctx, p.confirm)
			}
			return nil
		})
	})
}

// decideWith gives an append its verdict, and plans what it writes and changes. One
// that cannot be done because of a document may have been done before.
func (p *plan) decideWith(ctx context.Context, q querier, a *appending, d *draft) error {
	conflict := d.conflict(&a.docs)
	for i, h := range a.holds {
		if rev := uint64(d.docs[docID{a.held[i], h.Key}].rev); conflict == nil && rev != h.Rev {
			conflict = &store.ConflictError{Coll: h.Coll, Key: h.Key, Version: rev}
		}
	}
	if conflict == nil {
		err := p.decide(ctx, q, a)
		if err == nil && a.refused == nil && !slices.ContainsFunc(a.written, func(w store.Written) bool { return w.Repeated }) {
			d.apply(&a.docs)
		}
		return err
	}
	repeated, err := p.repeated(ctx, q, a)
	if p.repeats = p.repeats || repeated; err != nil || repeated {
		a.refused = nil
		return err
	}
	a.written, a.refused = nil, conflict
	for _, w := range a.writes {
		if v := uint64(p.streams[w.Stream].version); !w.Expect.Met(v) {
			a.refused = &store.ConflictError{Stream: w.Stream, Expect: w.Expect, Version: v}
			break
		}
	}
	return nil
}
