package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// Every clause must be able to fail, or it promises nothing.
func TestEveryClauseCanFail(t *testing.T) {
	if n := len(Clauses()); n < 40 {
		t.Errorf("%d clauses, want at least 40", n)
	}
	names := map[string]bool{}
	for _, c := range Clauses() {
		if names[c.Name] {
			t.Errorf("two clauses are named %s", c.Name)
		}
		names[c.Name] = true
		if len(c.Why) < 10 {
			t.Errorf("%s does not say why", c.Name)
		}
		t.Run(c.Name, func(t *testing.T) {
			open, ok := brokenFor[c.Name]
			if !ok {
				t.Fatal("there is no broken store for this clause")
			}
			s := open()
			defer s.Close()
			if err := c.Check(t.Context(), s); err == nil {
				t.Error("the broken store passes")
			} else {
				t.Log(err)
			}
		})
	}
	for name := range brokenFor {
		if !names[name] {
			t.Errorf("there is a broken store, but no clause %s", name)
		}
	}
}

// A store that forgets everything, or begins with something, is not durable.
func TestEveryDurableClauseCanFail(t *testing.T) {
	for _, c := range durableClauses {
		t.Run(c.name, func(t *testing.T) {
			if err := c.before(t.Context(), mem.New()); err != nil {
				t.Fatal(err)
			}
			s := mem.New()
			if c.name == "empty" {
				must(t.Context(), s, write("a/1", store.None, evs(1)...))
			}
			if err := c.after(t.Context(), s); err == nil {
				t.Error("a store that forgets passes")
			}
		})
	}
}

func Example() {
	for _, c := range Clauses()[:2] {
		fmt.Println(c.Name, c.Check(context.Background(), mem.New()))
	}
	// Output:
	// append/versions <nil>
	// append/positions-grow <nil>
}
