package cli_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var nodeKills = flag.Int("nodekills", 3, "how often a node is killed")

// nodeLease is short, so that tests are.
const nodeLease = 2 * time.Second

// A node is a `deed serve` process on a shared store.
type node struct {
	cmd       *exec.Cmd
	base      string
	overtaken atomic.Int64 // how often it was refused what another had taken
}

func serveNode(t *testing.T, dsn, name string) *node {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--store", dsn, "--addr", "127.0.0.1:0", "--node", name, "--lease", nodeLease.String())
	cmd.Env = append(os.Environ(), demoEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	n := &node{cmd: cmd}
	base := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			if i := strings.Index(lines.Text(), "http://"); i >= 0 && strings.HasPrefix(lines.Text(), "deed serves") {
				base <- strings.TrimSpace(lines.Text()[i:])
			} else if strings.Contains(lines.Text(), "follower overtaken") {
				n.overtaken.Add(1)
			} else if strings.Contains(lines.Text(), "panic") {
				t.Errorf("%s: %s", name, lines.Text())
			} else if strings.Contains(lines.Text(), "level=ERROR") {
				fmt.Fprintln(t.Output(), name, lines.Text())
			}
		}
	}()
	select {
	case b := <-base:
		n.base = b
		return n
	case <-time.After(20 * time.Second):
		t.Fatal("the node does not start")
	}
	return nil
}

// Two nodes share a database under load. One of them is killed, again and again,
// at any moment: the other takes over, nothing is lost, doubled or taken back,
// and the views are what the log says.
//
//	go test -run TestNodesShareTheWork -timeout 30m ./cli -nodekills 20 -load 1000
func TestNodesShareTheWork(t *testing.T) {
	f := share(t, pgtest.Start(t).DSN("nodes"), "nodes")
	var longest time.Duration
	for range *nodeKills {
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		i := rand.IntN(2)
		f.nodes[i].cmd.Process.Kill()
		f.nodes[i].cmd.Wait()
		longest = max(longest, f.takesOver(t, i))
		f.serve(t, i)
	}
	t.Logf("%d nodes were killed; the other took over within %v", *nodeKills, longest)
	f.end(t)
}

// A fleet is two nodes on one database, their load, and a watch over their
// checkpoints.
type fleet struct {
	dsn       string
	store     store.Store
	nodes     [2]*node
	addresses [2]*address
	load      *load
	watch     *watch
}

// share starts a fleet. Its nodes have something to do when it returns.
func share(t *testing.T, dsn, schema string) *fleet {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f := &fleet{dsn: dsn, store: s, addresses: [2]*address{{}, {}}}
	for i := range f.nodes {
		f.serve(t, i)
	}
	f.load = startLoad(t, f.addresses[:]...)
	f.load.goesOn(t, 50, 30*time.Second)
	f.watch = watchCheckpoints(t, dsn, schema)
	return f
}

func (f *fleet) serve(t *testing.T, i int) {
	t.Helper()
	f.nodes[i] = serveNode(t, f.dsn, fmt.Sprintf("n%d", i))
	f.addresses[i].moves(f.nodes[i].base)
}

// takesOver waits until a node that is gone holds nothing, and returns how long
// that took. It fails the test if it takes too long.
func (f *fleet) takesOver(t *testing.T, gone int) time.Duration {
	t.Helper()
	start := time.Now()
	takesOver(t, f.nodes[1-gone].base, fmt.Sprintf("n%d", gone))
	took := time.Since(start)
	if took > 10*time.Second {
		t.Errorf("the other node took over after %v", took)
	}
	return took
}

// end ends the load and the nodes, and compares what is left with what
// clients were told.
func (f *fleet) end(t *testing.T) {
	t.Helper()
	if n := telling - f.load.answered(); n > 0 { // on a slow machine
		f.load.goesOn(t, n, time.Minute)
	}
	f.load.end(t)
	f.load.settles(t, f.store)
	for _, n := range f.nodes {
		n.cmd.Process.Signal(os.Interrupt)
		if err := n.cmd.Wait(); err != nil {
			t.Errorf("Ctrl-C: %v", err)
		}
	}
	f.watch.check(t)
}

// takesOver waits until a node holds everything and another nothing.
func takesOver(t *testing.T, base, gone string) {
	t.Helper()
	for range 300 {
		var list httpapi.NodeList
		if _, err := client.New(base).Do(t.Context(), http.MethodGet, "/v1/nodes", nil, nil, &list); err == nil {
			held, theirs := 0, 0
			for _, n := range list.Nodes {
				if held += len(n.Holds); n.Name == gone {
					theirs = len(n.Holds)
				}
			}
			if held > 0 && theirs == 0 {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("nobody takes over from %s", gone)
}
