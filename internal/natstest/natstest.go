// Package natstest runs NATS servers with JetStream for tests: real ones, in
// this process, on ports of their own and with files in a folder.
package natstest

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A Cluster is one server or several. The account APP is the program's (user
// app), SYS the system account (user sys); the password is the user's name.
type Cluster struct {
	dir  string
	opts []*server.Options

	mu    sync.Mutex
	nodes []*server.Server // nil = stopped
}

// Start starts n servers that sync every write before they acknowledge it, and
// runs them until the test ends. What is in the folder is there again. Change,
// if not nil, may change what each server is told.
func Start(tb testing.TB, dir string, n int, change func(*server.Options)) *Cluster {
	tb.Helper()
	c := &Cluster{dir: dir, nodes: make([]*server.Server, n)}
	ports := FreePorts(tb, 2*n)
	var routes []*url.URL
	for i := range n {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[n+i])})
	}
	for i := range n {
		o := c.options(i, ports[i], ports[n+i], routes)
		if change != nil {
			change(o)
		}
		c.opts = append(c.opts, o)
	}
	c.StartAll(tb)
	tb.Cleanup(c.StopAll)
	return c
}

// Serve runs one server on a port until the program ends, where there is no
// test: in a child that is to be killed.
func Serve(dir string, port int, change func(*server.Options)) error {
	c := &Cluster{dir: dir, nodes: make([]*server.Server, 1)}
	o := c.options(0, port, 0, nil)
	if change != nil {
		change(o)
	}
	c.opts = append(c.opts, o)
	if err := c.Run(0); err != nil {
		return err
	}
	select {}
}

func (c *Cluster) options(i, port, route int, routes []*url.URL) *server.Options {
	o := &server.Options{
		ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: filepath.Join(c.dir, fmt.Sprintf("n%d", i)), SyncAlways: true,
		MaxPayload: 9 << 20, JetStreamMaxMemory: 1 << 28, JetStreamMaxStore: 1 << 34,
	}
	o.JetStreamLimits.MaxBatchSize = 20_000
	account, system := server.NewAccount("APP"), server.NewAccount("SYS")
	o.Accounts = []*server.Account{account, system}
	o.SystemAccount = "SYS"
	o.Users = []*server.User{{Username: "app", Password: "app", Account: account}, {Username: "sys", Password: "sys", Account: system}}
	o.NoAuthUser = "app"
	if len(routes) > 1 {
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: route}
		o.Routes = routes
	}
	return o
}

// FreePorts finds ports that nobody listens on.
func FreePorts(tb testing.TB, n int) (ports []int) {
	tb.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// StartAll starts all servers, or starts them again.
func (c *Cluster) StartAll(tb testing.TB) {
	tb.Helper()
	for i := range c.nodes {
		c.StartNode(tb, i)
	}
}

// StopAll stops all servers in order.
func (c *Cluster) StopAll() {
	for i := range c.nodes {
		c.StopNode(i)
	}
}

// StartNode starts a server, or starts it again.
func (c *Cluster) StartNode(tb testing.TB, i int) {
	tb.Helper()
	if err := c.Run(i); err != nil {
		tb.Fatal(err)
	}
}

// Run is StartNode where there is no test to fail.
func (c *Cluster) Run(i int) error {
	o := *c.opts[i]
	s, err := server.NewServer(&o)
	if err != nil {
		return err
	}
	acc, err := s.LookupAccount("APP")
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		return fmt.Errorf("node %d does not start", i)
	}
	if err := acc.EnableJetStream(nil, nil); err != nil {
		return err
	}
	c.mu.Lock()
	c.nodes[i] = s
	c.mu.Unlock()
	return nil
}

// StopNode stops a server in order.
func (c *Cluster) StopNode(i int) {
	c.mu.Lock()
	s := c.nodes[i]
	c.nodes[i] = nil
	c.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}
