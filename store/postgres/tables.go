package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/deed-dev/deed/store"
)

// The tables of programs are in a schema of their own, the only one in which their
// statements look for names.

func (s *Store) ownSchema() string { return s.opts.Schema + "_own" }

// Dialect implements [store.Relational].
func (s *Store) Dialect() string { return "postgres" }

// WriteTables implements [store.Relational].
func (s *Store) WriteTables(ctx context.Context, changes []store.Change, statements []store.Statement) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if err := store.CheckStatements(statements...); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	w, err := s.newWriting(ctx, changes)
	if err != nil {
		return s.failure(err)
	}
	w.statements = statements
	w.rows += len(statements)
	return s.writes.Submit(ctx, w)
}

// execute executes statements of programs in a transaction.
func (s *Store) execute(ctx context.Context, t *transaction, statements []store.Statement) error {
	if len(statements) == 0 {
		return nil
	}
	if !s.hasOwn.Load() {
		if _, err := t.conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+s.ownSchema()); err != nil {
			return err
		}
	}
	if _, err := t.conn.Exec(ctx, "SELECT set_config('search_path', $1, true)", s.ownSchema()); err != nil {
		return err
	}
	for _, x := range statements {
		if strings.Contains(strings.ToLower(x.SQL), strings.ToLower(s.opts.Schema)+".") {
			return &store.StatementError{SQL: x.SQL, Detail: "it names the schema of deed itself"}
		}
		rows, err := t.conn.Query(ctx, x.SQL, x.Args...) // Exec takes several statements at once, and a COMMIT may be among them
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		if err != nil {
			return refusal(x, err)
		}
	}
	return nil
}

// refusal tells a statement that is wrong from a server that is in trouble.
func refusal(x store.Statement, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if lost(err) {
			return err
		}
		return &store.StatementError{SQL: x.SQL, Detail: err.Error()} // arguments that do not fit
	}
	for _, class := range []string{"21", "22", "23", "2B", "42", "44", "P0", "0A", "25006"} {
		if strings.HasPrefix(pg.Code, class) {
			return &store.StatementError{SQL: x.SQL, Detail: pg.Message}
		}
	}
	return err
}

// ReadTables implements [store.Relational]. Rows are read before they are yielded.
func (s *Store) ReadTables(ctx context.Context, query store.Statement) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		if err := store.CheckTableQuery(query); err != nil {
			yield(nil, err)
			return
		}
		all, err := s.readTables(ctx, query)
		for _, row := range all {
			if err != nil || !yield(row, nil) {
				break
			}
		}
		if err != nil {
			yield(nil, s.failure(err))
		}
	}
}

func (s *Store) readTables(ctx context.Context, query store.Statement) (all [][]any, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('search_path', $1, true)", s.ownSchema()); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, query.SQL, query.Args...)
		if err != nil {
			return refusal(query, err)
		}
		defer rows.Close()
		for rows.Next() {
			row, err := rows.Values()
			if err != nil {
				return err
			}
			for i, v := range row {
				row[i] = plainValue(v)
			}
			all = append(all, row)
		}
		if rows.Err() != nil {
			return refusal(query, rows.Err())
		}
		return nil
	})
	return all, err
}

// plainValue is a value as [store.Relational] has it.
func plainValue(v any) any {
	switch v := v.(type) {
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case float32:
		return float64(v)
	case pgtype.Numeric:
		if v.Exp >= 0 && v.Int != nil && !v.NaN {
			if n := new(big.Int).Mul(v.Int, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(v.Exp)), nil)); n.IsInt64() {
				return n.Int64()
			}
		}
		f, _ := v.Float64Value()
		return f.Float64
	case nil, bool, int64, float64, string, []byte, time.Time:
		return v
	}
	return fmt.Sprint(v)
}

// DropTables implements [store.Relational].
func (s *Store) DropTables(ctx context.Context, prefix string) error {
	if !strings.HasPrefix(prefix, store.OwnPrefix) {
		return fmt.Errorf("%w: %q is no prefix of tables of programs", store.ErrInvalid, prefix)
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	return s.failure(pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 AND left(tablename, $2) = $3", s.ownSchema(), len(prefix), prefix)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, n := range names {
			if err == nil {
				_, err = tx.Exec(ctx, "DROP TABLE "+pgx.Identifier{s.ownSchema(), n}.Sanitize()+" CASCADE")
			}
		}
		return err
	}))
}

func isStatement(err error) bool {
	_, refused := errors.AsType[*store.StatementError](err)
	return refused
}
