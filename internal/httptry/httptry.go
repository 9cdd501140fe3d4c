// Package httptry is what tests need to talk to a server as any client would:
// plain requests, and answers as they come.
package httptry

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An Answer is what came back. Body is nil if there was none.
type Answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Text   []byte // of the body
}

// Get is what stands at a path in the body; nil if nothing does.
func (a Answer) Get(path ...string) any {
	var v any = a.Body
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Ask sends a request with headers (name, value, name, ...). An answer that is
// no JSON object ends the test.
func Ask(t testing.TB, method, url, body string, headers ...string) Answer {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := Answer{Status: resp.StatusCode, Header: resp.Header, Text: data}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &a.Body); err != nil {
			t.Fatalf("%s %s answers %q: %v", method, url, data, err)
		}
	}
	return a
}

// Want fails the test if what was got does not print as what is wanted.
func Want(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Until tries again and again until try says that it is so. If that takes half a
// minute, the test ends. It tries ever less often: what is waited for needs the
// processor, too.
func Until(t testing.TB, what string, try func() bool) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for pause := 2 * time.Millisecond; !try(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come to that", what)
		}
		time.Sleep(pause)
	}
}
