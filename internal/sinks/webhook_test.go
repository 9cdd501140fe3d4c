package sinks

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

func webhook(t *testing.T, address string) []deed.Part {
	t.Helper()
	h, err := Webhook(address, Beginning)
	if err != nil {
		t.Fatal(err)
	}
	return quickly(h)
}

// A tracker that stumbles gets each entry in the end, under the same key.
func TestWebhook(t *testing.T) {
	x := receive(t)
	x.answers = []int{500, 429, 204, 409}
	r, _ := start(t, mem.New(), nil, webhook(t, x.URL+"/new?token=secret")...)
	r.reject("k")
	r.block(true)
	r.submit(deed.Call{ID: "trip", Actor: "ann"}, trip{"sea"})
	r.becomes("trip", deed.CommandFailed)
	if err := r.rt.Commands().Resume(t.Context(), "trip"); err != nil { // fails again: no news
		t.Fatal(err)
	}
	r.eventually("a second failure", func() bool {
		e, err := r.rt.Document(t.Context(), r.rt, "command-errors", "trip")
		return err == nil && strings.Contains(string(e), `"times":2`)
	})
	r.eventually("entries", func() bool { return len(x.messages()) >= 2 })
	r.settled()
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.entry) != 2 || len(x.keys) < 4 {
		t.Errorf("%d entries, %d attempts", len(x.entry), len(x.keys))
	}
	for i, want := range []Entry{
		{ID: "k", Title: "purse.move was rejected: too_few", Text: "there are not that many coins"},
		{ID: "trip", Title: "trip.make has failed", Text: "the road is blocked"},
	} {
		got := x.entry[i]
		if got.ID == "trip" != (want.ID == "trip") { // they may come in another order
			got = x.entry[1-i]
		}
		if got.ID != want.ID || got.Title != want.Title || got.Text != want.Text || got.Fields["actor"] != "ann" || got.Fields["at"] == "" {
			t.Errorf("%+v", got)
		}
	}
}

// What would be refused again is a dead letter at once; one that is redriven
// comes under the same key. Nothing that is shown gives the address away.
func TestWebhookRefuses(t *testing.T) {
	for _, status := range []int{302, 400, 404} {
		x := receive(t)
		x.answers = []int{status}
		r, _ := start(t, mem.New(), nil, webhook(t, x.URL+"/new?token=secret")...)
		r.reject("k")
		l := r.dead("error-webhook", 1)[0]
		if l.Attempts != 1 || strings.Contains(l.Reason, "secret") || !strings.Contains(l.Reason, fmt.Sprint(status)) {
			t.Errorf("%+v", l)
		}
		if n, err := r.rt.Followers().Redrive(t.Context(), l.ID); n != 1 || err != nil {
			t.Error(n, err)
		}
		if fmt.Sprint(x.keys) != "[k k]" {
			t.Errorf("keys %v", x.keys) // had the redirect been followed there were three
		}
	}
}

// A tracker that is away delays nothing but its own entries.
func TestWebhookAway(t *testing.T) {
	x := httptest.NewServer(http.NotFoundHandler())
	x.Close()
	r, _ := start(t, mem.New(), nil, webhook(t, x.URL+"/new?token=secret")...)
	for i := range 20 {
		r.reject(fmt.Sprint(i))
	}
	for _, l := range r.dead("error-webhook", 20) {
		if l.Attempts != 5 || strings.Contains(l.Reason, "secret") {
			t.Errorf("%+v", l)
		}
	}
}

// It is paused like any follower, and what happens meanwhile is not lost.
func TestWebhookPaused(t *testing.T) {
	x := receive(t)
	r, _ := start(t, mem.New(), nil, webhook(t, x.URL)...)
	if err := r.rt.Followers().Pause(t.Context(), "error-webhook"); err != nil {
		t.Fatal(err)
	}
	r.reject("k")
	time.Sleep(50 * time.Millisecond)
	if n := len(x.messages()); n != 0 {
		t.Errorf("%d entries", n)
	}
	if err := r.rt.Followers().Resume(t.Context(), "error-webhook"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the entry", func() bool { return len(x.messages()) == 1 })
}

// An answer without an end is not read to its end.
func TestEndlessAnswer(t *testing.T) {
	var sent atomic.Int64
	x := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			n, err := w.Write(make([]byte, 32<<10))
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	defer x.Close()
	h, err := NewHosts([]string{"127.0.0.1"}, false).Client(x.URL)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := post(t.Context(), h, x.URL, "k", []byte("{}")); err != nil || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	if n := sent.Load(); n > 32<<20 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestWebhookAddress(t *testing.T) {
	for _, address := range []string{"", "tracker.example/new", "ftp://tracker.example", "https://"} {
		if _, err := Webhook(address, Beginning); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[deed.Invalid](err)
	return ok
}
