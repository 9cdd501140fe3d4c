package natstest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Size is how many servers the cluster has.
func (c *Cluster) Size() int { return len(c.opts) }

// Nodes returns the servers; those that are stopped are nil.
func (c *Cluster) Nodes() []*server.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*server.Server(nil), c.nodes...)
}

// URL returns the addresses of all servers, for a user.
func (c *Cluster) URL(user string) string {
	var urls []string
	for _, o := range c.opts {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", user, user, o.Port))
	}
	return strings.Join(urls, ",")
}

// Leader returns the number of the server that leads a stream, or -1.
func (c *Cluster) Leader(stream string) int {
	for i, n := range c.Nodes() {
		if n != nil && n.JetStreamIsStreamLeader("APP", stream) {
			return i
		}
	}
	return -1
}

// Index returns the number of the server of a name, or -1.
func (c *Cluster) Index(name string) int {
	for i, o := range c.opts {
		if o.ServerName == name {
			return i
		}
	}
	return -1
}

// Port returns the port a server listens on for programs.
func (c *Cluster) Port(i int) int { return c.opts[i].Port }

// Folder returns where a server keeps its files.
func (c *Cluster) Folder(i int) string { return c.opts[i].StoreDir }

// WaitCurrent waits until every server has all of a stream.
func (c *Cluster) WaitCurrent(tb testing.TB, stream string) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		current := 0
		for _, n := range c.Nodes() {
			if n != nil && n.JetStreamIsStreamCurrent("APP", stream) {
				current++
			}
		}
		if current == c.Size() && c.Leader(stream) >= 0 {
			return
		}
	}
	tb.Fatalf("%s is not current on all servers", stream)
}
