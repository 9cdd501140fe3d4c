package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/deed-dev/deed/store"
)

// tableClauses hold for stores in which programs may have tables of their own;
// others pass.
var tableClauses = []Clause{
	tableClause("tables/all-or-nothing", "what follows the events must be written with the cursor, or not at all", func(ctx context.Context, s store.Relational, all store.Store) {
		check(s.WriteTables(ctx, []store.Change{change("k", 0, 1)}, []store.Statement{
			{SQL: "CREATE TABLE own_t (n BIGINT NOT NULL)"}, {SQL: "INSERT INTO own_t VALUES ($1)", Args: []any{int64(1)}}, {SQL: "INSERT INTO own_t VALUES ($1)", Args: []any{2}},
		}), "write")
		equal(numbers(ctx, s), "[1 2]", "rows")
		equal(get(ctx, all, "v", "k").Rev, 1, "revision")
		insert := []store.Statement{{SQL: "INSERT INTO own_t VALUES ($1)", Args: []any{3}}}
		wantDocConflict(s.WriteTables(ctx, []store.Change{change("k", 7, 2)}, insert), "k", 1)
		equal(numbers(ctx, s), "[1 2]", "rows after a conflict")
		wantRefused(s.WriteTables(ctx, []store.Change{change("k", 1, 2)}, append(insert, store.Statement{SQL: "INSERT INTO own_none VALUES (1)"})))
		equal(numbers(ctx, s), "[1 2]", "rows after a statement was refused")
		equal(get(ctx, all, "v", "k").Rev, 1, "revision after a statement was refused")
		check(s.WriteTables(ctx, nil, insert), "write no documents")
		equal(numbers(ctx, s), "[1 2 3]", "rows")
		for _, sql := range []string{"COMMIT", "BEGIN", "", "SELECT 1", "INSERT INTO docs VALUES (1)", "INSERT INTO own_t VALUES (1); DELETE FROM own_t", "PRAGMA user_version = 1"} {
			wantRefused(s.WriteTables(ctx, nil, []store.Statement{{SQL: sql}}))
		}
		wantRefused(s.WriteTables(ctx, nil, []store.Statement{{SQL: "INSERT INTO own_t VALUES ($1)", Args: []any{struct{}{}}}}))
		for _, sql := range []string{"DELETE FROM own_t", "SELECT * FROM own_none", "WITH gone AS (DELETE FROM own_t RETURNING n) SELECT n FROM gone"} {
			var got error
			for _, got = range s.ReadTables(ctx, store.Statement{SQL: sql}) {
			}
			wantRefused(got)
		}
		equal(numbers(ctx, s), "[1 2 3]", "rows in the end")
	}),
	tableClause("tables/refused-spares-neighbours", "one event that cannot be handled must not stop those of others", func(ctx context.Context, s store.Relational, all store.Store) {
		check(s.WriteTables(ctx, nil, []store.Statement{{SQL: "CREATE TABLE own_t (n BIGINT NOT NULL)"}}), "create")
		var wg sync.WaitGroup
		errs := make([]error, 40)
		for i := range errs {
			wg.Go(func() {
				table := "own_t"
				if i%4 == 0 {
					table = "own_none"
				}
				errs[i] = s.WriteTables(ctx, []store.Change{change(fmt.Sprint(i), 0, i)}, []store.Statement{{SQL: "INSERT INTO " + table + " VALUES ($1)", Args: []any{i}}})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if i%4 == 0 {
				wantRefused(err)
			} else {
				check(err, "write %d", i)
			}
		}
		equal(len(collect(all.List(ctx, "v", "", ""), "list")), 30, "documents")
	}),
	tableClause("tables/drop", "tables that were built anew leave nothing behind", func(ctx context.Context, s store.Relational, _ store.Store) {
		for _, name := range []string{"own_1_a__x", "own_1_a__y", "own_1_a_b__x", "own_2_a__x", "own_t"} {
			check(s.WriteTables(ctx, nil, []store.Statement{{SQL: "CREATE TABLE " + name + " (n BIGINT NOT NULL)"}}), "create")
		}
		check(s.DropTables(ctx, "own_1_a__"), "drop")
		check(s.DropTables(ctx, "own_1_a__"), "drop again")
		for _, name := range []string{"own_1_a__x", "own_1_a__y"} {
			wantRefused(s.WriteTables(ctx, nil, []store.Statement{{SQL: "INSERT INTO " + name + " VALUES (1)"}}))
		}
		for _, name := range []string{"own_1_a_b__x", "own_2_a__x", "own_t"} {
			check(s.WriteTables(ctx, nil, []store.Statement{{SQL: "INSERT INTO " + name + " VALUES (1)"}}), "insert into what is left")
		}
		wantIs(s.DropTables(ctx, "docs"), store.ErrInvalid, "drop what is not theirs")
	}),
}

func tableClause(name, why string, f func(ctx context.Context, s store.Relational, all store.Store)) Clause {
	return clause(name, why, func(ctx context.Context, s store.Store) {
		if r, err := store.RelationalOf(s); err == nil {
			f(ctx, r, s)
		}
	})
}

// numbers are those in a table.
func numbers(ctx context.Context, s store.Relational) string {
	var out []any
	for row, err := range s.ReadTables(ctx, store.Statement{SQL: "SELECT n FROM own_t ORDER BY n"}) {
		check(err, "read")
		out = append(out, row...)
	}
	return fmt.Sprint(out)
}

func wantRefused(err error) {
	if _, ok := errors.AsType[*store.StatementError](err); !ok {
		fail("got %v, want the statement to be refused", err)
	}
}
