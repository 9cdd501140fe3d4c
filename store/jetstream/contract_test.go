package jetstream_test

import (
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest"
)

func TestContract(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	storetest.Run(t, c.fresh)
	storetest.RunDurable(t, restarted(1))
}

func TestContractOfThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c := startCluster(t, t.TempDir(), 3)
	storetest.Run(t, c.fresh)
	storetest.RunDurable(t, restarted(3))
}

// restarted opens what is kept in a folder: the servers are stopped before,
// and started again.
func restarted(nodes int) func(*testing.T, string) store.Store {
	clusters := map[string]cluster{}
	return func(t *testing.T, dir string) store.Store {
		c, again := clusters[dir]
		if again {
			c.StopAll()
			c.StartAll(t)
		} else {
			c = startCluster(t, dir, nodes)
			clusters[dir] = c
		}
		return c.open(t, "durable")
	}
}
