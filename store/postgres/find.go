package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// indexed is how many bytes of a value an index has: entries have a limit.
const indexed = 1000

// expression is the value of field n of a document.
func expression(n int) string { return fmt.Sprintf("fields[%d]", n) }

// prefix is the part of it that the index has.
func prefix(n int) string { return fmt.Sprintf("substring(fields[%d] FROM 1 FOR %d)", n, indexed) }

func (s *Store) indexName(coll int64, n int) string { return fmt.Sprintf("docs_%d_%d", coll, n) }

// EnsureIndexes implements [store.Indexer] with one partial index per field:
// partial, because each collection has fields of its own. Nobody can write
// documents while a field is declared; those there are get its values.
func (s *Store) EnsureIndexes(ctx context.Context, coll string, fields []string) error {
	for _, f := range fields {
		if err := store.CheckField(f); err != nil {
			return err
		}
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	id, err := s.makeColl(ctx, coll)
	if err != nil {
		return s.failure(err)
	}
	missing := false
	for _, f := range fields {
		_, known := s.names.field(id, f)
		missing = missing || !known
	}
	if !missing {
		return nil
	}
	err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error { return s.declare(ctx, tx, id, fields) })
	if err == nil {
		err = s.loadFields(ctx, s.pool, id)
	}
	return s.failure(err)
}

// declare numbers the fields that are new, gives all documents their values,
// and makes the indexes.
func (s *Store) declare(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
	// Values are computed here, between two trips: that may take a slow machine
	// longer than a transaction may usually stand still.
	_, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', $2, true),
		set_config('idle_in_transaction_session_timeout', $3, true)`, millis(s.opts.LockTimeout), s.commit, millis(s.opts.Timeout))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, s.sql("LOCK TABLE {}.docs IN SHARE ROW EXCLUSIVE MODE")); err != nil {
		return err
	}
	all, err := s.fieldsOf(ctx, tx, coll)
	if err != nil {
		return err
	}
	had := len(all)
	for _, f := range fields {
		n := indexOf(all, f) + 1
		if n == 0 {
			all = append(all, f)
			n = len(all)
			if _, err := tx.Exec(ctx, s.sql("INSERT INTO {}.fields (coll, n, field) VALUES ($1, $2, $3)"), coll, n, f); err != nil {
				return err
			}
		}
	}
	if len(all) > had {
		if err := s.refill(ctx, tx, coll, all); err != nil {
			return err
		}
	}
	for _, f := range fields {
		n := indexOf(all, f) + 1
		_, err := tx.Exec(ctx, s.sql(fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON {}.docs ((%s) NULLS FIRST, key) WHERE coll = %d", s.indexName(coll, n), prefix(n), coll)))
		if err != nil {
			return err
		}
	}
	return nil
}

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

func (s *Store) fieldsOf(ctx context.Context, q querier, coll int64) ([]string, error) {
	rows, err := q.Query(ctx, s.sql("SELECT field FROM {}.fields WHERE coll = $1 ORDER BY n"), coll)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (s *Store) loadFields(ctx context.Context, q querier, coll int64) error {
	all, err := s.fieldsOf(ctx, q, coll)
	for i, f := range all {
		s.names.addField(coll, f, i+1)
	}
	return err
}

// refill gives the documents of a collection the values of all fields.
func (s *Store) refill(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
	for after := []byte{}; ; {
		rows, err := tx.Query(ctx, s.sql(docsUpTo("NULL::bytea", "coll = $1 AND key > $2", "key", "key", chunk)), coll, after)
		if err != nil {
			return err
		}
		var none []byte
		docs, more, err := collectDocs(rows, chunk, &none)
		if err != nil || len(docs) == 0 {
			return err
		}
		keys, values := make([][]byte, len(docs)), make([]string, len(docs))
		for i, d := range docs {
			keys[i], values[i] = []byte(d.Key), fieldValues(d.Data, fields)
		}
		_, err = tx.Exec(ctx, s.sql(`UPDATE {}.docs d SET fields = u.fields::bytea[] FROM unnest($2::bytea[], $3::text[]) u (key, fields)
			WHERE d.coll = $1 AND d.key = u.key`), coll, keys, values)
		if err != nil || !more {
			return err
		}
		after = keys[len(keys)-1]
	}
}

// dropIndexes drops a collection's indexes. Its fields keep their numbers. While
// a session waits for that, nobody reads documents; so if another session has
// the table for long (a dump, for one) they stay: an index of no documents costs
// little, and whoever drops the collection again gets rid of it.
func (s *Store) dropIndexes(ctx context.Context, coll int64) error {
	all, err := s.fieldsOf(ctx, s.pool, coll)
	if s.names.forgetFields(coll); err != nil || len(all) == 0 {
		return err
	}
	indexes := make([]string, len(all))
	for i := range all {
		indexes[i] = s.opts.Schema + "." + s.indexName(coll, i+1)
	}
	drop := func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', '100ms', true)"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DROP INDEX IF EXISTS "+strings.Join(indexes, ", "))
		return err
	}
	for range 10 {
		err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, drop)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != lockNotAvailable {
			return err
		}
		s.pause(100 * time.Millisecond)
	}
	return nil
}

// forgetFields makes the fields of a collection be declared anew.
func (n *names) forgetFields(coll int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.fields, coll)
}

// fieldValues returns the values of fields of a document, as the server writes
// a list of bytes.
func fieldValues(data []byte, fields []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		v := encodeValue(store.FieldOf(data, f))
		if v == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteString(`"\\x` + hex.EncodeToString(v) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// Find implements [store.Indexer]. Documents are looked up by declared fields
// only; for others it reads the whole collection.
func (s *Store) Find(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		if err := store.CheckQuery(q); err != nil {
			yield(store.Doc{}, err)
			return
		}
		id, numbers, err := s.numbers(ctx, coll, q)
		if err != nil {
			yield(store.Doc{}, s.failure(err))
			return
		}
		if id == 0 {
			return
		}
		if numbers == nil {
			store.Scan(s.List(ctx, coll, "", ""), q)(yield)
			return
		}
		f := finding{s: s, coll: id, q: q, numbers: numbers, left: q.Limit}
		if q.After != nil {
			f.part, f.mark, f.value = beside, q.After.Key, encodeValue(q.After.Value)
		}
		f.run(ctx, yield)
	}
}

// numbers returns the numbers of the fields of a query, or nil if one of them
// is not declared; and 0 if there is no such collection.
func (s *Store) numbers(ctx context.Context, coll string, q store.Query) (int64, map[string]int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, nil, err
	}
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return 0, nil, err
	}
	var fields []string
	if q.Sort != "" {
		fields = append(fields, q.Sort)
	}
	for _, c := range q.Where {
		fields = append(fields, c.Field)
	}
	numbers := map[string]int{}
	for _, f := range fields {
		n, ok := s.names.field(id, f)
		if !ok {
			if err := s.loadFields(ctx, s.pool, id); err != nil {
				return id, nil, err
			}
			if n, ok = s.names.field(id, f); !ok {
				return id, nil, nil
			}
		}
		numbers[f] = n
	}
	return id, numbers, nil
}

// A finding is a query on its way through a collection.
type finding struct {
	s       *Store
	coll    int64
	q       store.Query
	numbers map[string]int
	left    int
	part    part
	value   []byte // and mark: of the last document
	mark    string
}

// A part of the order of a query is a range of the index. What comes after a
// mark is two ranges if it is sorted by a field: first the documents that have a
// value, like the mark, or have none; then the others.
type part int

const (
	everything part = iota
	beside          // documents after the mark, with a value if it has one
	others          // the second range
)

func (f *finding) run(ctx context.Context, yield func(store.Doc, error) bool) {
	for {
		n := chunk
		if f.q.Limit > 0 {
			n = min(n, f.left)
		}
		docs, more, err := f.chunk(ctx, n)
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Doc{}, f.s.failure(err))
			return
		}
		f.left -= len(docs)
		if !more || f.q.Limit > 0 && f.left == 0 {
			return
		}
	}
}

func (f *finding) chunk(ctx context.Context, n int) ([]store.Doc, bool, error) {
	ctx, cancel := f.s.within(ctx)
	defer cancel()
	query, args := f.query(n)
	rows, err := f.s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	var value []byte
	docs, more, err := collectDocs(rows, n, &value)
	at := f.part
	if len(docs) > 0 {
		f.part, f.mark, f.value = beside, docs[len(docs)-1].Key, value
	}
	if first := f.q.Sort != "" && (f.value == nil) != f.q.Desc; at == beside && first && !more && err == nil {
		f.part, more = others, true
	}
	return docs, more, err
}

// query writes the rest of a query in SQL. The collection is written out
// because a partial index is used only for a number known beforehand.
func (f *finding) query(n int) (string, []any) {
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	value, inner, outer := "NULL::bytea", "key", "key"
	dir, nulls := "", " NULLS FIRST"
	if f.q.Desc {
		dir, nulls = " DESC", " DESC NULLS LAST"
	}
	if f.q.Sort != "" {
		num := f.numbers[f.q.Sort]
		value = expression(num)
		inner = prefix(num) + nulls + ", " + value + nulls + ", key"
		outer = "value" + nulls + ", key"
	}
	where := fmt.Sprintf("coll = %d", f.coll)
	for _, c := range f.q.Where {
		where += " AND " + condition(f.numbers[c.Field], c, arg)
	}
	where += f.remaining(arg)
	return f.s.sql(docsUpTo(value, where, inner+dir, outer+dir, n)), args
}

// remaining is the condition of being in the part that is to be read.
func (f *finding) remaining(arg func(any) string) string {
	if f.part == everything {
		return ""
	}
	field, than := f.numbers[f.q.Sort], ">"
	if f.q.Desc {
		than = "<"
	}
	switch {
	case f.part == others && f.value == nil:
		return " AND " + prefix(field) + " IS NOT NULL"
	case f.part == others:
		return " AND " + prefix(field) + " IS NULL"
	}
	key := fmt.Sprintf("key %s %s", than, arg([]byte(f.mark)))
	switch {
	case f.q.Sort == "":
		return " AND " + key
	case f.value == nil:
		return fmt.Sprintf(" AND %s IS NULL AND %s", prefix(field), key)
	}
	e, v := expression(field), arg(f.value)
	return fmt.Sprintf(" AND %s %s= %s AND (%s %s %s OR %s = %s AND %s)",
		prefix(field), than, arg(f.value[:min(len(f.value), indexed)]), e, than, v, e, v, key)
}

// condition compares field n, first by what the index has of it.
func condition(n int, c store.Cond, arg func(any) string) string {
	e := expression(n)
	v := encodeValue(c.Value)
	switch {
	case v == nil && c.Op == "=":
		return prefix(n) + " IS NULL"
	case v == nil && c.Op == "!=":
		return e + " IS NOT NULL"
	case v == nil:
		return "false"
	case c.Op == "!=":
		return fmt.Sprintf("(%s IS NULL OR %s <> %s)", e, e, arg(v))
	}
	coarse := map[string]string{"=": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">="}[c.Op]
	return fmt.Sprintf("%s %s %s AND %s %s %s", prefix(n), coarse, arg(v[:min(len(v), indexed)]), e, c.Op, arg(v))
}
