package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// quick are options with which a test does not wait long for anything.
var quick = &postgres.Options{Timeout: 4 * time.Second, LockTimeout: time.Second}

func openWith(t testing.TB, dsn string, o *postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run starts a server of the test's own.
func run(t testing.TB) *pgtest.Server {
	t.Helper()
	return pgtest.Start(t)
}

// session is somebody else who uses the database.
func session(t testing.TB, s *pgtest.Server) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

func exec(t testing.TB, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func event(data string) store.Event {
	e := store.Event{Type: "done", Data: []byte(data)}
	rand.Read(e.ID[:])
	return e
}

func events(n int) []store.Event {
	out := make([]store.Event, n)
	for i := range out {
		out[i] = event(fmt.Sprintf(`{"n":%d}`, i))
	}
	return out
}

func write(stream string, expect store.Expect, es ...store.Event) store.Write {
	return store.Write{Stream: stream, Expect: expect, Events: es}
}

// patiently does again what the machine was too busy for: the server ends a
// transaction that stands still for two seconds, and nothing is written.
func patiently(f func() error) (err error) {
	for range 10 {
		if err = f(); !errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	return err
}

// must fails the test if there is an error.
func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func collect[T any](seq iter.Seq2[T, error]) (out []T, err error) {
	for v, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// logOf reads the whole log.
func logOf(t testing.TB, s store.Log) []store.Record {
	t.Helper()
	return must[[]store.Record](t)(collect(s.ReadAll(t.Context(), store.Start, store.Filter{})))
}

// eventually waits until something is so.
func eventually(t testing.TB, within time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so: %s", within, what)
		}
	}
}

// honest reports whether an error of a write is one that a store may give.
func honest(err error) bool {
	return err == nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown)
}
