package cli_test

import (
	"errors"
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
)

var freezes = flag.Int("freezes", 2, "how often a node is frozen for three leases")

// A node is frozen under load for three leases and wakes up, in the belief that
// it holds what another has taken: nothing it still writes is accepted.
//
//	go test -run TestFrozenNodesAreFenced -timeout 30m ./cli -freezes 30 -load 1000
func TestFrozenNodesAreFenced(t *testing.T) {
	f := share(t, pgtest.Start(t).DSN("frozen"), "frozen")
	byHand, byNodes := 0, int64(0)
	for round := range *freezes {
		f.shared(t)
		i := round % 2
		victim := f.nodes[i]
		name := fmt.Sprintf("n%d", i)
		before := victim.overtaken.Load()
		victim.cmd.Process.Signal(syscall.SIGSTOP)
		start := time.Now()
		believed := f.heldBy(t, name)
		f.takesOver(t, i)
		for _, d := range believed { // what it would write: everything it held has moved on
			err := f.store.Write(t.Context(), store.Change{Coll: "$cursor", Key: d.Key, Rev: d.Rev, Data: d.Data})
			if conflict := (*store.ConflictError)(nil); !errors.As(err, &conflict) {
				t.Errorf("round %d: a stale write of %s was answered with %v", round, d.Key, err)
			}
			byHand++
		}
		time.Sleep(max(0, 3*nodeLease-time.Since(start))) // the bound of the promise
		victim.cmd.Process.Signal(syscall.SIGCONT)
		f.load.goesOn(t, 50, 30*time.Second)
		f.shared(t)
		byNodes += victim.overtaken.Load() - before
	}
	t.Logf("%d rounds: %d stale writes that nodes tried when they woke were refused, and %d that the test tried for them", *freezes, byNodes, byHand)
	f.end(t)
}

// heldBy returns the checkpoints that a node holds.
func (f *fleet) heldBy(t *testing.T, node string) (held []store.Doc) {
	t.Helper()
	for d, err := range f.store.List(t.Context(), "$cursor", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if parseState(t, d).Node == node {
			held = append(held, d)
		}
	}
	return held
}

// shared waits until both nodes hold something.
func (f *fleet) shared(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); len(f.heldBy(t, "n0")) == 0 || len(f.heldBy(t, "n1")) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the nodes do not share the work again")
		}
	}
}
