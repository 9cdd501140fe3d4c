package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// Get implements [store.Docs].
func (s *Store) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	return s.getDoc(ctx, s.pool, coll, key)
}

// A docReader is what reads documents: any connection, or a transaction.
type docReader interface {
	querier
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (s *Store) getDoc(ctx context.Context, from docReader, coll, key string) (store.Doc, error) {
	d := store.Doc{Key: key}
	if err := s.usable(ctx); err != nil {
		return d, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	id, err := s.coll(ctx, coll)
	if err == nil {
		var rev int64
		err = from.QueryRow(ctx, s.sql("SELECT rev, data FROM {}.docs WHERE coll = $1 AND key = $2"), id, []byte(key)).Scan(&rev, &d.Data)
		d.Rev = uint64(rev)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
	}
	return d, s.failure(err)
}

// GetMany implements [store.Getter].
func (s *Store) GetMany(ctx context.Context, coll string, keys []string) (map[string]store.Doc, error) {
	docs := make(map[string]store.Doc, len(keys))
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return docs, s.failure(err)
	}
	wanted := make([][]byte, len(keys))
	for i, k := range keys {
		wanted[i] = []byte(k)
	}
	rows, err := s.pool.Query(ctx, s.sql("SELECT key, rev, data FROM {}.docs WHERE coll = $1 AND key = ANY($2)"), id, wanted)
	if err != nil {
		return nil, s.failure(err)
	}
	var key, data []byte
	var rev int64
	_, err = pgx.ForEachRow(rows, []any{&key, &rev, &data}, func() error {
		docs[string(key)] = store.Doc{Key: string(key), Rev: uint64(rev), Data: data}
		data = nil
		return nil
	})
	return docs, s.failure(err)
}

// List implements [store.Docs].
func (s *Store) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return s.listDocs(ctx, s.pool, coll, prefix, after)
}

func (s *Store) listDocs(ctx context.Context, from docReader, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		after := after // each range begins there
		for {
			docs, more, err := s.listChunk(ctx, from, coll, prefix, after)
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
func (s *Store) listChunk(ctx context.Context, from docReader, coll, prefix, after string) ([]store.Doc, bool, error) {
	if err := s.usable(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return nil, false, s.failure(err)
	}
	where, args := "coll = $1 AND key > $2 AND key >= $3", []any{id, []byte(after), []byte(prefix)}
	if end := afterPrefix(prefix); end != nil {
		where, args = where+" AND key < $4", append(args, end)
	}
	rows, err := from.Query(ctx, s.sql(docsUpTo("NULL::bytea", where, "key", "key", chunk)), args...)
	if err != nil {
		return nil, false, s.failure(err)
	}
	var none []byte
	docs, more, err := collectDocs(rows, chunk, &none)
	return docs, more, s.failure(err)
}

// afterPrefix returns the least key that is greater than all with a prefix, or
// nil if there is none.
func afterPrefix(prefix string) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := []byte(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// docsUpTo writes a query for at most n documents and a value of each, in an
// order which is called outer where the value is. Like that for events, it
// stops when it has enough bytes.
func docsUpTo(value, where, inner, outer string, n int) string {
	return fmt.Sprintf(`SELECT key, rev, data, value FROM (
		SELECT key, rev, data, %s AS value,
			sum(octet_length(data)) OVER (ORDER BY %[3]s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
		FROM {}.docs WHERE %[2]s ORDER BY %[3]s LIMIT %[5]d) d
		WHERE coalesce(before, 0) < %[6]d ORDER BY %[4]s`, value, where, inner, outer, n, chunkBytes)
}

// collectDocs reads up to n documents, and reports whether there may be more.
// The value that comes with the last goes to value.
func collectDocs(rows pgx.Rows, n int, value *[]byte) (docs []store.Doc, more bool, err error) {
	defer rows.Close()
	for size := 0; rows.Next(); {
		var key, data []byte
		var rev int64
		if err := rows.Scan(&key, &rev, &data, value); err != nil {
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

	statements []store.Statement // of programs
}

// Write implements [store.Docs].
func (s *Store) Write(ctx context.Context, changes ...store.Change) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil || len(changes) == 0 {
		return err
	}
	w, err := s.newWriting(ctx, changes)
	if err != nil {
		return s.failure(err)
	}
	return s.writes.Submit(ctx, w)
}

func (s *Store) newWriting(ctx context.Context, changes []store.Change) (*writing, error) {
	w := &writing{request: request{rows: len(changes)}, changes: changes, colls: make([]int64, len(changes))}
	for i, c := range changes {
		var err error
		if w.colls[i], err = s.makeColl(ctx, c.Coll); err != nil {
			return nil, err
		}
		w.bytes += len(c.Data)
	}
	return w, nil
}

// writeBatch writes changes in one transaction. Existing documents are locked
// before they are judged; that another process made a new one at the same time
// shows when it is inserted, and all is judged again.
func (s *Store) writeBatch(batch []*writing) error {
	return again(func() error {
		return s.transact(carried(batch), func(ctx context.Context, t *transaction) error {
			d := s.newDraft()
			if err := t.look(ctx, func(b *pgx.Batch) { d.look(b, batch, nil) }); err != nil {
				return err
			}
			for _, w := range batch {
				d.decide(w)
			}
			stated := false
			for _, w := range batch {
				if w.refused == nil && len(w.statements) > 0 {
					stated = true
					if err := s.execute(ctx, t, w.statements); err != nil {
						return err
					}
				}
			}
			if d.untouched() && !stated {
				return nil
			}
			err := t.commit(ctx, d.write)
			if err == nil && stated {
				s.hasOwn.Store(true)
			}
			return err
		})
	})
}

// again tries what may fail because another process writes the same documents at
// the same time.
func again(write func() error) error {
	const tries = 20
	for try := 1; ; try++ {
		err := write()
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
	text   map[int64][]string // of a collection that is searched: in which fields
}

func (s *Store) newDraft() *draft {
	return &draft{s: s, docs: map[docID]docState{}, fields: map[int64][]string{}, text: map[int64][]string{}}
}

// look takes the documents that are to be written, and those that are held. The
// lock of the table keeps fields from being declared in between.
func (d *draft) look(b *pgx.Batch, batch []*writing, held []docID) {
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
	b.Queue(d.s.sql("LOCK TABLE {}.docs IN ROW EXCLUSIVE MODE"))
	b.Queue(d.s.sql(`SELECT coll, field, n, false FROM {}.fields WHERE coll = ANY($1)
		UNION ALL SELECT coll, field, n, true FROM {}.searched WHERE coll = ANY($1) ORDER BY 1, 3`), colls).Query(d.scanFields)
	const at = "SELECT coll, key, rev FROM {}.docs WHERE (coll, key) IN (SELECT * FROM unnest($1::bigint[], $2::bytea[])) ORDER BY coll, key FOR "
	b.Queue(d.s.sql(at+"UPDATE"), colls, keys).Query(d.scanDocs)
	if len(held) > 0 {
		colls, keys := make([]int64, len(held)), make([][]byte, len(held))
		for i, id := range held {
			colls[i], keys[i] = id.coll, []byte(id.key)
		}
		b.Queue(d.s.sql(at+"SHARE"), colls, keys).Query(d.scanDocs)
	}
}

func (d *draft) scanFields(rows pgx.Rows) error {
	var coll int64
	var field string
	var n int
	var searched bool
	_, err := pgx.ForEachRow(rows, []any{&coll, &field, &n, &searched}, func() error {
		if searched {
			d.text[coll] = append(d.text[coll], field)
		} else {
			d.fields[coll] = append(d.fields[coll], field)
		}
		return nil
	})
	return err
}

func (d *draft) scanDocs(rows pgx.Rows) error {
	var id docID
	var key []byte
	var rev int64
	_, err := pgx.ForEachRow(rows, []any{&id.coll, &key, &rev}, func() error {
		id.key = string(key)
		d.docs[id] = docState{rev: rev, existed: true}
		return nil
	})
	return err
}

// decide gives changes their verdict, and drafts what they make of documents.
func (d *draft) decide(w *writing) {
	if w.refused = d.conflict(w); w.refused == nil {
		d.apply(w)
	}
}

// conflict is why changes cannot be made, nil if they can.
func (d *draft) conflict(w *writing) error {
	for i, c := range w.changes {
		if rev := uint64(d.docs[docID{w.colls[i], c.Key}].rev); c.Rev != store.AnyRev && c.Rev != rev {
			return &store.ConflictError{Coll: c.Coll, Key: c.Key, Version: rev}
		}
	}
	return nil
}

// apply drafts what changes make of documents.
func (d *draft) apply(w *writing) {
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
	words       []*string // nil = the collection is not searched
	bytes       int
}

func (c *docColumns) add(id docID, state docState, fields, text []string) {
	c.colls, c.keys, c.revs, c.datas = append(c.colls, id.coll), append(c.keys, []byte(id.key)), append(c.revs, state.rev), append(c.datas, state.data)
	if state.rev > 0 {
		c.fields = append(c.fields, fieldValues(state.data, fields))
		c.bytes += len(state.data) + len(c.fields[len(c.fields)-1])
		var words *string
		if len(text) > 0 {
			w := wordsOf(state.data, text)
			words = &w
			c.bytes += len(w)
		}
		c.words = append(c.words, words)
	}
}

// flush queues a statement with the rows there are, if they have so many bytes:
// one parameter of a statement must not have more than a gigabyte.
func (c *docColumns) flush(atLeast int, queue func(c *docColumns)) {
	if len(c.colls) > 0 && c.bytes >= atLeast {
		queue(c)
		*c = docColumns{}
	}
}

// write queues the statements that write what is drafted. New documents are
// inserted plainly: if another process was faster, the transaction fails.
func (d *draft) write(b *pgx.Batch) {
	const rows = "unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::text[], $6::text[]) u (coll, key, rev, data, fields, words)"
	statement := func(sql string) func(c *docColumns) {
		return func(c *docColumns) { b.Queue(d.s.sql(sql), c.colls, c.keys, c.revs, c.datas, c.fields, c.words) }
	}
	insert := statement("INSERT INTO {}.docs (coll, key, rev, data, fields, words) SELECT coll, key, rev, data, fields::bytea[], words::tsvector FROM " + rows + " ORDER BY coll, key")
	update := statement("UPDATE {}.docs d SET rev = u.rev, data = u.data, fields = u.fields::bytea[], words = u.words::tsvector FROM " + rows + " WHERE d.coll = u.coll AND d.key = u.key")
	remove := func(c *docColumns) {
		b.Queue(d.s.sql("DELETE FROM {}.docs d USING unnest($1::bigint[], $2::bytea[]) u (coll, key) WHERE d.coll = u.coll AND d.key = u.key"), c.colls, c.keys)
	}
	var made, changed, gone docColumns
	for id, state := range d.docs {
		switch {
		case !state.changed || state.rev == 0 && !state.existed:
		case state.rev == 0:
			gone.add(id, state, nil, nil)
		case state.existed:
			changed.add(id, state, d.fields[id.coll], d.text[id.coll])
		default:
			made.add(id, state, d.fields[id.coll], d.text[id.coll])
		}
		made.flush(maxBytes, insert)
		changed.flush(maxBytes, update)
	}
	made.flush(0, insert)
	changed.flush(0, update)
	gone.flush(0, remove)
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
		n, err = s.dropSome(ctx, id)
	}
	if err == nil {
		err = s.dropIndexes(ctx, id)
	}
	return s.failure(err)
}

func (s *Store) dropSome(ctx context.Context, coll int64) (int64, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	tag, err := s.pool.Exec(ctx, s.sql(`DELETE FROM {}.docs WHERE coll = $1 AND key IN
		(SELECT key FROM {}.docs WHERE coll = $1 ORDER BY key LIMIT 2000 FOR UPDATE)`), coll)
	return tag.RowsAffected(), err
}
