package sqlite

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"strings"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// expression is the value of a document's field, as [store.FieldOf] has it:
// a JSON scalar, or NULL.
func expression(field string) string {
	path := `'$."` + strings.ReplaceAll(field, ".", `"."`) + `"'`
	return "iif(json_type(data, " + path + ") IN ('object', 'array'), NULL, json_extract(data, " + path + "))"
}

// EnsureIndexes implements [store.Indexer] with one partial index per field:
// partial, because each collection has fields of its own.
func (s *Store) EnsureIndexes(ctx context.Context, coll string, fields []string) error {
	for _, f := range fields {
		if err := store.CheckField(f); err != nil {
			return err
		}
	}
	return s.submit(ctx, &request{exec: func(w *writer) error {
		id, err := w.coll(coll)
		if err != nil {
			return err
		}
		for _, f := range fields {
			query := fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON docs (%s, key) WHERE coll = %d", indexName(id, f), expression(f), id)
			if err := sqlitex.ExecuteTransient(w.conn, query, nil); err != nil {
				return err
			}
		}
		return nil
	}})
}

func indexPrefix(coll int64) string { return fmt.Sprintf("docs_%d_", coll) }

func indexName(coll int64, field string) string {
	return fmt.Sprintf("%s%08x", indexPrefix(coll), crc32.Checksum([]byte(field), crc32.MakeTable(crc32.Castagnoli)))
}

func (w *writer) dropIndexes(coll int64) error {
	var names []string
	err := sqlitex.ExecuteTransient(w.conn, "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB ?", &sqlitex.ExecOptions{
		Args:       []any{indexPrefix(coll) + "*"},
		ResultFunc: func(st *lib.Stmt) error { names = append(names, st.ColumnText(0)); return nil },
	})
	for _, n := range names {
		if err == nil {
			err = sqlitex.ExecuteTransient(w.conn, "DROP INDEX "+n, nil)
		}
	}
	return err
}

// Find implements [store.Indexer].
func (s *Store) Find(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		if err := store.CheckQuery(q); err != nil {
			yield(store.Doc{}, err)
			return
		}
		f := finding{s: s, coll: coll, q: q, left: q.Limit, found: q.Found()} // each range begins there
		f.run(ctx, yield)
	}
}

var errEnough = errors.New("sqlite: the chunk is full")

// A finding is a query on its way through a collection.
type finding struct {
	s     *Store
	coll  string
	q     store.Query
	left  int
	found func(store.Doc) bool
	docs  []store.Doc
}

func (f *finding) run(ctx context.Context, yield func(store.Doc, error) bool) {
	for {
		n := chunk
		if f.q.Limit > 0 && f.q.Search == "" { // of candidates, some are none
			n = min(n, f.left)
		}
		more, err := f.chunk(ctx, n)
		if errors.Is(err, errNoIndex) {
			q := f.q
			q.Limit = f.left
			store.Scan(f.s.List(ctx, f.coll, "", ""), q)(yield)
			return
		}
		for _, d := range f.docs {
			if !yield(d, nil) {
				return
			}
			if f.left--; f.q.Limit > 0 && f.left == 0 {
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
	}
}

// chunk finds documents among the next n candidates, and reports whether there may
// be more: if so, the query goes on after the last of them.
func (f *finding) chunk(ctx context.Context, n int) (more bool, err error) {
	f.docs = f.docs[:0]
	id, ok := f.s.names.coll(f.coll)
	if !ok {
		return false, f.s.usable(ctx)
	}
	parts, where := stretches(f.q)
	q := f.q // goes on while documents are found
	q.Where = where
	err = f.s.reading(ctx, func(r *reader) error {
		r.conn.SetInterrupt(ctx.Done())
		defer r.conn.SetInterrupt(nil)
		size, seen := 0, 0
		look := func(st *lib.Stmt) error {
			d := store.Doc{Key: st.ColumnText(0)}
			if err := f.s.document(r, st, 1, f.coll, &d); err != nil {
				return err
			}
			if f.found(d) {
				f.docs = append(f.docs, d)
			}
			seen++
			if size += len(d.Data); seen < n && size < chunkBytes {
				return nil
			}
			f.q.After = &store.Mark{Key: d.Key}
			if f.q.Sort != "" {
				f.q.After.Value = scalar(st, 4)
			}
			return errEnough
		}
		err := r.atOnce(func() error {
			if err := r.checkSearch(id, q); err != nil {
				return err
			}
			for _, part := range parts {
				query, args := findQuery(id, q, part, n-seen)
				if err := sqlitex.ExecuteTransient(r.conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: look}); err != nil {
					return err
				}
			}
			return nil
		})
		if more = errors.Is(err, errEnough); more {
			return nil
		}
		return err
	})
	return more, err
}

// Count implements [store.Counter].
func (s *Store) Count(ctx context.Context, coll string, q store.Query) (n int, err error) {
	if err := store.CheckQuery(q); err != nil {
		return 0, err
	}
	id, ok := s.names.coll(coll)
	if !ok {
		return 0, s.usable(ctx)
	}
	if q.Search != "" { // candidates are looked at
		for _, err := range s.Find(ctx, coll, q) {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	}
	where, args := conditions(id, q)
	err = s.reading(ctx, func(r *reader) error {
		r.conn.SetInterrupt(ctx.Done())
		defer r.conn.SetInterrupt(nil)
		return sqlitex.ExecuteTransient(r.conn, "SELECT count(*)"+where, &sqlitex.ExecOptions{Args: args, ResultFunc: func(st *lib.Stmt) error {
			n = int(st.ColumnInt64(0))
			return nil
		}})
	})
	return n, err
}

func scalar(st *lib.Stmt, col int) any {
	switch st.ColumnType(col) {
	case lib.TypeInteger:
		return st.ColumnInt64(col)
	case lib.TypeFloat:
		return st.ColumnFloat(col)
	case lib.TypeText:
		return st.ColumnText(col)
	}
	return nil
}

// findQuery writes a stretch of q in SQL. SQLite orders values of different types
// just as [store.Query] says: NULL, then numbers, then text.
func findQuery(coll int64, q store.Query, part stretch, n int) (string, []any) {
	var b strings.Builder
	sort, dir := "", ""
	if q.Desc {
		dir = " DESC"
	}
	b.WriteString("SELECT key, rev, sum, data")
	if q.Sort != "" {
		sort = expression(q.Sort)
		b.WriteString(", " + sort)
	}
	where, args := conditions(coll, q)
	b.WriteString(where)
	if part.cond != "" {
		b.WriteString(" AND " + part.cond)
		args = append(args, part.args...)
	}
	b.WriteString(" ORDER BY ")
	if sort != "" && !part.same {
		b.WriteString(sort + dir + ", ")
	}
	fmt.Fprintf(&b, "key%s LIMIT %d", dir, n)
	return b.String(), args
}

// conditions is what q says of the documents of a collection, in SQL. The
// collection is written out because a partial index is used only for a number known
// beforehand; and likely, since without that SQLite takes it for granted that a
// collection has few documents, and reads all of them instead of using an index.
func conditions(coll int64, q store.Query) (string, []any) {
	var b strings.Builder
	var args []any
	fmt.Fprintf(&b, " FROM docs WHERE likely(coll = %d)", coll)
	for _, c := range q.Where {
		cond, arg := condition(c)
		b.WriteString(" AND " + cond)
		args = append(args, arg...)
	}
	if search, err := store.ParseSearch(q.Search); err == nil {
		cond, arg := candidates(coll, search)
		b.WriteString(" AND " + cond)
		args = append(args, arg)
	}
	return b.String(), args
}

func condition(c store.Cond) (string, []any) {
	e := expression(c.Field)
	switch {
	case c.Value == nil && c.Op == "=":
		return e + " IS NULL", nil
	case c.Value == nil && c.Op == "!=":
		return e + " IS NOT NULL", nil
	case c.Value == nil:
		return "0", nil
	case c.Op == "!=":
		return fmt.Sprintf("(%s IS NULL OR %s <> ?)", e, e), []any{argument(c.Value)}
	}
	return fmt.Sprintf("%s %s ?", e, c.Op), []any{argument(c.Value)}
}

// argument makes numbers of booleans, as JSON functions do.
func argument(v any) any {
	switch v {
	case true:
		return int64(1)
	case false:
		return int64(0)
	}
	return v
}
