package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// visit joins a store as a guest.
func visit(t *testing.T, s store.Store, name string, followers ...Follower) *member {
	t.Helper()
	return joinAs(t, s, Config{Node: name, Guest: true, Followers: followers})
}

// A guest runs what somebody waits for, and nothing else.
func TestGuestRunsWhatIsWaitedFor(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		p := add(t, s, "a/0", 3)
		other, left := pure(nil), effectful(func(*ledger) { t.Error("what is left to others was run") })
		other.Name, left.Name, left.Elsewhere = "other", "left", true
		g := visit(t, s, "", split(1), other, left)
		defer g.stop()
		time.Sleep(time.Hour)
		states := func() (out []string) {
			for _, st := range g.Status() {
				out = append(out, st.Name+" "+st.State)
			}
			return out
		}
		if got := fmt.Sprint(states()); got != "[ledger stopped left elsewhere other stopped]" {
			t.Errorf("nobody waits: %s", got)
		}
		if err := g.WaitFor(t.Context(), "ledger", p); err != nil {
			t.Error(err)
		}
		expectLedgers(t, s, 1, 3)
		if got := fmt.Sprint(states()); got != "[ledger running left elsewhere other stopped]" {
			t.Errorf("one is waited for: %s", got)
		}
		if err := g.WaitFor(t.Context(), "left", p); !errors.Is(err, ErrNotRunning) {
			t.Errorf("waiting for what is left to others: %v", err)
		}
		if err := g.WaitAll(t.Context(), p); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(states()); got != "[ledger running left elsewhere other running]" {
			t.Errorf("all are waited for: %s", got)
		}
		if st := g.Status()[1]; st.Behind != 3 || st.LagSeconds < 3000 {
			t.Errorf("what is left to others: %+v", st)
		}
	})
}

// A guest takes nothing from nodes that serve, takes over when they are gone,
// and gives back when one is there again.
func TestGuestGivesWay(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		onlyGrow(t, s)
		a := join(t, s, "m", split(4))
		defer a.stop()
		time.Sleep(3 * testLease)
		epochs := func() (out []uint64) {
			nodes, err := a.Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				for _, h := range n.Holds {
					out = append(out, h.Epoch)
				}
			}
			return out
		}
		before := fmt.Sprint(epochs())
		g := visit(t, s, "g", split(4)) // a name before and one after that of the node
		defer g.stop()
		z := visit(t, s, "z", split(4))
		defer z.stop()
		see := func(m *member) {
			t.Helper()
			p := add(t, s, "a/0", 1)
			ctx, cancel := context.WithTimeout(t.Context(), 5*testLease)
			defer cancel()
			if err := m.WaitFor(ctx, "ledger", p); err != nil {
				t.Errorf("%v: %+v", err, m.Status()[0])
			}
		}
		see(g)
		see(z)
		time.Sleep(5 * testLease)
		if got := a.holders(t); got["m"] != 4 || fmt.Sprint(epochs()) != before {
			t.Errorf("beside a node: %v, epochs %v, were %s", got, epochs(), before)
		}
		z.stop()
		a.wire.cut()
		time.Sleep(3 * testLease)
		see(g)
		if got := g.holders(t); got["g"] != 4 {
			t.Errorf("alone: %v", got)
		}
		a.wire.mend()
		time.Sleep(4 * testLease)
		if got := g.holders(t); got["m"] != 4 || len(got) != 1 {
			t.Errorf("beside a node again: %v", got)
		}
		see(g)
		expectLedgers(t, s, 1, 4)
	})
}
