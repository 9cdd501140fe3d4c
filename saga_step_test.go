package deed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// tale is a stage with a runtime that runs anything.
type tale struct {
	*testing.T
	rt *deed.Runtime
	s  *mem.Store
}

// tell runs parts while f does something with them, in a bubble of its own time.
func tell(t *testing.T, f func(*tale), parts ...deed.Part) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &tale{T: t, s: mem.New()}
		rt, stop := runSlowly(t, p.s, deed.Domain{Name: "test", Parts: parts})
		defer stop()
		p.rt = rt
		f(p)
	})
}

func (p *tale) ok(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *tale) fill(vault string, n int) {
	p.Helper()
	_, err := vaults.Execute(p.Context(), p.rt, vault, drop{n})
	p.ok(err)
}

// expectCoins compares what is in vaults, in the order "a 1, b 2".
func (p *tale) expectCoins(want string) {
	p.Helper()
	var got []string
	for _, one := range strings.Split(want, ", ") {
		vault, _, _ := strings.Cut(one, " ")
		j, _, err := vaults.Load(p.Context(), p.rt, vault)
		if err != nil && !errors.Is(err, deed.ErrNotFound) {
			p.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d", vault, j.Coins))
	}
	if s := strings.Join(got, ", "); s != want {
		p.Errorf("in the vaults is %s, wanted %s", s, want)
	}
}

// saga waits until a saga is over or stuck, and says what became of it.
func (p *tale) saga(name, id string) (deed.Instance, string) {
	p.Helper()
	i, err := p.rt.Instances().Wait(p.Context(), "saga", name, id)
	p.ok(err)
	return i, story(i)
}

func story(i deed.Instance) string {
	got := []string{strings.TrimSpace(string(i.State) + " " + i.Code)}
	for _, st := range i.Steps {
		got = append(got, st.Name+" "+string(st.State))
	}
	return strings.Join(got, ", ")
}

func (p *tale) expect(got, want string) {
	p.Helper()
	if got != want {
		p.Errorf("got\n%s, wanted\n%s", got, want)
	}
}

// count returns how many records of a type a stream has.
func (p *tale) count(stream, typ string) (n int) {
	p.Helper()
	for rec, err := range p.s.Read(p.Context(), stream, store.Range{}) {
		p.ok(err)
		if typ == "" || rec.Type == typ {
			n++
		}
	}
	return n
}

// none is the state of a saga that needs none.
type none struct{}

// sends makes a function that sends the same commands for every saga.
func sends(all ...deed.Sending) func(string, none) []deed.Sending {
	return func(string, none) []deed.Sending { return all }
}

func takeFrom(vault string, n int) deed.Sending { return deed.Send(vaults, vault, take{n}) }
func dropInto(vault string, n int) deed.Sending { return deed.Send(vaults, vault, drop{n}) }

// A step that sends several commands happens wholly or not at all, and so does
// its undoing.
func TestStepIsOneThing(t *testing.T) {
	g := deed.Saga[none]{Name: "swap", Steps: []deed.SagaStep[none]{
		{Name: "both", Send: sends(takeFrom("a", 5), takeFrom("b", 5), dropInto("c", 10))},
	}}
	tell(t, func(p *tale) {
		p.fill("a", 50)
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		_, got := p.saga("swap", "s")
		p.expect(got, "undone too_few, both refused")
		p.expectCoins("a 50, b 0, c 0")
	}, vaults, g)

	undo := deed.Saga[none]{Name: "lend", Steps: []deed.SagaStep[none]{
		{Name: "give", Send: sends(dropInto("a", 1), dropInto("b", 1)), Undo: sends(takeFrom("a", 1), takeFrom("b", 1))},
		{Name: "wait", Ask: func(string, none) deed.Question { return deed.Question{Text: "well?"} }},
	}}
	tell(t, func(p *tale) {
		_, err := undo.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		_, err = vaults.Execute(p.Context(), p.rt, "b", take{1})
		p.ok(err)
		_, err = p.rt.Instances().Cancel(p.Context(), "saga", "lend", "s", "changed my mind")
		p.ok(err)
		i, got := p.saga("lend", "s")
		p.expect(got, "stuck stuck, give undoing, wait refused")
		if !strings.Contains(i.Reason, "there are not that many coins") || !strings.Contains(i.Reason, "changed my mind") {
			p.Error(i.Reason)
		}
		p.expectCoins("a 1, b 0")
		p.fill("b", 1)
		_, err = p.rt.Instances().Retry(p.Context(), "saga", "lend", "s", "there is a coin now")
		p.ok(err)
		i, got = p.saga("lend", "s")
		p.expect(got, "undone cancelled, give undone, wait refused")
		p.expect(i.Reason, "changed my mind")
		p.expectCoins("a 0, b 0")
	}, vaults, undo)
}

// Seats in a hall are claimed by number.
type (
	hall    struct{ Seats int }
	sat     struct{ N int }
	stood   struct{ N int }
	sitDown struct{ N int }
	standUp struct{ N int }
)

func (e sat) Apply(h *hall)        { h.Seats++ }
func (e stood) Apply(h *hall)      { h.Seats-- }
func (e sat) Claims() []deed.Claim { return []deed.Claim{{Scope: "seat", Value: fmt.Sprint(e.N)}} }
func (e stood) Claims() []deed.Claim {
	return []deed.Claim{{Scope: "seat", Value: fmt.Sprint(e.N), Release: true}}
}
func (c sitDown) Decide(hall) ([]deed.Event[hall], error) { return []deed.Event[hall]{sat(c)}, nil }
func (c standUp) Decide(hall) ([]deed.Event[hall], error) { return []deed.Event[hall]{stood(c)}, nil }

var guests = deed.Aggregate[hall]{
	Name:     "guest",
	Events:   map[string]deed.Event[hall]{"sat": sat{}, "stood": stood{}},
	Commands: map[string]deed.Command[hall]{"sit": sitDown{}, "stand": standUp{}},
}

// A claim that cannot be had refuses the step; what one step releases the next
// can take, in the same append.
func TestStepsClaim(t *testing.T) {
	g := deed.Saga[none]{Name: "seat", Steps: []deed.SagaStep[none]{
		{Name: "pay", Send: sends(dropInto("till", 3)), Undo: sends(takeFrom("till", 3))},
		{Name: "stand", Send: sends(deed.Send(guests, "ann", standUp{1})), Undo: sends(deed.Send(guests, "ann", sitDown{1}))},
		{Name: "sit", Send: sends(deed.Send(guests, "ben", sitDown{1}), deed.Send(guests, "cat", sitDown{2}))},
	}}
	for _, c := range []struct {
		ann, cat int
		want     string
		coins    string
	}{
		{1, 0, "completed, pay done, stand done, sit done", "till 3"},
		{1, 2, "undone claim_taken, pay undone, stand undone, sit refused", "till 0"},
	} {
		tell(t, func(p *tale) {
			_, err := guests.Execute(p.Context(), p.rt, "ann", sitDown{c.ann})
			p.ok(err)
			if c.cat > 0 {
				_, err := guests.Execute(p.Context(), p.rt, "dan", sitDown{c.cat})
				p.ok(err)
			}
			_, err = g.Start(p.Context(), p.rt, "s", none{})
			p.ok(err)
			_, got := p.saga("seat", "s")
			p.expect(got, c.want)
			p.expectCoins(c.coins)
			_, err = guests.Execute(p.Context(), p.rt, "eve", sitDown{1})
			if !errors.As(err, &deed.Rejected{}) {
				p.Errorf("seat 1 is free: %v", err)
			}
		}, vaults, guests, g)
	}
}

// Many steps share appends; one that is too much for an append gets the saga
// stuck, and what was done outside before is not done again.
func TestStepsThatAreTooMuch(t *testing.T) {
	many := deed.Saga[none]{Name: "many"}
	for n := range 1000 {
		vault := fmt.Sprint(n % 300)
		many.Steps = append(many.Steps, deed.SagaStep[none]{Name: fmt.Sprintf("s-%d", n), Send: sends(dropInto(vault, 1)), Undo: sends(takeFrom(vault, 1))})
	}
	last := deed.SagaStep[none]{Name: "last", Send: sends(takeFrom("x", 1))}
	too := many
	too.Name, too.Steps = "too", append(too.Steps[:len(too.Steps):len(too.Steps)], last)
	tell(t, func(p *tale) {
		for _, g := range []deed.Saga[none]{many, too} {
			_, err := g.Start(p.Context(), p.rt, "s", none{})
			p.ok(err)
			p.saga(g.Name, "s")
		}
		i, _ := p.saga("many", "s")
		p.expect(string(i.State)+fmt.Sprint(i.Commands), "completed1000")
		i, _ = p.saga("too", "s")
		p.expect(string(i.State)+fmt.Sprint(i.Commands), "undone2000")
		p.expectCoins("0 4, 99 4, 100 3, 299 3")
		if n := p.count("$saga/many/s", ""); n > 10 {
			p.Errorf("%d records for 1,000 steps", n)
		}
	}, vaults, many, too)

	var all []deed.Sending
	for n := range 600 {
		all = append(all, dropInto(fmt.Sprint(n), 1))
	}
	calls := 0
	g := deed.Saga[none]{Name: "wide", Steps: []deed.SagaStep[none]{
		{Name: "pay", Send: sends(dropInto("till", 3)), Undo: sends(takeFrom("till", 3))},
		{Name: "call", Do: func(context.Context, *deed.Work, *none) error { calls++; return nil }},
		{Name: "spread", Send: sends(all...)},
	}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		i, got := p.saga("wide", "s")
		p.expect(got, "stuck stuck, pay done, call done")
		if calls != 1 || !strings.Contains(i.Reason, "500 streams") {
			p.Errorf("%d calls; %s", calls, i.Reason)
		}
		_, err = p.rt.Instances().Cancel(p.Context(), "saga", "wide", "s", "never mind")
		p.ok(err)
		_, got = p.saga("wide", "s")
		p.expect(got, "undone cancelled, pay undone, call undone")
		p.expectCoins("till 0, 0 0, 599 0")
	}, vaults, g)
}

// What only was to begin when the step beside it was refused has not begun, so
// there is nothing to undo of it.
func TestBesideARefusal(t *testing.T) {
	o := &outside{}
	g := deed.Saga[none]{Name: "pair", Steps: []deed.SagaStep[none]{
		{
			Name: "call", Do: func(context.Context, *deed.Work, *none) error { return o.call("call", "") },
			UndoDo: func(context.Context, *deed.Work, *none) error { return o.call("uncall", "") },
		},
		{Name: "ask", Beside: true, Ask: func(string, none) deed.Question { return deed.Question{Text: "well?"} }},
		{Name: "take", Beside: true, Send: sends(takeFrom("a", 1))},
	}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		_, got := p.saga("pair", "s")
		p.expect(got, "undone too_few, call refused, ask refused, take refused")
		time.Sleep(time.Minute)
		p.expect(o.done(), "")
		if open, err := p.rt.Tasks().Find(p.Context(), store.Query{Where: []store.Cond{{Field: "state", Op: "=", Value: deed.TaskOpen}}}); err != nil || len(open) > 0 {
			p.Errorf("open tasks: %+v, %v", open, err)
		}
	}, vaults, g)
}

// Entities that only sagas and processes send commands to have snapshots too.
func TestSagaTakesSnapshots(t *testing.T) {
	kept := vaults
	kept.Name, kept.Snapshot = "kept", deed.Snapshot{Every: 10}
	var all []deed.Sending
	for range 25 {
		all = append(all, deed.Send(kept, "a", drop{1}))
	}
	g := deed.Saga[none]{Name: "fill", Steps: []deed.SagaStep[none]{{Name: "drop", Send: sends(all...)}}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		synctest.Wait()
		if _, err := p.s.Get(p.Context(), "$snapshot/kept", "a"); err != nil {
			p.Error(err)
		}
	}, kept, g)
}

// A program that is started again knows which entities the steps of a saga have
// asked commands of.
func TestSagaStillKnowsItsEntities(t *testing.T) {
	g := deed.Saga[none]{Name: "fill", Steps: []deed.SagaStep[none]{{
		Name: "drop", Do: func(ctx context.Context, w *deed.Work, _ *none) error {
			return w.Ask(ctx, deed.Send(vaults, "a", drop{1}))
		},
	}}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		p.saga("fill", "s")
		again, err := deed.New(p.s, deed.Config{Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{vaults, g}}}})
		p.ok(err)
		for _, rt := range []*deed.Runtime{p.rt, again} {
			if i, err := rt.Instances().Get(p.Context(), "saga", "fill", "s"); err != nil || fmt.Sprint(i.Entities) != "[vault/a]" {
				p.Errorf("%v, %v", i.Entities, err)
			}
		}
	}, vaults, g)
}

// A tally must not be counted twice.
type (
	tally   struct{ N int }
	tallied struct{ Bad bool }
	countIt struct{ Bad bool }
)

func (e tallied) Apply(t *tally) {
	if t.N++; e.Bad {
		panic("it cannot count that")
	}
}

func (c countIt) Decide(t tally) ([]deed.Event[tally], error) {
	if t.N > 0 {
		return nil, deed.Reason{Code: "counted", Text: "it is counted"}
	}
	return []deed.Event[tally]{tallied(c)}, nil
}

var tallies = deed.Aggregate[tally]{
	Name:     "tally",
	Events:   map[string]deed.Event[tally]{"counted": tallied{}},
	Commands: map[string]deed.Command[tally]{"count": countIt{}},
}

// What an Apply has done before it panicked is not there any more for the next
// command.
func TestSagaWhoseCommandPanics(t *testing.T) {
	g := deed.Saga[none]{Name: "count", Steps: []deed.SagaStep[none]{{Name: "count", Send: sends(deed.Send(tallies, "a", countIt{Bad: true}))}}}
	tell(t, func(p *tale) {
		if _, err := g.Start(p.Context(), p.rt, "s", none{}); err == nil {
			p.Error("it was begun")
		}
		_, err := tallies.Execute(p.Context(), p.rt, "a", countIt{})
		p.ok(err)
	}, tallies, g)
}
