package httpapi_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store/mem"
)

// A consumer of any language works on a queue with nothing but HTTP.
func TestQueueOverHTTP(t *testing.T) {
	rt := deedtest.StartOn(t, mem.New(), jars())
	srv := httptest.NewServer(httpapi.New(rt, httpapi.Options{}))
	t.Cleanup(srv.Close)
	path := srv.URL + "/v1/topics/coins/subscriptions/work"
	httptry.Want(t, "no such subscription", httptry.Ask(t, "POST", path+"/lock", "{}").Status, 404)
	made := httptry.Ask(t, "PUT", path, `{"target":{"kind":"queue","lock":"30s"}}`)
	httptry.Want(t, "made", made.Status, 200)
	httptry.Want(t, "kind", made.Get("target", "kind"), "queue")
	for range 3 {
		httptry.Ask(t, "POST", srv.URL+"/v1/jar/a/drop", `{"N":1}`)
	}
	lock := func() (token string) {
		t.Helper()
		a := httptry.Ask(t, "POST", path+"/lock", `{"wait":"20s","consumer":"till"}`)
		list, _ := a.Get("messages").([]any)
		if a.Status != 200 || len(list) != 1 {
			t.Fatalf("%+v", a)
		}
		m := list[0].(map[string]any)
		httptry.Want(t, "consumer", m["consumer"], "till")
		return m["token"].(string)
	}
	one, two, three := lock(), lock(), lock()
	say := func(verb, body string, want int) {
		t.Helper()
		if a := httptry.Ask(t, "POST", path+"/"+verb, body); a.Status != want {
			t.Errorf("%s: %+v, want %d", verb, a, want)
		}
	}
	say("renew", `{"token":"`+one+`","lock":"60s"}`, 200)
	say("complete", `{"token":"`+one+`"}`, 204)
	say("complete", `{"token":"`+one+`"}`, 409)
	say("abandon", `{"token":"`+two+`","reason":"busy"}`, 204)
	say("complete", `{"token":"`+lock()+`"}`, 204)
	say("dead-letter", `{"token":"`+three+`"}`, 400)
	say("dead-letter", `{"token":"`+three+`","reason":"torn"}`, 204)
	say("lock", `{"limit":101}`, 400)
	say("lock", `{"wait":"soon"}`, 400)
	say("complete", `{"token":"?"}`, 400)
	dead := httptry.Ask(t, "GET", path+"/messages?dead", "")
	list, _ := dead.Get("messages").([]any)
	if len(list) != 1 {
		t.Fatalf("%+v", dead)
	}
	id := list[0].(map[string]any)["id"].(string)
	httptry.Want(t, "redriven", httptry.Ask(t, "POST", path+"/messages/"+id+"/redrive", "").Get("handled"), 1.0)
	say("dead-letter", `{"token":"`+lock()+`","reason":"torn again"}`, 204)
	say("messages/"+id+"/discard", `{}`, 400)
	say("messages/"+id+"/discard", `{"reason":"torn"}`, 204)
	say("messages/"+id+"/discard", `{"reason":"torn"}`, 404)
	say("test", "", 400)
	say("rotate", "", 400)
	reset := httptry.Ask(t, "POST", path+"/reset", `{"start":"beginning","dry_run":true}`)
	httptry.Want(t, "would deliver", reset.Get("events"), 3.0)
	httptry.Want(t, "deleted", httptry.Ask(t, "DELETE", path, "").Status, 204)
	httptry.Want(t, "gone", httptry.Ask(t, "GET", path, "").Status, 404)
	if a := httptry.Ask(t, "PUT", path, `{"target":{"kind":"webhook","url":"https://a.example"}}`); a.Status != 400 || !strings.Contains(a.Get("detail").(string), "queue") {
		t.Errorf("%+v", a)
	}
}
