package sinks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A purse refuses to give what is not in it.
type (
	purse struct{ Coins int }
	moved struct{ N int }
	move  struct{ N int }
)

func (e moved) Apply(p *purse) { p.Coins += e.N }

func (c move) Decide(p purse) ([]deed.Event[purse], error) {
	if p.Coins+c.N < 0 {
		return nil, deed.Reason{Code: "too_few", Text: "there are not that many coins"}
	}
	return []deed.Event[purse]{moved(c)}, nil
}

var purses = deed.Aggregate[purse]{
	Name: "purse", Events: map[string]deed.Event[purse]{"moved": moved{}}, Commands: map[string]deed.Command[purse]{"move": move{}},
}

// A trip fails at its second step as long as the road is blocked.
type trip struct {
	To string `json:"to"`
}

type rig struct {
	*testing.T
	store store.Store
	rt    *deed.Runtime

	mu      sync.Mutex
	blocked bool
}

func (r *rig) block(b bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked = b
}

func (r *rig) trips() deed.Stepwise[trip] {
	return deed.Stepwise[trip]{
		Name: "trip.make", Rules: deed.Rules{Retry: deed.Retry{Attempts: 2, First: time.Millisecond}},
		Check: func(_ context.Context, _ deed.Reader, _ string, c trip) (found []deed.Finding, err error) {
			if c.To == "" {
				found = append(found, deed.Finding{Field: "to", Text: "says nothing", Fatal: true})
			}
			return found, nil
		},
		Steps: []deed.Step[trip]{
			{Name: "pack", Do: func(context.Context, *deed.Work, trip) error { return nil }},
			{Name: "go", Do: func(context.Context, *deed.Work, trip) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				if r.blocked {
					return errors.New("the road is blocked")
				}
				return nil
			}},
		},
	}
}

// start runs a runtime with sinks until the test or the returned function ends.
func start(t *testing.T, s store.Store, allowed func(deed.Callback) error, parts ...deed.Part) (*rig, func()) {
	t.Helper()
	r := &rig{T: t, store: s}
	all := append([]deed.Part{purses, r.trips()}, parts...)
	rt, err := deed.New(s, deed.Config{
		Domains: []deed.Domain{{Name: "d", Parts: all}}, Callbacks: allowed, Poll: 50 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.rt = rt
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
	return r, stop
}

// quickly makes retries quick.
func quickly(parts ...deed.Part) []deed.Part {
	for i, p := range parts {
		h := p.(deed.EventHandler)
		h.Retry = deed.Retry{Attempts: 5, First: time.Millisecond, Max: 20 * time.Millisecond}
		parts[i] = h
	}
	return parts
}

// reject asks a command that is rejected.
func (r *rig) reject(id string) {
	r.Helper()
	_, err := purses.Execute(deed.With(r.Context(), deed.Call{ID: id, Actor: "ann"}), r.rt, "p", move{-1})
	if _, ok := errors.AsType[deed.Rejected](err); !ok {
		r.Fatal(err)
	}
}

func (r *rig) submit(call deed.Call, c trip) {
	r.Helper()
	if _, err := r.trips().Submit(deed.With(r.Context(), call), r.rt, "t", c); err != nil {
		r.Fatal(err)
	}
}

// becomes waits for a command to be in a state.
func (r *rig) becomes(id string, state deed.CommandState) {
	r.Helper()
	r.eventually("command "+id+" "+string(state), func() bool {
		s, err := r.rt.Commands().Get(r.Context(), id)
		return err == nil && s.State == state
	})
}

// settled waits until every follower has read everything.
func (r *rig) settled() {
	r.Helper()
	head, err := r.store.Head(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	if err := r.rt.WaitFor(ctx, deed.Receipt{Position: string(head)}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) eventually(what string, so func() bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	r.Fatalf("never came: %s", what)
}

// dead waits for so many dead letters of a follower.
func (r *rig) dead(follower string, n int) []deed.DeadLetter {
	r.Helper()
	var found []deed.DeadLetter
	r.eventually(fmt.Sprintf("%d dead letters of %s", n, follower), func() bool {
		all, _, err := r.rt.Followers().DeadLetters(r.Context(), follower, "", 100)
		found = all[:0:0]
		for _, l := range all {
			if string(l.State) == "dead" {
				found = append(found, l)
			}
		}
		return err == nil && len(found) >= n
	})
	return found
}

// A receiver keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []string
	got     []Message
	entry   []Entry
	answers []int // the next ones; then 204
}

func receive(t *testing.T) *receiver {
	x := &receiver{}
	x.Server = httptest.NewServer(x)
	t.Cleanup(x.Close)
	return x
}

func (x *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var m Message
	var e Entry
	var raw json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil || json.Unmarshal(raw, &m) != nil || json.Unmarshal(raw, &e) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.keys = append(x.keys, r.Header.Get("Idempotency-Key"))
	status := http.StatusNoContent
	if len(x.answers) > 0 {
		status, x.answers = x.answers[0], x.answers[1:]
	}
	if status == http.StatusNoContent {
		x.got, x.entry = append(x.got, m), append(x.entry, e)
	}
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(status)
}

func (x *receiver) messages() []Message {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]Message(nil), x.got...)
}
