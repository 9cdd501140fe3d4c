package deed_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A herd is animals of a kind, which eat and move.
type (
	animal struct {
		Field string
		Eaten int
	}
	bornAt struct{ Field string }
	moved  struct{ Field string }
	ate    struct{ N int }

	beBorn struct{ Field string }
	moveTo struct{ Field string }
	eat    struct{ N int }

	animalDoc struct {
		Field string `json:"field"`
		Eaten int    `json:"eaten"`
	}
	fieldDoc struct {
		Visits int `json:"visits"`
	}
)

func (e bornAt) Apply(a *animal) { a.Field = e.Field }
func (e moved) Apply(a *animal)  { a.Field = e.Field }
func (e ate) Apply(a *animal)    { a.Eaten += e.N }

func (c beBorn) Decide(animal) ([]deed.Event[animal], error) {
	return []deed.Event[animal]{bornAt(c)}, nil
}
func (c moveTo) Decide(animal) ([]deed.Event[animal], error) {
	return []deed.Event[animal]{moved(c)}, nil
}
func (c eat) Decide(animal) ([]deed.Event[animal], error) { return []deed.Event[animal]{ate(c)}, nil }

var (
	herd = deed.Aggregate[animal]{
		Name:   "animal",
		Events: map[string]deed.Event[animal]{"born-at": bornAt{}, "moved": moved{}, "ate": ate{}},
		Commands: map[string]deed.Command[animal]{
			"be-born": beBorn{}, "move": moveTo{}, "eat": eat{},
		},
	}
	animalDocs = deed.Projection[animalDoc]{
		Name: "animals", Indexes: []string{"field", "eaten"},
		On: []deed.Handler[animalDoc]{
			deed.On(func(d *animalDoc, e bornAt) { d.Field = e.Field }),
			deed.On(func(d *animalDoc, e moved) { d.Field = e.Field }),
			deed.On(func(d *animalDoc, e ate) { d.Eaten += e.N }),
		},
	}
	fieldDocs = deed.Projection[fieldDoc]{
		Name: "fields",
		On: []deed.Handler[fieldDoc]{
			deed.OnBy(func(e bornAt) string { return e.Field }, func(d *fieldDoc, _ bornAt) { d.Visits++ }),
			deed.OnBy(func(e moved) string { return e.Field }, func(d *fieldDoc, _ moved) { d.Visits++ }),
		},
	}
)

// What can be asked of the herd.
type (
	inField struct {
		Field string `json:"field"`
	}
	oneAnimal struct {
		ID string `json:"id"`
	}
	herdReport struct {
		Animals map[string]int `json:"animals"`
		Eaten   int            `json:"eaten"`
	}
)

func (q inField) Validate() error { return deed.Required("field", q.Field) }

// herdQueries are the queries of the herd, and how often each was answered anew.
type herdQueries struct {
	animals deed.Query[inField, []string]
	state   deed.Query[oneAnimal, animal]
	visits  deed.Query[inField, int]
	report  deed.Query[inField, herdReport]

	asked atomic.Int64
	parts atomic.Int64
	slow  func(ctx context.Context, what string) error
}

func newHerdQueries() *herdQueries {
	q := &herdQueries{slow: func(context.Context, string) error { return nil }}
	q.animals = deed.Query[inField, []string]{
		Name: "animals-in-field", Doc: "Which animals are in a field.",
		Answer: func(ctx context.Context, r deed.Reader, p inField) ([]string, error) {
			q.asked.Add(1)
			return animalsIn(ctx, r, p.Field)
		},
	}
	q.state = deed.Query[oneAnimal, animal]{
		Name: "state-of-animal",
		Answer: func(ctx context.Context, r deed.Reader, p oneAnimal) (animal, error) {
			q.asked.Add(1)
			a, _, err := herd.Load(ctx, r, p.ID)
			return a, err
		},
	}
	q.visits = deed.Query[inField, int]{
		Name: "visits-of-field",
		Answer: func(ctx context.Context, r deed.Reader, p inField) (int, error) {
			q.asked.Add(1)
			d, err := fieldDocs.Get(ctx, r, p.Field)
			if errors.Is(err, deed.ErrNotFound) {
				err = nil
			}
			return d.Visits, err
		},
	}
	q.report = deed.Query[inField, herdReport]{
		Name: "herd-report", Parallel: 4,
		Parts: deed.FanOut(
			func(ctx context.Context, r deed.Reader, p inField) ([]string, error) {
				q.asked.Add(1)
				if err := q.slow(ctx, "over"); err != nil {
					return nil, err
				}
				return animalsIn(ctx, r, p.Field)
			},
			func(ctx context.Context, r deed.Reader, _ inField, id string) (animalDoc, error) {
				q.parts.Add(1)
				if err := q.slow(ctx, id); err != nil {
					return animalDoc{}, err
				}
				return animalDocs.Get(ctx, r, id)
			},
			func(p inField, parts []animalDoc) (herdReport, error) {
				out := herdReport{Animals: map[string]int{}}
				for _, d := range parts {
					out.Animals[d.Field]++
					out.Eaten += d.Eaten
				}
				return out, nil
			},
		),
	}
	return q
}

func animalsIn(ctx context.Context, r deed.Reader, field string) ([]string, error) {
	ids := []string{}
	for row, err := range animalDocs.Find(ctx, r, store.Query{Where: []store.Cond{{Field: "field", Op: "=", Value: field}}}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, row.Key)
	}
	return ids, nil
}

func (q *herdQueries) domain(more ...deed.Part) deed.Domain {
	return deed.Domain{Name: "herd", Parts: append([]deed.Part{herd, animalDocs, fieldDocs, q.animals, q.state, q.visits, q.report}, more...)}
}

func mustExecute(t testing.TB, rt *deed.Runtime, id string, cmd deed.Command[animal]) deed.Receipt {
	t.Helper()
	r, err := herd.Execute(t.Context(), rt, id, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An answer is given again until something that it rests on has changed, and no
// longer.
func TestQueriesAreAnsweredFromTheCache(t *testing.T) {
	q := newHerdQueries()
	rt := deedtest.Start(t, q.domain())
	for i := range 4 {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{fmt.Sprintf("f-%d", i%2)})
	}
	ask := func(what string, anew bool, want string, f func() (any, deed.Run, error)) {
		t.Helper()
		before := q.asked.Load()
		got, run, err := f()
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v; want %s", what, got, err, want)
		}
		if (q.asked.Load() > before) != anew || run.Cached == anew || run.Inexact || run.Position == "" || run.ID != "" {
			t.Errorf("%s: answered %d times, %+v", what, q.asked.Load()-before, run)
		}
	}
	animals := func() (any, deed.Run, error) {
		v, run, err := q.animals.Ask(t.Context(), rt, inField{"f-0"})
		return v, run, err
	}
	state := func() (any, deed.Run, error) {
		v, run, err := q.state.Ask(t.Context(), rt, oneAnimal{"a-0"})
		return v, run, err
	}
	visits := func() (any, deed.Run, error) {
		v, run, err := q.visits.Ask(t.Context(), rt, inField{"f-9"})
		return v, run, err
	}
	report := func() (any, deed.Run, error) {
		v, run, err := q.report.Ask(t.Context(), rt, inField{"f-0"})
		return v.Eaten, run, err
	}
	ask("animals", true, "[a-0 a-2]", animals)
	ask("animals again", false, "[a-0 a-2]", animals)
	ask("state", true, "{f-0 0}", state)
	ask("state again", false, "{f-0 0}", state)
	ask("visits", true, "0", visits)
	ask("report", true, "0", report)
	ask("report again", false, "0", report)

	mustExecute(t, rt, "a-1", eat{7}) // in the other field
	ask("animals, something else", false, "[a-0 a-2]", animals)
	ask("state, something else", false, "{f-0 0}", state)
	ask("visits, something else", false, "0", visits)
	ask("report, something else", false, "0", report)

	mustExecute(t, rt, "a-3", moveTo{"f-0"}) // into the field
	ask("animals, one has come", true, "[a-0 a-2 a-3]", animals)
	ask("state, another has moved", false, "{f-0 0}", state)
	ask("report, one has come", true, "0", report)

	mustExecute(t, rt, "a-3", moveTo{"f-9"}) // out of it
	ask("animals, one has gone", true, "[a-0 a-2]", animals)
	ask("visits, of a document that was not there", true, "1", visits)

	mustExecute(t, rt, "a-0", eat{5})
	ask("state, it has eaten", true, "{f-0 5}", state)
	ask("report, one has eaten", true, "5", report)
	ask("report again", false, "5", report)

	if _, _, err := q.state.Ask(t.Context(), rt, oneAnimal{"none"}); !errors.Is(err, deed.ErrNotFound) {
		t.Error(err)
	}
	mustExecute(t, rt, "none", beBorn{"f-0"})
	if a, _, err := q.state.Ask(t.Context(), rt, oneAnimal{"none"}); err != nil || a.Field != "f-0" {
		t.Error(a, err)
	}
	if _, _, err := q.animals.Ask(t.Context(), rt, inField{}); !errors.As(err, new(deed.Invalid)) {
		t.Error(err)
	}
}

// A query can be asked of the past, and that is kept too.
func TestQueriesOfThePast(t *testing.T) {
	q := newHerdQueries()
	rt := deedtest.Start(t, q.domain())
	mustExecute(t, rt, "a-0", beBorn{"f-0"})
	first := mustExecute(t, rt, "a-1", beBorn{"f-0"})
	mustExecute(t, rt, "a-0", moveTo{"f-1"})
	then := rt.AtPosition(store.Cursor(first.Position))
	for try := range 3 {
		ids, run, err := q.animals.Ask(t.Context(), then, inField{"f-0"})
		if err != nil || fmt.Sprint(ids) != "[a-0 a-1]" || run.Position != store.Cursor(first.Position) || run.Cached != (try > 0) || run.Inexact {
			t.Errorf("%v, %+v, %v", ids, run, err)
		}
		mustExecute(t, rt, "a-1", eat{1})
	}
	if ids, _, err := q.animals.Ask(t.Context(), rt, inField{"f-0"}); err != nil || fmt.Sprint(ids) != "[a-1]" {
		t.Errorf("%v, %v", ids, err)
	}
	if report, _, err := q.report.Ask(t.Context(), rt.AsOf(time.Now().Add(-time.Hour)), inField{"f-0"}); err != nil || len(report.Animals) > 0 {
		t.Errorf("%v, %v", report, err)
	}
	// A time that is still to come is no past.
	soon := rt.AsOf(time.Now().Add(time.Hour))
	for n := 1; n < 3; n++ {
		a, _, err := q.state.Ask(t.Context(), soon, oneAnimal{"a-0"})
		if err != nil || a.Eaten != n-1 {
			t.Errorf("%+v, %v", a, err)
		}
		mustExecute(t, rt, "a-0", eat{1})
	}
}

// What a query reads of the past by itself counts as what it reads.
func TestQueriesThatReadThePast(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	fed := deed.Query[oneAnimal, int]{Name: "fed", Answer: func(ctx context.Context, r deed.Reader, p oneAnimal) (int, error) {
		d, err := animalDocs.Get(ctx, deed.AsOf(r, soon), p.ID)
		return d.Eaten, err
	}}
	rt := deedtest.Start(t, newHerdQueries().domain(fed))
	mustExecute(t, rt, "a", beBorn{"f"})
	for n := range 3 {
		if eaten, run, err := fed.Ask(t.Context(), rt, oneAnimal{"a"}); err != nil || eaten != n {
			t.Errorf("%d, %+v, %v; want %d", eaten, run, err, n)
		}
		mustExecute(t, rt, "a", eat{1})
	}
	// What is going to be true soon is not settled either.
	for n := 3; n < 5; n++ {
		if eaten, run, err := fed.Ask(t.Context(), rt.EffectiveAt(soon), oneAnimal{"a"}); err != nil || eaten != n || run.Cached {
			t.Errorf("%d, %+v, %v; want %d", eaten, run, err, n)
		}
		mustExecute(t, rt, "a", eat{1})
	}
}

// Those who ask the same at the same time share an answer.
func TestEqualAskingsAreAnsweredOnce(t *testing.T) {
	q := newHerdQueries()
	wait := make(chan struct{})
	q.slow = func(context.Context, string) error { <-wait; return nil }
	rt := deedtest.Start(t, q.domain())
	mustExecute(t, rt, "a-0", beBorn{"f-0"})
	var all sync.WaitGroup
	const askers = 50
	var failed atomic.Int64
	gone, leave := context.WithCancel(t.Context())
	for i := range askers {
		all.Go(func() {
			ctx := t.Context()
			if i == 0 {
				ctx = gone
			}
			r, _, err := q.report.Ask(ctx, rt, inField{"f-0"})
			if i > 0 && (err != nil || r.Animals["f-0"] != 1) || i == 0 && !errors.Is(err, context.Canceled) {
				failed.Add(1)
				t.Errorf("%d: %v, %v", i, r, err)
			}
		})
	}
	for rt.Queries().Stats().Asked < askers {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // the last of them is on its way
	leave()
	time.Sleep(10 * time.Millisecond) // who asked first may have gone: the others get their answer
	close(wait)
	all.Wait()
	if n := q.asked.Load(); n > 2 {
		t.Errorf("%d askings were answered %d times", askers, n)
	}
}

// What a view still lacks makes a query wait, and then say so; unless it may be
// older.
func TestQueriesWaitForViews(t *testing.T) {
	q := newHerdQueries()
	rt := deedtest.Start(t, q.domain())
	mustExecute(t, rt, "a-0", beBorn{"f-0"})
	if _, _, err := q.animals.Ask(t.Context(), rt, inField{"f-0"}); err != nil {
		t.Fatal(err)
	}
	if err := rt.Followers().Pause(t.Context(), "animals"); err != nil {
		t.Fatal(err)
	}
	mustExecute(t, rt, "a-1", beBorn{"f-0"})
	ask := func(a deed.Asking) (deed.Run, error) {
		return rt.Queries().Ask(t.Context(), "animals-in-field", []byte(`{"field":"f-0"}`), a)
	}
	if run, err := ask(deed.Asking{Wait: 10 * time.Millisecond}); !errors.Is(err, deed.ErrBehind) || !deed.IsUnavailable(err) {
		t.Errorf("%+v, %v", run, err)
	}
	if run, err := ask(deed.Asking{MaxAge: time.Hour}); err != nil || string(run.Result) != `["a-0"]` || run.Age <= 0 {
		t.Errorf("%+v, %v", run, err)
	}
	if run, err := rt.Queries().Ask(t.Context(), "herd-report", []byte(`{"field":"f-0"}`), deed.Asking{MaxAge: time.Hour}); err != nil || run.Age <= 0 || !run.Inexact {
		t.Errorf("%+v, %v", run, err)
	}
	if err := rt.Followers().Resume(t.Context(), "animals"); err != nil {
		t.Fatal(err)
	}
	if run, err := ask(deed.Asking{}); err != nil || string(run.Result) != `["a-0","a-1"]` || run.Age != 0 || run.Inexact {
		t.Errorf("%+v, %v", run, err)
	}
}

// A view that event handlers write is read again as soon as any event has come
// that a handler handles.
func TestQueriesOfViewsThatHandlersWrite(t *testing.T) {
	count := deed.View[int]{Name: "count"}
	asked := 0
	counted := deed.Query[struct{}, int]{Name: "counted", Answer: func(ctx context.Context, r deed.Reader, _ struct{}) (int, error) {
		asked++
		n, err := count.Get(ctx, r, "all")
		if errors.Is(err, deed.ErrNotFound) {
			err = nil
		}
		return n, err
	}}
	handler := deed.EventHandler{Name: "counter", On: []deed.Reaction{deed.Handle(func(ctx context.Context, tx *deed.Tx, _ bornAt) error {
		n, err := count.Look(ctx, tx, "all")
		if err != nil && !errors.Is(err, deed.ErrNotFound) {
			return err
		}
		return count.Put(tx, "all", n+1)
	})}}
	rt := deedtest.Start(t, newHerdQueries().domain(count, counted, handler))
	for i := range 5 {
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{"f"})
		mustExecute(t, rt, fmt.Sprintf("a-%d", i), eat{1})
		for range 2 {
			if n, run, err := counted.Ask(t.Context(), rt, struct{}{}); err != nil || n != i+1 {
				t.Errorf("%d, %+v, %v; want %d", n, run, err, i+1)
			}
		}
	}
	if asked != 5 {
		t.Errorf("answered %d times, want 5", asked)
	}
}

var (
	queryTime    = flag.Duration("querytime", 1500*time.Millisecond, "how long clients ask while others write")
	queryClients = flag.Int("queryclients", 16, "how many clients ask")
)

// Clients ask while others write. No answer is ever anything but what a fold of
// the log up to its position comes to, and none is older than its asking.
func TestNoAnswerIsStale(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		q := newHerdQueries()
		rt := deedtest.StartOn(t, open(t), q.domain())
		const animals, fields = 40, 10
		for i := range animals {
			mustExecute(t, rt, fmt.Sprintf("a-%d", i), beBorn{fmt.Sprintf("f-%d", i%fields)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), *queryTime)
		defer cancel()
		var all sync.WaitGroup
		var writes atomic.Int64
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, 1))
			for ctx.Err() == nil {
				id := fmt.Sprintf("a-%d", rnd.IntN(animals))
				var cmd deed.Command[animal] = eat{1}
				if rnd.IntN(4) == 0 {
					cmd = moveTo{fmt.Sprintf("f-%d", rnd.IntN(fields))}
				}
				if _, err := herd.Execute(ctx, rt, id, cmd); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				writes.Add(1)
				time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond)
			}
		})
		type given struct {
			name, params, result string
			run                  deed.Run
			asked                store.Cursor
		}
		var mu sync.Mutex
		var answers []given
		for c := range *queryClients {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(2, uint64(c)))
				for ctx.Err() == nil {
					name := []string{"animals-in-field", "state-of-animal", "visits-of-field", "herd-report"}[rnd.IntN(4)]
					params := fmt.Sprintf(`{"field":"f-%d"}`, rnd.IntN(fields))
					if name == "state-of-animal" {
						params = fmt.Sprintf(`{"id":"a-%d"}`, rnd.IntN(20))
					}
					asked, err := rt.Store().Head(ctx)
					if err != nil {
						continue
					}
					run, err := rt.Queries().Ask(ctx, name, []byte(params), deed.Asking{})
					if err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						continue
					}
					mu.Lock()
					answers = append(answers, given{name, params, string(run.Result), run, asked})
					mu.Unlock()
				}
			})
		}
		all.Wait()
		stats := rt.Queries().Stats()
		rnd := rand.New(rand.NewPCG(3, 3))
		rnd.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
		checked := answers[:min(len(answers), 300)]
		for _, g := range answers {
			if g.run.Inexact || !g.run.Position.Covers(lastOf(g.asked)) {
				t.Fatalf("asked at %s, answered as of %s: %+v", g.asked, g.run.Position, g.run)
			}
		}
		for _, g := range checked {
			fold, err := rt.Queries().Ask(t.Context(), g.name, []byte(g.params), deed.Asking{Of: rt.AtPosition(g.run.Position)})
			if err != nil || string(fold.Result) != g.result {
				t.Fatalf("%s %s at %s (cached: %v): %s, and folded %s, %v", g.name, g.params, g.run.Position, g.run.Cached, g.result, fold.Result, err)
			}
		}
		t.Logf("%d answers of %d clients beside %d commands: %d%% from the cache, %d made; %d compared with a fold",
			len(answers), *queryClients, writes.Load(), 100*stats.Cached/max(stats.Asked, 1), stats.Computed, len(checked))
		if len(answers) == 0 || len(answers) > 1000 && stats.Cached == 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func lastOf(c store.Cursor) store.Position {
	if ps := c.Positions(); len(ps) > 0 {
		return ps[0]
	}
	return store.Position{}
}

// An answer from the cache against one that is made, of a view with many
// documents.
func BenchmarkQuery(b *testing.B) {
	q := newHerdQueries()
	rt := deedtest.StartOn(b, mem.New(), q.domain())
	for i := range 2000 {
		mustExecute(b, rt, fmt.Sprintf("a-%d", i), beBorn{fmt.Sprintf("f-%d", i%10)})
	}
	ask := func(b *testing.B, name, params string) {
		if _, err := rt.Queries().Ask(b.Context(), name, []byte(params), deed.Asking{}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cached", func(b *testing.B) {
		ask(b, "herd-report", `{"field":"f-1"}`)
		for b.Loop() {
			ask(b, "herd-report", `{"field":"f-1"}`)
		}
	})
	b.Run("made", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			mustExecute(b, rt, "a-1", eat{1})
			if err := rt.WaitFor(b.Context(), mustExecute(b, rt, "a-1", eat{1})); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			ask(b, "herd-report", `{"field":"f-1"}`)
		}
	})
}
