package deed_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// fillUp pays into a jar until a number of coins is in it.
type fillUp struct{ To int }

func (c fillUp) Decide(j jar) ([]deed.Event[jar], error) {
	return []deed.Event[jar]{paid{c.To - j.Coins}}, nil
}

// A nosy store counts who is looked for.
type nosy struct {
	*mem.Store
	vaults int
}

func (s *nosy) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	if strings.HasPrefix(stream, "vault/") {
		s.vaults++
	}
	return s.Store.Read(ctx, stream, r)
}

// Entities that a program does not know are thought to be new as long as they
// were, and not looked for. What a saga decides on is right all the same.
func TestEntitiesThatAreThoughtToBeNew(t *testing.T) {
	for _, c := range []struct {
		name  string
		cmd   deed.Command[jar]
		coins int // of 30 at first
	}{
		{"accepted by whoever is new", drop{20}, 50},
		{"accepted by whoever is new, with more to do", fillUp{40}, 40},
		{"refused by whoever is new", take{20}, 10},
		{"nothing to do for whoever is new", sweep{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			saga := deed.Saga[string]{Name: "errand", Steps: []deed.SagaStep[string]{{
				Name: "go",
				Send: func(id, vault string) []deed.Sending {
					if vault == "old" {
						return []deed.Sending{deed.Send(vaults, vault, c.cmd)}
					}
					return []deed.Sending{deed.Send(vaults, vault, drop{1})}
				},
			}}}
			s := &nosy{Store: mem.New()}
			begin := func() (*deed.Runtime, func(vault string)) {
				rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{vaults, saga}}}})
				if err != nil {
					t.Fatal(err)
				}
				return rt, func(vault string) {
					if i, err := saga.Start(t.Context(), rt, vault, vault); err != nil || i.State != deed.InstanceCompleted {
						t.Fatalf("%s: %s, %v (%s)", vault, i.State, err, i.Reason)
					}
				}
			}
			other, _ := begin()
			if _, err := vaults.Execute(t.Context(), other, "old", drop{30}); err != nil {
				t.Fatal(err)
			}
			rt, start := begin()
			const some = 30
			s.vaults = 0
			for i := range some {
				start(fmt.Sprintf("new-%d", i))
			}
			if s.vaults > some/2 {
				t.Errorf("%d new entities were looked for %d times", some, s.vaults)
			}
			start("old")
			for _, who := range []*deed.Runtime{rt, other} {
				if r, err := vaults.Execute(t.Context(), who, "old", drop{100}); err != nil || r.Events[0].Version < 2 {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if j, _, err := vaults.Load(t.Context(), rt, "old"); err != nil || j.Coins != c.coins+200 {
				t.Errorf("there are %d coins, %v, want %d", j.Coins, err, c.coins+200)
			}
		})
	}
}
