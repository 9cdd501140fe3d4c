package deed_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

var (
	twiceSeeds = flag.Int("twiceseeds", 5, "seeds of commands that are sent several times at once")
	twiceFrom  = flag.Uint64("twicefrom", 1, "the first of them")
	twiceMany  = flag.Int("twicemany", 100, "commands of a seed")
)

// Commands are sent ten times at once, by way of two nodes: each has one effect,
// and all get the same answer. Some are handled in the background; of these the
// answer is that they are stored, or what became of them.
func TestSentTenTimes(t *testing.T) {
	for seed := *twiceFrom; seed < *twiceFrom+uint64(*twiceSeeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sentTenTimes(t, rand.New(rand.NewPCG(seed, 1)), *twiceMany) })
	}
}

func sentTenTimes(t *testing.T, chance *rand.Rand, commands int) {
	s := mem.New()
	var nodes []*deed.Runtime
	for range 2 {
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, Retries: 1000})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, rt)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- nodes[0].Run(ctx) }() // the store is one process's: only one of them works in the background
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var later []string
	var all sync.WaitGroup
	want := map[string]int{}
	for i := range commands {
		id, entity, n := fmt.Sprintf("c-%d", i), fmt.Sprint(chance.IntN(5)), 1+chance.IntN(3)
		want[entity] += n
		ask := func(node *deed.Runtime) (deed.Receipt, error) {
			return ask10(t, node, deed.Call{ID: id}, entity, drop{n})
		}
		if i%4 == 0 {
			later = append(later, id)
			ask = func(node *deed.Runtime) (deed.Receipt, error) {
				_, err := ask10(t, node, deed.Call{ID: id}, entity, laterDrop{n})
				return deed.Receipt{}, err
			}
		}
		var mu sync.Mutex
		answers := map[string]int{}
		for j := range 10 {
			node := nodes[chance.IntN(2)]
			all.Go(func() {
				r, err := ask(node)
				if err != nil {
					t.Errorf("%s: %v", id, err)
				}
				mu.Lock()
				defer mu.Unlock()
				answers[fmt.Sprint(r.Version, r.Events, r.Position)]++
				if len(answers) > 1 {
					t.Errorf("%s, asked for the %dth time: %v", id, j, answers)
				}
			})
		}
		if chance.IntN(4) == 0 {
			all.Go(func() {
				if _, err := ask(nodes[0]); err != nil {
					t.Error(err)
				}
				if _, err := ask10(t, nodes[1], deed.Call{ID: id}, entity, drop{n + 1}); !errors.Is(err, deed.ErrMismatch) {
					t.Errorf("other contents under the same id: %v", err)
				}
			})
		}
	}
	all.Wait()
	for _, id := range later {
		if s, err := nodes[0].Commands().Wait(t.Context(), id); err != nil || s.State != deed.CommandCompleted {
			t.Errorf("%s is %s (%s), %v", id, s.State, s.Reason, err)
		}
	}
	for entity, n := range want {
		if j, _, err := vaults.Load(t.Context(), nodes[0], entity); err != nil || j.Coins != n {
			t.Errorf("%s has %d coins, want %d (%v)", entity, j.Coins, n, err)
		}
	}
}

// ask10 asks again as long as another asking of the same is being answered.
func ask10(t *testing.T, rt *deed.Runtime, call deed.Call, id string, cmd deed.Command[jar]) (deed.Receipt, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		r, err := vaults.Execute(deed.With(t.Context(), call), rt, id, cmd)
		if !errors.Is(err, deed.ErrInProgress) {
			return r, err
		}
		time.Sleep(pause)
	}
}
