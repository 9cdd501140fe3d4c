package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var errEnough = errors.New("enough")

// Six readers of the live tail lose their connection again and again; each
// sees every event once and in order.
func TestLiveTailMissesNothing(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, orders.Domain)
	api := httpapi.New(rt, httpapi.Options{})
	var cuts atomic.Int64
	// A server that hangs up in the middle of whatever it sends.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer cuts.Add(1)
		// It does so soon after the first events: on a busy machine a reader
		// would else come back ten times for nothing, and give up.
		soon := func() { time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, cancel) }
		api.ServeHTTP(&cutting{ResponseWriter: w, left: 200 + rand.IntN(6_000), soon: soon}, r.WithContext(ctx))
	}))
	defer srv.Close()
	const readers, events = 6, 600
	results := make(chan error, readers)
	for range readers {
		go func() {
			next := 1
			q := url.Values{"after": {"beginning"}, "category": {"n"}}
			err := client.New(srv.URL).Tail(t.Context(), q, func(_ string, e httpapi.Event) error {
				if string(e.Data) != fmt.Sprint(next) {
					return fmt.Errorf("got event %s, want %d", e.Data, next)
				}
				if next++; next > events {
					return errEnough
				}
				return nil
			})
			results <- err
		}()
	}
	for i := range events {
		w := store.Write{Stream: fmt.Sprintf("n/%d", i%5), Expect: store.Any, Events: []store.Event{{ID: store.ID{byte(i), byte(i >> 8), 1}, Type: "x", Data: fmt.Appendf(nil, "%d", i+1)}}}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	for range readers {
		if err := <-results; !errors.Is(err, errEnough) {
			t.Error(err)
		}
	}
	if cuts.Load() < 10*readers {
		t.Errorf("only %d connections were cut: that shows nothing", cuts.Load())
	}
	t.Logf("%d connections", cuts.Load())
}

// cutting breaks the connection after so many bytes.
type cutting struct {
	http.ResponseWriter
	left int
	soon func() // is called when the events begin
	n    int    // writes
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutting) Write(b []byte) (int, error) {
	if c.n++; c.n == 2 { // the first is only the greeting
		c.soon()
	}
	if len(b) > c.left {
		c.ResponseWriter.Write(b[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// A thing that sometimes cannot be handled.
type thing struct{ N int }
type counted struct {
	N int `json:"n"`
}
type count struct {
	N int `json:"n"`
}

func (e counted) Apply(t *thing) { t.N += e.N }
func (c count) Decide(thing) ([]deed.Event[thing], error) {
	return []deed.Event[thing]{counted(c)}, nil
}

// An event that cannot be handled is parked with those of its stream, others
// go on, and redriving after repair handles them in order.
func TestDeadLettersOverHTTP(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	things := deed.Aggregate[thing]{Name: "thing", Events: map[string]deed.Event[thing]{"counted": counted{}}, Commands: map[string]deed.Command[thing]{"count": count{}}}
	view := deed.Projection[[]int]{Name: "numbers", On: []deed.Handler[[]int]{deed.On(func(v *[]int, e counted) {
		if e.N == 13 && broken.Load() {
			panic("thirteen")
		}
		*v = append(*v, e.N)
	})}}
	base := deedtest.Serve(t, mem.New(), deed.Domain{Name: "things", Parts: []deed.Part{things, view}})
	c := client.New(base)
	ask := func(id string, n int) deed.Receipt {
		t.Helper()
		var r deed.Receipt
		if _, err := c.Do(t.Context(), "POST", "/v1/thing/"+id+"/count", nil, map[string]int{"n": n}, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	look := func(id string, r deed.Receipt) string {
		t.Helper()
		var d httpapi.Document
		_, err := c.Do(t.Context(), "GET", "/v1/views/numbers/"+id+"?wait=5s&min-position="+r.Position, nil, nil, &d)
		var p httpapi.Problem
		if errors.As(err, &p) && p.Code == "not_found" {
			return "none"
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Value)
	}
	ask("a", 1)
	ask("a", 13)
	ask("b", 13)
	ask("c", 5)
	last := ask("a", 2)
	for id, want := range map[string]string{"a": "[1]", "b": "none", "c": "[5]"} {
		if got := look(id, last); got != want {
			t.Errorf("%s shows %s, want %s", id, got, want)
		}
	}
	var page httpapi.DeadLetterPage
	if _, err := c.Do(t.Context(), "GET", "/v1/dead-letters?limit=10", nil, nil, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.DeadLetters) != 3 {
		t.Fatalf("%d dead letters, want 3: %+v", len(page.DeadLetters), page.DeadLetters)
	}
	first, third := page.DeadLetters[0], page.DeadLetters[2]
	if first.State != "dead" || first.Stream != "thing/a" || first.Attempts != 1 || !strings.Contains(first.Reason, "thirteen") || !strings.Contains(first.Stack, "goroutine") || third.State != "waiting" {
		t.Errorf("dead letters %+v", page.DeadLetters)
	}
	var p httpapi.Problem
	if _, err := c.Do(t.Context(), "POST", "/v1/dead-letters/"+first.ID+"/redrive", nil, nil, nil); !errors.As(err, &p) || p.Code != "conflict" {
		t.Errorf("redriving what still fails: %v", err)
	}
	broken.Store(false)
	var r httpapi.Redriven
	if _, err := c.Do(t.Context(), "POST", "/v1/dead-letters/"+first.ID+"/redrive", nil, nil, &r); err != nil || r.Handled != 2 {
		t.Errorf("redrive: %+v, %v", r, err)
	}
	if got := look("a", last); got != "[1,13,2]" {
		t.Errorf("a shows %s, want [1,13,2]", got)
	}
	second := page.DeadLetters[1]
	if _, err := c.Do(t.Context(), "POST", "/v1/dead-letters/"+second.ID+"/discard", map[string]string{"X-Actor": "ann"}, map[string]string{"reason": "unlucky"}, nil); err != nil {
		t.Error(err)
	}
	if got := look("b", ask("b", 7)); got != "[7]" {
		t.Errorf("b shows %s, want [7]", got)
	}
	var audit httpapi.StreamPage
	if _, err := c.Do(t.Context(), "GET", "/v1/streams/$audit/followers", nil, nil, &audit); err != nil || len(audit.Events) != 2 || audit.Events[1].Type != "dead-letter-discarded" || !strings.Contains(string(audit.Events[1].Meta), "ann") {
		t.Errorf("audit %+v, %v", audit, err)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	base := serve(t)
	raw(t, base, "POST", "/v1/order/o-1/create", `{"customer":"c"}`)
	raw(t, base, "POST", "/v1/order/o-1/submit", ``)
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return string(body)
	}
	running := `deed_follower_running{follower="customers"} 1`
	httptry.Until(t, "the followers run", func() bool { return strings.Contains(get("/metrics"), running) })
	for path, want := range map[string][]string{
		"/livez":  {"alive"},
		"/readyz": {"ready"},
		"/v1":     {`"name":"order"`, `"commands":["add-item"`, `"volatile":"kept in memory`},
		"/metrics": {`deed_commands_total{aggregate="order",command="create",outcome="completed"} 1`,
			`deed_commands_total{aggregate="order",command="submit",outcome="rejected"} 1`, running, `deed_queries_asked_total 0`, `deed_queries_cached_total 0`, `deed_queries_computed_total 0`,
			`route="POST /v1/{aggregate}/{id}/{command}"`},
	} {
		body := get(path)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q:\n%s", path, w, body)
			}
		}
	}
}

func TestReadyTellsTrouble(t *testing.T) {
	s := mem.New()
	base := deedtest.Serve(t, s, orders.Domain)
	s.Close()
	status, p := raw(t, base, "GET", "/readyz", "")
	if status != 503 || p.Code != "unavailable" {
		t.Errorf("got %d %+v", status, p)
	}
	status, p = raw(t, base, "POST", "/v1/order/o-1/create", `{"customer":"c"}`)
	if status != 503 || p.Code != "unavailable" {
		t.Errorf("got %d %+v", status, p)
	}
}

func TestTraceIsTheCorrelation(t *testing.T) {
	base := serve(t)
	raw(t, base, "POST", "/v1/order/o-1/create", `{"customer":"c"}`, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	resp, err := http.Get(base + "/v1/streams/order/o-1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var page httpapi.StreamPage
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page.Events[0].Meta), `"correlation":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
		t.Errorf("meta %s", page.Events[0].Meta)
	}
	if !strings.Contains(string(page.Events[0].Meta), `"trace":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"`) {
		t.Errorf("meta %s", page.Events[0].Meta)
	}
	for _, wrong := range []string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bX-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\"", "nonsense",
	} {
		status, _ := raw(t, base, "POST", "/v1/order/o-2/create", `{"customer":"c"}`, "Traceparent", wrong)
		again, err := http.Get(base + "/v1/streams/order/o-2")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(again.Body)
		again.Body.Close()
		if err != nil || status == http.StatusBadRequest || strings.Contains(string(text), `"trace"`) {
			t.Errorf("%s: %d %s, %v", wrong, status, text, err)
		}
	}
}

// A page elsewhere that gives this machine a name of its own gets nothing.
func TestOtherHosts(t *testing.T) {
	rt := deedtest.Start(t, orders.Domain)
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Hosts: []string{"localhost", "127.0.0.1", "::1"}}))
	defer srv.Close()
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost": 200, "LOCALHOST:1": 200, "[::1]:8080": 200,
		"evil.example": 403, "evil.example:80": 403, "127.0.0.1.evil.example": 403, "localhost.": 403,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// damaged is a store whose log fails its checksums.
type damaged struct{ store.Store }

func (damaged) Read(context.Context, string, store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		yield(store.Record{}, fmt.Errorf("%w: event thing/t-1@1", store.ErrCorrupt))
	}
}

func (d damaged) ReadAll(ctx context.Context, _ store.Cursor, _ store.Filter) iter.Seq2[store.Record, error] {
	return d.Read(ctx, "", store.Range{})
}

// Damage is called damage, and the live tail says so before it ends.
func TestDamageIsNamed(t *testing.T) {
	s := mem.New()
	_, err := s.Append(t.Context(), store.Write{Stream: "order/t-1", Expect: store.None, Events: []store.Event{{ID: store.ID{1}, Type: "created", Data: []byte("{}")}}})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := deed.New(damaged{s}, deed.Config{Domains: []deed.Domain{orders.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}))
	defer srv.Close()
	for path, want := range map[string]string{
		"/v1/order/t-1": `"code":"corrupt"`, "/v1/events": `"code":"corrupt"`, "/v1/events/live?after=beginning": "event: problem\ndata: {",
	} {
		resp, err := srv.Client().Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v", path, body, err)
		}
	}
}
