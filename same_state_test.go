package deed_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

type (
	chimed  struct{}
	notched struct{}
	chime   struct{}
	notch   struct{}
)

func (chimed) Apply(n *int)  { *n++ }
func (notched) Apply(n *int) { *n++ }

func (chime) Decide(int) ([]deed.Event[int], error) { return []deed.Event[int]{chimed{}}, nil }
func (notch) Decide(int) ([]deed.Event[int], error) { return []deed.Event[int]{notched{}}, nil }

// Two aggregates have states of the same type, so the compiler takes the command of
// one for that of the other. Its events belong to its own: nothing is recorded that
// cannot be read.
func TestTwinsKeepTheirEvents(t *testing.T) {
	counter := deed.Aggregate[int]{Name: "counter", Events: map[string]deed.Event[int]{"chimed": chimed{}}, Commands: map[string]deed.Command[int]{"count": chime{}}}
	tally := deed.Aggregate[int]{Name: "tally", Events: map[string]deed.Event[int]{"notched": notched{}}, Commands: map[string]deed.Command[int]{"tally": notch{}}}
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "twins", Parts: []deed.Part{counter, tally}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tally.Execute(t.Context(), rt, "x", chime{}); err == nil || !strings.Contains(err.Error(), "is an event of counter") {
		t.Errorf("the command of another aggregate: %v", err)
	}
	if _, err := tally.Execute(t.Context(), rt, "x", nil); !errors.Is(err, deed.ErrUnknown) {
		t.Errorf("no command: %v", err)
	}
	if _, err := tally.Execute(t.Context(), rt, "x", notch{}); err != nil {
		t.Error(err)
	}
	if n, version, err := tally.Load(t.Context(), rt, "x"); n != 1 || version != 1 || err != nil {
		t.Errorf("%d notches at version %d, %v", n, version, err)
	}
}
