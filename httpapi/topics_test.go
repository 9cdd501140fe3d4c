package httpapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store/mem"
)

// pageOf reads a page of the topic coins with the official library.
func pageOf(t *testing.T, base, query string) (ids []string, next string) {
	t.Helper()
	status, h, body := ask(t, base, "GET", "/v1/topics/coins/events"+query, "", "")
	var events []ce.Event
	if err := json.Unmarshal(body, &events); err != nil || status != 200 || h.Get("Content-Type") != ce.ApplicationCloudEventsBatchJSON {
		t.Fatalf("%d %v %s: %v", status, h, body, err)
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		ids = append(ids, e.ID())
	}
	return ids, h.Get(httpapi.CursorHeader)
}

// A topic is read from its beginning in pages, and a reader that has it all can
// wait for more.
func TestTopicOverHTTP(t *testing.T) {
	rt := deedtest.StartOn(t, mem.New(), jars())
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{}))
	t.Cleanup(srv.Close)
	pay := func() {
		if status, _, body := ask(t, srv.URL, "POST", "/v1/jar/a/drop", `{"N":1}`, ""); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	pay()
	pay()
	ids, next := pageOf(t, srv.URL, "?limit=1")
	if len(ids) != 1 || ids[0] != "jar/a:1" {
		t.Fatal(ids)
	}
	if ids, next = pageOf(t, srv.URL, "?limit=1&after="+next); len(ids) != 1 || ids[0] != "jar/a:2" {
		t.Fatal(ids)
	}
	if ids, _ = pageOf(t, srv.URL, "?after="+next); len(ids) != 0 {
		t.Fatal(ids)
	}
	if status, _, body := ask(t, srv.URL, "GET", "/v1/topics/coins/events?type=other.v1", "", ""); status != 400 || !strings.Contains(string(body), "there is coin.paid.v1") {
		t.Errorf("a type that the topic never had: %d %s", status, body)
	}
	if ids, _ = pageOf(t, srv.URL, "?type=coin.paid.v1&after="+next+"&wait=1ms"); len(ids) != 0 {
		t.Fatal(ids)
	}
	var later sync.WaitGroup
	defer later.Wait()
	later.Go(func() {
		time.Sleep(20 * time.Millisecond) // the reader waits by then, most of the time
		pay()
	})
	if ids, _ = pageOf(t, srv.URL, "?wait=30s&after="+next); len(ids) != 1 || ids[0] != "jar/a:3" {
		t.Fatal(ids)
	}
	for _, path := range []string{"/v1/topics/none", "/v1/topics/none/events"} {
		if status, _, body := ask(t, srv.URL, "GET", path, "", ""); status != 404 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	var list httpapi.TopicList
	_, _, body := ask(t, srv.URL, "GET", "/v1/topics", "", "")
	if err := json.Unmarshal(body, &list); err != nil || len(list.Topics) != 1 || list.Topics[0].Types[0].Type != "coin.paid.v1" {
		t.Errorf("%s: %v", body, err)
	}
}
