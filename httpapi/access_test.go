package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

type (
	jar   struct{ Coins int }
	paid  struct{ N int }
	drop  struct{ N int }
	shake struct{}
)

func (e paid) Apply(j *jar)                           { j.Coins += e.N }
func (c drop) Decide(jar) ([]deed.Event[jar], error)  { return []deed.Event[jar]{paid(c)}, nil }
func (shake) Decide(j jar) ([]deed.Event[jar], error) { return []deed.Event[jar]{paid{}}, nil }

// jars is a domain with a command and a view that name roles, and a command
// and a view that do not.
func jars() deed.Domain {
	on := []deed.Handler[jar]{deed.On(func(j *jar, e paid) { e.Apply(j) })}
	return deed.Domain{Name: "jars", Parts: []deed.Part{
		jarAggregate(),
		deed.Projection[jar]{Name: "open", On: on},
		deed.Projection[jar]{Name: "books", On: on, Roles: []string{"clerk"}},
		deed.Classifier[jar]{Name: "full", Of: deed.Projection[jar]{On: on}, Verdict: full},
		deed.Classifier[jar]{Name: "rich", Of: deed.Projection[jar]{On: on}, Verdict: full, Roles: []string{"clerk"}},
		deed.View[jar]{Name: "vault", Roles: []string{"clerk", "saver"}},
		deed.Query[struct{}, int]{Name: "coins", Answer: coins},
		deed.Publication{Topic: "coins", Events: []deed.Publishing{deed.Publish("coin.paid.v1", func(e paid) paid { return e })}},
		deed.Reception{Name: "deposits", Roles: []string{"saver"}, Messages: []deed.Receiving{deed.Receive("coin.found.v1", found)}},
		deed.Query[struct{}, int]{Name: "profit", Roles: []string{"clerk"}, Answer: coins},
		deed.Saga[struct{}]{
			Name: "count", Roles: []string{"saver"},
			Steps: []deed.SagaStep[struct{}]{{Name: "sign", Ask: func(string, struct{}) deed.Question {
				return deed.Question{Text: "Is it right?", Roles: []string{"clerk"}}
			}}},
		},
		deed.Process[struct{}]{
			Name: "guard", Roles: []string{"saver"},
			On: []deed.ProcessReaction[struct{}]{deed.Start(func(*struct{}, paid) []deed.Action { return []deed.Action{deed.After("tired", time.Hour)} })},
		},
	}}
}

func jarAggregate() deed.Aggregate[jar] {
	return deed.Aggregate[jar]{
		Name:     "jar",
		Events:   map[string]deed.Event[jar]{"paid": paid{}},
		Commands: map[string]deed.Command[jar]{"drop": deed.Ruled(drop{}, deed.Rules{Roles: []string{"saver"}}), "shake": shake{}},
	}
}

// found puts a coin that others have found into a jar.
func found(_ context.Context, m deed.Received[struct {
	Jar string `json:"jar"`
}]) ([]deed.Sending, error) {
	return []deed.Sending{deed.Send(jarAggregate(), m.Data.Jar, drop{1})}, nil
}

func full(j jar) deed.Verdict {
	if j.Coins > 10 {
		return deed.Include
	}
	return deed.Exclude
}

// coins counts the coins in the jar a.
func coins(ctx context.Context, r deed.Reader, _ struct{}) (int, error) {
	j, err := deed.Projection[jar]{Name: "open"}.Get(ctx, r, "a")
	return j.Coins, err
}

// A gate is a server that checks access with keys, and somebody at its door.
type gate struct {
	base string
	keys *auth.Keys
	log  *diary
}

func newGate(t testing.TB, s store.Store, rt *deed.Runtime, more ...auth.Authenticator) gate {
	t.Helper()
	g := gate{keys: auth.NewKeys(s), log: &diary{}}
	log := slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Logger: log, Auth: auth.Chain(append(more, g.keys)...), Keys: g.keys}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	g.base = srv.URL
	return g
}

// A diary is a log that can be read while it is written.
type diary struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.Write(b)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.String()
}

// key makes a key for somebody with roles.
func (g gate) key(t testing.TB, actor string, roles ...string) (auth.Key, string) {
	t.Helper()
	k, text, err := g.keys.Create(t.Context(), auth.By{Actor: "root"}, auth.NewKey{Actor: actor, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	return k, text
}

// ask sends a request with a key, and returns its status and header, and the
// body of an answer that has an end.
func ask(t testing.TB, base, method, path, body, key string, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return resp.StatusCode, resp.Header, nil
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

// A sample is a request, and which roles of those in the matrix may ask it.
type sample struct {
	target, body string
	roles        []string
}

var (
	nobody    = []string{}
	reading   = []string{"reader", "operator"}
	operating = []string{"operator"}
	all       = []string{"", "none", "reader", "operator", "saver", "clerk"} // "" = without a key
	known     = all[1:]
)

// samples has requests for every route. Administrators may ask all of them.
var samples = map[string][]sample{
	"POST /v1/{aggregate}/{id}/{command}": {{"/v1/jar/a/drop", `{"N":1}`, []string{"saver"}}, {"/v1/jar/a/shake", "", nobody}},
	"POST /v1/{aggregate}/{command}":      {{"/v1/jar/drop", `{"N":1}`, []string{"saver"}}, {"/v1/jar/shake", "", nobody}},
	"GET /v1/{aggregate}/{id}":            {{"/v1/jar/a", "", reading}, {"/v1/jar/a?version=1", "", reading}, {"/v1/none/a", "", reading}},
	"GET /v1/blame/{aggregate}/{id}":      {{"/v1/blame/jar/a", "", reading}, {"/v1/blame/none/a", "", reading}},
	"GET /v1/commands":                    {{"/v1/commands", "", reading}},
	"GET /v1/commands/{id}":               {{"/v1/commands/c-1", "", reading}, {"/v1/commands/none", "", reading}, {"/v1/commands/c-2", "", append(reading, "saver")}},
	"GET /v1/commands/{id}/live":          {{"/v1/commands/c-1/live", "", reading}, {"/v1/commands/c-2/live", "", append(reading, "saver")}},
	"POST /v1/commands/{id}/cancel":       {{"/v1/commands/c-1/cancel", "", operating}, {"/v1/commands/c-2/cancel", "", append(operating, "saver")}},
	"POST /v1/commands/{id}/resume":       {{"/v1/commands/c-1/resume", "", operating}, {"/v1/commands/c-2/resume", "", append(operating, "saver")}},
	"POST /v1/commands/{id}/retry":        {{"/v1/commands/c-1/retry", "", operating}, {"/v1/commands/none/retry", "", operating}},
	"POST /v1/commands/{id}/correct":      {{"/v1/commands/c-1/correct", "", nobody}, {"/v1/commands/c-2/correct", `{"N":1}`, []string{"saver"}}, {"/v1/commands/none/correct", "", nobody}},
	"GET /v1/streams/{category}/{id...}":  {{"/v1/streams/jar/a", "", reading}, {"/v1/streams/$audit/keys", "", reading}},
	"GET /v1/events":                      {{"/v1/events", "", reading}},
	"GET /v1/events/live":                 {{"/v1/events/live", "", reading}},
	"GET /v1/views/{view}": {
		{"/v1/views/open", "", reading}, {"/v1/views/books", "", []string{"clerk"}}, {"/v1/views/vault", "", []string{"clerk", "saver"}}, {"/v1/views/none", "", reading},
	},
	"GET /v1/views/{view}/{key}": {
		{"/v1/views/open/a", "", reading}, {"/v1/views/books/a", "", []string{"clerk"}}, {"/v1/views/books/a?version=1", "", []string{"clerk"}}, {"/v1/views/vault/a", "", []string{"clerk", "saver"}},
	},
	"GET /v1/changes/{view}":                                             {{"/v1/changes/open", "", reading}, {"/v1/changes/books", "", []string{"clerk"}}, {"/v1/changes/rich?key=a", "", []string{"clerk"}}},
	"GET /v1/groups":                                                     {{"/v1/groups", "", reading}},
	"GET /v1/groups/{group}":                                             {{"/v1/groups/full", "", reading}, {"/v1/groups/rich", "", []string{"clerk"}}, {"/v1/groups/none", "", reading}},
	"GET /v1/groups/{group}/{key}":                                       {{"/v1/groups/full/a", "", reading}, {"/v1/groups/rich/a?version=1", "", []string{"clerk"}}, {"/v1/groups/rich/none", "", []string{"clerk"}}},
	"POST /v1/sagas/{name}":                                              {{"/v1/sagas/count", "", []string{"saver"}}, {"/v1/sagas/none", "", known}},
	"POST /v1/sagas/{name}/{id}":                                         {{"/v1/sagas/count/s-1", "{}", []string{"saver"}}},
	"GET /v1/sagas":                                                      {{"/v1/sagas?state=running", "", reading}},
	"GET /v1/sagas/{name}/{id}":                                          {{"/v1/sagas/count/s-1", "", append(reading, "saver")}, {"/v1/sagas/count/s-2", "", reading}, {"/v1/sagas/count/none", "", reading}},
	"GET /v1/sagas/{name}/{id}/live":                                     {{"/v1/sagas/count/s-1/live", "", append(reading, "saver")}, {"/v1/sagas/count/s-2/live", "", reading}},
	"POST /v1/sagas/{name}/{id}/cancel":                                  {{"/v1/sagas/count/s-2/cancel", "", append(operating, "saver")}},
	"POST /v1/sagas/{name}/{id}/retry":                                   {{"/v1/sagas/count/s-2/retry", "", operating}},
	"POST /v1/sagas/{name}/{id}/undo":                                    {{"/v1/sagas/count/s-2/undo", "", operating}},
	"POST /v1/sagas/{name}/{id}/skip":                                    {{"/v1/sagas/count/s-2/skip", `{"step":"sign","reason":"r"}`, operating}},
	"POST /v1/sagas/{name}/{id}/close":                                   {{"/v1/sagas/count/s-2/close", `{"reason":"r"}`, operating}},
	"POST /v1/sagas/cancel":                                              {{"/v1/sagas/cancel?state=running&name=none", "", operating}},
	"POST /v1/sagas/retry":                                               {{"/v1/sagas/retry?state=stuck&dry_run=true", "", operating}},
	"POST /v1/sagas/undo":                                                {{"/v1/sagas/undo?all=true&name=none", "", operating}},
	"GET /v1/processes":                                                  {{"/v1/processes?name=guard", "", reading}},
	"GET /v1/processes/{name}/{id}":                                      {{"/v1/processes/guard/a", "", reading}, {"/v1/processes/guard/b", "", append(reading, "saver")}},
	"GET /v1/processes/{name}/{id}/live":                                 {{"/v1/processes/guard/a/live", "", reading}, {"/v1/processes/guard/b/live", "", append(reading, "saver")}},
	"POST /v1/processes/{name}/{id}/cancel":                              {{"/v1/processes/guard/a/cancel", "", append(operating, "saver")}},
	"POST /v1/processes/{name}/{id}/retry":                               {{"/v1/processes/guard/a/retry", "", operating}},
	"POST /v1/processes/{name}/{id}/undo":                                {{"/v1/processes/guard/a/undo", "", operating}},
	"POST /v1/processes/{name}/{id}/skip":                                {{"/v1/processes/guard/a/skip", `{"reason":"r"}`, operating}},
	"POST /v1/processes/{name}/{id}/close":                               {{"/v1/processes/guard/a/close", `{"reason":"r"}`, operating}},
	"POST /v1/processes/cancel":                                          {{"/v1/processes/cancel?state=running&name=none", "", operating}},
	"POST /v1/processes/retry":                                           {{"/v1/processes/retry?state=stuck&dry_run=true", "", operating}},
	"POST /v1/processes/undo":                                            {{"/v1/processes/undo?all=true&name=none", "", operating}},
	"GET /v1/tasks":                                                      {{"/v1/tasks?state=open", "", known}},
	"GET /v1/tasks/{id}":                                                 {{"/v1/tasks/{task}", "", append(reading, "clerk")}, {"/v1/tasks/none", "", known}},
	"POST /v1/tasks/{id}/claim":                                          {{"/v1/tasks/{task}/claim", "", []string{"clerk"}}},
	"POST /v1/tasks/{id}/release":                                        {{"/v1/tasks/{task}/release", "", []string{"clerk"}}},
	"POST /v1/tasks/{id}/decision":                                       {{"/v1/tasks/{task}/decision", `{"choice":"approve"}`, []string{"clerk"}}},
	"GET /v1/map":                                                        {{"/v1/map", "", reading}, {"/v1/map?instance=saga/count/s-1", "", reading}},
	"GET /v1/queries":                                                    {{"/v1/queries", "", reading}},
	"POST /v1/queries/{name}":                                            {{"/v1/queries/coins", "", reading}, {"/v1/queries/profit", "{}", []string{"clerk"}}, {"/v1/queries/none", "", reading}},
	"GET /v1/queries/{name}/live":                                        {{"/v1/queries/coins/live", "", reading}, {"/v1/queries/profit/live", "", []string{"clerk"}}},
	"GET /v1/queries/{name}/runs":                                        {{"/v1/queries/coins/runs?state=completed", "", reading}, {"/v1/queries/profit/runs", "", []string{"clerk"}}},
	"GET /v1/queries/{name}/runs/{id}":                                   {{"/v1/queries/profit/runs/r-1", "", []string{"clerk"}}, {"/v1/queries/coins/runs/r-1", "", reading}, {"/v1/queries/profit/runs/none", "", []string{"clerk"}}},
	"GET /v1/queries/{name}/runs/{id}/live":                              {{"/v1/queries/profit/runs/r-1/live", "", []string{"clerk"}}, {"/v1/queries/coins/runs/none/live", "", reading}},
	"POST /v1/queries/{name}/runs/{id}/cancel":                           {{"/v1/queries/profit/runs/r-1/cancel", "", append(operating, "clerk")}, {"/v1/queries/profit/runs/none/cancel", "", operating}},
	"GET /v1/topics":                                                     {{"/v1/topics", "", reading}},
	"GET /v1/topics/{topic}":                                             {{"/v1/topics/coins", "", reading}, {"/v1/topics/none", "", reading}},
	"GET /v1/topics/{topic}/events":                                      {{"/v1/topics/coins/events", "", reading}, {"/v1/topics/coins/events?limit=1&type=coin.paid.v1", "", reading}},
	"GET /v1/subscriptions":                                              {{"/v1/subscriptions", ``, operating}},
	"GET /v1/topics/{topic}/subscriptions":                               {{"/v1/topics/coins/subscriptions", ``, operating}},
	"GET /v1/topics/{topic}/subscriptions/{name}":                        {{"/v1/topics/coins/subscriptions/none", ``, operating}},
	"PUT /v1/topics/{topic}/subscriptions/{name}":                        {{"/v1/topics/coins/subscriptions/work", `{"target":{"kind":"queue"},"roles":["saver"]}`, nobody}},
	"DELETE /v1/topics/{topic}/subscriptions/{name}":                     {{"/v1/topics/coins/subscriptions/none", ``, nobody}},
	"GET /v1/topics/{topic}/subscriptions/{name}/attempts":               {{"/v1/topics/coins/subscriptions/none/attempts", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/pause":                 {{"/v1/topics/coins/subscriptions/none/pause", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/resume":                {{"/v1/topics/coins/subscriptions/none/resume", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/redrive":               {{"/v1/topics/coins/subscriptions/none/redrive", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/test":                  {{"/v1/topics/coins/subscriptions/none/test", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/reset":                 {{"/v1/topics/coins/subscriptions/none/reset", `{"start":"now"}`, nobody}},
	"POST /v1/topics/{topic}/subscriptions/{name}/rotate":                {{"/v1/topics/coins/subscriptions/none/rotate", ``, nobody}},
	"POST /v1/topics/{topic}/subscriptions/{name}/lock":                  {{"/v1/topics/coins/subscriptions/queue/lock", `{}`, append(operating, "saver")}, {"/v1/topics/coins/subscriptions/none/lock", `{}`, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/renew":                 {{"/v1/topics/coins/subscriptions/queue/renew", `{"token":"x"}`, append(operating, "saver")}, {"/v1/topics/coins/subscriptions/none/renew", `{"token":"x"}`, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/complete":              {{"/v1/topics/coins/subscriptions/queue/complete", `{"token":"x"}`, append(operating, "saver")}, {"/v1/topics/coins/subscriptions/none/complete", `{"token":"x"}`, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/abandon":               {{"/v1/topics/coins/subscriptions/queue/abandon", `{"token":"x"}`, append(operating, "saver")}, {"/v1/topics/coins/subscriptions/none/abandon", `{"token":"x"}`, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/dead-letter":           {{"/v1/topics/coins/subscriptions/queue/dead-letter", `{"token":"x","reason":"r"}`, append(operating, "saver")}, {"/v1/topics/coins/subscriptions/none/dead-letter", `{"token":"x","reason":"r"}`, operating}},
	"GET /v1/topics/{topic}/subscriptions/{name}/messages":               {{"/v1/topics/coins/subscriptions/queue/messages", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/messages/{id}/redrive": {{"/v1/topics/coins/subscriptions/queue/messages/x/redrive", ``, operating}},
	"POST /v1/topics/{topic}/subscriptions/{name}/messages/{id}/discard": {{"/v1/topics/coins/subscriptions/queue/messages/x/discard", `{"reason":"r"}`, operating}},
	"GET /v1/receptions":                                                 {{"/v1/receptions", "", reading}},
	"POST /v1/receptions/{reception}/messages":                           {{"/v1/receptions/deposits/messages", "{}", append(operating, "saver")}, {"/v1/receptions/none/messages", "{}", operating}},
	"POST /v1/receptions/{reception}/senders/{name}":                     {{"/v1/receptions/deposits/senders/none", "{}", all}},
	"OPTIONS /v1/receptions/{reception}/senders/{name}":                  {{"/v1/receptions/deposits/senders/none", "", all}},
	"GET /v1/senders":                                                    {{"/v1/senders", "", operating}},
	"GET /v1/receptions/{reception}/senders":                             {{"/v1/receptions/deposits/senders", "", operating}},
	"GET /v1/receptions/{reception}/senders/{name}":                      {{"/v1/receptions/deposits/senders/none", "", operating}},
	"PUT /v1/receptions/{reception}/senders/{name}":                      {{"/v1/receptions/deposits/senders/bank", "{}", nobody}},
	"DELETE /v1/receptions/{reception}/senders/{name}":                   {{"/v1/receptions/deposits/senders/none", "", nobody}},
	"POST /v1/receptions/{reception}/senders/{name}/rotate":              {{"/v1/receptions/deposits/senders/none/rotate", "", nobody}},
	"POST /v1/receptions/{reception}/senders/{name}/test":                {{"/v1/receptions/deposits/senders/none/test", "{}", operating}},
	"GET /v1/nodes":                                                      {{"/v1/nodes", "", operating}},
	"GET /v1/followers":                                                  {{"/v1/followers", "", operating}},
	"POST /v1/followers/{name}/pause":                                    {{"/v1/followers/rich/pause", "", operating}},
	"POST /v1/followers/{name}/resume":                                   {{"/v1/followers/rich/resume", "", operating}},
	"POST /v1/followers/{name}/rebuild":                                  {{"/v1/followers/none/rebuild", "", operating}},
	"POST /v1/followers/{name}/forget":                                   {{"/v1/followers/none/forget", `{"reason":"r"}`, nobody}},
	"POST /v1/compaction":                                                {{"/v1/compaction", `{"older_than":"720h"}`, nobody}, {"/v1/compaction", `{"older_than":"720h","dry_run":true}`, nobody}},
	"GET /v1/dead-letters":                                               {{"/v1/dead-letters", "", operating}},
	"GET /v1/dead-letters/{id}":                                          {{"/v1/dead-letters/open.1", "", operating}},
	"GET /v1/dead-letters/groups":                                        {{"/v1/dead-letters/groups", "", operating}},
	"POST /v1/dead-letters/redrive":                                      {{"/v1/dead-letters/redrive", `{"all":true,"dry_run":true}`, operating}},
	"POST /v1/dead-letters/discard":                                      {{"/v1/dead-letters/discard", `{"all":true,"reason":"r","dry_run":true}`, operating}},
	"GET /v1/dead-letters/jobs":                                          {{"/v1/dead-letters/jobs", "", operating}},
	"GET /v1/dead-letters/jobs/{id}":                                     {{"/v1/dead-letters/jobs/none", "", operating}},
	"POST /v1/dead-letters/jobs/{id}/cancel":                             {{"/v1/dead-letters/jobs/none/cancel", `{"reason":"r"}`, operating}},
	"POST /v1/dead-letters/{id}/edit":                                    {{"/v1/dead-letters/open.1/edit", `{"data":{},"reason":"r"}`, operating}},
	"POST /v1/dead-letters/{id}/redrive":                                 {{"/v1/dead-letters/open.1/redrive", "", operating}},
	"POST /v1/dead-letters/{id}/discard":                                 {{"/v1/dead-letters/open.1/discard", `{"reason":"r"}`, operating}},
	"GET /v1/keys":                                                       {{"/v1/keys", "", nobody}},
	"POST /v1/keys":                                                      {{"/v1/keys", `{"actor":"bob","roles":["admin"]}`, nobody}},
	"POST /v1/keys/{id}/revoke":                                          {{"/v1/keys/none/revoke", "", nobody}},
	"POST /v1/keys/{id}/rotate":                                          {{"/v1/keys/none/rotate", "", nobody}},
	"GET /v1/openapi.json":                                               {{"/v1/openapi.json", "", reading}},
	"GET /v1/asyncapi.json":                                              {{"/v1/asyncapi.json", "", reading}},
	"GET /v1":                                                            {{"/v1", "", reading}},
	"GET /metrics":                                                       {{"/metrics", "", operating}},
	"GET /livez":                                                         {{"/livez", "", all}},
	"GET /readyz":                                                        {{"/readyz", "", all}},
	"/":                                                                  {{"/nothing", "", known}, {"/v1/none", "", known}},
	"GET /v1/rebuilds/{view}":                                            {{"/v1/rebuilds/books", "", operating}},
	"GET /v1/rebuilds/{view}/diff":                                       {{"/v1/rebuilds/books/diff", "", operating}, {"/v1/rebuilds/books/diff?samples=1000", "", operating}},
	"POST /v1/rebuilds/{view}":                                           {{"/v1/rebuilds/none", "", operating}, {"/v1/rebuilds/vault", `{"switch":"asked"}`, operating}},
	"POST /v1/rebuilds/{view}/switch":                                    {{"/v1/rebuilds/books/switch", "", operating}},
	"POST /v1/rebuilds/{view}/pause":                                     {{"/v1/rebuilds/books/pause", "", operating}},
	"POST /v1/rebuilds/{view}/resume":                                    {{"/v1/rebuilds/books/resume", "", operating}},
	"POST /v1/rebuilds/{view}/cancel":                                    {{"/v1/rebuilds/books/cancel", "", operating}},
	"POST /v1/rebuilds/{view}/rollback":                                  {{"/v1/rebuilds/books/rollback", "", operating}},
	"POST /v1/rebuilds/{view}/discard":                                   {{"/v1/rebuilds/books/discard", "", operating}},
}

// Every route takes those whom it should and nobody else. A route that is not
// in samples fails the test, and so does one that does not say for whom it is.
// The OpenAPI document is true of every answer.
func TestAccessMatrix(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, jars())
	g := newGate(t, s, rt)
	_, admin := g.key(t, "root", "admin")
	ask(t, g.base, "POST", "/v1/jar/a/shake", "", admin, "Idempotency-Key", "c-1")
	keys := map[string]string{"": ""}
	for _, role := range known {
		_, keys[role] = g.key(t, role, role)
	}
	ask(t, g.base, "POST", "/v1/jar/b/drop", `{"N":1}`, keys["saver"], "Idempotency-Key", "c-2")
	ask(t, g.base, "POST", "/v1/queries/profit", "", keys["clerk"], "Idempotency-Key", "r-1")
	begun := func(key, id string) (i deed.Instance) {
		t.Helper()
		status, _, body := ask(t, g.base, "POST", "/v1/sagas/count/"+id, "", key)
		if err := json.Unmarshal(body, &i); err != nil || status != 202 {
			t.Fatalf("%d %s", status, body)
		}
		return i
	}
	task := begun(keys["saver"], "s-1").Tasks["sign"]
	begun(admin, "s-2")
	for _, id := range []string{"a", "b"} { // the process follows the log
		for try := 0; ; try++ {
			status, _, body := ask(t, g.base, "GET", "/v1/processes/guard/"+id, "", admin)
			if status == 200 {
				break
			}
			if time.Sleep(10 * time.Millisecond); try > 1000 {
				t.Fatalf("%d %s", status, body)
			}
		}
	}
	if status, _, body := ask(t, g.base, "PUT", "/v1/topics/coins/subscriptions/queue", `{"target":{"kind":"queue"},"roles":["saver"]}`, admin); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	bad := badKeys(t, g)
	patterns := httpapi.Patterns(rt)
	for pattern := range samples {
		if _, ok := patterns[pattern]; !ok {
			t.Errorf("there is no route %q any more", pattern)
		}
	}
	contract := openAPI(t, rt)
	asked := 0
	for pattern, says := range patterns {
		if !says || len(samples[pattern]) == 0 {
			t.Errorf("the route %q does not say for whom it is, or has no samples in this test", pattern)
		}
		method, _, found := strings.Cut(pattern, " ")
		if !found {
			method = "GET"
		}
		for _, sm := range samples[pattern] {
			sm.target = strings.ReplaceAll(sm.target, "{task}", task)
			is := func(who, key string, want int) {
				t.Helper()
				asked++
				status, h, body := ask(t, g.base, method, sm.target, sm.body, key)
				contract.Check(t, apicheck.Exchange{Method: method, Target: sm.target, Body: sm.body, Status: status, Header: h, Answer: body})
				denied := status == http.StatusUnauthorized || status == http.StatusForbidden
				if want == 0 && (denied || status >= 500) || want > 0 && status != want || (status == 401) != (h.Get("WWW-Authenticate") != "") {
					t.Errorf("%s %s as %s: %d, want %d: %s", method, sm.target, who, status, want, body)
				}
				var p httpapi.Problem
				if code := map[int]string{401: httpapi.CodeUnauthenticated, 403: httpapi.CodeForbidden}[status]; denied && (json.Unmarshal(body, &p) != nil || p.Code != code) {
					t.Errorf("%s %s as %s: %s", method, sm.target, who, body)
				}
			}
			for who, key := range keys {
				want := http.StatusForbidden
				if slices.Contains(sm.roles, who) {
					want = 0
				} else if who == "" {
					want = http.StatusUnauthorized
				}
				is("role "+who, key, want)
			}
			is("admin", admin, 0)
			for who, key := range bad {
				want := http.StatusUnauthorized
				if slices.Contains(sm.roles, "") {
					want = 0
				}
				is(who, key, want)
			}
		}
	}
	t.Logf("%d routes, %d requests", len(patterns), asked)
}

// badKeys are keys of an administrator that are good no longer, or never were.
func badKeys(t *testing.T, g gate) map[string]string {
	t.Helper()
	revoked, revokedText := g.key(t, "root", "admin")
	if _, err := g.keys.Revoke(t.Context(), auth.By{}, revoked.ID, ""); err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(50 * time.Millisecond)
	_, expired, err := g.keys.Create(t.Context(), auth.By{}, auth.NewKey{Actor: "root", Roles: []string{"admin"}, Expires: soon})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(soon))
	_, other := newGate(t, mem.New(), deedtest.Start(t, jars())).key(t, "root", "admin")
	return map[string]string{"revoked": revokedText, "expired": expired, "key of another store": other, "garbage": "garbage"}
}

// What a key does is its actor's, whatever the request says; administrators
// may act on behalf of others, and that is recorded.
func TestActors(t *testing.T) {
	s := mem.New()
	g := newGate(t, s, deedtest.StartOn(t, s, jars()))
	_, saver := g.key(t, "ann", "saver")
	_, operator := g.key(t, "olga", "operator")
	_, admin := g.key(t, "root", "admin")
	type circumstances struct{ Actor, Source string }
	last := func(stream string) (c circumstances) {
		t.Helper()
		for rec, err := range s.Read(t.Context(), stream, store.Range{Backward: true, Limit: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(rec.Meta, &c); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	for _, c := range []struct {
		key, path, body, stream string
		says                    string
		want                    circumstances
	}{
		{saver, "/v1/jar/a/drop", `{"N":1}`, "jar/a", "", circumstances{"ann", "http"}},
		{saver, "/v1/jar/a/drop", `{"N":1}`, "jar/a", "root", circumstances{"ann", "http"}},
		{operator, "/v1/followers/rich/pause", "", "$audit/followers", "root", circumstances{"olga", "http"}},
		{admin, "/v1/jar/a/drop", `{"N":1}`, "jar/a", "", circumstances{"root", "http"}},
		{admin, "/v1/jar/a/drop", `{"N":1}`, "jar/a", "bob", circumstances{"bob", "http by root"}},
		{admin, "/v1/keys", `{"actor":"x","roles":[]}`, "$audit/keys", "bob", circumstances{"bob", "http by root"}},
	} {
		status, _, body := ask(t, g.base, "POST", c.path, c.body, c.key, "X-Actor", c.says)
		if got := last(c.stream); status >= 300 || got != c.want {
			t.Errorf("%s as %q: %d %s is recorded as %+v, want %+v", c.path, c.says, status, body, got, c.want)
		}
	}
}

// Who shows two keys is told so, and not that one of them is bad.
func TestTwoKeysInARequest(t *testing.T) {
	g := newGate(t, mem.New(), deedtest.Start(t, jars()))
	_, text := g.key(t, "ann", "reader")
	status, header, body := ask(t, g.base, "GET", "/v1/events", "", text, "X-Api-Key", text)
	if status != 401 || !strings.Contains(string(body), "send either Authorization or X-Api-Key") || !strings.Contains(header.Get("WWW-Authenticate"), "invalid_request") {
		t.Errorf("%d %s, %s", status, body, header)
	}
}

// A key that one node revokes is refused by another, and what it was being
// told there ends, within five seconds.
func TestRevocationWithinSeconds(t *testing.T) {
	s := mem.New()
	here, there := newGate(t, s, deedtest.StartOn(t, s, jars())), newGate(t, s, deedtest.StartOn(t, s, jars()))
	k, text := here.key(t, "ann", "reader")
	_, admin := here.key(t, "root", "admin")
	r, err := http.NewRequestWithContext(t.Context(), "GET", there.base+"/v1/events/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", text)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	if status, _, body := ask(t, here.base, "POST", "/v1/keys/"+k.ID+"/revoke", `{"reason":"leaked"}`, admin); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	start := time.Now()
	if status, _, body := ask(t, here.base, "GET", "/v1/events", "", text); status != 401 || !strings.Contains(string(body), "revoked") {
		t.Errorf("here: %d %s", status, body)
	}
	for status := 200; status != 401; time.Sleep(20 * time.Millisecond) {
		if status, _, _ = ask(t, there.base, "GET", "/v1/events", "", text); time.Since(start) > 5*time.Second {
			t.Fatal("the other node takes the key still")
		}
	}
	refused := time.Since(start)
	if _, err := io.Copy(io.Discard, bufio.NewReader(resp.Body)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the live tail went on for %v", took)
	} else {
		t.Logf("refused after %v, the live tail ended after %v", refused.Round(time.Millisecond), took.Round(time.Millisecond))
	}
}

// Keys are looked after over the API. No key is ever in an answer again, nor
// in the log; who asks is.
func TestKeysOverHTTP(t *testing.T) {
	s := mem.New()
	g := newGate(t, s, deedtest.StartOn(t, s, jars()))
	_, admin := g.key(t, "root", "admin")
	var made, rotated httpapi.IssuedKey
	act := func(path, body string, want int, into any) http.Header {
		t.Helper()
		status, h, data := ask(t, g.base, "POST", path, body, admin)
		if status != want {
			t.Fatalf("%s %s: %d %s", path, body, status, data)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := act("/v1/keys", `{"actor":"ann","roles":["reader"],"expires":"2999-01-01T00:00:00Z","note":"n"}`, 201, &made); h.Get("Cache-Control") != "no-store" {
		t.Error("an answer with a key in it may be kept")
	}
	act("/v1/keys/"+made.ID+"/rotate", `{"overlap":"1h"}`, 200, &rotated)
	for _, text := range []string{made.Text, rotated.Text} {
		if status, _, body := ask(t, g.base, "GET", "/v1/views/open", "", text); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	status, _, list := ask(t, g.base, "GET", "/v1/keys?limit=10", "", admin)
	var page httpapi.KeyPage
	if err := json.Unmarshal(list, &page); err != nil || status != 200 || len(page.Keys) != 2 {
		t.Errorf("%d %s", status, list)
	}
	for _, text := range []string{made.Text, rotated.Text, admin} {
		secret := text[strings.LastIndex(text, "_")+1:]
		for where, b := range map[string]string{"list": string(list), "log": g.log.String()} {
			if strings.Contains(b, secret) {
				t.Errorf("a secret is in the %s", where)
			}
		}
	}
	for try := 0; !strings.Contains(g.log.String(), "actor=ann"); try++ { // a request is logged after it was answered
		if time.Sleep(10 * time.Millisecond); try > 200 {
			t.Fatal("the log does not say who asks")
		}
	}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"/v1/keys", `{}`, 400}, {"/v1/keys", `{"actor":"a","secret":"x"}`, 400}, {"/v1/keys", `{"actor":"a","actor":"b"}`, 400},
		{"/v1/keys", `[]`, 400}, {"/v1/keys", `{"actor":"a","roles":[""]}`, 400}, {"/v1/keys", `{"actor":"a","expires":"2001-01-01T00:00:00Z"}`, 400},
		{"/v1/keys", `{"actor":"a","expires":"soon"}`, 400}, {"/v1/keys?x=1", `{"actor":"a"}`, 400},
		{"/v1/keys", `{"actor":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		{"/v1/keys/" + made.ID + "/rotate", `{"overlap":"lots"}`, 400}, {"/v1/keys/" + made.ID + "/rotate", `{"overlap":"-1s"}`, 400},
		{"/v1/keys/" + made.ID + "/explode", `{}`, 404}, {"/v1/keys/none/revoke", `{}`, 404}, {"/v1/keys/none/rotate", ``, 404},
		{"/v1/keys/" + made.ID + "/revoke", `{"reason":"r"}`, 200}, {"/v1/keys/" + made.ID + "/revoke", ``, 200}, {"/v1/keys/" + made.ID + "/rotate", ``, 409},
	} {
		if status, _, body := ask(t, g.base, "POST", c.path, c.body, admin); status != c.status {
			t.Errorf("%s %.60s: %d %s, want %d", c.path, c.body, status, body, c.status)
		}
	}
}

// Without an authenticator everything is as it was, and there are no keys.
func TestAccessIsOff(t *testing.T) {
	base := deedtest.Serve(t, mem.New(), jars())
	for target, want := range map[string]int{"/v1/views/books": 200, "/v1/followers": 200, "/metrics": 200, "/v1/keys": 404} {
		if status, _, body := ask(t, base, "GET", target, "", ""); status != want {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if status, _, body := ask(t, base, "POST", "/v1/jar/a/shake", "", ""); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := ask(t, base, "POST", "/v1/keys", `{"actor":"a","roles":["admin"]}`, ""); status != 404 {
		t.Errorf("a key is made while nobody is asked who they are: %d", status)
	}
}

// brokenDoor cannot find out who asks.
type brokenDoor struct{ err error }

func (b brokenDoor) Authenticate(*http.Request) (auth.Principal, error) {
	return auth.Principal{}, b.err
}

func TestNobodyCanTell(t *testing.T) {
	for _, err := range []error{fmt.Errorf("%w: down", auth.ErrUnavailable), fmt.Errorf("%w: disk full", store.ErrUnavailable)} {
		srv := httptest.NewServer(httpapi.New(deedtest.Start(t, jars()), httpapi.Options{Auth: brokenDoor{err}, Logger: slog.New(slog.DiscardHandler)}))
		status, h, body := ask(t, srv.URL, "GET", "/v1/events", "", "x")
		if status != 503 || h.Get("Retry-After") == "" {
			t.Errorf("%v: %d %s", err, status, body)
		}
		srv.Close()
	}
}

// Whatever stands in the header, the answer is a refusal and no failure.
func FuzzAuthorization(f *testing.F) {
	s := mem.New()
	keys := auth.NewKeys(s)
	tokens, err := auth.NewTokens(auth.TokenOptions{Issuer: "i", Audience: "a", JWKS: keyFile(f)})
	if err != nil {
		f.Fatal(err)
	}
	h := httpapi.New(deedtest.StartOn(f, s, jars()), httpapi.Options{Auth: auth.Chain(keys, tokens), Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	for _, s := range []string{"", "Bearer", "Bearer deed_a_b", "Bearer eyJhbGciOiJub25lIn0.e30.", "Basic YTpi", "Bearer a b", "bearer\tx", "Bearer \xff"} {
		f.Add(s, "")
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, authorization, key string) {
		r := httptest.NewRequest("GET", "/v1/followers", nil)
		r.Header.Set("Authorization", authorization)
		if key != "" {
			r.Header.Set("X-Api-Key", key)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%q %q: %d %s", authorization, key, w.Code, w.Body)
		}
	})
}
