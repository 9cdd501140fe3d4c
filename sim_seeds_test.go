package deed

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeeds = flag.Int("seeds", 0, "how many simulations of three nodes are run; 0 = 2,000, or 200 with the race detector or -short")
	simAfter = flag.Int("seeds-after", 0, "the seeds that are run come after this one")
	simSeed  = flag.Uint64("seed", 0, "the one simulation to be run again, with -v and -count if once is not enough; 0 = all")
)

// Three nodes work on sagas and processes, on one store, through whatever a seed
// has in store for them: answers that are lost, calls that take their time, nodes
// that are frozen, stopped and killed, inputs that come twice or out of turn,
// services that fail, are refused or panic, code that is broken at first. In the
// end everything adds up.
func TestSimulations(t *testing.T) {
	var all simTotals
	if *simSeed != 0 {
		simulateSeed(t, *simSeed, &all)
		t.Log(all.String())
		return
	}
	percent := debug.SetGCPercent(400) // many small worlds
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		t.Log(all.String())
	})
	seeds, workers := howManySeeds(), runtime.GOMAXPROCS(0)
	for part := range workers {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			for seed := part + 1; seed <= seeds && !t.Failed(); seed += workers {
				simulateSeed(t, uint64(*simAfter+seed), &all)
			}
		})
	}
}

// howManySeeds is fewer where each takes several times as long: `make test` runs
// the 2,000 without the race detector, and the first of them with it.
func howManySeeds() int {
	switch {
	case *simSeeds > 0:
		return *simSeeds
	case testing.Short() || raced():
		return 200
	}
	return 2000
}

// raced reports whether the race detector is there.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func simulateSeed(t *testing.T, seed uint64, all *simTotals) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newSimWorld(t, seed, 3)
		w.tell()
		for _, what := range w.wrong {
			t.Errorf("seed %d: %s", seed, what)
		}
		if t.Failed() {
			t.Fatalf("to see it again: go test -run TestSimulations . -seed %d", seed)
		}
		all.add(&w.totals)
	})
}

// simTotals count what has happened in simulations.
type simTotals struct {
	mu                                    sync.Mutex
	seeds, calls, lost, stops, kills, ice int
	states                                map[InstanceState]int
}

func (a *simTotals) add(b *simTotals) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seeds++
	a.calls, a.lost, a.stops, a.kills, a.ice = a.calls+b.calls, a.lost+b.lost, a.stops+b.stops, a.kills+b.kills, a.ice+b.ice
	if a.states == nil {
		a.states = map[InstanceState]int{}
	}
	for state, n := range b.states {
		a.states[state] += n
	}
}

func (a *simTotals) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("%d simulations: %d calls of the store, %d of them went wrong; nodes were frozen %d times, stopped %d times, killed %d times; instances: %v",
		a.seeds, a.calls, a.lost, a.ice, a.stops, a.kills, a.states)
}

// tell lets the story of a seed happen.
func (w *simWorld) tell() {
	w.trouble = []int{0, 10, 30, 100}[w.rand.IntN(4)]
	for _, n := range w.nodes {
		n.start()
	}
	s := &simStage{simWorld: w}
	for _, p := range []string{"x", "y"} {
		s.pour(p, 40+w.rand.IntN(40))
	}
	for n := range 5 {
		s.begin(n)
	}
	for range 8 {
		w.pass(time.Duration(w.rand.IntN(7000)) * time.Millisecond)
		s.happen()
	}
	s.end()
}

// A simStage is what is done to the nodes, and asked of them.
type simStage struct {
	*simWorld
	clients sync.WaitGroup
	asked   int // so many things, by clients
	hauls   []string
	moves   []string
}

// ask does something by way of some node, and by way of others until it is done
// or refused.
func (s *simStage) ask(what string, do func(ctx context.Context, rt *Runtime) error) {
	r := rand.New(rand.NewPCG(s.seed, s.rand.Uint64()))
	s.asked++
	mine := time.Duration(s.asked) * time.Microsecond // no two clients ask at the same instant: who is first is not for Go to decide
	s.clients.Go(func() {
		time.Sleep(mine)
		for {
			if n := s.nodes[r.IntN(len(s.nodes))]; n.running() != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				err := do(ctx, n.running())
				cancel()
				if err == nil || s.isNo(err) {
					return
				}
			}
			time.Sleep(time.Duration(500+r.IntN(3000)) * time.Millisecond)
		}
	})
}

func (s *simStage) isNo(err error) bool {
	_, rejected := errors.AsType[Rejected](err)
	return rejected || errors.Is(err, ErrStands) || errors.Is(err, ErrDecided) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrClaimed)
}

func (n *simNode) running() *Runtime {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.rt
}

func (s *simStage) pour(purse string, coins int) {
	id := fmt.Sprint("pour-", purse, coins, s.rand.Uint64())
	s.ask("pour", func(ctx context.Context, rt *Runtime) error {
		_, err := purses.Execute(With(ctx, Call{ID: id}), rt, purse, putIn{coins})
		return err
	})
}

// begin begins an instance, now and then twice.
func (s *simStage) begin(n int) {
	r := s.rand
	what := want{
		From: []string{"x", "y"}[r.IntN(2)], To: []string{"x", "y", "z", "u", "v"}[r.IntN(5)], N: 1 + r.IntN(30),
		Mark: 1 + r.IntN(6), Child: r.IntN(3) == 0, Asks: r.IntN(3) == 0, Waits: r.IntN(3) == 0, Poison: r.IntN(12) == 0,
	}
	if what.To == what.From {
		what.To = "z"
	}
	id, twice := fmt.Sprint("i", n), 1+r.IntN(2)
	if r.IntN(5) < 3 {
		s.hauls = append(s.hauls, id)
		for range twice {
			s.ask("start", func(ctx context.Context, rt *Runtime) error {
				_, err := rt.Instances().Start(ctx, "haul", id, mustJSON(what))
				return err
			})
		}
		return
	}
	what.Mark = n // the errand is named after it
	s.moves = append(s.moves, id)
	for range twice {
		s.ask("want", func(ctx context.Context, rt *Runtime) error {
			_, err := simOrders.Execute(With(ctx, Call{ID: "want-" + id}), rt, id, wantIt{what})
			return err
		})
	}
}

// happen lets one thing happen.
func (s *simStage) happen() {
	r := s.rand
	n := s.nodes[r.IntN(len(s.nodes))]
	switch r.IntN(14) {
	case 0:
		n.freeze()
	case 1:
		n.thaw()
	case 2:
		n.stop(false)
	case 3:
		n.stop(true)
	case 4, 5:
		for _, n := range s.nodes {
			if n.rt == nil {
				n.start()
			}
		}
	case 6, 7:
		s.decide(r.IntN(2) == 0)
	case 8:
		s.request(r.IntN(4))
	case 9, 10:
		id := fmt.Sprint("i", r.IntN(5))
		s.ask("sign", func(ctx context.Context, rt *Runtime) error {
			_, err := simOrders.Execute(With(ctx, Call{ID: "sign-" + id}), rt, "sign-"+id, sign{id})
			return err
		})
	case 11:
		if len(s.moves) > 0 {
			id := s.moves[r.IntN(len(s.moves))]
			s.ask("withdraw", func(ctx context.Context, rt *Runtime) error {
				_, err := simOrders.Execute(With(ctx, Call{ID: "withdraw-" + id}), rt, id, withdraw{})
				return err
			})
		}
	case 12:
		s.deliver(n)
	case 13:
		s.trouble = []int{0, 10, 30, 100, 300}[r.IntN(5)]
	}
}

// decide decides all tasks there are, some of them twice and otherwise.
func (s *simStage) decide(well bool) {
	choice := map[bool]string{true: "approve", false: "reject"}[well || s.rand.IntN(2) == 0]
	twice := s.rand.IntN(3) == 0
	for _, stream := range s.open() {
		for n := range 2 {
			if n == 0 || twice {
				s.ask("decide", func(ctx context.Context, rt *Runtime) error {
					_, err := rt.Tasks().Decide(ctx, strings.TrimPrefix(stream, taskCategory+"/"), []string{choice, "reject"}[n], "", nil)
					return err
				})
			}
		}
	}
}

// request asks something of an instance.
func (s *simStage) request(what int) {
	r := s.rand
	kind, name, ids := "saga", "haul", s.hauls
	if r.IntN(3) == 0 {
		kind, name, ids = "process", "move", s.moves
	}
	if len(ids) == 0 {
		return
	}
	id := ids[r.IntN(len(ids))]
	s.ask("request", func(ctx context.Context, rt *Runtime) error {
		all, err := rt.Instances(), error(nil)
		switch what {
		case 0, 1:
			_, err = all.Cancel(ctx, kind, name, id, "somebody said so")
		case 2:
			_, err = all.Undo(ctx, kind, name, id, "somebody said so")
		case 3:
			_, err = all.Retry(ctx, kind, name, id, "somebody said so")
		}
		return err
	})
}

func mustJSON(v any) []byte {
	data, err := bodyOf(v)
	if err != nil {
		panic(err)
	}
	return data
}
