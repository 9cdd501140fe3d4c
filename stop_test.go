package deed_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// A program is stopped again and again while it handles stored commands: every
// one of them is completed in the end.
func TestStopsLoseNothing(t *testing.T) {
	def := deed.Stepwise[struct{}]{Name: "parcel.carry", Steps: []deed.Step[struct{}]{{
		Name: "carry",
		Do: func(ctx context.Context, _ *deed.Work, _ struct{}) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(rand.IntN(8)) * time.Millisecond):
				return nil
			}
		},
	}}}
	s := mem.New()
	domain := deed.Domain{Name: "d", Parts: []deed.Part{def}}
	var ids []string
	for round := range 60 {
		rt, stop := runOn(t, s, domain)
		for i := range 8 {
			id := fmt.Sprintf("%d-%d", round, i)
			if _, err := def.Submit(deed.With(t.Context(), deed.Call{ID: id}), rt, "", struct{}{}); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond)
		stop()
	}
	rt, stop := runOn(t, s, domain)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, id := range ids {
		if status, err := rt.Commands().Wait(ctx, id); err != nil || status.State != deed.CommandCompleted {
			t.Errorf("%s is %s: %v", id, status.State, err)
		}
	}
}

// A step gets the answer to what it asks, also of a command that is stored first
// when others ask it.
func TestStepsGetAnswers(t *testing.T) {
	def := deed.Stepwise[drop]{Name: "coins.bring", Steps: []deed.Step[drop]{{
		Name: "bring",
		Do: func(ctx context.Context, w *deed.Work, c drop) error {
			return w.Ask(ctx, deed.Send(vaults, "a", laterDrop(c)))
		},
	}}}
	rt, stop := runOn(t, mem.New(), deed.Domain{Name: "d", Parts: []deed.Part{vaults, def}})
	defer stop()
	for n, want := range map[int]deed.CommandState{5: deed.CommandCompleted, 2000: deed.CommandRejected} {
		r, err := def.Submit(t.Context(), rt, "", drop{n})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := rt.Commands().Wait(t.Context(), r.Command); err != nil || s.State != want {
			t.Errorf("%d coins: %s (%s), %v", n, s.State, s.Reason, err)
		}
	}
}
