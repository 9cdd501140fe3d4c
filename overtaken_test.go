package deed

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A contested store is one where others are always faster with a stream.
type contested struct {
	store.Store
	stream string
}

func (s *contested) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	if s.stream != "" {
		return nil, &store.ConflictError{Stream: s.stream, Version: 7}
	}
	return s.Store.Append(ctx, writes...)
}

// Whoever is overtaken every time is told so by the error of commands, whatever
// was asked.
func TestOvertakenTooOften(t *testing.T) {
	s := &contested{Store: mem.New()}
	rt, err := New(s, Config{Domains: []Domain{simDomain(simSettings{})}, Retries: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Instances().Start(t.Context(), "errand", "e-1", []byte(`{"from":"x","to":"y"}`)); err != nil {
		t.Fatal(err)
	}
	s.stream = "purse/x"
	for what, ask := range map[string]func() error{
		"start": func() error {
			_, err := rt.Instances().Start(t.Context(), "errand", "e-2", []byte(`{"from":"x","to":"y"}`))
			return err
		},
		"cancel": func() error {
			_, err := rt.Instances().Cancel(t.Context(), "saga", "errand", "e-1", "why not")
			return err
		},
		"close": func() error {
			_, err := rt.Instances().Close(t.Context(), "saga", "errand", "e-1", "by hand")
			return err
		},
		"command": func() error { _, err := purses.Execute(t.Context(), rt, "x", putIn{1}); return err },
	} {
		c, ok := errors.AsType[Conflict](ask())
		if !ok || what != "command" && fmt.Sprint(c) != "deed: purse/x is at version 7 by now" {
			t.Errorf("%s: %v, %v", what, c, ask())
		}
	}
}
