package httpapi_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// The ways in which processes and sagas get stuck that docs/operations.md
// lists, and that what it says there helps. Those whose undoing fails are in
// TestRepairOverHTTP, and in the scripts of package cli.

// tides is a domain with a saga that waits for a jar to be filled, and a process
// that cannot bear more than 100 coins until it is cured.
func tides(cured *atomic.Bool, version int, former ...int) deed.Domain {
	watch := watching(cured, version)
	for _, v := range former {
		watch.Former = append(watch.Former, watching(cured, v))
	}
	return deed.Domain{Name: "tides", Parts: []deed.Part{
		watch,
		deed.Aggregate[jar]{Name: "pot", Events: map[string]deed.Event[jar]{"put": put{}}, Commands: map[string]deed.Command[jar]{"give": give{}}},
		deed.Saga[struct{}]{Name: "patience", Steps: []deed.SagaStep[struct{}]{
			{Name: "fill", Await: deed.Await[struct{}](func(e deed.Recorded[put]) string { return e.ID }, nil)},
		}},
	}}
}

func watching(cured *atomic.Bool, version int) deed.Process[jar] {
	return deed.Process[jar]{Name: "watch", Version: version, On: []deed.ProcessReaction[jar]{
		deed.Start(func(p *jar, e put) []deed.Action {
			if e.N > 100 && !cured.Load() {
				panic("too many coins")
			}
			if p.Coins += e.N; p.Coins >= 10 {
				return []deed.Action{deed.Done()}
			}
			return []deed.Action{deed.After("forget", time.Hour)}
		}),
	}}
}

// serveFor serves a domain until it is stopped or the test ends.
func serveFor(t *testing.T, s store.Store, d deed.Domain) (o office, stop func()) {
	t.Helper()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{d}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.DiscardHandler)}))
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		srv.CloseClientConnections()
		srv.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return office{T: t, base: srv.URL, rt: rt}, stop
}

// deadLetter waits for a dead letter of a follower.
func (o office) deadLetter(follower string) deed.DeadLetter {
	o.Helper()
	for try := 0; ; try++ {
		var page httpapi.DeadLetterPage
		o.want(200, "GET", "/v1/dead-letters?follower="+follower, "", &page)
		if len(page.DeadLetters) > 0 {
			return page.DeadLetters[0]
		}
		if time.Sleep(20 * time.Millisecond); try > 1000 {
			o.Fatalf("there is no dead letter of %s", follower)
		}
	}
}

// becomes waits until a process or saga is in a state.
func (o office) becomes(path string, want deed.InstanceState) {
	o.Helper()
	for try := 0; ; try++ {
		var i deed.Instance
		_, _, body := ask(o.T, o.base, "GET", path, "", "")
		if err := json.Unmarshal(body, &i); err == nil && i.State == want {
			return
		}
		if time.Sleep(20 * time.Millisecond); try > 1000 {
			o.Fatalf("%s: %s, wanted %s", path, body, want)
		}
	}
}

// lists waits until a list shows so many instances.
func (o office) lists(path string, want int) {
	o.Helper()
	for try := 0; ; try++ {
		var page httpapi.InstancePage
		if o.want(200, "GET", path, "", &page); len(page.Instances) == want {
			return
		}
		if time.Sleep(20 * time.Millisecond); try > 1000 {
			o.Fatalf("%s: %+v, wanted %d", path, page.Instances, want)
		}
	}
}

// The event does not come: somebody skips the step or cancels the saga.
func TestEventThatNeverComes(t *testing.T) {
	o, _ := serveFor(t, mem.New(), tides(&atomic.Bool{}, 0))
	for _, id := range []string{"a", "b"} {
		var i deed.Instance
		if o.want(202, "POST", "/v1/sagas/patience/"+id, "", &i); i.Step != "fill" || i.Steps[0].State != deed.StepWaiting {
			t.Errorf("%+v", i)
		}
	}
	o.want(200, "POST", "/v1/sagas/patience/a/skip", `{"step":"fill","reason":"it was filled before we counted"}`, nil)
	o.becomes("/v1/sagas/patience/a", deed.InstanceCompleted)
	o.want(200, "POST", "/v1/sagas/patience/b/cancel", `{"reason":"it will never be filled"}`, nil)
	o.becomes("/v1/sagas/patience/b", deed.InstanceUndone)
}

// An event that a reaction cannot bear is a dead letter. Its instance waits, the
// others go on. When the program is cured it is redriven, or it is discarded.
func TestPoisonedReaction(t *testing.T) {
	cured := &atomic.Bool{}
	o, _ := serveFor(t, mem.New(), tides(cured, 0))
	for _, pot := range []string{"a", "b"} {
		o.want(200, "POST", "/v1/pot/"+pot+"/give", `{"N":1}`, nil)
		o.want(200, "POST", "/v1/pot/"+pot+"/give", `{"N":101}`, nil)
		o.want(200, "POST", "/v1/pot/"+pot+"/give", `{"N":2}`, nil) // waits behind it
	}
	o.want(200, "POST", "/v1/pot/c/give", `{"N":50}`, nil)
	o.becomes("/v1/processes/watch/c", deed.InstanceCompleted)
	first := o.deadLetter("process-watch")
	o.refused(409, httpapi.CodeConflict, "POST", "/v1/dead-letters/"+first.ID+"/redrive", "")
	for _, pot := range []string{"a", "b"} {
		o.becomes("/v1/processes/watch/"+pot, deed.InstanceRunning)
	}
	o.want(204, "POST", "/v1/dead-letters/"+first.ID+"/discard", `{"reason":"a misprint"}`, nil)
	cured.Store(true)
	second := o.deadLetter("process-watch")
	if second.ID == first.ID {
		t.Fatalf("%+v is there still", second)
	}
	o.want(200, "POST", "/v1/dead-letters/"+second.ID+"/redrive", "", nil)
	over := map[deed.InstanceState]int{}
	for try := 0; over[deed.InstanceCompleted] != 1; try++ {
		clear(over)
		for _, pot := range []string{"a", "b"} {
			var i deed.Instance
			o.want(200, "GET", "/v1/processes/watch/"+pot, "", &i)
			over[i.State]++
		}
		if time.Sleep(20 * time.Millisecond); try > 1000 {
			t.Fatal(over)
		}
	}
}

// What was begun with a version that the program has not any more waits for it,
// or is closed.
func TestVersionThatIsGone(t *testing.T) {
	s := mem.New()
	cured := &atomic.Bool{}
	o, stop := serveFor(t, s, tides(cured, 0))
	for _, pot := range []string{"a", "b"} {
		o.want(200, "POST", "/v1/pot/"+pot+"/give", `{"N":1}`, nil)
		o.becomes("/v1/processes/watch/"+pot, deed.InstanceRunning)
	}
	stop()
	o, stop = serveFor(t, s, tides(cured, 1))
	o.lists("/v1/processes?name=watch&definition=0&state=running", 2)
	p := o.refused(409, httpapi.CodeConflict, "POST", "/v1/processes/watch/a/retry", "")
	if want := "the program does not have version 0 of watch"; len(p.Detail) < len(want) || p.Detail[:len(want)] != want {
		t.Error(p.Detail)
	}
	o.want(200, "POST", "/v1/pot/a/give", `{"N":10}`, nil)
	l := o.deadLetter("process-watch")
	o.want(200, "POST", "/v1/processes/watch/b/close", `{"reason":"counted by hand"}`, nil)
	o.becomes("/v1/processes/watch/b", deed.InstanceClosed)
	stop()

	o, _ = serveFor(t, s, tides(cured, 1, 0))
	o.want(200, "POST", "/v1/dead-letters/"+l.ID+"/redrive", "", nil)
	o.becomes("/v1/processes/watch/a", deed.InstanceCompleted)
}
