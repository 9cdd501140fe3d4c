// Package deedtest tests event-sourced programs.
//
// Decisions and folds are plain functions, so most tests need nothing from
// here. [Run] runs tables of given/when/then, [Start] runs whole domains in
// memory, [Check] finds what the compiler cannot: events nobody declared,
// names that do not round-trip, stored formats that changed.
package deedtest

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A Case says what a command decides.
type Case[S any] struct {
	Name  string
	Given []deed.Event[S] // what has happened to the entity
	When  deed.Command[S]
	By    deed.Stamp      // circumstances, for a command that wants them
	Then  []deed.Event[S] // what happens; empty = nothing
	Err   error           // why not, matched with errors.Is; Invalid errors of Validate are matched by ErrInvalid
}

// ErrInvalid as a Case's Err expects the command's Validate to refuse it.
var ErrInvalid = errors.New("invalid")

// Run runs each case as a subtest.
func Run[S any](t *testing.T, cases []Case[S]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			got, err := decide(c)
			if !errors.Is(err, c.Err) {
				t.Fatalf("given %+v\nwhen  %+v\nerr   %v\nwant  %v", c.Given, c.When, err, c.Err)
			}
			if len(got)+len(c.Then) > 0 && !reflect.DeepEqual(got, c.Then) {
				t.Errorf("given %+v\nwhen  %+v\nthen  %+v\nwant  %+v", c.Given, c.When, got, c.Then)
			}
		})
	}
}

func decide[S any](c Case[S]) ([]deed.Event[S], error) {
	if v, ok := c.When.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, errors.Join(ErrInvalid, err)
		}
	}
	cmd := c.When
	if s, ok := cmd.(deed.Stamper[S]); ok {
		cmd = s.Stamp(c.By)
	}
	return cmd.Decide(deed.Fold(c.Given...))
}

// Start runs domains on an in-memory store until the test ends. Inside
// [testing/synctest] everything that waits is instant.
func Start(t testing.TB, domains ...deed.Domain) *deed.Runtime {
	t.Helper()
	return StartOn(t, mem.New(), domains...)
}

// Serve runs domains on a store, serves them over real HTTP until the test
// ends, and returns the server's address, for example "http://127.0.0.1:4711".
func Serve(t testing.TB, s store.Store, domains ...deed.Domain) string {
	t.Helper()
	rt := StartOn(t, s, domains...)
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// StartOn is like [Start] on a store of the caller's. It does not close the
// store.
func StartOn(t testing.TB, s store.Store, domains ...deed.Domain) *deed.Runtime {
	t.Helper()
	rt, err := deed.New(s, deed.Config{Domains: domains, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return rt
}
