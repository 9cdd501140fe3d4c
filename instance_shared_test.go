package deed_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// What one process remembers of an instance is not the last word: another one may
// have begun it, or moved it on.
func TestProcessesRememberDifferently(t *testing.T) {
	awaits := deed.Saga[none]{Name: "patient", Steps: []deed.SagaStep[none]{
		{Name: "wait", Await: deed.Await[none](func(e requested) string { return e.To }, nil)},
	}}
	asks := deed.Saga[none]{Name: "curious", Steps: []deed.SagaStep[none]{
		{Name: "call", Do: func(context.Context, *deed.Work, *none) error { return nil }},
		{Name: "ask", Ask: func(string, none) deed.Question { return deed.Question{Text: "well?"} }},
	}}
	synctest.Test(t, func(t *testing.T) {
		p := &tale{T: t, s: mem.New()}
		domain := []deed.Domain{{Name: "test", Parts: []deed.Part{vaults, requests, awaits, asks}}}
		running, stop := runWith(t, p.s, deed.Config{Domains: domain, Poll: time.Hour})
		defer stop()
		other, err := deed.New(p.s, deed.Config{Domains: domain, Guest: true})
		p.ok(err)

		p.rt = running
		p.request("early", ask{To: "s"})
		time.Sleep(time.Second)
		_, err = awaits.Start(t.Context(), other, "s", none{})
		p.ok(err)
		p.request("now", ask{To: "s"})
		time.Sleep(time.Second)
		_, got := p.saga("patient", "s")
		p.expect(got, "completed, wait done")

		_, err = asks.Start(t.Context(), other, "s", none{})
		p.ok(err)
		time.Sleep(time.Second)
		i, err := running.Instances().Get(t.Context(), "saga", "curious", "s")
		p.ok(err)
		_, err = other.Tasks().Decide(t.Context(), i.Tasks["ask"], "approve", "", nil)
		p.ok(err)
		_, got = p.saga("curious", "s")
		p.expect(got, "completed, call done, ask done")
	})
}

// sweep takes all there is. In an empty jar there is nothing to do.
type sweep struct{}

func (sweep) Decide(j jar) ([]deed.Event[jar], error) {
	if j.Coins == 0 {
		return nil, nil
	}
	return []deed.Event[jar]{paid{-j.Coins}}, nil
}

// That there is nothing to do is found out by the present state, and so is that a
// saga has been begun by another process, be it that conflicts are not tried again.
func TestSagaOfAnotherProcess(t *testing.T) {
	sweeps := deed.Saga[none]{Name: "sweeper", Steps: []deed.SagaStep[none]{
		{Name: "sweep", Send: func(string, none) []deed.Sending { return []deed.Sending{deed.Send(vaults, "v", sweep{})} }},
	}}
	p := &tale{T: t, s: mem.New()}
	program := func(retries int) *deed.Runtime {
		rt, err := deed.New(p.s, deed.Config{Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{vaults, sweeps}}}, Retries: retries})
		p.ok(err)
		return rt
	}
	one, other, third := program(0), program(0), program(-1)
	coins := func(rt *deed.Runtime, n int) {
		t.Helper()
		if j, _, err := vaults.Load(t.Context(), rt, "v"); err != nil || j.Coins != n {
			t.Errorf("there are %d coins, %v, want %d", j.Coins, err, n)
		}
	}
	start := func(rt *deed.Runtime, id string) {
		t.Helper()
		if i, err := sweeps.Start(t.Context(), rt, id, none{}); err != nil || i.State != deed.InstanceCompleted {
			t.Errorf("%s: %s, %v", id, i.State, err)
		}
	}
	start(one, "1") // now it knows that there is nothing
	_, err := vaults.Execute(t.Context(), other, "v", drop{30})
	p.ok(err)
	start(one, "2")
	coins(one, 0)
	_, err = vaults.Execute(t.Context(), other, "v", drop{7})
	p.ok(err)
	start(third, "1")
	start(third, "2")
	coins(other, 7)
}
