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
