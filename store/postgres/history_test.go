package postgres_test

import (
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/storetest/history"
)

var (
	histories = flag.Int("histories", 40, "random histories to check, and half as many with a server that is killed")
	seed      = flag.Uint64("seed", 0, "check only the history of this seed")
)

// programs are several stores on one schema; clients use one after the other.
type programs struct {
	stores []atomic.Pointer[postgres.Store]
	next   atomic.Uint64
	crash  func(p *programs) error
}

func (p *programs) Log() store.Log { return p.stores[p.next.Add(1)%uint64(len(p.stores))].Load() }

func (p *programs) Crash() error { return p.crash(p) }

func newPrograms(t *testing.T, n int, dsn string, crash func(*programs) error) *programs {
	t.Helper()
	p := &programs{stores: make([]atomic.Pointer[postgres.Store], n), crash: crash}
	for i := range p.stores {
		p.stores[i].Store(openWith(t, dsn, quick))
	}
	return p
}

func checkHistories(t *testing.T, p *programs, n int) {
	t.Helper()
	seeds := make([]uint64, n)
	start := uint64(time.Now().UnixNano())
	for i := range seeds {
		seeds[i] = start + uint64(i)
	}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	for i, s := range seeds {
		if err := history.Check(t.Context(), p, fmt.Sprintf("h%d", i), s, history.Options{}); err != nil {
			t.Fatalf("%v\nagain: go test -run %s ./store/postgres -seed %d", err, t.Name(), s)
		}
	}
	t.Logf("%d histories, %d events", len(seeds), len(logOf(t, p.Log())))
}

// Eight clients of two programs work on four hot streams while the server is
// killed at random moments.
func TestRandomHistoriesServerKilled(t *testing.T) {
	t.Parallel()
	s := run(t)
	checkHistories(t, newPrograms(t, 2, s.DSN("deed"), func(*programs) error { return crash(s) }), max(*histories/2, 1))
}

func crash(s *pgtest.Server) error {
	s.Kill()
	return s.Restart()
}

// The server stays, but one of three programs ends and starts again.
func TestRandomHistoriesProgramRestarted(t *testing.T) {
	t.Parallel()
	dsn := server.DSN(server.Schema())
	var turn atomic.Int64
	var mu sync.Mutex
	var opened []*postgres.Store
	t.Cleanup(func() {
		for _, s := range opened {
			s.Close()
		}
	})
	checkHistories(t, newPrograms(t, 3, dsn, func(p *programs) error {
		at := &p.stores[turn.Add(1)%3]
		if err := at.Load().Close(); err != nil {
			return err
		}
		s, err := postgres.Open(t.Context(), dsn, quick)
		if err == nil {
			at.Store(s)
			mu.Lock()
			defer mu.Unlock()
			opened = append(opened, s)
		}
		return err
	}), *histories)
}
