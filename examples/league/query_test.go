package league

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/internal/sinks"
	"github.com/deed-dev/deed/store"
)

// Scenario L5: a query with a callback, and its cache, over real HTTP on every
// backend.
func TestQueriesOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		dir := t.TempDir()
		answers, err := sinks.NewDeliveries(sinks.NewHosts([]string{"127.0.0.1"}, false), dir)
		if err != nil {
			t.Fatal(err)
		}
		rt, err := deed.New(open(t), deed.Config{
			Domains: []deed.Domain{Domain, {Name: "telling", Parts: answers.Parts()}}, Deliveries: answers.Allow,
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- rt.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.DiscardHandler)}))
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		l5(t, &site{Server: apicheck.Server{Base: srv.URL}}, rt, dir)
	})
}

func l5(t *testing.T, s *site, rt *deed.Runtime, dir string) {
	create := `{"name":"Blackrock","location":"Dublin","date_incorporated":"2016-04-01","twitter_handle":"@blackrock_ach","email_address":"old@x.org"}`
	httptry.Want(t, "create", s.ask(t, "POST", "league/create", create, "Prefer", "wait=30").Status, 200)

	delivered := make(chan map[string]any, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil || r.Header.Get("Idempotency-Key") == "" {
			t.Errorf("%s: %v", body, err)
		}
		delivered <- m
	}))
	t.Cleanup(hook.Close)
	want := map[string]any{"league_name": "Blackrock", "location": "Dublin", "twitter_handle": "@blackrock_ach", "date_incorporated": "2016-04-01"}

	// With a webhook and a file.
	params := `{"league_name":"Blackrock"}`
	a := s.ask(t, "POST", "queries/league-summary", params, "Deed-Deliver", "<"+hook.URL+"/here>, <file:blackrock>", "Idempotency-Key", "q-1", "X-Actor", "ann")
	httptry.Want(t, "stored", []any{a.Status, a.Get("id"), a.Header.Get("Location")}, []any{202, "q-1", "/v1/queries/league-summary/runs/q-1"})
	select {
	case m := <-delivered:
		run, _ := m["run"].(map[string]any)
		httptry.Want(t, "delivered", []any{run["id"], run["result"], m["query"]}, []any{"q-1", want, "league-summary"})
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was delivered")
	}
	done := s.eventuallyDelivered(t, "queries/league-summary/runs/q-1", 2)
	httptry.Want(t, "run", []any{done.Get("state"), done.Get("result"), done.Get("actor")}, []any{"completed", want, "ann"})
	file, err := os.ReadFile(filepath.Join(dir, "blackrock.json"))
	if err != nil || !strings.Contains(string(file), `"location":"Dublin"`) {
		t.Errorf("%s, %v", file, err)
	}
	types := types(s.ask(t, "GET", "streams/$query/q-1", "").Get("events"))
	httptry.Want(t, "its stream", types, "asked completed delivered delivered")

	// Asked again unchanged, nothing is read again.
	first := s.ask(t, "POST", "queries/league-summary", params)
	httptry.Want(t, "first", []any{first.Status, first.Get("result"), first.Get("id")}, []any{200, want, nil})
	before := rt.Queries().Stats().Computed
	again := s.ask(t, "POST", "queries/league-summary", params)
	httptry.Want(t, "again", []any{again.Status, again.Get("result"), again.Get("cached"), rt.Queries().Stats().Computed - before}, []any{200, want, true, 0})
	all := s.ask(t, "POST", "queries/all-leagues", "")
	httptry.Want(t, "all", []any{all.Status, all.Get("result", "on_twitter")}, []any{200, 1})

	// A change of the contact has it read again.
	position := first.Header.Get("X-Read-Position")
	email := s.ask(t, "POST", "league/Blackrock/set-email", `{"email_address":"new@x.org"}`)
	httptry.Want(t, "set-email", email.Status, 200)
	changed := s.ask(t, "POST", "queries/league-summary", params)
	httptry.Want(t, "changed", []any{changed.Get("cached"), rt.Queries().Stats().Computed - before}, []any{nil, 2})
	then := s.ask(t, "POST", "queries/league-summary?position="+url.QueryEscape(position), params)
	httptry.Want(t, "as it was", []any{then.Status, then.Get("result"), then.Header.Get("X-Read-Position")}, []any{200, want, position})
	httptry.Want(t, "the run", s.ask(t, "GET", "queries/league-summary/runs/q-1", "").Get("result"), want)

	for what, c := range map[string]struct {
		path, body string
		status     int
		headers    []string
	}{
		"blank":               {"queries/league-summary", `{"league_name":" "}`, 400, nil},
		"no such league":      {"queries/league-summary", `{"league_name":"none"}`, 404, nil},
		"unknown parameter":   {"queries/league-summary", `{"name":"x"}`, 400, nil},
		"no such query":       {"queries/none", ``, 404, nil},
		"not there, stored":   {"queries/league-summary", `{"league_name":"none"}`, 404, []string{"Prefer", "respond-async, wait=30"}},
		"blank, stored":       {"queries/league-summary", `{}`, 400, []string{"Prefer", "respond-async, wait=30"}},
		"another host":        {"queries/league-summary", params, 400, []string{"Deed-Deliver", "<https://elsewhere.example/>"}},
		"outside of the dir":  {"queries/league-summary", params, 400, []string{"Deed-Deliver", "<file:../x>"}},
		"another scheme":      {"queries/league-summary", params, 400, []string{"Deed-Deliver", "<gopher:x>"}},
		"no address":          {"queries/league-summary", params, 400, []string{"Deed-Deliver", "https://x"}},
		"an id for something": {"queries/all-leagues", ``, 422, []string{"Idempotency-Key", "q-1"}},
		"stored, waited for":  {"queries/league-summary", params, 200, []string{"Prefer", "respond-async, wait=30"}},
		"a bad age":           {"queries/league-summary?max-age=x", params, 400, nil},
		"an age":              {"queries/league-summary?max-age=10s", params, 200, nil},
	} {
		if a := s.ask(t, "POST", c.path, c.body, c.headers...); a.Status != c.status {
			t.Errorf("%s: %d, want %d: %s", what, a.Status, c.status, a.Body)
		}
	}
	httptry.Want(t, "the run of another query", s.ask(t, "GET", "queries/all-leagues/runs/q-1", "").Status, 404)
	runs := s.ask(t, "GET", fmt.Sprintf("queries/league-summary/runs?actor=ann&min-position=%v&wait=30s", email.Get("position")), "").Get("runs").([]any)
	httptry.Want(t, "runs", []any{len(runs), runs[0].(map[string]any)["id"]}, []any{1, "q-1"})

	// A subscription: the answer, and each that is another.
	next := httptry.Listen(t, s.Base+"/v1/queries/all-leagues/live")
	kind, answer := next()
	httptry.Want(t, "the answer", []any{kind, len(answer.Get("result", "leagues").([]any))}, []any{"answer", 1})
	httptry.Want(t, "a change of something else", s.ask(t, "POST", "league/Blackrock/set-email", `{"email_address":"newer@x.org"}`).Status, 200)
	httptry.Want(t, "another league", s.ask(t, "POST", "league/create", `{"name":"Late","date_incorporated":"2019-01-01","location":"Cork"}`, "Prefer", "wait=30").Status, 200)
	_, answer = next()
	httptry.Want(t, "the next answer", answer.Get("result", "leagues").([]any)[1].(map[string]any)["league_name"], "Late")
}

// eventuallyDelivered waits until an answer was delivered to so many places.
func (s *site) eventuallyDelivered(t *testing.T, path string, n int) (a httptry.Answer) {
	t.Helper()
	for range 300 {
		a = s.ask(t, "GET", path, "")
		done := 0
		list, _ := a.Get("deliveries").([]any)
		for _, d := range list {
			if d.(map[string]any)["done_at"] != nil {
				done++
			}
		}
		if done == n {
			return a
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s is not delivered: %s", path, a.Body)
	return a
}
