package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A mailbox counts what is posted to it, by path and key.
type mailbox struct {
	mu  sync.Mutex
	got map[string]int
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got[r.URL.Path+" "+r.Header.Get("Idempotency-Key")]++
}

func (m *mailbox) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[key] > 0
}

// A server that is killed in the middle has in the end written a file, told the
// tracker and called back for each command that it ever answered.
func TestServeTells(t *testing.T) {
	box := &mailbox{got: map[string]int{}}
	world := httptest.NewServer(box)
	defer world.Close()
	dir := t.TempDir()
	errorDir := filepath.Join(dir, "errors")
	args := []string{
		"--store", "sqlite:" + filepath.Join(dir, "deed.db"), "--error-dir", errorDir,
		"--error-webhook", world.URL + "/tracker", "--callback-hosts", "127.0.0.1",
	}
	var rejected, stored []string
	for round := range 4 {
		cmd, base := serve(t, unheard, args...)
		c := client.New(base)
		for i := 0; ; i++ {
			if i == 8+3*round { // while more are asked
				time.AfterFunc(time.Duration(round)*3*time.Millisecond, func() { cmd.Process.Kill() })
			}
			key := fmt.Sprintf("%d-%d", round, i)
			_, err := c.Do(t.Context(), http.MethodPost, "/v1/order/none/submit", map[string]string{"Idempotency-Key": key}, []byte(`{}`), nil)
			p, answered := errors.AsType[httpapi.Problem](err)
			if !answered {
				break
			}
			if p.Code != httpapi.CodeNotFound {
				t.Fatal(err)
			}
			rejected = append(rejected, key)
			h := map[string]string{"Idempotency-Key": "c" + key, "Deed-Callback": "<" + world.URL + "/back>"}
			if _, err := c.Do(t.Context(), http.MethodPost, "/v1/order/o-"+key+"/create", h, []byte(`{"customer":"ann"}`), nil); err != nil {
				break
			}
			stored = append(stored, "c"+key)
		}
		cmd.Wait()
	}
	_, base := serve(t, unheard, args...)
	c := client.New(base)
	waitForViews(t, c)
	for _, key := range rejected {
		data, err := os.ReadFile(filepath.Join(errorDir, key+".json"))
		var rec deed.CommandError
		if err != nil || json.Unmarshal(data, &rec) != nil || rec.Command != "order.submit" {
			t.Errorf("%s: %s, %v", key, data, err)
		}
		if !box.has("/tracker " + key) {
			t.Errorf("%s: the tracker was not told", key)
		}
	}
	for _, id := range stored {
		if !box.has("/back $command/" + id + ":2") {
			t.Errorf("%s: nobody was called back", id)
		}
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	again := 0
	for _, n := range box.got {
		again += n - 1
	}
	t.Logf("%d rejected, %d with callbacks, %d messages twice", len(rejected), len(stored), again)
	if len(rejected) < 20 || len(stored) < 20 {
		t.Error("that shows nothing")
	}

	var page httpapi.DocumentPage
	if _, err := c.Do(t.Context(), http.MethodGet, "/v1/views/command-errors?where=resolved=false&where=code=not_found&limit=1000", nil, nil, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Documents) < min(len(rejected), 1000) {
		t.Errorf("%d records for %d rejected commands", len(page.Documents), len(rejected))
	}
	_, err := c.Do(t.Context(), http.MethodPost, "/v1/order/x/create", map[string]string{"Deed-Callback": "<https://elsewhere.example/>"}, []byte(`{"customer":"ann"}`), nil)
	if p, ok := errors.AsType[httpapi.Problem](err); !ok || p.Status != http.StatusBadRequest || !strings.Contains(p.Detail, "elsewhere.example are not allowed") {
		t.Error(err)
	}
}
