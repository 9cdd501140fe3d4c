package deed_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// An instance whose code fails is stuck, while others go on, and completed when
// the code is repaired and somebody wants it tried again.
func TestBrokenCodeSticks(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	var calls atomic.Int64
	g := deed.Saga[haul]{Name: "trip", Steps: []deed.SagaStep[haul]{
		{Name: "call", Do: func(context.Context, *deed.Work, *haul) error { calls.Add(1); return nil }},
		{Name: "pay", Send: func(_ string, h haul) []deed.Sending {
			if broken.Load() && h.N == 13 {
				panic("thirteen")
			}
			return []deed.Sending{dropInto("a", h.N)}
		}},
	}}
	late := deed.Process[none]{Name: "late", On: []deed.ProcessReaction[none]{
		deed.Start(func(*none, requested) []deed.Action { return []deed.Action{deed.After("soon", time.Minute)} }),
		deed.OnTimer("soon", func(*none) []deed.Action {
			if broken.Load() {
				panic("too late")
			}
			return []deed.Action{deed.Done()}
		}),
		deed.React(func(*none, revoked) []deed.Action { return []deed.Action{deed.Fail(deed.Reason{Code: "revoked"})} }),
	}}
	tell(t, func(p *tale) {
		all := p.rt.Instances()
		for id, n := range map[string]int{"bad": 13, "good": 1, "gone": 13} {
			_, err := g.Start(p.Context(), p.rt, id, haul{N: n})
			p.ok(err)
		}
		for _, id := range []string{"r", "s"} {
			_, err := requests.Execute(p.Context(), p.rt, id, ask{})
			p.ok(err)
		}
		_, got := p.saga("trip", "good")
		p.expect(got, "completed, call done, pay done")
		i, got := p.saga("trip", "bad")
		p.expect(got, "stuck stuck, call done")
		if !strings.Contains(i.Reason, "thirteen") {
			p.Error(i.Reason)
		}
		p.saga("trip", "gone")
		_, err := all.Cancel(p.Context(), "saga", "trip", "gone", "never mind")
		p.ok(err)
		_, got = p.saga("trip", "gone")
		p.expect(got, "undone cancelled, call undone")

		time.Sleep(time.Hour)
		i, err = all.Wait(p.Context(), "process", "late", "r")
		p.ok(err)
		p.expect(story(i), "stuck stuck")
		_, err = requests.Execute(p.Context(), p.rt, "s", revoke{}) // it still takes in what happens
		p.ok(err)
		time.Sleep(time.Second)
		i, err = all.Get(p.Context(), "process", "late", "s")
		p.ok(err)
		p.expect(story(i), "undone revoked")

		_, err = all.Skip(p.Context(), "saga", "trip", "bad", "nothing", "no reason")
		if !errors.Is(err, deed.ErrStands) {
			p.Errorf("a step there is not is skipped: %v", err)
		}
		if n := calls.Load(); n != 3 {
			p.Errorf("%d calls for 3 sagas", n)
		}
		broken.Store(false)
		_, err = all.Retry(p.Context(), "process", "late", "r", "repaired")
		p.ok(err)
		i, err = all.Wait(p.Context(), "process", "late", "r")
		p.ok(err)
		p.expect(story(i), "completed")
		_, err = all.Retry(p.Context(), "saga", "trip", "bad", "repaired")
		p.ok(err)
		_, got = p.saga("trip", "bad")
		p.expect(got, "completed, call done, pay done")
		p.expectCoins("a 14")
	}, vaults, requests, g, late)
}

// That a saga is cancelled does not wait until a step would be tried again.
func TestCancelDoesNotWait(t *testing.T) {
	o := &outside{always: map[string]error{"call": errors.New("out of order")}}
	g := deed.Saga[none]{Name: "trip", Steps: []deed.SagaStep[none]{{
		Name: "call", Retry: deed.Retry{First: 10 * time.Hour, Max: 10 * time.Hour},
		Do:     func(context.Context, *deed.Work, *none) error { return o.call("call", "") },
		UndoDo: func(_ context.Context, w *deed.Work, _ *none) error { return o.call("uncall", "") },
	}}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		time.Sleep(time.Minute)
		_, err = p.rt.Instances().Cancel(p.Context(), "saga", "trip", "s", "changed my mind")
		p.ok(err)
		time.Sleep(time.Second)
		i, err := p.rt.Instances().Get(p.Context(), "saga", "trip", "s")
		p.ok(err)
		p.expect(story(i), "undone cancelled, call undone")
		p.expect(o.done(), "call, uncall")
	}, vaults, g)
}

// A command that undoing has asked in vain is asked again when somebody says so;
// those that were accepted are not.
func TestRetryAsksAgain(t *testing.T) {
	g := deed.Saga[none]{Name: "trip", Steps: []deed.SagaStep[none]{
		{
			Name: "give", Do: func(ctx context.Context, w *deed.Work, _ *none) error {
				return w.Ask(ctx, dropInto("a", 1), dropInto("b", 1))
			},
			UndoDo: func(ctx context.Context, w *deed.Work, _ *none) error {
				if err := w.Ask(ctx, takeFrom("a", 1)); err != nil {
					return err
				}
				return w.Ask(ctx, takeFrom("b", 1))
			},
		},
		{Name: "ask", Ask: func(string, none) deed.Question { return deed.Question{Text: "well?"} }},
	}}
	tell(t, func(p *tale) {
		all := p.rt.Instances()
		_, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		time.Sleep(time.Second)
		p.fill("a", 5)
		_, err = vaults.Execute(p.Context(), p.rt, "b", take{1})
		p.ok(err)
		_, err = all.Cancel(p.Context(), "saga", "trip", "s", "changed my mind")
		p.ok(err)
		for range 2 {
			i, got := p.saga("trip", "s")
			p.expect(got, "stuck stuck, give undoing, ask refused")
			if !strings.Contains(i.Reason, "there are not that many coins") {
				p.Error(i.Reason)
			}
			_, err = all.Retry(p.Context(), "saga", "trip", "s", "perhaps now")
			p.ok(err)
		}
		p.saga("trip", "s")
		p.fill("b", 1)
		_, err = all.Retry(p.Context(), "saga", "trip", "s", "there is a coin now")
		p.ok(err)
		_, got := p.saga("trip", "s")
		p.expect(got, "undone cancelled, give undone, ask refused")
		p.expectCoins("a 5, b 0")
	}, vaults, g)
}

// A program that does not have a step any more which a saga has begun says so,
// once, and does nothing about it.
func TestStepIsGone(t *testing.T) {
	g := deed.Saga[none]{Name: "trip", Steps: []deed.SagaStep[none]{
		{Name: "call", Retry: deed.Retry{First: time.Hour}, Do: func(context.Context, *deed.Work, *none) error { return errors.New("out of order") }},
	}}
	synctest.Test(t, func(t *testing.T) {
		p := &tale{T: t, s: mem.New()}
		run := func() (stop func()) {
			p.rt, stop = runSlowly(t, p.s, deed.Domain{Name: "test", Parts: []deed.Part{vaults, g}})
			return stop
		}
		stop := run()
		_, err := g.Start(t.Context(), p.rt, "s", none{})
		p.ok(err)
		time.Sleep(time.Second)
		stop()
		g.Steps[0].Name = "phone"
		stop = run()
		time.Sleep(24 * time.Hour)
		i, got := p.saga("trip", "s")
		p.expect(got, "stuck stuck, call begun")
		if !strings.Contains(i.Reason, "the step call") {
			p.Error(i.Reason)
		}
		if n := p.count("$saga/trip/s", ""); n > 3 {
			p.Errorf("it has %d records", n)
		}
		stop()
		g.Steps[0].Name, g.Steps[0].Do = "call", func(context.Context, *deed.Work, *none) error { return nil }
		stop = run()
		defer func() { stop() }()
		_, err = p.rt.Instances().Retry(t.Context(), "saga", "trip", "s", "it has its name again")
		p.ok(err)
		_, got = p.saga("trip", "s")
		p.expect(got, "completed, call done")
	})
}

// What Put keeps a saga would lose.
func TestSagaKeepsItsState(t *testing.T) {
	g := deed.Saga[haul]{Name: "trip", Steps: []deed.SagaStep[haul]{
		{Name: "clear", Do: func(_ context.Context, w *deed.Work, h *haul) error { *h = haul{}; return nil }},
		{Name: "look", Do: func(_ context.Context, w *deed.Work, h *haul) error {
			if *h != (haul{}) {
				return deed.Reason{Code: "lost", Text: "what was cleared is there again"}
			}
			return nil
		}},
		{Name: "put", Do: func(_ context.Context, w *deed.Work, h *haul) error { return w.Put(1) }},
	}}
	tell(t, func(p *tale) {
		_, err := g.Start(p.Context(), p.rt, "s", haul{N: 7})
		p.ok(err)
		i, got := p.saga("trip", "s")
		p.expect(got, "undone failed, clear undone, look undone, put failed")
		if !strings.Contains(i.Reason, "not with Put") {
			p.Error(i.Reason)
		}
	}, vaults, g)
}

// What Start returns is what was so then, whatever becomes of the saga later.
func TestInstanceIsASnapshot(t *testing.T) {
	g := deed.Saga[none]{Name: "trip", Steps: []deed.SagaStep[none]{
		{Name: "ask", Ask: func(string, none) deed.Question { return deed.Question{Text: "well?", Within: time.Hour} }},
	}}
	tell(t, func(p *tale) {
		i, err := g.Start(p.Context(), p.rt, "s", none{})
		p.ok(err)
		_, err = p.rt.Instances().Cancel(p.Context(), "saga", "trip", "s", "changed my mind")
		p.ok(err)
		if len(i.Tasks) != 1 || len(i.Timers) != 1 || i.Steps[0].State != deed.StepWaiting {
			p.Errorf("it has changed: %+v", i)
		}
	}, vaults, g)
}

// The same of a stepwise command that is resumed.
func TestResumeAsksAgain(t *testing.T) {
	def := deed.Stepwise[move]{Name: "coins.lend", Steps: []deed.Step[move]{
		{
			Name: "give", Do: func(ctx context.Context, w *deed.Work, _ move) error { return w.Ask(ctx, dropInto("a", 1)) },
			Undo: func(ctx context.Context, w *deed.Work, _ move) error { return w.Ask(ctx, takeFrom("a", 1)) },
		},
		{Name: "spend", Do: func(ctx context.Context, w *deed.Work, _ move) error {
			if err := w.Ask(ctx, takeFrom("a", 1)); err != nil {
				return err
			}
			return deed.Reason{Code: "no", Text: "no"}
		}},
	}}
	tell(t, func(p *tale) {
		_, err := def.Submit(deed.With(p.Context(), deed.Call{ID: "k"}), p.rt, "c", move{})
		p.ok(err)
		for round, want := range []deed.CommandState{deed.CommandFailed, deed.CommandFailed, deed.CommandRejected} {
			s, err := p.rt.Commands().Wait(p.Context(), "k")
			p.ok(err)
			if s.State != want {
				p.Fatalf("it is %s, wanted %s: %s", s.State, want, s.Reason)
			}
			if round == 1 {
				p.fill("a", 1)
			}
			if round < 2 {
				p.ok(p.rt.Commands().Resume(p.Context(), "k"))
			}
		}
		p.expectCoins("a 0")
	}, vaults, def)
}
