package jetstream_test

import (
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest"
)

func TestContract(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	storetest.Run(t, func(t *testing.T) store.Store { return c.open(t, nameOf(t)) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return startCluster(t, dir, 1).open(t, "durable") })
}
