package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// Pages are read by an index, from where they begin: nothing is sorted, and no
// page takes longer than another.
func TestPagesAreReadByAnIndex(t *testing.T) {
	s := withDocs(t, 10)
	id, _ := s.names.coll("v")
	is := func(field, op string, v any) store.Cond { return store.Cond{Field: field, Op: op, Value: v} }
	far := &store.Mark{Value: int64(7), Key: "k"}
	for name, c := range map[string]struct {
		q    store.Query
		want string // of the plans of all stretches
	}{
		"all by key":               {store.Query{}, "PRIMARY KEY (coll=?)"},
		"by key, after a mark":     {store.Query{After: far}, "PRIMARY KEY (coll=? AND key>?)"},
		"equal":                    {store.Query{Where: []store.Cond{is("a", "=", "x")}}, "(<expr>=?)"},
		"equal, after a mark":      {store.Query{Where: []store.Cond{is("a", "=", "x")}, After: far}, "(<expr>=? AND key>?)"},
		"sorted":                   {store.Query{Sort: "n"}, "(<expr>=?), (<expr>>?)"},
		"sorted the other way":     {store.Query{Sort: "n", Desc: true}, "(<expr>>?), (<expr>=?)"},
		"sorted, after a mark":     {store.Query{Sort: "n", After: far}, "(<expr>=? AND key>?), (<expr>>?)"},
		"sorted, after null":       {store.Query{Sort: "n", After: &store.Mark{Key: "k"}}, "(<expr>=? AND key>?), (<expr>>?)"},
		"the other way":            {store.Query{Sort: "n", Desc: true, After: far}, "(<expr>=? AND key<?), (<expr><?), (<expr>=?)"},
		"the other way from null":  {store.Query{Sort: "n", Desc: true, After: &store.Mark{Key: "k"}}, "(<expr>=? AND key<?)"},
		"from a value":             {store.Query{Where: []store.Cond{is("n", ">=", int64(3))}, Sort: "n"}, "(<expr>>?)"},
		"from a value, after more": {store.Query{Where: []store.Cond{is("n", ">=", int64(3))}, Sort: "n", After: far}, "(<expr>=? AND key>?), (<expr>>?)"},
		"from a value, after less": {store.Query{Where: []store.Cond{is("n", ">=", int64(9))}, Sort: "n", After: far}, "(<expr>>?)"},
		"between two values":       {store.Query{Where: []store.Cond{is("n", ">", int64(3)), is("n", "<", int64(9))}, Sort: "n", After: far}, "(<expr>=? AND key>?), (<expr>>? AND <expr><?)"},
		"below one, the other way": {store.Query{Where: []store.Cond{is("n", "<", int64(9))}, Sort: "n", Desc: true, After: far}, "(<expr>=? AND key<?), (<expr><?)"},
	} {
		parts, where := stretches(c.q)
		q := c.q
		q.Where = where
		var plans []string
		for _, part := range parts {
			query, args := findQuery(id, q, part, 50)
			plans = append(plans, plan(t, s, query, args))
		}
		got := strings.Join(plans, ", ")
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// plan is how SQLite is going to answer a query.
func plan(t *testing.T, s *Store, query string, args []any) (steps string) {
	t.Helper()
	err := s.reading(t.Context(), func(r *reader) error {
		if err := sqlitex.Execute(r.conn, "SELECT 1 FROM docs", nil); err != nil { // so that it knows of the indexes
			return err
		}
		return sqlitex.ExecuteTransient(r.conn, "EXPLAIN QUERY PLAN "+query, &sqlitex.ExecOptions{Args: args, ResultFunc: func(st *lib.Stmt) error {
			step := st.ColumnText(3)
			if _, keys, ok := strings.Cut(step, "USING INDEX docs_"); ok {
				if _, keys, ok = strings.Cut(keys, " "); !ok {
					keys = "SCAN"
				}
				step = keys
			}
			steps += strings.TrimPrefix(step, "SEARCH docs USING ")
			return nil
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// A reader whose caller has gone is as good as new for the next one.
func TestFindIsGivenUp(t *testing.T) {
	s := withDocs(t, 5000)
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		for _, err := range s.Find(ctx, "v", store.Query{Sort: "n", After: &store.Mark{Value: int64(1), Key: "k"}}) {
			if n++; n == 1 {
				cancel()
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		cancel()
	}
	if err := s.Write(t.Context(), store.Change{Coll: "v", Key: "z", Data: []byte(`{"n":8}`)}); err != nil {
		t.Fatal(err)
	}
	for range 2 * s.opts.Readers {
		n := 0
		for _, err := range s.Find(t.Context(), "v", store.Query{Where: []store.Cond{{Field: "n", Op: "=", Value: int64(8)}}}) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if n != 1 {
			t.Fatalf("%d documents: a reader sees an old state", n)
		}
	}
}

func withDocs(t *testing.T, n int) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.EnsureIndexes(t.Context(), "v", []string{"a", "n"}); err != nil {
		t.Fatal(err)
	}
	var changes []store.Change
	for i := range n {
		changes = append(changes, store.Change{Coll: "v", Key: fmt.Sprintf("k%05d", i), Data: fmt.Appendf(nil, `{"a":"x","n":%d}`, i%7)})
	}
	if err := s.Write(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	return s
}
