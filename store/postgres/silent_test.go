package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// A server that says nothing any more is unavailable after a while, also for
// callers who set no limit; and the store can be closed.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	s, p := disturbed(t, server.Schema(), postgres.Options{Timeout: time.Second})
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	readOn(t, s)
	p.mu.Lock()
	p.stall = true
	p.mu.Unlock()
	p.arm(0, 0)
	ctx := context.Background()
	for name, do := range map[string]func() error{
		"head":   func() error { _, err := s.Head(ctx); return err },
		"read":   func() error { _, err := collect(s.Read(ctx, "a/1", store.Range{})); return err },
		"log":    func() error { _, err := collect(s.ReadAll(ctx, store.Start, store.Filter{})); return err },
		"get":    func() error { _, err := s.Get(ctx, "c", "k"); return err },
		"list":   func() error { _, err := collect(s.List(ctx, "c", "", "")); return err },
		"find":   func() error { _, err := collect(s.Find(ctx, "c", store.Query{})); return err },
		"write":  func() error { return s.Write(ctx, store.Change{Coll: "new", Key: "k", Data: []byte(`{}`)}) },
		"append": func() error { _, err := s.Append(ctx, write("a/1", store.Any, event(`{}`))); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, 6*time.Second, func() {
				if err := do(); err == nil || !honest(err) {
					t.Error(err)
				}
			})
		})
	}
	t.Cleanup(func() { p.cut() })
}

// within fails the test if something does not come to an end.
func within(t *testing.T, d time.Duration, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("it does not come to an end within %v", d)
	}
}

// A store that does not hear of others any more listens anew.
func TestListensAgain(t *testing.T) {
	schema := server.Schema()
	s, other := openWith(t, server.DSN(schema)+"&application_name=ear-"+schema, nil), openWith(t, server.DSN(schema), nil)
	c := session(t, server)
	listening := func() (pid int) {
		c.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'", "ear-"+schema).Scan(&pid)
		return pid
	}
	eventually(t, 3*time.Second, "it listens", func() bool { return listening() > 0 })
	first := listening()
	exec(t, c, fmt.Sprintf("SELECT pg_terminate_backend(%d)", first))
	eventually(t, 3*time.Second, "it listens again", func() bool { pid := listening(); return pid > 0 && pid != first })
	head := must[store.Cursor](t)(s.Head(t.Context()))
	must[[]store.Written](t)(other.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	within(t, 3*time.Second, func() {
		if err := s.Wait(t.Context(), head); err != nil {
			t.Error(err)
		}
	})
}

// Whoever works while the store is closed gets an answer, and it is true.
func TestCloseWhileWorking(t *testing.T) {
	schema := server.Schema()
	for round := range 15 {
		s := openWith(t, server.DSN(schema), nil)
		var all sync.WaitGroup
		var mu sync.Mutex
		acked, n := 0, 0
		for i := range 32 {
			all.Go(func() {
				for {
					var err error
					if i%4 == 0 {
						err = s.Write(context.Background(), store.Change{Coll: "c", Key: fmt.Sprint(i), Rev: store.AnyRev, Data: []byte(`{}`)})
					} else {
						_, err = s.Append(context.Background(), write(fmt.Sprintf("a/%d-%d", round, i), store.Any, event(`{}`)))
					}
					mu.Lock()
					if n++; err == nil && i%4 > 0 {
						acked++
					}
					mu.Unlock()
					if err != nil {
						if !errors.Is(err, store.ErrUnavailable) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		eventually(t, 10*time.Second, "they work", func() bool { mu.Lock(); defer mu.Unlock(); return n > 64 })
		within(t, 10*time.Second, func() { s.Close() })
		within(t, 10*time.Second, all.Wait)
		there := 0
		for _, rec := range logOf(t, openWith(t, server.DSN(schema), nil)) {
			var r, i int
			if fmt.Sscanf(rec.Stream, "a/%d-%d", &r, &i); r == round {
				there++
			}
		}
		if there != acked {
			t.Fatalf("%d appends were acknowledged, %d events are there", acked, there)
		}
	}
}
