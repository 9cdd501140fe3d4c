// Package natstest runs NATS servers with JetStream for tests: real ones, each
// a process of its own, on loopback and with files in a folder. The program is
// the nats-server of go.mod.
package natstest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Settings are what tests may tell a server.
type Settings struct {
	SyncAlways bool   // it syncs every write before it acknowledges it; default true
	MaxPayload int    // bytes; default 9 MiB
	MaxBatch   int    // messages that are published together; default 20,000
	Denied     string // a subject that a further user of APP, mute, may not publish to
}

// A Cluster is one server or several. The account APP is the program's (user
// app), SYS the system account (user sys); the password is the user's name.
type Cluster struct {
	dir     string
	program string
	nodes   []*node
	change  func(name string, s *Settings)
}

// A node is one of the servers.
type node struct {
	name        string
	port, route int

	mu  sync.Mutex
	cmd *exec.Cmd // nil = it does not run
	nc  *nats.Conn
}

// Start starts n servers and runs them until the test ends. What is in the
// folder is there again. Change, if not nil, may change what each of them is
// told whenever it starts; their names are n0, n1 and so on.
func Start(tb testing.TB, dir string, n int, change func(name string, s *Settings)) *Cluster {
	tb.Helper()
	c := &Cluster{dir: dir, program: program(tb), change: change}
	ports := FreePorts(tb, 2*n)
	for i := range n {
		c.nodes = append(c.nodes, &node{name: fmt.Sprintf("n%d", i), port: ports[i], route: ports[n+i]})
	}
	tb.Cleanup(c.StopAll)
	c.StartAll(tb)
	return c
}

// program builds the server, unless that was done before, and returns its path.
func program(tb testing.TB) string {
	tb.Helper()
	cmd := exec.Command("go", "tool", "-n", "github.com/nats-io/nats-server/v2")
	cmd.Env = append(os.Environ(), "GOFLAGS=") // as others run it, not watched for races
	cmd.Stderr = tb.Output()
	out, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(out))
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
	for i := range c.nodes { // each waits for a majority before it takes connections
		if err := c.launch(i); err != nil {
			tb.Fatal(err)
		}
	}
	for i := range c.nodes {
		if err := c.ready(i); err != nil {
			tb.Fatal(err)
		}
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
	if err := c.launch(i); err != nil {
		return err
	}
	return c.ready(i)
}

// StopNode stops a server in order.
func (c *Cluster) StopNode(i int) { c.end(i, syscall.SIGTERM) }

// KillNode kills a server, without giving it the time to put anything in order.
func (c *Cluster) KillNode(i int) { c.end(i, syscall.SIGKILL) }

func (c *Cluster) end(i int, how syscall.Signal) {
	n := c.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return
	}
	if n.nc != nil {
		n.nc.Close()
		n.nc = nil
	}
	_ = n.cmd.Process.Signal(how) // it may have ended by itself
	_ = n.cmd.Wait()
	n.cmd = nil
}

// launch starts the process of a server.
func (c *Cluster) launch(i int) error {
	n := c.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return fmt.Errorf("%s runs already", n.name)
	}
	path := filepath.Join(c.dir, n.name+".conf")
	if err := os.WriteFile(path, c.config(n), 0o644); err != nil {
		return err
	}
	log, err := os.Create(c.logFile(n))
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own
	cmd := exec.Command(c.program, "-c", path)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd = cmd
	return nil
}

// ready returns when a server takes connections.
func (c *Cluster) ready(i int) error {
	n := c.nodes[i]
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var nc *nats.Conn
		if nc, err = nats.Connect(fmt.Sprintf("nats://app:app@127.0.0.1:%d", n.port)); err == nil {
			nc.Close()
			return nil
		}
	}
	said, _ := os.ReadFile(c.logFile(n)) // there may be none
	return fmt.Errorf("%s does not start: %w\n%s", n.name, err, said[max(0, len(said)-2000):])
}

func (c *Cluster) logFile(n *node) string { return filepath.Join(c.dir, n.name+".log") }

// config is what a server is told, in its own language.
func (c *Cluster) config(n *node) []byte {
	s := Settings{SyncAlways: true, MaxPayload: 9 << 20, MaxBatch: 20_000}
	if c.change != nil {
		c.change(n.name, &s)
	}
	sync := "2m" // the server's own default
	if s.SyncAlways {
		sync = "always"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "server_name: %s\nlisten: \"127.0.0.1:%d\"\nmax_payload: %d\n", n.name, n.port, s.MaxPayload)
	fmt.Fprintf(&b, "jetstream {\n store_dir: %q\n sync_interval: %s\n max_mem: 256M\n max_file: 16G\n", filepath.Join(c.dir, n.name), sync)
	if s.MaxBatch > 0 {
		fmt.Fprintf(&b, " limits { batch { max_msgs: %d } }\n", s.MaxBatch)
	}
	mute := ""
	if s.Denied != "" {
		mute = fmt.Sprintf(", {user: mute, password: mute, permissions: {publish: {deny: %q}}}", s.Denied)
	}
	fmt.Fprintf(&b, "}\naccounts {\n APP { jetstream: enabled, users: [{user: app, password: app}%s] }\n SYS { users: [{user: sys, password: sys}] }\n}\n", mute)
	b.WriteString("system_account: SYS\nno_auth_user: app\n")
	if len(c.nodes) > 1 {
		fmt.Fprintf(&b, "cluster {\n name: test\n listen: \"127.0.0.1:%d\"\n routes: [", n.route)
		for _, other := range c.nodes {
			fmt.Fprintf(&b, "\"nats://127.0.0.1:%d\",", other.route)
		}
		b.WriteString("]\n}\n")
	}
	return b.Bytes()
}
