package postgres_test

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var failovers = flag.Int("failovers", 2, "times that the primary is killed under load")

// The primary is killed under load and the standby takes over. Nothing that was
// acknowledged is lost, and the store goes on by itself.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.Pair(t)
	dsn := primary.With(standby, "deed")
	s := openWith(t, dsn, quick)
	l := start(t, s, "a")
	for n := range *failovers {
		before := l.count()
		eventually(t, 20*time.Second, "the load runs", func() bool { return l.count() > before+300 })
		primary.Kill()
		start := time.Now()
		if err := standby.Promote(); err != nil {
			t.Fatal(err)
		}
		before = l.count()
		eventually(t, 20*time.Second, "the store goes on by itself", func() bool { return l.count() > before })
		t.Logf("failover %d: appends again after %v", n+1, time.Since(start).Round(time.Millisecond))
		primary, standby = standby, standby.Follow(t, primary.Port)
	}
	l.end(t, s)
	t.Logf("%d acknowledged, %d failures, %d answers lost", len(l.acked), l.failed, len(l.maybe))
}

// As long as the standby is away nothing is acknowledged, also not when it is
// asked for again and is on the primary already: a failover would lose it.
func TestRepeatedAppendWaitsForStandby(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.Pair(t)
	dsn := primary.With(standby, "deed")
	s := openWith(t, dsn, &postgres.Options{Timeout: 1500 * time.Millisecond})
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	standby.Stop()
	w := write("a/1", store.Exactly(1), event(`{}`))
	for range 3 {
		if _, err := s.Append(t.Context(), w); !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("without a standby: %v", err)
		}
		// The server gives up waiting, and the event is there to be seen.
		eventually(t, 10*time.Second, "it is on the primary", func() bool { return len(logOf(t, s)) == 2 })
	}
	if err := standby.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "it is acknowledged", func() bool {
		out, err := s.Append(t.Context(), w)
		return err == nil && out[0].Version == 2 && out[0].Repeated
	})
}
