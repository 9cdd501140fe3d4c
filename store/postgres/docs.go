package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// Get implements [store.Docs].
func (s *Store) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	d := store.Doc{Key: key}
	if err := s.usable(ctx); err != nil {
		return d, err
	}
	id, err := s.coll(ctx, coll)
	if err == nil {
		var rev int64
		err = s.pool.QueryRow(ctx, s.sql("SELECT rev, data FROM {}.docs WHERE coll = $1 AND key = $2"), id, []byte(key)).Scan(&rev, &d.Data)
		d.Rev = uint64(rev)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
	}
	return d, s.failure(err)
}

// List implements [store.Docs].
func (s *Store) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		for {
			docs, more, err := s.listChunk(ctx, coll, prefix, after)
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

// listChunk reads some documents, and reports whether there may be more.
func (s *Store) listChunk(ctx context.Context, coll, prefix, after string) ([]store.Doc, bool, error) {
	if err := s.usable(ctx); err != nil {
		return nil, false, err
	}
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return nil, false, s.failure(err)
	}
	rows, err := s.pool.Query(ctx, s.sql("SELECT key, rev, data FROM {}.docs WHERE coll = $1 AND key > $2 AND key >= $3 ORDER BY key LIMIT $4"),
		id, []byte(after), []byte(prefix), chunk)
	if err != nil {
		return nil, false, s.failure(err)
	}
	docs, more, err := collectDocs(rows, chunk, nil)
	for i, d := range docs {
		if !strings.HasPrefix(d.Key, prefix) { // keys are in byte order: there are no more
			return docs[:i], false, nil
		}
	}
	return docs, more, s.failure(err)
}

// collectDocs reads up to n documents, and reports whether it stopped early.
// Columns after the first three go to extra.
func collectDocs(rows pgx.Rows, n int, extra *[]byte) (docs []store.Doc, more bool, err error) {
	defer rows.Close()
	for size := 0; rows.Next(); {
		var key, data []byte
		var rev int64
		into := []any{&key, &rev, &data}
		if extra != nil {
			into = append(into, extra)
		}
		if err := rows.Scan(into...); err != nil {
			return docs, false, err
		}
		docs = append(docs, store.Doc{Key: string(key), Rev: uint64(rev), Data: data})
		if size += len(data); len(docs) == n || size >= chunkBytes {
			return docs, true, nil
		}
	}
	return docs, false, rows.Err()
}

// A writing is a change of documents that waits for its verdict.
type writing struct {
	request
	changes []store.Change
	colls   []int64
}

// Write implements [store.Docs].
func (s *Store) Write(ctx context.Context, changes ...store.Change) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil || len(changes) == 0 {
		return err
	}
	w := &writing{request: request{rows: len(changes), done: make(chan struct{})}, changes: changes, colls: make([]int64, len(changes))}
	for i, c := range changes {
		var err error
		if w.colls[i], err = s.makeColl(ctx, c.Coll); err != nil {
			return s.failure(err)
		}
	}
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errClosed
	}
	return s.wait(ctx, &w.request)
}

func (s *Store) runWrites() {
	serve(s, s.writes, func(w *writing) *request { return &w.request }, s.writeBatch)
}

// writeBatch writes changes in one transaction. Existing documents are locked
// before they are judged; that another process made a new one at the same time
// shows when it is inserted, and all is judged again.
func (s *Store) writeBatch(batch []*writing) error {
	const tries = 20
	for try := 1; ; try++ {
		err := s.transact(func(ctx context.Context, t *transaction) error {
			d := draft{s: s, docs: map[docID]docState{}, fields: map[int64][]string{}}
			if err := d.look(ctx, t, batch); err != nil {
				return err
			}
			for _, w := range batch {
				d.decide(w)
			}
			if d.untouched() {
				return nil
			}
			return t.commit(ctx, d.write)
		})
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || try == tries ||
			pg.Code != divisionByZero && pg.Code != deadlockDetected && pg.Code != uniqueViolation && pg.Code != serializationFail {
			return err
		}
	}
}

type docID struct {
	coll int64
	key  string
}

type docState struct {
	rev     int64 // 0 = there is none
	data    []byte
	existed bool // before the transaction
	changed bool
}

// A draft is what a transaction finds and what it is going to write.
type draft struct {
	s      *Store
	docs   map[docID]docState
	fields map[int64][]string // of a collection: field n at n-1
}

// look takes the documents that are to be written. The lock of the table keeps
// fields from being declared in between.
func (d *draft) look(ctx context.Context, t *transaction, batch []*writing) error {
	var colls []int64
	var keys [][]byte
	seen := map[docID]bool{}
	for _, w := range batch {
		for i, c := range w.changes {
			if id := (docID{w.colls[i], c.Key}); !seen[id] {
				seen[id] = true
				colls, keys = append(colls, id.coll), append(keys, []byte(id.key))
			}
		}
	}
	return t.look(ctx, func(b *pgx.Batch) {
		b.Queue(d.s.sql("LOCK TABLE {}.docs IN ROW EXCLUSIVE MODE"))
		b.Queue(d.s.sql("SELECT coll, field FROM {}.fields WHERE coll = ANY($1) ORDER BY coll, n"), colls).Query(func(rows pgx.Rows) error {
			var coll int64
			var field string
			_, err := pgx.ForEachRow(rows, []any{&coll, &field}, func() error { d.fields[coll] = append(d.fields[coll], field); return nil })
			return err
		})
		b.Queue(d.s.sql(`SELECT coll, key, rev FROM {}.docs WHERE (coll, key) IN (SELECT * FROM unnest($1::bigint[], $2::bytea[]))
			ORDER BY coll, key FOR UPDATE`), colls, keys).Query(func(rows pgx.Rows) error {
			var id docID
			var key []byte
			var rev int64
			_, err := pgx.ForEachRow(rows, []any{&id.coll, &key, &rev}, func() error {
				id.key = string(key)
				d.docs[id] = docState{rev: rev, existed: true}
				return nil
			})
			return err
		})
	})
}

// decide gives changes their verdict, and drafts what they make of documents.
func (d *draft) decide(w *writing) {
	w.refused = nil
	for i, c := range w.changes {
		if rev := uint64(d.docs[docID{w.colls[i], c.Key}].rev); c.Rev != store.AnyRev && c.Rev != rev {
			w.refused = &store.ConflictError{Coll: c.Coll, Key: c.Key, Version: rev}
			return
		}
	}
	for i, c := range w.changes {
		id := docID{w.colls[i], c.Key}
		state := d.docs[id]
		state.changed = true
		if state.data = c.Data; c.Data == nil {
			state.rev = 0
		} else {
			state.rev++
		}
		d.docs[id] = state
	}
}

func (d *draft) untouched() bool {
	for _, state := range d.docs {
		if state.changed {
			return false
		}
	}
	return true
}

// docColumns are rows of documents, column by column.
type docColumns struct {
	colls, revs []int64
	keys, datas [][]byte
	fields      []string
}

// write queues the statements that write what is drafted. New documents are
// inserted plainly: if another process was faster, the transaction fails.
func (d *draft) write(b *pgx.Batch) {
	var made, changed, gone docColumns
	for id, state := range d.docs {
		if !state.changed || state.rev == 0 && !state.existed {
			continue
		}
		c := &changed
		switch {
		case state.rev == 0:
			c = &gone
		case !state.existed:
			c = &made
		}
		c.colls, c.keys, c.revs, c.datas = append(c.colls, id.coll), append(c.keys, []byte(id.key)), append(c.revs, state.rev), append(c.datas, state.data)
		if state.rev > 0 {
			c.fields = append(c.fields, fieldValues(state.data, d.fields[id.coll]))
		}
	}
	const rows = "unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[]) u (coll, key, rev, data, fields)"
	if len(made.colls) > 0 {
		b.Queue(d.s.sql("INSERT INTO {}.docs (coll, key, rev, data, fields) SELECT coll, key, rev, data, fields::bytea[] FROM "+rows+" ORDER BY coll, key"),
			made.colls, made.keys, made.revs, made.datas, made.fields)
	}
	if len(changed.colls) > 0 {
		b.Queue(d.s.sql("UPDATE {}.docs d SET rev = u.rev, data = u.data, fields = u.fields::bytea[] FROM "+rows+" WHERE d.coll = u.coll AND d.key = u.key"),
			changed.colls, changed.keys, changed.revs, changed.datas, changed.fields)
	}
	if len(gone.colls) > 0 {
		b.Queue(d.s.sql("DELETE FROM {}.docs d USING unnest($1::bigint[], $2::bytea[]) u (coll, key) WHERE d.coll = u.coll AND d.key = u.key"), gone.colls, gone.keys)
	}
}

// DropColl implements [store.Dropper]. It deletes bit by bit, so that nobody
// waits long.
func (s *Store) DropColl(ctx context.Context, coll string) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return s.failure(err)
	}
	for n := int64(1); err == nil && n > 0; {
		var tag pgconn.CommandTag
		tag, err = s.pool.Exec(ctx, s.sql("DELETE FROM {}.docs WHERE coll = $1 AND key IN (SELECT key FROM {}.docs WHERE coll = $1 LIMIT 2000)"), id)
		n = tag.RowsAffected()
	}
	if err == nil {
		err = s.dropIndexes(ctx, id)
	}
	return s.failure(err)
}
