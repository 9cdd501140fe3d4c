package deed_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// typesOf lists the types of the events of a stream.
func typesOf(t testing.TB, s store.Store, stream string) string {
	t.Helper()
	var all []string
	for rec, err := range s.Read(t.Context(), stream, store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec.Type)
	}
	return strings.Join(all, " ")
}

// startHerd runs a program with the queries until the test ends or it is stopped.
func startHerd(t testing.TB, s store.Store, q *herdQueries, change func(*deed.Config), more ...deed.Part) (*deed.Runtime, func()) {
	t.Helper()
	cfg := deed.Config{Domains: []deed.Domain{q.domain(more...)}, Logger: slog.New(slog.DiscardHandler), Poll: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	rt, err := deed.New(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return rt, stop
}

func await(t testing.TB, rt *deed.Runtime, id string) deed.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	run, err := rt.Queries().Wait(ctx, id)
	if err != nil {
		t.Fatalf("%+v, %v", run, err)
	}
	return run
}

// A recorded asking has a stream, and is answered as of when it was asked.
func TestRunsOfQueries(t *testing.T) {
	q := newHerdQueries()
	s := mem.New()
	rt, _ := startHerd(t, s, q, nil)
	for i := range 5 {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{"f"})
	}
	start := func(id, name, params string) (deed.Run, error) {
		return rt.Queries().Start(deed.With(t.Context(), deed.Call{ID: id, Actor: "ann", Source: "test"}), name, []byte(params), deed.Asking{})
	}
	run, err := start("r-1", "herd-report", `{"field":"f"}`)
	if err != nil || run.ID != "r-1" || run.State != deed.RunAsked || run.Actor != "ann" || run.Asked.IsZero() {
		t.Fatalf("%+v, %v", run, err)
	}
	done := await(t, rt, "r-1")
	if string(done.Result) != `{"animals":{"f":5},"eaten":0}` || done.State != deed.RunCompleted || done.Parts != 5 || done.Answered != 5 || done.Inexact || done.Finished.IsZero() {
		t.Errorf("%+v", done)
	}
	if got := typesOf(t, s, "$query/r-1"); !strings.HasPrefix(got, "asked parts-requested parts-answered") || !strings.HasSuffix(got, " completed") {
		t.Error(got)
	}
	again, err := start("r-1", "herd-report", `{"field":"f"}`)
	if err != nil || string(again.Result) != string(done.Result) {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := start("r-1", "herd-report", `{"field":"g"}`); !errors.Is(err, deed.ErrMismatch) {
		t.Error(err)
	}
	if _, err := start("r-2", "state-of-animal", `{"id":"none"}`); err != nil {
		t.Fatal(err)
	}
	if no := await(t, rt, "r-2"); no.State != deed.RunRejected || no.Code != "not_found" {
		t.Errorf("%+v", no)
	}
	if _, err := start("r-3", "animals-in-field", `{}`); !errors.As(err, new(deed.Invalid)) {
		t.Error(err)
	}
	if bad, err := rt.Queries().Get(t.Context(), "r-3"); err != nil || bad.State != deed.RunInvalid || len(bad.Findings) != 1 || bad.Findings[0].Field != "field" {
		t.Errorf("%+v, %v", bad, err)
	}
	if got := typesOf(t, s, "$query/r-3"); got != "invalid" {
		t.Error(got)
	}
	if _, err := start("r-4", "none", `{}`); !errors.Is(err, deed.ErrUnknown) {
		t.Error(err)
	}
	if _, err := rt.Queries().Get(t.Context(), "none"); !errors.Is(err, deed.ErrNotFound) {
		t.Error(err)
	}

	// One that is answered at once is recorded if it has an id: in one event.
	ask := func(id string) (deed.Run, error) {
		return rt.Queries().Ask(deed.With(t.Context(), deed.Call{ID: id}), "animals-in-field", []byte(`{"field":"f"}`), deed.Asking{})
	}
	at, err := ask("r-5")
	if err != nil || at.ID != "r-5" || at.State != deed.RunCompleted || typesOf(t, s, "$query/r-5") != "answered" {
		t.Errorf("%+v, %v", at, err)
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(""); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Head(t.Context()); err != nil || now != head {
		t.Errorf("asking without an id has written something: %s, before %s, %v", now, head, err)
	}
	mustExecute(t, rt, "a-9", beBorn{"f"})
	if same, err := ask("r-5"); err != nil || string(same.Result) != string(at.Result) {
		t.Errorf("%+v, %v", same, err)
	}
	views := map[string]deed.RunState{}
	if err := rt.WaitForView(t.Context(), "query-runs", head); err != nil {
		t.Fatal(err)
	}
	for row, err := range (deed.View[deed.Run]{Name: "query-runs"}).All(t.Context(), rt) {
		if err != nil || row.Value.Result != nil || row.Value.Parameters != nil {
			t.Errorf("%+v, %v", row, err)
		}
		views[row.Key] = row.Value.State
	}
	if want := "map[r-1:completed r-2:rejected r-3:invalid r-5:completed]"; fmt.Sprint(views) != want {
		t.Errorf("got %v, want %s", views, want)
	}
}

// What fails is tried again; what fails too often, or panics, is over.
func TestRunsThatFail(t *testing.T) {
	q := newHerdQueries()
	q.report.Retry = deed.Retry{Attempts: 3, First: time.Millisecond}
	var mu sync.Mutex
	failures := map[string]int{"over": 1, "a-1": 1}
	q.slow = func(_ context.Context, what string) error {
		mu.Lock()
		defer mu.Unlock()
		if failures[what]--; failures[what] >= 0 {
			return fmt.Errorf("the line to %s is dead", what)
		}
		if failures[what] == -100 {
			panic("out of order")
		}
		return nil
	}
	s := mem.New()
	rt, _ := startHerd(t, s, q, nil)
	for i := range 3 {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{"f"})
	}
	run := func(id string) deed.Run {
		t.Helper()
		if _, err := rt.Queries().Start(deed.With(t.Context(), deed.Call{ID: id}), "herd-report", []byte(`{"field":"f"}`), deed.Asking{}); err != nil {
			t.Fatal(err)
		}
		return await(t, rt, id)
	}
	if r := run("r-1"); r.State != deed.RunCompleted || r.Attempts != 2 || r.Reason != "" || string(r.Result) != `{"animals":{"f":3},"eaten":0}` {
		t.Errorf("%+v", r)
	}
	mu.Lock()
	failures["a-2"] = 1000
	mu.Unlock()
	if r := run("r-2"); r.State != deed.RunFailed || r.Attempts != 3 || !strings.Contains(r.Reason, "the line to a-2 is dead") {
		t.Errorf("%+v", r)
	}
	mu.Lock()
	failures["a-2"] = -99
	mu.Unlock()
	if r := run("r-3"); r.State != deed.RunFailed || r.Attempts != 1 || !strings.Contains(r.Reason, "panicked") {
		t.Errorf("%+v", r)
	}
}

var (
	queryRuns  = flag.Int("queryruns", 40, "how many recorded queries are broken off at random places")
	laterFacts = flag.Int("laterfacts", 500, "how many events are recorded before answers are read again")
)

// Recorded queries are broken off at any place, again and again, while others
// write. Each finishes with what an undisturbed one would have come to, and that
// stays the same to the byte.
func TestRunsAreResumed(t *testing.T) {
	s := mem.New()
	q := newHerdQueries()
	rt, stop := startHerd(t, s, q, nil)
	rnd := rand.New(rand.NewPCG(4, 4))
	const animals = 30
	for i := range animals {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{"f-0"})
	}
	stop()
	// The program is told to stop, or cannot reach its store any more, at a random
	// part of a random run.
	for n := 0; n < *queryRuns; n++ {
		id := fmt.Sprintf("r-%d", n)
		first := true
		for kills := rnd.IntN(4); ; kills-- {
			q := newHerdQueries()
			cut := make(chan struct{})
			left := rnd.IntN(animals + 2)
			var mu sync.Mutex
			q.slow = func(ctx context.Context, _ string) error {
				mu.Lock()
				left--
				now := left == 0 && kills > 0
				mu.Unlock()
				if now {
					close(cut)
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			rt, stop := startHerd(t, s, q, nil)
			if first {
				first = false
				if _, err := rt.Queries().Start(deed.With(t.Context(), deed.Call{ID: id}), "herd-report", []byte(`{"field":"f-0"}`), deed.Asking{}); err != nil {
					t.Fatal(err)
				}
			}
			over := make(chan struct{})
			go func() { defer close(over); await(t, rt, id) }()
			// What is recorded meanwhile changes nothing.
			mustExecute(t, rt, fmt.Sprintf("a-%d", rnd.IntN(animals)), moveTo{fmt.Sprintf("f-%d", rnd.IntN(3))})
			mustExecute(t, rt, fmt.Sprintf("a-%d", rnd.IntN(animals)), eat{1})
			select {
			case <-cut:
				stop()
				<-time.After(0)
				continue
			case <-over:
			}
			stop()
			break
		}
	}
	rt, _ = startHerd(t, s, newHerdQueries(), nil)
	results := map[string]string{}
	for n := 0; n < *queryRuns; n++ {
		id := fmt.Sprintf("r-%d", n)
		run := await(t, rt, id)
		var asked store.Cursor
		for rec, err := range s.Read(t.Context(), "$query/"+id, store.Range{Limit: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			asked = store.CursorAt(rec.Position)
		}
		fold, err := rt.Queries().Ask(t.Context(), "herd-report", []byte(`{"field":"f-0"}`), deed.Asking{Of: rt.AtPosition(asked)})
		if err != nil || run.State != deed.RunCompleted || string(fold.Result) != string(run.Result) || run.Inexact || run.Answered != run.Parts {
			t.Errorf("%s: %+v; an undisturbed one comes to %s, %v", id, run, fold.Result, err)
		}
		results[id] = string(run.Result)
	}
	for i := range *laterFacts {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i%animals), eat{1})
	}
	for id, want := range results {
		if run, err := rt.Queries().Get(t.Context(), id); err != nil || string(run.Result) != want {
			t.Errorf("%s: %s, and before %s, %v", id, run.Result, want, err)
		}
	}
}

// Who asks for the changes of an answer gets each answer once.
func TestNextAnswer(t *testing.T) {
	q := newHerdQueries()
	rt := deedtest.Start(t, q.domain())
	var last deed.Run
	next := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		run, err := rt.Queries().Next(ctx, "state-of-animal", []byte(`{"id":"a"}`), deed.Asking{}, last)
		if err != nil || string(run.Result)+run.Code != want {
			t.Fatalf("%+v, %v; want %s", run, err, want)
		}
		last = run
	}
	next("not_found")
	mustExecute(t, rt, "a", beBorn{"f"})
	next(`{"Field":"f","Eaten":0}`)
	before := q.asked.Load()
	done := make(chan struct{})
	go func() { defer close(done); next(`{"Field":"f","Eaten":3}`) }()
	for range 50 {
		mustExecute(t, rt, "b", eat{1})
	}
	mustExecute(t, rt, "a", eat{3})
	<-done
	if n := q.asked.Load() - before; n > 4 {
		t.Errorf("answered %d times", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if run, err := rt.Queries().Next(ctx, "state-of-animal", []byte(`{"id":"a"}`), deed.Asking{}, last); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", run, err)
	}
}
