package sinks

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// coinsOf tells how many coins are in a purse.
var coinsOf = deed.Query[struct {
	ID string `json:"id"`
}, int]{Name: "coins", Answer: func(ctx context.Context, r deed.Reader, p struct {
	ID string `json:"id"`
}) (int, error) {
	s, _, err := purses.Load(ctx, r, p.ID)
	return s.Coins, err
}}

// Each place gets its answer once it can be had, whatever becomes of the others;
// what became of each is recorded.
func TestDeliveries(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]Answered{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m Answered
		if err := json.Unmarshal(body, &m); err != nil || m.ID != r.Header.Get("Idempotency-Key") {
			t.Errorf("%s, %v", body, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = append(got[r.URL.Path], m)
		switch {
		case r.URL.Path == "/gone":
			w.WriteHeader(http.StatusGone)
		case r.URL.Path == "/slow" && len(got["/slow"]) < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer hook.Close()
	dir := t.TempDir()
	d, err := NewDeliveries(local(), filepath.Join(dir, "answers"))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := deed.New(mem.New(), deed.Config{
		Domains: []deed.Domain{{Name: "d", Parts: append(quickly(d.Parts()...), purses, coinsOf)}}, Deliveries: d.Allow,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	if _, err := purses.Execute(ctx, rt, "p", move{3}); err != nil {
		t.Fatal(err)
	}
	start := func(id, of string, to ...string) (deed.Run, error) {
		return rt.Queries().Start(deed.With(ctx, deed.Call{ID: id}), "coins", []byte(`{"id":"`+of+`"}`), deed.Asking{Deliver: to})
	}
	if _, err := start("r-1", "p", hook.URL+"/slow", hook.URL+"/gone", "file:a.b", hook.URL+"/fine"); err != nil {
		t.Fatal(err)
	}
	if _, err := start("r-2", "none", "file:none"); err != nil {
		t.Fatal(err)
	}
	var run, no deed.Run
	settled := func(r deed.Run) bool {
		for _, d := range r.Deliveries {
			if d.Done.IsZero() && d.Reason == "" {
				return false
			}
		}
		return r.State.Over()
	}
	for deadline := time.Now().Add(20 * time.Second); !settled(run) || !settled(no); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v\n%+v", run, no)
		}
		if run, err = rt.Queries().Get(ctx, "r-1"); err == nil {
			no, err = rt.Queries().Get(ctx, "r-2")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for path, want := range map[string]int{"/slow": 3, "/gone": 1, "/fine": 1} {
		if n := len(got[path]); n != want || string(got[path][0].Run.Result) != "3" || got[path][0].Run.ID != "r-1" || got[path][0].Run.Deliveries != nil {
			t.Errorf("%s: %d messages, %+v", path, n, got[path])
		}
	}
	for i, d := range run.Deliveries {
		if gone := strings.HasSuffix(d.To, "/gone"); d.Done.IsZero() != gone || (d.Reason == "") == gone {
			t.Errorf("%d: %+v", i, d)
		}
	}
	for name, want := range map[string]string{"a.b.json": `"result":3`, "none.json": `"code":"not_found"`} {
		if data, err := os.ReadFile(filepath.Join(dir, "answers", name)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %s, %v", name, data, err)
		}
	}
	if letters, _, err := rt.Followers().DeadLetters(ctx, "deliveries-2", "", 10); err != nil || len(letters) != 1 {
		t.Errorf("%+v, %v", letters, err)
	}
}

// What is not allowed is not delivered to, and who asks is told at once.
func TestWhereAnswersGo(t *testing.T) {
	both, err := NewDeliveries(local(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	neither, err := NewDeliveries(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for place, allowed := range map[string]bool{
		"http://127.0.0.1:1/x": true, "http://elsewhere.example/": false, "http://user@127.0.0.1/": false, "http:///x": false,
		"file:a": true, "file:a b.c": true, "file:": false, "file:../a": false, `file:..\a`: false, "file:/etc/passwd": false,
		"topic:x": false, "nothing": false, "": false,
	} {
		if err := both.Allow(place); (err == nil) != allowed || err != nil && !isInvalid(err) {
			t.Errorf("%s: %v", place, err)
		}
		if err := neither.Allow(place); !isInvalid(err) {
			t.Errorf("%s: %v", place, err)
		}
	}
}
