package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store/mem"
)

// A reader of a command's events who knows all of them already hears that there
// will be no more.
func TestLiveOfACommandThatIsOver(t *testing.T) {
	base := deedtest.Serve(t, mem.New(), jars())
	do := func(method, path string, headers ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		c := http.Client{Timeout: 20 * time.Second}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s %s does not end: %v", method, path, err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := do("POST", "/v1/jar/a/shake", "Idempotency-Key", "k"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, last := range []string{"", "1", "99"} {
		_, body := do("GET", "/v1/commands/k/live", "Last-Event-ID", last)
		if !strings.HasSuffix(body, "event: over\ndata: {}\n\n") || strings.Contains(body, "event: event") != (last == "") {
			t.Errorf("after %q: %q", last, body)
		}
	}
	for _, id := range []string{".", ".."} {
		if status, body := do("POST", "/v1/jar/a/shake", "Idempotency-Key", id); status != 400 {
			t.Errorf("the id %s: %d %s", id, status, body)
		}
	}
}
