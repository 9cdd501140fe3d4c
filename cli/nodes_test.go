package cli_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
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
	n := &node{}
	n.cmd, n.base = serve(t, func(line string) {
		switch {
		case strings.Contains(line, "follower overtaken"):
			n.overtaken.Add(1)
		case strings.Contains(line, "panic"):
			t.Errorf("%s: %s", name, line)
		case strings.Contains(line, "level=ERROR"):
			fmt.Fprintln(t.Output(), name, line)
		}
	}, "--store", dsn, "--node", name, "--lease", nodeLease.String())
	return n
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
