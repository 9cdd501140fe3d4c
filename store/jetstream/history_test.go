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
	histories = flag.Int("histories", 8, "random histories to check")
	seed      = flag.Uint64("seed", 0, "check only the history of this seed")
)

// A restarted system is a cluster whose leader is stopped and started again.
type restartedLeader struct {
	cluster
	store *jetstream.Store
	log   string
}

func (c *restartedLeader) Log() store.Log { return c.store }

func (c *restartedLeader) Crash() error {
	i := max(0, c.Leader(c.log))
	c.StopNode(i)
	return c.Run(i)
}

// Eight clients work on four hot streams while the process of the server is
// killed at random moments.
func TestRandomHistories(t *testing.T) {
	c := startKilled(t)
	checkHistories(t, c, *histories, func() {})
	inOrder(t, all(bounded(t), t, c.store, store.Start, store.Filter{}))
}

// The same with three servers, of which the leader is restarted.
func TestRandomHistoriesOfThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c := startCluster(t, t.TempDir(), 3)
	sys := &restartedLeader{cluster: c, store: c.open(t, "h"), log: "h-log"}
	checkHistories(t, sys, max(1, *histories/4), func() { c.WaitCurrent(t, sys.log) })
	inOrder(t, all(bounded(t), t, sys.store, store.Start, store.Filter{}))
}

// The same with two processes that write, and a server that stays.
func TestRandomHistoriesOfTwoWriters(t *testing.T) {
	checkHistories(t, &pair{stores: openTwo(t)}, *histories, func() {})
}

func checkHistories(t *testing.T, sys history.System, n int, between func()) {
	t.Helper()
	start := uint64(time.Now().UnixNano())
	for i := range uint64(n) {
		at := start + i
		if *seed != 0 {
			at = *seed
		}
		if err := history.Check(t.Context(), sys, fmt.Sprintf("h%d", i), at, history.Options{}); err != nil {
			t.Fatalf("%v\nagain: go test -run '^%s$' ./store/jetstream -seed %d", err, t.Name(), at)
		}
		between()
	}
}
