package jetstream_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

type node = *server.Server

// A cluster is some servers in this process, on ports of their own and files
// in a folder.
type cluster struct {
	dir   string
	opts  []*server.Options
	mu    sync.Mutex
	nodes []*server.Server
}

// startCluster starts servers that sync every write before they acknowledge.
// What is in the folder is there again.
func startCluster(t testing.TB, dir string, n int) *cluster {
	t.Helper()
	return startClusterWith(t, dir, n, nil)
}

// startClusterWith lets a test change what the servers are told.
func startClusterWith(t testing.TB, dir string, n int, change func(*server.Options)) *cluster {
	t.Helper()
	c := &cluster{dir: dir, nodes: make([]node, n)}
	ports := freePorts(t, 2*n)
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
	c.startAll(t)
	t.Cleanup(c.stopAll)
	return c
}

func (c *cluster) startAll(t testing.TB) {
	t.Helper()
	for i := range c.nodes {
		c.start(t, i)
	}
}

func (c *cluster) stopAll() {
	for i := range c.nodes {
		c.stop(i)
	}
}

func (c *cluster) options(i, port, route int, routes []*url.URL) *server.Options {
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

// freePorts finds ports that nobody listens on.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// start starts a node, or starts it again.
func (c *cluster) start(t testing.TB, i int) {
	t.Helper()
	if err := c.run(i); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) run(i int) error {
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

func (c *cluster) stop(i int) {
	c.mu.Lock()
	s := c.nodes[i]
	c.nodes[i] = nil
	c.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

func (c *cluster) url(user string) string {
	var urls []string
	for _, o := range c.opts {
		urls = append(urls, fmt.Sprintf("nats://%s:%s@127.0.0.1:%d", user, user, o.Port))
	}
	return strings.Join(urls, ",")
}

// leader returns the number of the node that leads a stream.
func (c *cluster) leader(stream string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, n := range c.nodes {
		if n != nil && n.JetStreamIsStreamLeader("APP", stream) {
			return i
		}
	}
	return -1
}

// open opens an installation. Many share a cluster, under different names.
func (c *cluster) open(t testing.TB, name string) *jetstream.Store {
	t.Helper()
	s, err := jetstream.Open(c.url("app"), &jetstream.Options{Name: name, Replicas: len(c.opts), SyncAlways: true, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// system connects to the system account.
func (c *cluster) system(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(c.url("sys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// nameOf makes the name of an installation from that of a test.
func nameOf(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return name[max(0, len(name)-60):]
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func all(ctx context.Context, t testing.TB, s store.Log, after store.Cursor, f store.Filter) (recs []store.Record) {
	t.Helper()
	for r, err := range s.ReadAll(ctx, after, f) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	return recs
}
