package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"

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
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.declare(ctx, tx, id, fields) })
	if err == nil {
		err = s.loadFields(ctx, s.pool, id)
	}
	return s.failure(err)
}

// declare numbers the fields that are new, gives all documents their values,
// and makes the indexes.
func (s *Store) declare(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
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
		rows, err := tx.Query(ctx, s.sql("SELECT key, rev, data FROM {}.docs WHERE coll = $1 AND key > $2 ORDER BY key LIMIT $3"), coll, after, chunk)
		if err != nil {
			return err
		}
		docs, more, err := collectDocs(rows, chunk, nil)
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

// dropIndexes drops a collection's indexes. Its fields keep their numbers.
func (s *Store) dropIndexes(ctx context.Context, coll int64) error {
	all, err := s.fieldsOf(ctx, s.pool, coll)
	for i := range all {
		if err == nil {
			_, err = s.pool.Exec(ctx, s.sql("DROP INDEX IF EXISTS {}."+s.indexName(coll, i+1)))
		}
	}
	s.names.forgetFields(coll)
	return err
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
			f.after, f.mark, f.value = true, q.After.Key, encodeValue(q.After.Value)
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
	after   bool // only what comes after value and mark
	value   []byte
	mark    string
}

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
	query, args := f.query(n)
	rows, err := f.s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	var value []byte
	docs, more, err := collectDocs(rows, n, &value)
	if len(docs) > 0 {
		f.after, f.mark, f.value = true, docs[len(docs)-1].Key, value
	}
	return docs, more, err
}

// query writes the rest of a query in SQL. The collection is written out
// because a partial index is used only for a number known beforehand.
func (f *finding) query(n int) (string, []any) {
	var b strings.Builder
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	sort, order := "NULL::bytea", "key"
	dir, beyond, nulls := "", ">", " NULLS FIRST"
	if f.q.Desc {
		dir, beyond, nulls = " DESC", "<", " NULLS LAST"
	}
	if f.q.Sort != "" {
		num := f.numbers[f.q.Sort]
		sort = expression(num)
		order = prefix(num) + dir + nulls + ", " + sort + dir + nulls + ", key"
	}
	fmt.Fprintf(&b, "SELECT key, rev, data, %s FROM {}.docs WHERE coll = %d", sort, f.coll)
	for _, c := range f.q.Where {
		b.WriteString(" AND " + condition(f.numbers[c.Field], c, arg))
	}
	if f.after {
		b.WriteString(" AND " + f.beyond(sort, beyond, arg))
	}
	fmt.Fprintf(&b, " ORDER BY %s%s LIMIT %d", order, dir, n)
	return f.s.sql(b.String()), args
}

// beyond is the condition of coming after a mark.
func (f *finding) beyond(sort, beyond string, arg func(any) string) string {
	key := fmt.Sprintf("key %s %s", beyond, arg([]byte(f.mark)))
	switch {
	case f.q.Sort == "":
		return key
	case f.value == nil && f.q.Desc:
		return fmt.Sprintf("(%s IS NULL AND %s)", sort, key)
	case f.value == nil:
		return fmt.Sprintf("(%s IS NOT NULL OR %s)", sort, key)
	}
	null := ""
	if f.q.Desc {
		null = fmt.Sprintf(" OR %s IS NULL", sort)
	}
	v := arg(f.value)
	return fmt.Sprintf("(%s %s %s OR %s = %s AND %s%s)", sort, beyond, v, sort, v, key, null)
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
