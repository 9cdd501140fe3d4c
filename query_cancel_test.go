package deed_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A run that is called off, by whichever node, stops, and nothing becomes of it.
func TestCancelRun(t *testing.T) {
	q := newHerdQueries()
	began, stopped := make(chan string, 10), make(chan string, 10)
	var blocked atomic.Bool
	blocked.Store(true)
	q.slow = func(ctx context.Context, what string) error {
		if !strings.HasPrefix(what, "a-") || !blocked.Load() { // no part is ever done: nothing else would stop them
			return nil
		}
		began <- what
		<-ctx.Done()
		stopped <- what
		return ctx.Err()
	}
	ended := make(chan string, 10)
	tell := deed.EventHandler{Name: "tell", On: []deed.Reaction{deed.HandleRun(func(_ context.Context, _ *deed.Tx, e deed.RunEvent) error {
		ended <- e.ID
		return nil
	})}}
	s := mem.New()
	rt, stop := startHerd(t, s, q, nil, tell)
	other, err := deed.New(s, deed.Config{Domains: []deed.Domain{q.domain(tell)}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a-0", "a-1", "a-2"} {
		mustExecute(t, rt, id, beBorn{"f"})
	}
	start := func(rt *deed.Runtime, id string) {
		t.Helper()
		if _, err := rt.Queries().Start(deed.With(t.Context(), deed.Call{ID: id, Actor: "ann"}), "herd-report", []byte(`{"field":"f"}`), deed.Asking{}); err != nil {
			t.Fatal(err)
		}
	}
	start(rt, "r-1")
	for range 3 {
		<-began
	}
	if err := other.Queries().Cancel(deed.With(t.Context(), deed.Call{Actor: "bob"}), "r-1", "asked twice"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Fatal("the part that is under way does not stop")
	}
	run := await(t, rt, "r-1")
	if run.State != deed.RunCancelled || run.Reason != "asked twice" || run.Code != "" || run.Actor != "ann" || run.Finished.IsZero() || run.Result != nil {
		t.Errorf("%+v", run)
	}
	cancelled := typesOf(t, s, "$query/r-1")
	if cancelled != "asked parts-requested cancelled" {
		t.Error(cancelled)
	}
	for rec, err := range s.Read(t.Context(), "$query/r-1", store.Range{Backward: true, Limit: 1}) {
		if err != nil || !strings.Contains(string(rec.Meta), `"bob"`) {
			t.Errorf("%s, %v", rec.Meta, err)
		}
	}
	for id, want := range map[string]error{"r-1": deed.ErrStands, "none": deed.ErrNotFound} {
		if err := rt.Queries().Cancel(t.Context(), id, ""); !errors.Is(err, want) {
			t.Errorf("%s: %v", id, err)
		}
	}

	// Nobody goes on with it, and nobody is told.
	stop()
	start(other, "r-2") // nobody runs
	if err := other.Queries().Cancel(t.Context(), "r-2", ""); err != nil {
		t.Fatal(err)
	}
	blocked.Store(false)
	rt, _ = startHerd(t, s, q, nil, tell)
	start(rt, "r-3")
	if run := await(t, rt, "r-3"); run.State != deed.RunCompleted {
		t.Errorf("%+v", run)
	}
	select {
	case id := <-ended:
		if id != "r-3" {
			t.Errorf("the end of %s is told", id)
		}
	case <-time.After(30 * time.Second):
		t.Error("the end of r-3 is not told")
	}
	if got := typesOf(t, s, "$query/r-1"); got != cancelled {
		t.Error(got)
	}
	if got := typesOf(t, s, "$query/r-2"); got != "asked cancelled" {
		t.Error(got)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pending := 0
		for _, err := range s.List(t.Context(), "$pending/queries", "", "") {
			if err != nil {
				t.Fatal(err)
			}
			pending++
		}
		if pending == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d runs are pending", pending)
		}
	}
}
