package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Dialect implements [store.Relational].
func (s *Store) Dialect() string { return "sqlite" }

// WriteTables implements [store.Relational].
func (s *Store) WriteTables(ctx context.Context, changes []store.Change, statements []store.Statement) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if err := store.CheckStatements(statements...); err != nil {
		return err
	}
	return s.submit(ctx, &request{changes: changes, statements: statements})
}

// execute executes statements of programs.
func (w *writer) execute(statements []store.Statement) error {
	for _, x := range statements {
		if err := each(w.conn, x, mayWrite, func(*lib.Stmt) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// each executes a statement as far as its author may, and calls f with each row
// until that says false. What SQLite refuses is a [store.StatementError].
func each(c *lib.Conn, x store.Statement, may lib.AuthorizeFunc, f func(*lib.Stmt) bool) (err error) {
	if err := c.SetAuthorizer(may); err != nil {
		return err
	}
	st, rest, err := c.PrepareTransient(x.SQL)
	if e := c.SetAuthorizer(nil); err == nil {
		err = e
	}
	if err != nil {
		return refusal(x, err)
	}
	defer func() { err = errors.Join(err, st.Finalize()) }()
	if rest > 0 && strings.TrimSpace(x.SQL[len(x.SQL)-rest:]) != "" {
		return &store.StatementError{SQL: x.SQL, Detail: "it is more than one statement"}
	}
	if n := st.BindParamCount(); n != len(x.Args) {
		return &store.StatementError{SQL: x.SQL, Detail: fmt.Sprintf("it has %d parameters, and %d arguments", n, len(x.Args))}
	}
	for i := range x.Args {
		n := i + 1
		if _, number, named := strings.Cut(st.BindParamName(n), "$"); named { // as PostgreSQL has them
			if n, err = strconv.Atoi(number); err != nil || n < 1 || n > len(x.Args) {
				return &store.StatementError{SQL: x.SQL, Detail: "$" + number + " is none of its arguments"}
			}
		}
		bind(st, i+1, x.Args[n-1])
	}
	for {
		more, err := st.Step()
		if err != nil {
			st.Reset() // or finalizing says it again
			return refusal(x, err)
		}
		if !more || !f(st) {
			return nil
		}
	}
}

func bind(st *lib.Stmt, n int, a any) {
	switch a := a.(type) {
	case nil:
		st.BindNull(n)
	case bool:
		st.BindBool(n, a)
	case int:
		st.BindInt64(n, int64(a))
	case int64:
		st.BindInt64(n, a)
	case float64:
		st.BindFloat(n, a)
	case string:
		st.BindText(n, a)
	case []byte:
		bindBlob(st, n, a)
	case time.Time: // in the order of time
		st.BindText(n, a.UTC().Format("2006-01-02T15:04:05.000000000Z"))
	}
}

// refusal tells a statement that is wrong from a database that is in trouble.
func refusal(x store.Statement, err error) error {
	switch lib.ErrCode(err).ToPrimary() {
	case lib.ResultError, lib.ResultConstraint, lib.ResultMismatch, lib.ResultRange, lib.ResultTooBig, lib.ResultAuth, lib.ResultMisuse:
		return &store.StatementError{SQL: x.SQL, Detail: err.Error()}
	}
	return err
}

// mayWrite allows what concerns the tables of programs.
func mayWrite(a lib.Action) lib.AuthResult {
	switch a.Type() {
	case lib.OpInsert, lib.OpUpdate, lib.OpDelete:
		if ours := strings.HasPrefix(a.Table(), "sqlite_"); ours || own(a.Table()) { // CREATE and DROP write the list of tables
			return lib.AuthResultOK
		}
		return lib.AuthResultDeny
	case lib.OpCreateTable, lib.OpDropTable, lib.OpCreateIndex, lib.OpDropIndex, lib.OpAlterTable, lib.OpReindex:
		if own(a.Table()) || own(a.Index()) {
			return lib.AuthResultOK
		}
		return lib.AuthResultDeny
	}
	return mayRead(a)
}

// mayRead allows to read the tables of programs.
func mayRead(a lib.Action) lib.AuthResult {
	switch a.Type() {
	case lib.OpSelect, lib.OpFunction, lib.OpRecursive:
		return lib.AuthResultOK
	case lib.OpRead:
		if own(a.Table()) || strings.HasPrefix(a.Table(), "sqlite_") || a.Table() == "" {
			return lib.AuthResultOK
		}
	}
	return lib.AuthResultDeny
}

func own(table string) bool { return strings.HasPrefix(table, store.OwnPrefix) }

// ReadTables implements [store.Relational]. Rows are read before they are yielded.
func (s *Store) ReadTables(ctx context.Context, query store.Statement) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		if err := store.CheckTableQuery(query); err != nil {
			yield(nil, err)
			return
		}
		var rows [][]any
		err := s.reading(ctx, func(r *reader) error {
			r.conn.SetInterrupt(ctx.Done())
			defer r.conn.SetInterrupt(nil)
			return each(r.conn, query, mayRead, func(st *lib.Stmt) bool {
				row := make([]any, st.ColumnCount())
				for i := range row {
					if st.ColumnType(i) == lib.TypeBlob {
						row[i] = bytesOf(st, i)
					} else {
						row[i] = scalar(st, i)
					}
				}
				rows = append(rows, row)
				return true
			})
		})
		for _, row := range rows {
			if err != nil || !yield(row, nil) {
				break
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// DropTables implements [store.Relational].
func (s *Store) DropTables(ctx context.Context, prefix string) error {
	if !own(prefix) {
		return fmt.Errorf("%w: %q is no prefix of tables of programs", store.ErrInvalid, prefix)
	}
	return s.submit(ctx, &request{exec: func(w *writer) error {
		var names []string
		st, err := w.conn.Prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, ?1) = ?2")
		if err != nil {
			return err
		}
		st.BindInt64(1, int64(len(prefix)))
		st.BindText(2, prefix)
		defer st.Reset()
		for {
			more, err := st.Step()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			names = append(names, st.ColumnText(0))
		}
		for _, n := range names {
			if err := each(w.conn, store.Statement{SQL: `DROP TABLE "` + n + `"`}, mayWrite, func(*lib.Stmt) bool { return true }); err != nil {
				return err
			}
		}
		return nil
	}})
}
