package deed

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"github.com/deed-dev/deed/internal/engine"
)

// A Node is a process that shares its store with others, and what it holds:
// each partition of each follower is held by one node at a time.
type Node = engine.Node

// Nodes reports the processes that use the runtime's store, dead ones too for
// a while. A store that only one process can use has none.
func (rt *Runtime) Nodes(ctx context.Context) ([]Node, error) {
	nodes, err := rt.engine.Nodes(ctx)
	if err != nil {
		err = fmt.Errorf("deed: %w", err)
	}
	return nodes, err
}

// node is how the process presents itself to others.
func (cfg Config) node() engine.Config {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := cmp.Or(cfg.Node, fmt.Sprintf("%s-%d-%s", host, os.Getpid(), strings.ToLower(rand.Text()[:6])))
	return engine.Config{Node: name, Host: host, PID: os.Getpid(), Lease: cfg.Lease}
}
