package httpapi_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// Records of commands are given up over HTTP; a command that is asked again
// after that is done again.
func TestCompaction(t *testing.T) {
	s := mem.New()
	s.Now = func() time.Time { return time.Now().Add(-30 * 24 * time.Hour) }
	base := deedtest.Serve(t, s, jars())
	drop := func() {
		t.Helper()
		if status, _, body := ask(t, base, "POST", "/v1/jar/a/drop", `{"N":1}`, "", "Idempotency-Key", "k"); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	drop()
	drop()
	compact := func(body string) (int, deed.Compacted, string) {
		t.Helper()
		status, _, data := ask(t, base, "POST", "/v1/compaction", body, "", "X-Actor", "ann")
		var out deed.Compacted
		if err := json.Unmarshal(data, &out); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return status, out, string(data)
	}
	is := func(out deed.Compacted) string { return fmt.Sprint(out.Streams, out.Records, " ", out.Done) }
	deadline := time.Now().Add(20 * time.Second)
	for { // followers say within a second how far they have come
		status, out, body := compact(`{"older_than":"700h","dry_run":true}`)
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if is(out) == "map[$command:1] 1 true" && out.WaitsFor == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the dry run says %s", body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, c := range [][2]string{{"721h", "map[] 0 true"}, {"700h", "map[$command:1] 1 true"}} {
		if _, out, body := compact(`{"older_than":"` + c[0] + `"}`); is(out) != c[1] {
			t.Errorf("older than %s: %s", c[0], body)
		}
	}
	if status, _, body := ask(t, base, "GET", "/v1/commands/k", "", ""); status != 404 {
		t.Errorf("the command: %d %s", status, body)
	}
	drop()
	var entity struct{ State struct{ Coins int } }
	_, _, body := ask(t, base, "GET", "/v1/jar/a", "", "")
	if err := json.Unmarshal(body, &entity); err != nil || entity.State.Coins != 2 {
		t.Errorf("%s, %v", body, err)
	}
	_, _, body = ask(t, base, "GET", "/v1/streams/$audit/compaction", "", "")
	var stream httpapi.StreamPage
	if err := json.Unmarshal(body, &stream); err != nil || len(stream.Events) != 1 || stream.Events[0].Type != "compacted" {
		t.Errorf("%s, %v", body, err)
	}
}

// A store that gives up no streams is said to be one.
func TestCompactionIsNotSupported(t *testing.T) {
	base := deedtest.Serve(t, struct{ store.Store }{mem.New()}, jars())
	status, _, body := ask(t, base, "POST", "/v1/compaction", `{"older_than":"700h"}`, "")
	var p httpapi.Problem
	if err := json.Unmarshal(body, &p); err != nil || status != 501 || p.Code != "unsupported" || p.Detail != "this store gives up no streams" {
		t.Errorf("%d %s, %v", status, body, err)
	}
}
