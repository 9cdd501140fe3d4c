package httptry

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Tail follows the changes of a view (server-sent events) until the test ends. The
// function it returns waits for the next one: its kind, the document's key, and
// whether that is a member.
func Tail(t testing.TB, url string) func() []any {
	t.Helper()
	next := Listen(t, url)
	return func() []any {
		t.Helper()
		kind, a := next()
		return []any{kind, a.Get("key"), a.Get("value", "in")}
	}
}

// Listen follows what a server sends as it happens (server-sent events) until the
// test ends. The function it returns waits for the next: its kind, and its data.
func Listen(t testing.TB, url string) func() (string, Answer) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (string, Answer) {
		t.Helper()
		kind := ""
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				kind = value
			case "data":
				a := Answer{}
				if err := json.Unmarshal([]byte(value), &a.Body); err != nil {
					t.Fatalf("%s: %v", value, err)
				}
				return kind, a
			}
		}
		t.Fatalf("%s has ended: %v", url, lines.Err())
		return "", Answer{}
	}
}
