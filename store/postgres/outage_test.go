package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
)

// A load is 16 writers, each with a stream of its own and what it was told.
type load struct {
	mu      sync.Mutex
	wrong   error // that no store may answer with
	failed  int
	acked   map[store.ID]store.Record
	maybe   map[store.ID]bool
	stop    context.CancelFunc
	writers sync.WaitGroup
}

// start lets the writers write until the load is ended. Who gets no answer asks
// again, with the same ids, until there is one.
func start(t testing.TB, s store.Store, prefix string) *load {
	l := &load{acked: map[store.ID]store.Record{}, maybe: map[store.ID]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	for w := range 16 {
		l.writers.Go(func() {
			stream := fmt.Sprintf("%s/%d", prefix, w)
			for version := uint64(0); ctx.Err() == nil; {
				version = l.once(t, ctx, s, stream, version)
			}
		})
	}
	return l
}

// once appends one event until that is settled, and returns the next version.
func (l *load) once(t testing.TB, ctx context.Context, s store.Store, stream string, version uint64) uint64 {
	e := event(`{}`)
	for {
		w, err := s.Append(t.Context(), write(stream, store.Exactly(version), e))
		l.mu.Lock()
		switch {
		case err == nil:
			l.acked[e.ID] = store.Record{Stream: stream, Version: w[0].Version, Position: w[0].Position}
		case errors.Is(err, store.ErrUnknown):
			l.maybe[e.ID] = true
		case !errors.Is(err, store.ErrUnavailable):
			l.wrong = errors.Join(l.wrong, err)
		}
		if err != nil {
			l.failed++
		}
		l.mu.Unlock()
		if err == nil {
			return w[0].Version
		}
		if ctx.Err() != nil {
			return version
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// end stops the writers and compares what they were told with the log.
func (l *load) end(t testing.TB, s store.Store) {
	t.Helper()
	l.stop()
	l.writers.Wait()
	if l.wrong != nil {
		t.Error(l.wrong)
	}
	seen := map[store.ID]bool{}
	for _, rec := range logOf(t, s) {
		told, ok := l.acked[rec.ID]
		switch {
		case seen[rec.ID]:
			t.Fatalf("%s@%d is there twice", rec.Stream, rec.Version)
		case ok && (told.Stream != rec.Stream || told.Version != rec.Version || told.Position != rec.Position):
			t.Fatalf("%s@%d was acknowledged as %s@%d", rec.Stream, rec.Version, told.Stream, told.Version)
		case !ok && !l.maybe[rec.ID]:
			t.Fatalf("%s@%d: its append failed, and it is there", rec.Stream, rec.Version)
		}
		seen[rec.ID] = true
	}
	for id, told := range l.acked {
		if !seen[id] {
			t.Errorf("%s@%d was acknowledged and is lost", told.Stream, told.Version)
		}
	}
}

// The server goes away for a while under load, and comes back.
func TestOutage(t *testing.T) {
	server := run(t)
	s := openWith(t, server.DSN("deed"), quick)
	l := start(t, s, "a")
	eventually(t, 10*time.Second, "the load runs", func() bool { return l.count() > 200 })
	goroutines, sessions := runtime.NumGoroutine(), connections(t, server)
	for range 2 {
		server.Stop()
		time.Sleep(1500 * time.Millisecond) // this long it is gone
		l.mu.Lock()
		failed := l.failed
		l.mu.Unlock()
		if failed == 0 {
			t.Error("nobody noticed")
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		before := l.count()
		eventually(t, 5*time.Second, "it goes on by itself", func() bool { return l.count() > before+200 })
	}
	eventually(t, 20*time.Second, "the number of goroutines is what it was", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if now := connections(t, server); now > max(sessions, 8)+1 {
		t.Errorf("%d connections, there were %d", now, sessions)
	}
	l.end(t, s)
	t.Logf("%d acknowledged, %d failures", len(l.acked), l.failed)
}

// connections counts those that stores have with the server.
func connections(t *testing.T, s *pgtest.Server) (n int) {
	t.Helper()
	if err := session(t, s).QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'deed'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
