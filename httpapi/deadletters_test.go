package httpapi_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// teller is an event handler that cannot bear more than 100 coins until it is cured.
func teller(cured *atomic.Bool, got chan<- int) deed.EventHandler {
	return deed.EventHandler{Name: "teller", On: []deed.Reaction{deed.Handle(func(_ context.Context, _ *deed.Tx, e deed.Recorded[put]) error {
		if e.Event.N > 100 && !cured.Load() {
			return deed.Permanent(fmt.Errorf("pot %s: %d coins are too many", e.ID, e.Event.N))
		}
		got <- e.Event.N
		return nil
	})}}
}

// tills is a domain with a teller.
func tills(cured *atomic.Bool, got chan<- int) deed.Domain {
	return deed.Domain{Name: "tills", Parts: []deed.Part{
		teller(cured, got),
		deed.Aggregate[jar]{Name: "pot", Events: map[string]deed.Event[jar]{"put": put{}}, Commands: map[string]deed.Command[jar]{"give": give{}}},
	}}
}

// Dead letters are looked at, edited, redriven and discarded with nothing but HTTP:
// one, some and all of them, with a preview.
func TestManyDeadLettersOverHTTP(t *testing.T) {
	cured, got := &atomic.Bool{}, make(chan int, 100)
	o, _ := serveFor(t, mem.New(), tills(cured, got))
	for i := range 6 {
		o.want(200, "POST", fmt.Sprintf("/v1/pot/pot-%d/give", i), fmt.Sprintf(`{"N":%d}`, 200+i), nil)
		o.want(200, "POST", fmt.Sprintf("/v1/pot/pot-%d/give", i), `{"N":1}`, nil)
	}
	var page httpapi.DeadLetterPage
	for len(page.DeadLetters) < 12 {
		o.want(200, "GET", "/v1/dead-letters?follower=teller", "", &page)
		time.Sleep(10 * time.Millisecond)
	}
	first := page.DeadLetters[0]

	var groups httpapi.LetterGroups
	o.want(200, "GET", "/v1/dead-letters/groups?kind=handler", "", &groups)
	if len(groups.Groups) != 1 || groups.Groups[0].Count != 6 || groups.Groups[0].Blocks != 6 || groups.Groups[0].Example.ID != first.ID || groups.Groups[0].Fingerprint != first.Fingerprint {
		t.Fatalf("%+v", groups)
	}
	fp := "fingerprint=" + first.Fingerprint
	for target, n := range map[string]int{
		fp: 6, fp + "&state=dead": 6, fp + "&state=retrying": 0, "state=waiting": 6, "kind=projection": 0, fp + "&older=1h": 0, fp + "&older=0s": 6, "follower=teller&limit=5": 5,
	} {
		page = httpapi.DeadLetterPage{}
		if o.want(200, "GET", "/v1/dead-letters?"+target, "", &page); len(page.DeadLetters) != n || (page.Next == "") != (n != 5) {
			t.Errorf("%s: %d", target, len(page.DeadLetters))
		}
	}
	var l deed.DeadLetter
	if o.want(200, "GET", "/v1/dead-letters/"+first.ID, "", &l); l.Blocks != 1 || string(l.Data) != `{"N":200}` {
		t.Errorf("%+v", l)
	}

	for _, x := range []struct {
		status                int
		code, path, body, say string
	}{
		{400, httpapi.CodeInvalid, "redrive", `{}`, "all "},
		{400, httpapi.CodeInvalid, "redrive", `{"fingerprint":"x","rate":-1}`, "rate "},
		{400, httpapi.CodeInvalid, "redrive", `{"fingerprints":"x"}`, "fingerprints "},
		{400, httpapi.CodeInvalid, "redrive", `{"older":"yesterday"}`, "older "},
		{400, httpapi.CodeInvalid, "discard", `{"all":true}`, "reason "},
		{400, httpapi.CodeInvalid, first.ID + "/edit", `{"data":{"N":1}}`, "reason "},
		{400, httpapi.CodeInvalid, first.ID + "/edit", `{"data":{"N":"one"},"reason":"r"}`, "data.N is not what pot.put takes"},
		{404, httpapi.CodeNotFound, "redrive", `{"follower":"nobody"}`, ""},
		{404, httpapi.CodeNotFound, "redrive", `{"ids":["teller.99"]}`, ""},
		{404, httpapi.CodeNotFound, "jobs/none/cancel", `{"reason":"r"}`, ""},
		{404, httpapi.CodeNotFound, "teller.99/edit", `{"data":{},"reason":"r"}`, ""},
	} {
		if p := o.refused(x.status, x.code, "POST", "/v1/dead-letters/"+x.path, x.body); !strings.HasPrefix(p.Detail, x.say) {
			t.Errorf("%s %s: %s", x.path, x.body, p.Detail)
		}
	}

	var j deed.LetterJob
	o.want(200, "POST", "/v1/dead-letters/"+first.ID+"/redrive", `{"dry_run":true}`, &j)
	httptry.Want(t, "one of them", fmt.Sprint(j.Letters, j.Blocks, j.Sample), fmt.Sprint(1, 1, []string{first.ID}))
	filter := `{"fingerprint":"` + first.Fingerprint + `"`
	o.want(200, "POST", "/v1/dead-letters/redrive", filter+`,"dry_run":true}`, &j)
	httptry.Want(t, "a preview", fmt.Sprint(j.Letters, j.Blocks, j.ByFollower, j.ID == ""), "6 6 map[teller:6] true")
	j = deed.LetterJob{}
	o.want(200, "POST", "/v1/dead-letters/redrive", filter+`,"first":true,"wait":"20s"}`, &j)
	httptry.Want(t, "stopped", fmt.Sprint(j.State, j.Failed, strings.Contains(j.Why, "pot-0: 200 coins are too many")), "stopped1 true")

	var edited httpapi.EditedLetter
	o.want(200, "POST", "/v1/dead-letters/"+first.ID+"/edit", `{"data":{"N":20},"reason":"a misprint","redrive":true}`, &edited)
	if edited.Redriven == nil || edited.Redriven.Handled != 2 || string(edited.Edits[0].Data) != `{"N":20}` || string(edited.Data) != `{"N":200}` {
		t.Errorf("%+v", edited)
	}
	httptry.Want(t, "what the teller saw", fmt.Sprint(<-got, <-got), "20 1")
	if o.want(200, "GET", "/v1/dead-letters/"+first.ID, "", &l); l.State != "handled" || l.Closed == nil {
		t.Errorf("%+v", l)
	}

	measured := func() string {
		t.Helper()
		_, _, body := ask(t, o.base, "GET", "/metrics", "", "")
		return string(body)
	}
	if text := measured(); !strings.Contains(text, `deed_dead_letters{kind="handler",name="teller",state="dead"} 5`) || strings.Contains(text, `deed_dead_letter_age_seconds{kind="handler",name="teller"} 0`+"\n") {
		t.Error(text)
	}

	j = deed.LetterJob{}
	o.want(200, "POST", "/v1/dead-letters/discard", `{"ids":["`+groups.Groups[0].Example.ID+`","`+o.deadLetter("teller").ID+`"],"reason":"test","wait":"20s"}`, &j)
	httptry.Want(t, "discarded", fmt.Sprint(j.State, j.Discarded), "done1")
	cured.Store(true)
	status, h, _ := ask(t, o.base, "POST", "/v1/dead-letters/redrive", `{"all":true,"rate":0.1,"wait":"1ms"}`, "")
	httptry.Want(t, "accepted", status, http.StatusAccepted)
	at, err := url.Parse(h.Get("Location"))
	if err != nil || !strings.HasPrefix(at.Path, "/v1/dead-letters/jobs/") {
		t.Fatal(h)
	}
	j = deed.LetterJob{}
	for j.Handled == 0 {
		o.want(200, "GET", at.Path, "", &j)
		time.Sleep(10 * time.Millisecond)
	}
	o.want(200, "POST", at.Path+"/cancel", `{"reason":"it takes too long"}`, &j)
	httptry.Want(t, "called off", fmt.Sprint(j.State, j.Why, j.Letters), "cancelledit takes too long4")
	o.refused(409, httpapi.CodeConflict, "POST", at.Path+"/cancel", `{}`)
	j = deed.LetterJob{}
	o.want(200, "POST", "/v1/dead-letters/redrive", `{"all":true,"wait":"20s"}`, &j)
	httptry.Want(t, "the rest", fmt.Sprint(j.State, j.Handled, j.Failed), "done6 0")
	var jobs httpapi.LetterJobs
	o.want(200, "GET", "/v1/dead-letters/jobs?limit=2", "", &jobs)
	if len(jobs.Jobs) != 2 || jobs.Jobs[0].ID != j.ID {
		t.Errorf("%+v", jobs)
	}
	if text := measured(); !strings.Contains(text, `deed_dead_letter_age_seconds{kind="handler",name="teller"} 0`+"\n") {
		t.Error(text)
	}
}

// A lost store does not list its documents while it is away.
type lost struct {
	*mem.Store
	away atomic.Bool
}

func (l *lost) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	if l.away.Load() {
		return func(yield func(store.Doc, error) bool) { yield(store.Doc{}, store.ErrUnavailable) }
	}
	return l.Store.List(ctx, coll, prefix, after)
}

// Metrics are there when the store is not.
func TestMetricsWithoutAStore(t *testing.T) {
	s := &lost{Store: mem.New()}
	o, _ := serveFor(t, s, jars())
	s.away.Store(true)
	status, _, body := ask(t, o.base, "GET", "/metrics", "", "")
	if status != 200 || !strings.Contains(string(body), "deed_follower_running") || strings.Contains(string(body), "deed_dead_letters{") || !strings.Contains(string(body), "promhttp_metric_handler_errors_total") {
		t.Errorf("%d %s", status, body)
	}
	s.away.Store(false)
}
