package httpapi_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store/mem"
)

// A query that takes longer than somebody wants to wait goes on in the background.
func TestSlowQuery(t *testing.T) {
	open := make(chan struct{})
	slow := deed.Query[struct{}, int]{Name: "slow", Answer: func(ctx context.Context, r deed.Reader, p struct{}) (int, error) {
		select {
		case <-open:
			return coins(ctx, r, p)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}}
	later := deed.Query[struct{}, int]{Name: "later", Async: true, Answer: coins}
	d := jars()
	d.Parts = append(d.Parts, slow, later)
	base := deedtest.Serve(t, mem.New(), d)
	if status, _, body := ask(t, base, "POST", "/v1/jar/a/drop", `{"N":3}`, ""); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, h, body := ask(t, base, "POST", "/v1/queries/slow", "", "", "Prefer", "wait=1")
	place := h.Get("Location")
	if status != 202 || !strings.HasPrefix(place, "/v1/queries/slow/runs/") {
		t.Fatalf("%d %s %s", status, place, body)
	}
	if status, _, body := ask(t, base, "GET", place, "", ""); status != 200 || !strings.Contains(string(body), `"state":"asked"`) {
		t.Errorf("%d %s", status, body)
	}
	close(open)
	var run deed.Run
	if status, _, body := ask(t, base, "GET", place+"?wait=10s", "", ""); json.Unmarshal(body, &run) != nil || status != 200 || run.State != deed.RunCompleted || string(run.Result) != "3" {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := ask(t, base, "POST", "/v1/queries/slow", "", ""); status != 200 || !strings.Contains(string(body), `"result":3`) {
		t.Errorf("%d %s", status, body)
	}
	if status, h, body := ask(t, base, "POST", "/v1/queries/later", "", "", "Prefer", "wait=10"); status != 200 || h.Get("Location") == "" || !strings.Contains(string(body), `"result":3`) {
		t.Errorf("%d %s", status, body)
	}
}

// A recorded asking is called off by whoever asked it; one that is over stands.
func TestCancelQuery(t *testing.T) {
	endless := deed.Query[struct{}, int]{Name: "endless", Async: true, Answer: func(ctx context.Context, _ deed.Reader, _ struct{}) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}}
	d := jars()
	d.Parts = append(d.Parts, endless)
	base := deedtest.Serve(t, mem.New(), d)
	status, _, body := ask(t, base, "POST", "/v1/queries/endless", "", "", "Idempotency-Key", "r-1")
	if status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	const cancel, reason = "/v1/queries/endless/runs/r-1/cancel", `{"reason":"asked twice"}`
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/queries/endless/runs/r-2/cancel", reason, 404, "has no run r-2"},
		{"/v1/queries/coins/runs/r-1/cancel", reason, 404, "has no run r-1"},
		{cancel, `{"why":""}`, 400, "invalid"},
		{cancel, reason, 200, `"state":"cancelled"`},
		{cancel, reason, 409, "it is cancelled"},
	} {
		if status, _, body := ask(t, base, "POST", c.path, c.body, ""); status != c.status || !strings.Contains(string(body), c.want) {
			t.Errorf("%s: %d %s", c.path, status, body)
		}
	}
	if status, _, body := ask(t, base, "GET", "/v1/queries/endless/runs/r-1?wait=10s", "", ""); status != 200 || !strings.Contains(string(body), `"reason":"asked twice"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := ask(t, base, "GET", "/v1/queries/endless/runs/r-1/live", "", ""); status != 200 { // it ends: nothing more is to come
		t.Errorf("%d %s", status, body)
	}
}

// An answer is delivered to the topic that its query has.
func TestAnswerOnTopic(t *testing.T) {
	d := jars()
	d.Parts = append(d.Parts, deed.Query[struct{}, int]{Name: "sum", Answer: coins, Topic: "sums"})
	base := deedtest.Serve(t, mem.New(), d)
	if status, _, body := ask(t, base, "POST", "/v1/jar/a/drop", `{"N":3}`, ""); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := ask(t, base, "POST", "/v1/queries/sum", "", "", "Deed-Deliver", "<topic:others>"); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := ask(t, base, "POST", "/v1/queries/sum", "", "", "Deed-Deliver", "<topic:sums>", "Idempotency-Key", "r-1", "Prefer", "wait=30"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	status, _, body := ask(t, base, "GET", "/v1/topics/sums/events", "", "")
	if text := string(body); status != 200 || strings.Count(text, `"sum.answered"`) != 1 || !strings.Contains(text, `"run":"r-1"`) {
		t.Errorf("%d %s", status, body)
	}
}
