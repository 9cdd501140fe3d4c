package natstest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Size is how many servers the cluster has.
func (c *Cluster) Size() int { return len(c.nodes) }

// URL returns the addresses of all servers, for a user.
func (c *Cluster) URL(user string) string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", user, user, n.port))
	}
	return strings.Join(urls, ",")
}

// Leader returns the number of the server that leads a stream, or -1.
func (c *Cluster) Leader(stream string) int {
	leader, _ := c.ask(stream)
	return leader
}

// Index returns the number of the server of a name, or -1.
func (c *Cluster) Index(name string) int {
	return slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
}

// Port returns the port a server listens on for programs.
func (c *Cluster) Port(i int) int { return c.nodes[i].port }

// Folder returns where a server keeps its files.
func (c *Cluster) Folder(i int) string { return filepath.Join(c.dir, c.nodes[i].name) }

// WaitCurrent waits until every server has all of a stream.
func (c *Cluster) WaitCurrent(tb testing.TB, stream string) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, current := c.ask(stream); current == c.Size() {
			return
		}
	}
	tb.Fatalf("%s is not current on all servers", stream)
}

// ask returns who leads a stream, -1 if nobody does, and how many servers have
// all of it.
func (c *Cluster) ask(stream string) (leader, current int) {
	for _, n := range c.nodes {
		info, err := n.info(stream)
		switch {
		case err != nil:
			continue
		case info.Cluster == nil || info.Cluster.Leader == "" && c.Size() == 1:
			return 0, 1
		}
		current = 1
		for _, r := range info.Cluster.Replicas {
			if r.Current && !r.Offline && r.Lag == 0 {
				current++
			}
		}
		return c.Index(info.Cluster.Leader), current
	}
	return -1, 0
}

// info asks a server about a stream; whoever leads it answers.
func (n *node) info(stream string) (*jetstream.StreamInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return nil, fmt.Errorf("%s does not run", n.name)
	}
	if n.nc == nil || n.nc.IsClosed() {
		var err error
		if n.nc, err = nats.Connect(fmt.Sprintf("nats://app:app@127.0.0.1:%d", n.port)); err != nil {
			return nil, err
		}
	}
	js, err := jetstream.New(n.nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}
