package jetstream_test

import (
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// A killed server is one that a test kills in the middle of its work.
type killed struct {
	cluster
	store *jetstream.Store
}

func startKilled(t *testing.T) *killed {
	t.Helper()
	c := startCluster(t, t.TempDir(), 1)
	return &killed{cluster: c, store: c.open(t, "killed")}
}

func (k *killed) Log() store.Log { return k.store }

// Crash kills the server, without giving it the time to put anything in order.
func (k *killed) Crash() error {
	k.KillNode(0)
	return k.Run(0)
}
