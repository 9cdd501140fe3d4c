package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// Somebody holds the head of the log and does nothing. Appends say who it is;
// everything else goes on, and appends do when that session ends.
func TestHeldHead(t *testing.T) {
	for _, warm := range []bool{true, false} {
		t.Run(fmt.Sprintf("warm=%v", warm), func(t *testing.T) {
			schema := server.Schema()
			s, other := openWith(t, server.DSN(schema), quick), openWith(t, server.DSN(schema), quick)
			patient := openWith(t, server.DSN(schema), &postgres.Options{Timeout: time.Minute, LockTimeout: 30 * time.Second})
			must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, events(2)...)))
			if !warm {
				must[[]store.Written](t)(other.Append(t.Context(), write("a/1", store.Any, events(2)...)))
			}
			readOn(t, s)
			c := session(t, server)
			exec(t, c, "SET application_name = 'sleeper'", "BEGIN", "SELECT FROM "+schema+".head FOR UPDATE")
			start := time.Now()
			_, err := s.Append(t.Context(), write("a/1", store.Any, event(`{}`)))
			if took := time.Since(start); !errors.Is(err, store.ErrUnavailable) || took > 3*time.Second {
				t.Fatalf("after %v: %v", took, err)
			}
			if pid := fmt.Sprintf("process %d (sleeper", c.PgConn().PID()); !strings.Contains(err.Error(), pid) {
				t.Errorf("%q does not name %s", err, pid)
			}
			readWithin(t, s, 10*time.Second) // what waited for the head would wait until that session is over
			waiting := make(chan error, 1)
			go func() {
				_, err := patient.Append(t.Context(), write("a/1", store.Any, event(`{}`)))
				waiting <- err
			}()
			eventually(t, 10*time.Second, "an append waits", func() bool { return waiters(t, schema) > 0 })
			exec(t, c, "ROLLBACK")
			if err := <-waiting; err != nil {
				t.Errorf("an append that waited: %v", err)
			}
			must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Any, event(`{}`))))
		})
	}
}

// readOn does everything that does not append, within a second.
func readOn(t *testing.T, s store.Store) {
	t.Helper()
	readWithin(t, s, time.Second)
}

func readWithin(t *testing.T, s store.Store, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := s.Write(ctx, store.Change{Coll: "c", Key: "k", Rev: store.AnyRev, Data: []byte(`{"a":1}`)})
	_, err1 := s.Get(ctx, "c", "k")
	_, err2 := s.Head(ctx)
	_, err3 := collect(s.Read(ctx, "a/1", store.Range{}))
	_, err4 := collect(s.ReadAll(ctx, store.Start, store.Filter{}))
	_, err5 := collect(s.List(ctx, "c", "", ""))
	_, err6 := collect(store.Find(ctx, s, "c", store.Query{Where: []store.Cond{{Field: "a", Op: "=", Value: int64(1)}}}))
	if err := errors.Join(err, err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
}

// waiters counts sessions that wait for the row of a head.
func waiters(t *testing.T, schema string) (n int) {
	t.Helper()
	c := session(t, server)
	err := c.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '.head%' AND pid <> pg_backend_pid()`, schema).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A session with an open snapshot of all tables, such as a dump, disturbs nobody,
// not even who drops collections and declares indexes.
func TestOpenSnapshot(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), quick)
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	readOn(t, s)
	if err := s.EnsureIndexes(t.Context(), "c", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	c := session(t, server)
	exec(t, c, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	for _, table := range []string{"head", "streams", "events", "docs", "colls", "fields", "kinds"} {
		exec(t, c, "SELECT count(*) FROM "+schema+"."+table)
	}
	start := time.Now()
	dropped := make(chan error, 1)
	go func() { dropped <- s.DropColl(t.Context(), "c") }()
	for range 20 {
		must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Any, event(`{}`))))
		readOn(t, s)
	}
	if err := <-dropped; err != nil {
		t.Error(err)
	}
	if err := s.EnsureIndexes(t.Context(), "d", []string{"a"}); err != nil {
		t.Error(err)
	}
	readOn(t, s)
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("all that took %v", took)
	}
}

// The settings of a role do not change what the store does.
func TestOtherDefaults(t *testing.T) {
	schema := server.Schema()
	dsn := server.DSN(schema) + "&default_transaction_isolation=serializable&default_transaction_read_only=on&synchronous_commit=off"
	a, b := openWith(t, dsn, quick), openWith(t, dsn, quick)
	for i := range 20 {
		s := store.Store(a)
		if i%2 == 1 {
			s = b
		}
		must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Exactly(uint64(i)), event(`{}`))))
	}
	if n := len(logOf(t, a)); n != 20 {
		t.Errorf("%d events", n)
	}
}

// A process that starts finds the indexes there are, and need not keep the others
// from writing for that. One whose index is gone makes it again.
func TestDeclaredIndexesNeedNoLock(t *testing.T) {
	schema := server.Schema()
	fields := []string{"a", "b"}
	s := openWith(t, server.DSN(schema), quick)
	if err := s.EnsureIndexes(t.Context(), "c", fields); err != nil {
		t.Fatal(err)
	}
	c := session(t, server)
	exec(t, c, "BEGIN", "LOCK TABLE "+schema+".docs IN ROW EXCLUSIVE MODE") // as whoever writes documents
	if err := openWith(t, server.DSN(schema), quick).EnsureIndexes(t.Context(), "c", fields); err != nil {
		t.Errorf("while others write: %v", err)
	}
	if err := openWith(t, server.DSN(schema), quick).EnsureIndexes(t.Context(), "c", []string{"a", "z"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a new one while others write: %v", err)
	}
	exec(t, c, "ROLLBACK", "DROP INDEX "+schema+".docs_1_2")
	if err := openWith(t, server.DSN(schema), quick).EnsureIndexes(t.Context(), "c", fields); err != nil {
		t.Error(err)
	}
	var there bool
	if err := c.QueryRow(t.Context(), "SELECT to_regclass($1) IS NOT NULL", schema+".docs_1_2").Scan(&there); err != nil || !there {
		t.Errorf("the index that was dropped is there again: %v, %v", there, err)
	}
}
