package postgres

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/deed-dev/deed/store"
)

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
		f := finding{s: s, coll: id, q: q, numbers: numbers, left: q.Limit, found: q.Found(), name: coll}
		if q.After != nil {
			f.part, f.mark, f.value = beside, q.After.Key, encodeValue(q.After.Value)
		}
		f.run(ctx, yield)
	}
}

// Count implements [store.Counter]. What Find finds by reading the whole
// collection is counted so.
func (s *Store) Count(ctx context.Context, coll string, q store.Query) (n int, err error) {
	if err := store.CheckQuery(q); err != nil {
		return 0, err
	}
	id, numbers, err := s.numbers(ctx, coll, q)
	if err != nil || id == 0 {
		return 0, s.failure(err)
	}
	if numbers == nil || q.Search != "" { // candidates are looked at
		for _, err := range s.Find(ctx, coll, q) {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	f := finding{s: s, coll: id, q: q, numbers: numbers}
	var args arguments
	err = s.pool.QueryRow(ctx, s.sql("SELECT count(*) FROM {}.docs WHERE "+f.conditions(args.add)), args...).Scan(&n)
	return n, s.failure(err)
}

// arguments are those of a query in SQL.
type arguments []any

// add adds one, and returns the text that stands for it.
func (a *arguments) add(v any) string {
	*a = append(*a, v)
	return fmt.Sprintf("$%d", len(*a))
}

// numbers returns the numbers of the fields of a query, or nil if one of them
// is not declared, or the text not that is searched; and 0 if there is no such collection.
func (s *Store) numbers(ctx context.Context, coll string, q store.Query) (int64, map[string]int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, nil, err
	}
	id, err := s.coll(ctx, coll)
	if err != nil || id == 0 {
		return 0, nil, err
	}
	if q.Search != "" {
		if text, err := s.searchedIn(ctx, s.pool, id); err != nil || !slices.Equal(text, q.Text) {
			return id, nil, err
		}
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
	found   func(store.Doc) bool
	name    string      // of the collection
	last    *store.Mark // document that was looked at
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
		if f.q.Limit > 0 && f.q.Search == "" { // of candidates, some are none
			n = min(n, f.left)
		}
		q := f.rest()
		docs, more, err := f.chunk(ctx, n)
		if f.q.Search != "" && err == nil {
			var text []string
			if text, err = f.s.searchedIn(ctx, f.s.pool, f.coll); err == nil && !slices.Equal(text, f.q.Text) { // it was declared anew meanwhile
				store.Scan(f.s.List(ctx, f.name, "", ""), q)(yield)
				return
			}
		}
		for _, d := range docs {
			if !f.found(d) {
				continue
			}
			if !yield(d, nil) {
				return
			}
			if f.left--; f.q.Limit > 0 && f.left == 0 {
				return
			}
		}
		if err != nil {
			yield(store.Doc{}, f.s.failure(err))
			return
		}
		if !more {
			return
		}
	}
}

// rest is what is left of the query.
func (f *finding) rest() store.Query {
	q := f.q
	if q.Limit = f.left; f.last != nil {
		q.After = f.last
	}
	return q
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
		last := docs[len(docs)-1]
		f.part, f.mark, f.value = beside, last.Key, value
		if f.last = (&store.Mark{Key: last.Key}); f.q.Sort != "" {
			f.last.Value = store.FieldOf(last.Data, f.q.Sort)
		}
	}
	if first := f.q.Sort != "" && (f.value == nil) != f.q.Desc; at == beside && first && !more && err == nil {
		f.part, more = others, true
	}
	return docs, more, err
}

// query writes the rest of a query in SQL. The collection is written out
// because a partial index is used only for a number known beforehand.
func (f *finding) query(n int) (string, []any) {
	var args arguments
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
	where := f.conditions(args.add) + f.remaining(args.add)
	return f.s.sql(docsUpTo(value, where, inner+dir, outer+dir, n)), args
}

// conditions are those of the query.
func (f *finding) conditions(arg func(any) string) string {
	where := fmt.Sprintf("coll = %d", f.coll)
	for _, c := range f.q.Where {
		where += " AND " + condition(f.numbers[c.Field], c, arg)
	}
	if search, err := store.ParseSearch(f.q.Search); err == nil {
		where += " AND " + candidates(search, arg)
	}
	return where
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
