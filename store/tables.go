package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Relational store lets programs have tables of their own beside its documents,
// which are written in the same transaction. Their names begin with [OwnPrefix];
// statements reach no other tables.
type Relational interface {
	// Dialect says which SQL it takes: "sqlite" or "postgres".
	Dialect() string
	// WriteTables does what Write does with the changes, and then executes the
	// statements one after the other: all or nothing. It fails with a
	// *[StatementError] if the database refuses a statement.
	WriteTables(ctx context.Context, changes []Change, statements []Statement) error
	// ReadTables yields the rows of a query. Values are nil, int64, float64, string,
	// []byte, bool or time.Time. It changes nothing.
	ReadTables(ctx context.Context, query Statement) iter.Seq2[[]any, error]
	// DropTables drops all tables whose names begin with a prefix.
	DropTables(ctx context.Context, prefix string) error
}

// OwnPrefix is how names of tables begin that belong to programs.
const OwnPrefix = "own_"

// A Statement is one statement of SQL and its arguments: nil, bool, int, int64,
// float64, string, []byte or time.Time. Placeholders are those of the dialect.
type Statement struct {
	SQL  string
	Args []any
}

// A StatementError reports a statement that the database refuses: it would refuse
// it again. Nothing was written.
type StatementError struct {
	SQL    string
	Detail string
}

func (e *StatementError) Error() string {
	return fmt.Sprintf("store: the database refuses %q: %s", shortened(e.SQL), e.Detail)
}

func shortened(sql string) string {
	sql = strings.Join(strings.Fields(sql), " ")
	if len(sql) > 100 {
		return strings.ToValidUTF8(sql[:100], "") + "..."
	}
	return sql
}

// RelationalOf returns the store itself, or the one in which it keeps documents, if
// programs may have tables of their own there.
func RelationalOf(s Store) (Relational, error) {
	if d, ok := s.(interface{ DocsStore() Store }); ok {
		return RelationalOf(d.DocsStore())
	}
	if r, ok := s.(Relational); ok {
		return r, nil
	}
	return nil, fmt.Errorf("store: %w: no tables of one's own: keep views on SQLite or PostgreSQL", errors.ErrUnsupported)
}

var firstWord = regexp.MustCompile(`^\s*([A-Za-z]+)\b`)

// CheckStatements reports whether statements may be executed: those that write or
// define, not those that end the transaction or change its settings.
func CheckStatements(all ...Statement) error {
	for _, st := range all {
		if err := checkStatement(st, "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP", "REPLACE"); err != nil {
			return err
		}
	}
	return nil
}

// CheckTableQuery reports whether a statement may be asked.
func CheckTableQuery(st Statement) error { return checkStatement(st, "SELECT", "WITH", "VALUES") }

func checkStatement(st Statement, begins ...string) error {
	m := firstWord.FindStringSubmatch(st.SQL)
	if m == nil || !slices.Contains(begins, strings.ToUpper(m[1])) {
		return &StatementError{SQL: st.SQL, Detail: "it begins with none of " + strings.Join(begins, ", ")}
	}
	for i, a := range st.Args {
		switch a.(type) {
		case nil, bool, int, int64, float64, string, []byte, time.Time:
		default:
			return &StatementError{SQL: st.SQL, Detail: fmt.Sprintf("argument %d is a %T: use nil, bool, int, int64, float64, string, []byte or time.Time", i+1, a)}
		}
	}
	return nil
}
