package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// An index of words says which documents of a collection have a word, and nothing
// else. It is FTS5's; what a word is package store says. What it finds are candidates:
// each is looked at. So words that follow each other are found, and a damaged index
// never shows a document that has not got the words.

// EnsureSearch implements [store.Searcher].
func (s *Store) EnsureSearch(ctx context.Context, coll string, fields []string) error {
	if _, known := s.names.coll(coll); !known && len(fields) == 0 {
		return s.usable(ctx)
	}
	return s.submit(ctx, &request{exec: func(w *writer) error {
		id, err := w.coll(coll)
		if had, searched := w.searched[id]; err != nil || searched == (len(fields) > 0) && slices.Equal(had, fields) {
			return err
		}
		return w.declare(id, fields)
	}})
}

func searchTable(coll int64) string { return fmt.Sprintf("search_%d", coll) }

// declare makes the index of a collection anew, with all documents there are.
func (w *writer) declare(coll int64, fields []string) error {
	if err := w.dropSearch(coll); err != nil || len(fields) == 0 {
		return err
	}
	if err := sqlitex.Execute(w.conn, "DELETE FROM words WHERE coll = ?", &sqlitex.ExecOptions{Args: []any{coll}}); err != nil {
		return err
	}
	list, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if err := sqlitex.Execute(w.conn, "INSERT INTO searched (coll, fields) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{coll, string(list)}}); err != nil {
		return err
	}
	err = sqlitex.ExecuteTransient(w.conn, "CREATE VIRTUAL TABLE "+searchTable(coll)+" USING fts5(words, content='', contentless_delete=1, detail=none, tokenize='ascii')", nil)
	if err != nil {
		return err
	}
	w.searched[coll] = fields
	return sqlitex.ExecuteTransient(w.conn, "SELECT key, data FROM docs WHERE coll = +?", &sqlitex.ExecOptions{
		Args: []any{coll}, ResultFunc: func(st *lib.Stmt) error { return w.index(coll, st.ColumnText(0), bytesOf(st, 1)) },
	})
}

// dropSearch forgets the index of a collection, if there is one. Which documents it
// had is left to whoever drops them, or makes another index.
func (w *writer) dropSearch(coll int64) error {
	delete(w.searched, coll)
	if err := sqlitex.ExecuteTransient(w.conn, "DROP TABLE IF EXISTS "+searchTable(coll), nil); err != nil {
		return err
	}
	return sqlitex.Execute(w.conn, "DELETE FROM searched WHERE coll = ?", &sqlitex.ExecOptions{Args: []any{coll}})
}

// index notes the words of a document that is written; no data = it is deleted.
func (w *writer) index(coll int64, key string, data []byte) error {
	fields, searched := w.searched[coll]
	if !searched {
		return nil
	}
	var id, had int64
	err := sqlitex.Execute(w.conn, "SELECT id, sum FROM words WHERE coll = +? AND key = ?", &sqlitex.ExecOptions{
		Args: []any{coll, key}, ResultFunc: func(st *lib.Stmt) error { id, had = st.ColumnInt64(0), st.ColumnInt64(1); return nil },
	})
	if err != nil {
		return err
	}
	if data == nil {
		if id == 0 {
			return nil
		}
		if err := sqlitex.Execute(w.conn, "DELETE FROM words WHERE id = ?", &sqlitex.ExecOptions{Args: []any{id}}); err != nil {
			return err
		}
		return sqlitex.Execute(w.conn, "DELETE FROM "+searchTable(coll)+" WHERE rowid = ?", &sqlitex.ExecOptions{Args: []any{id}})
	}
	text, sum := indexed(data, fields)
	switch {
	case id == 0:
		if err := sqlitex.Execute(w.conn, "INSERT INTO words (coll, key, sum) VALUES (?, ?, ?)", &sqlitex.ExecOptions{Args: []any{coll, key, sum}}); err != nil {
			return err
		}
		id = w.conn.LastInsertRowID()
	case had == sum: // most changes of documents are of other fields
		return nil
	default:
		if err := sqlitex.Execute(w.conn, "UPDATE words SET sum = ? WHERE id = ?", &sqlitex.ExecOptions{Args: []any{sum, id}}); err != nil {
			return err
		}
	}
	return sqlitex.Execute(w.conn, "INSERT OR REPLACE INTO "+searchTable(coll)+" (rowid, words) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{id, text}})
}

// indexed is what the index is given of a document: its words, each once, and a
// sum of them (FNV-1a), by which it is told whether they change. It is part of the
// stored format.
func indexed(data []byte, fields []string) (string, int64) {
	text := strings.Join(store.UniqueWords(store.WordsOf(data, fields)), " ")
	h := fnv.New64a()
	h.Write([]byte(text))
	return text, int64(h.Sum64())
}

// candidates is the condition of having the words of a search, for FTS5: each word
// in quotation marks, with a star behind them if it is the beginning of one.
func candidates(coll int64, search store.Search) (string, string) {
	var terms []string
	for _, t := range search {
		for i, w := range t.Words {
			w = `"` + w + `"`
			if t.Prefix && i == len(t.Words)-1 {
				w += "*"
			}
			terms = append(terms, w)
		}
	}
	table := searchTable(coll)
	return fmt.Sprintf("key IN (SELECT w.key FROM %s f JOIN words w ON w.id = f.rowid WHERE f.%[1]s MATCH ? AND w.coll = %d)", table, coll), strings.Join(terms, " AND ")
}

// loadSearched reads which collections are searched, and in which fields.
func loadSearched(c *lib.Conn) (map[int64][]string, error) {
	all := map[int64][]string{}
	err := sqlitex.ExecuteTransient(c, "SELECT coll, fields FROM searched", &sqlitex.ExecOptions{ResultFunc: func(st *lib.Stmt) error {
		var fields []string
		if err := json.Unmarshal([]byte(st.ColumnText(1)), &fields); err != nil {
			return fmt.Errorf("%w: the fields that are searched of collection %d: %w", store.ErrCorrupt, st.ColumnInt64(0), err)
		}
		all[st.ColumnInt64(0)] = fields
		return nil
	}})
	return all, err
}

// errNoIndex says that a search is for fields of which there is no index.
var errNoIndex = errors.New("sqlite: no index of these words")

// checkSearch reports whether there is an index of the words that a query needs: it
// may be dropped, or made for other fields, at any time.
func (r *reader) checkSearch(coll int64, q store.Query) error {
	if q.Search == "" {
		return nil
	}
	list, err := json.Marshal(q.Text)
	if err != nil {
		return err
	}
	indexed := false
	err = sqlitex.Execute(r.conn, "SELECT fields FROM searched WHERE coll = ?", &sqlitex.ExecOptions{
		Args: []any{coll}, ResultFunc: func(st *lib.Stmt) error { indexed = st.ColumnText(0) == string(list); return nil },
	})
	if err == nil && !indexed {
		err = errNoIndex
	}
	return err
}
