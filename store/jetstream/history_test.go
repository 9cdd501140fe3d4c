package jetstream_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/storetest/history"
)

var (
	histories = flag.Int("histories", 20, "random histories to check")
	seed      = flag.Uint64("seed", 0, "check only the history of this seed")
)

// A crashing system is a cluster of which a server is stopped and started.
type crashing struct {
	*cluster
	store *jetstream.Store
	log   string
}

func (c *crashing) Log() store.Log { return c.store }

func (c *crashing) Crash() error {
	i := max(0, c.leader(c.log))
	c.stop(i)
	return c.run(i)
}

// Eight clients work on four hot streams while the server is restarted.
func TestRandomHistories(t *testing.T) { checkHistories(t, 1, *histories) }

// The same with three servers, of which the leader is restarted.
func TestRandomHistoriesOfThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	checkHistories(t, 3, max(1, *histories/4))
}

func checkHistories(t *testing.T, nodes, n int) {
	c := startCluster(t, t.TempDir(), nodes)
	sys := &crashing{cluster: c, store: c.open(t, "h"), log: "h-log"}
	start := uint64(time.Now().UnixNano())
	for i := range uint64(n) {
		at := start + i
		if *seed != 0 {
			at = *seed
		}
		if err := history.Check(t.Context(), sys, fmt.Sprintf("h%d", i), at, history.Options{}); err != nil {
			t.Fatalf("%v\nagain: go test -run %s ./store/jetstream -seed %d", err, t.Name(), at)
		}
		if nodes > 1 {
			c.waitCurrent(t, sys.log)
		}
	}
	inOrder(t, all(bounded(t), t, sys.store, store.Start, store.Filter{}))
}
