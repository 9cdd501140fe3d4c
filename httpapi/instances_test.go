package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// load is the state of a saga of these tests: coins are taken out of a jar,
// carried, and counted by somebody.
type load struct {
	Jar   string `json:"jar"`
	N     int    `json:"n"`
	Count bool   `json:"count,omitempty"`
}

var errShort = deed.Reason{Code: "short", Text: "there are not that many coins"}

// What happens to a pot, and what is asked of one.
type (
	put  struct{ N int }
	give struct{ N int }
	grab struct{ N int }
)

func (e put) Apply(j *jar)                           { j.Coins += e.N }
func (c give) Decide(jar) ([]deed.Event[jar], error) { return []deed.Event[jar]{put(c)}, nil }
func (c grab) Decide(j jar) ([]deed.Event[jar], error) {
	if j.Coins < c.N {
		return nil, errShort
	}
	return []deed.Event[jar]{put{-c.N}}, nil
}

// carriage is a domain whose saga is carried as long as the road is open, and
// whose process ends with the second payment into a jar.
func carriage(road *atomic.Bool, version int) deed.Domain {
	pots := deed.Aggregate[jar]{
		Name:     "pot",
		Events:   map[string]deed.Event[jar]{"put": put{}},
		Commands: map[string]deed.Command[jar]{"give": give{}, "grab": grab{}},
	}
	carry := func(context.Context, *deed.Work, *load) error {
		if road.Load() {
			return nil
		}
		return deed.Permanent(errors.New("the road is closed"))
	}
	type thrift struct{ Paid int }
	return deed.Domain{Name: "carriage", Doc: "Carries coins.", Parts: []deed.Part{
		pots,
		deed.Saga[load]{
			Name: "errand", Doc: "Carries coins away.", Version: version,
			Steps: []deed.SagaStep[load]{
				{
					Name: "grab",
					Send: func(_ string, s load) []deed.Sending { return []deed.Sending{deed.Send(pots, s.Jar, grab{s.N})} },
					Undo: func(_ string, s load) []deed.Sending { return []deed.Sending{deed.Send(pots, s.Jar, give{s.N})} },
				},
				{
					Name:   "carry",
					Do:     func(context.Context, *deed.Work, *load) error { return nil },
					UndoDo: carry,
				},
				{
					Name: "count", When: func(_ string, s load) bool { return s.Count },
					Ask: func(string, load) deed.Question {
						return deed.Question{Text: "How many?", Roles: []string{"clerk"}, Form: json.RawMessage(`{"required":["coins"],"properties":{"coins":{"type":"integer"}}}`)}
					},
				},
			},
		},
		deed.Saga[struct{}]{Name: "vigil", Steps: []deed.SagaStep[struct{}]{
			{Name: "wait", Ask: func(string, struct{}) deed.Question { return deed.Question{Text: "Is it morning?"} }},
		}},
		deed.Process[thrift]{Name: "thrift", On: []deed.ProcessReaction[thrift]{
			deed.Start(func(p *thrift, _ put) []deed.Action {
				if p.Paid++; p.Paid == 2 {
					return []deed.Action{deed.Done()}
				}
				return []deed.Action{deed.After("forget", time.Hour)}
			}),
		}},
	}}
}

// office is a server of carriage.
type office struct {
	*testing.T
	base string
	rt   *deed.Runtime
	road *atomic.Bool
}

func newOffice(t *testing.T) office {
	t.Helper()
	return officeOn(t, mem.New(), &atomic.Bool{}, 0)
}

// officeOn has a version of the saga.
func officeOn(t *testing.T, s store.Store, road *atomic.Bool, version int) office {
	t.Helper()
	o := office{T: t, road: road, rt: deedtest.StartOn(t, s, carriage(road, version))}
	srv := httptest.NewServer(httpapi.New(o.rt, httpapi.Options{}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	o.base = srv.URL
	return o
}

// want asks something and compares the status; the answer goes into out.
func (o office) want(status int, method, path, body string, out any, headers ...string) http.Header {
	o.Helper()
	got, h, data := ask(o.T, o.base, method, path, body, "", headers...)
	if got != status {
		o.Fatalf("%s %s %s: %d %s, wanted %d", method, path, body, got, data, status)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			o.Fatalf("%s %s: %s: %v", method, path, data, err)
		}
	}
	return h
}

// refused asks something that is a problem.
func (o office) refused(status int, code, method, path, body string, headers ...string) httpapi.Problem {
	o.Helper()
	var p httpapi.Problem
	o.want(status, method, path, body, &p, headers...)
	if p.Code != code {
		o.Errorf("%s %s %s: %s %q, wanted %s", method, path, body, p.Code, p.Detail, code)
	}
	return p
}

func TestSagasOverHTTP(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":50}`, nil)
	var i deed.Instance
	h := o.want(200, "POST", "/v1/sagas/errand/e-1", `{"jar":"a","n":5}`, &i, "Prefer", "wait=20", "X-Actor", "ann")
	if i.State != deed.InstanceCompleted || i.Actor != "ann" || h.Get("Location") != "/v1/sagas/errand/e-1" || h.Get("Preference-Applied") != "wait=20" {
		t.Errorf("%+v %v", i, h)
	}
	o.want(200, "POST", "/v1/sagas/errand/e-1", `{"jar":"a","n":5}`, &i)
	p := o.refused(422, httpapi.CodeIdempotencyMismatch, "POST", "/v1/sagas/errand/e-1", `{"jar":"a","n":6}`)
	if !strings.Contains(p.Detail, "another state") {
		t.Error(p.Detail)
	}
	h = o.want(202, "POST", "/v1/sagas/errand", `{"jar":"a","n":1,"count":true}`, &i, "Idempotency-Key", "k")
	first := h.Get("Location")
	if h := o.want(202, "POST", "/v1/sagas/errand", `{"jar":"a","n":1,"count":true}`, &i, "Idempotency-Key", "k"); first == "" || h.Get("Location") != first {
		t.Errorf("%q, then %q", first, h.Get("Location"))
	}
	o.want(200, "POST", "/v1/sagas/errand", `{"jar":"a","n":51}`, &i, "Prefer", "wait=20")
	if i.State != deed.InstanceUndone || i.Code != "short" {
		t.Errorf("%+v", i)
	}
	var s httpapi.InstanceStatus
	o.want(200, "GET", first+"?wait=20ms&history=true", "", &s)
	if s.State != deed.InstanceRunning || s.Tasks["count"] == "" || len(s.History) == 0 || s.History[0].Type != "started" {
		t.Errorf("%+v", s)
	}
	for path, body := range map[string]string{
		"/v1/sagas/errand/x": `{"jar":1}`, "/v1/sagas/errand/y": `{"colour":"red"}`, "/v1/sagas/errand/z": `[]`, "/v1/sagas/errand/v?x=1": `{}`,
	} {
		o.refused(400, httpapi.CodeInvalid, "POST", path, body)
	}
	o.refused(400, httpapi.CodeInvalid, "POST", "/v1/sagas/errand/x", `{}`, "If-Match", `"1"`)
	o.refused(400, httpapi.CodeInvalid, "POST", "/v1/sagas/errand/x", `{}`, "Deed-Callback", "<https://a.example>")
	o.refused(404, httpapi.CodeNotFound, "POST", "/v1/sagas/none/x", `{}`)
	o.refused(404, httpapi.CodeNotFound, "GET", "/v1/sagas/errand/none", "")
	o.refused(404, httpapi.CodeNotFound, "GET", "/v1/sagas/none/x", "")
	o.refused(404, httpapi.CodeNotFound, "POST", "/v1/processes/thrift/x", "{}") // events begin processes
	o.refused(400, httpapi.CodeInvalid, "GET", "/v1/sagas/errand/e-1?wait=2h", "")
	var m map[string]any
	o.want(200, "GET", "/v1", "", &m)
	if machines, _ := m["machines"].([]any); len(machines) != 3 {
		t.Errorf("%v", m["machines"])
	}
}

// A saga that cannot be undone is stuck until somebody has repaired it.
func TestRepairOverHTTP(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":50}`, nil)
	stuck := func(id string) string {
		t.Helper()
		path := "/v1/sagas/errand/" + id
		var i deed.Instance
		o.want(202, "POST", path, `{"jar":"a","n":5,"count":true}`, &i)
		for i.Tasks["count"] == "" { // it is carried in the background
			o.want(200, "GET", path, "", &i)
		}
		o.want(200, "POST", path+"/cancel", `{"reason":"changed my mind"}`, nil)
		if o.want(200, "GET", path+"?wait=20s", "", &i); i.State != deed.InstanceStuck || i.Step != "carry" {
			t.Fatalf("%+v", i)
		}
		return path
	}
	a, b, c := stuck("a"), stuck("b"), stuck("c")
	o.refused(409, httpapi.CodeConflict, "POST", a+"/cancel", "")
	o.refused(400, httpapi.CodeInvalid, "POST", a+"/skip", `{"step":"carry"}`)
	o.refused(400, httpapi.CodeInvalid, "POST", a+"/skip", `{"reason":"it was only a penny"}`)
	o.refused(400, httpapi.CodeInvalid, "POST", a+"/close", `{}`)
	o.refused(400, httpapi.CodeInvalid, "POST", a+"/retry", `{"step":"carry"}`)
	o.refused(400, httpapi.CodeInvalid, "POST", a+"/retry", `{"why":"so"}`)
	o.refused(404, httpapi.CodeNotFound, "POST", a+"/explode", ``)
	o.refused(404, httpapi.CodeNotFound, "POST", "/v1/sagas/errand/none/retry", ``)
	o.refused(404, httpapi.CodeNotFound, "POST", "/v1/sagas/none/x/retry", ``)

	state := func(path, want string) {
		t.Helper()
		var i deed.Instance
		if o.want(200, "GET", path+"?wait=20s", "", &i); string(i.State) != want {
			t.Errorf("%s is %s (%s), wanted %s", path, i.State, i.Reason, want)
		}
	}
	o.want(200, "POST", b+"/skip", `{"step":"carry","reason":"they are here already"}`, nil, "X-Actor", "olga")
	state(b, "undone")
	o.want(200, "POST", c+"/close", `{"reason":"carried by hand"}`, nil)
	state(c, "closed")
	o.refused(409, httpapi.CodeConflict, "POST", c+"/retry", "")
	o.road.Store(true)
	o.want(200, "POST", a+"/retry", `{"reason":"the road is open"}`, nil)
	state(a, "undone")
	var e httpapi.Entity
	if o.want(200, "GET", "/v1/pot/a", "", &e); string(e.State) != `{"Coins":45}` {
		t.Errorf("%s", e.State)
	}
	var s httpapi.InstanceStatus
	o.want(200, "GET", b+"?history=true", "", &s)
	last := s.History[slices.IndexFunc(s.History, func(e httpapi.Event) bool { return strings.Contains(string(e.Data), "skip") })]
	if !strings.Contains(string(last.Meta), "olga") || !strings.Contains(string(last.Data), "they are here already") {
		t.Errorf("%s %s", last.Data, last.Meta)
	}
}

func TestInstanceListsOverHTTP(t *testing.T) {
	o := newOffice(t)
	var last deed.Receipt
	for n := range 5 {
		o.want(200, "POST", fmt.Sprintf("/v1/pot/p-%d/give", n), `{"N":1}`, nil)
		o.want(202, "POST", fmt.Sprintf("/v1/sagas/errand/e-%d", n), fmt.Sprintf(`{"jar":"p-%d","n":1,"count":%v}`, n, n%2 == 0), nil)
	}
	o.want(200, "POST", "/v1/pot/late/give", `{"N":1}`, &last)
	fresh := "&min-position=" + last.Position + "&wait=20s"
	ids := func(path string) (string, string) {
		t.Helper()
		var page httpapi.InstancePage
		o.want(200, "GET", path+fresh, "", &page)
		var all []string
		for _, i := range page.Instances {
			all = append(all, i.ID)
		}
		return strings.Join(all, " "), page.Next
	}
	if got, next := ids("/v1/sagas?sort="); next != "" || len(strings.Fields(got)) != 5 {
		t.Errorf("all: %s %s", got, next)
	}
	for try := 0; ; try++ { // things are carried in the background, and processes follow the log
		running, _ := ids("/v1/sagas?state=running&name=errand")
		completed, _ := ids("/v1/sagas?state=completed&definition=0")
		processes, _ := ids("/v1/processes?name=thrift&sort=-changed_at")
		if len(strings.Fields(running)) == 3 && len(strings.Fields(completed)) == 2 && len(strings.Fields(processes)) == 6 {
			break
		}
		if time.Sleep(10 * time.Millisecond); try > 1000 {
			t.Fatalf("running: %s, completed: %s, processes: %s", running, completed, processes)
		}
	}
	first, next := ids("/v1/sagas?limit=3")
	rest, end := ids("/v1/sagas?limit=3&after=" + next)
	if len(strings.Fields(first+" "+rest)) != 5 || end != "" {
		t.Errorf("%s, then %s, %q", first, rest, end)
	}
	if got, _ := ids("/v1/sagas?name=none"); got != "" {
		t.Error(got)
	}
	for _, path := range []string{
		"/v1/sagas?state=sleeping", "/v1/processes?state=open", "/v1/sagas?colour=red", "/v1/sagas?limit=0", "/v1/sagas?after=x", "/v1/sagas?sort=colour",
		"/v1/sagas?definition=x", "/v1/tasks?state=running", "/v1/tasks?colour=red", "/v1/tasks?limit=0", "/v1/tasks?after=x", "/v1/tasks/x?y=1",
	} {
		o.refused(400, httpapi.CodeInvalid, "GET", path, "")
	}
	base := deedtest.Serve(t, mem.New(), deed.Domain{Name: "nothing"})
	for _, path := range []string{"/v1/sagas", "/v1/processes?state=stuck", "/v1/tasks?state=open", "/v1/map"} {
		if status, _, body := ask(t, base, "GET", path, "", ""); status != 200 {
			t.Errorf("a program without sagas: %s: %d %s", path, status, body)
		}
	}
}

// Many are asked at once, up to a bound, and a preview says of which.
func TestRepairManyOverHTTP(t *testing.T) {
	o := newOffice(t)
	srv := httptest.NewServer(httpapi.NewWithMost(o.rt, 120))
	t.Cleanup(srv.Close)
	o.base = srv.URL
	const n = 170
	for k := range n {
		if _, err := o.rt.Instances().Start(t.Context(), "vigil", fmt.Sprintf("v-%04d", k), nil); err != nil {
			t.Fatal(err)
		}
	}
	preview := func(query string) (m httpapi.Many) {
		t.Helper()
		o.want(200, "POST", "/v1/sagas/"+query+"&dry_run=true", "", &m)
		return m
	}
	m := preview("cancel?state=running&name=vigil")
	if !m.DryRun || m.Count != 120 || m.ByName["vigil"] != 120 || m.ByState["running"] != 120 || len(m.Instances) != 100 || m.Instances[0] != "vigil/v-0000" || !m.More {
		t.Errorf("preview: %+v", m)
	}
	m = preview("cancel?state=running&name=vigil&after=" + m.Next)
	if m.Count != 50 || m.More || m.Next != "" || m.Instances[0] != "vigil/v-0120" {
		t.Errorf("the rest: %+v", m)
	}
	completed := func(id string) {
		t.Helper()
		i, err := o.rt.Instances().Get(t.Context(), "saga", "vigil", id)
		if err == nil {
			_, err = o.rt.Tasks().Decide(t.Context(), i.Tasks["wait"], "approve", "", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for k := 120; k < n; k++ {
		completed(fmt.Sprintf("v-%04d", k))
	}
	for running := 120; running >= 119; running-- { // the bound is between two states, and within one
		m = preview("undo?all=true")
		if m.Count != 120 || m.ByState["running"] != running || m.ByState["completed"] != 120-running || !m.More {
			t.Errorf("preview of two states: %+v", m)
		}
		if m = preview("undo?all=true&after=" + m.Next); m.Count != 50 || m.ByState["completed"] != 50 || m.More {
			t.Errorf("the rest of two states: %+v", m)
		}
		if running == 120 {
			completed("v-0119")
		}
	}
	for _, want := range []int{119, 0} {
		m = httpapi.Many{}
		o.want(200, "POST", "/v1/sagas/cancel?all=true", `{"reason":"a mistake"}`, &m, "X-Actor", "olga")
		if m.DryRun || m.Count != want || m.Refused != 0 || m.More {
			t.Errorf("cancelled: %+v", m)
		}
	}
	i, err := o.rt.Instances().Get(t.Context(), "saga", "vigil", "v-0077")
	if err != nil || i.State != deed.InstanceUndone || i.Reason != "a mistake" {
		t.Errorf("%+v, %v", i, err)
	}
}

// What cannot be asked of some of many is told, and the others are asked.
func TestManyAreRefusedOverHTTP(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":50}`, nil)
	o.want(202, "POST", "/v1/sagas/vigil/v", "", nil)
	o.want(202, "POST", "/v1/sagas/errand/e", `{"jar":"a","n":1,"count":true}`, nil)
	o.want(202, "POST", "/v1/sagas/errand/f", `{"jar":"a","n":1}`, nil, "Prefer", "respond-async")
	var i deed.Instance
	for i.Tasks["count"] == "" {
		o.want(200, "GET", "/v1/sagas/errand/e", "", &i)
	}
	o.want(200, "GET", "/v1/sagas/errand/f?wait=20s", "", nil)
	var m httpapi.Many
	o.want(200, "POST", "/v1/sagas/undo?all=1", "", &m)
	if m.Count != 3 || m.ByName["errand"] != 2 || m.ByState["completed"] != 1 || m.Refused != 0 {
		t.Errorf("undone: %+v", m)
	}
	for _, id := range []string{"e", "f"} { // the road is closed
		if o.want(200, "GET", "/v1/sagas/errand/"+id+"?wait=20s", "", &i); i.State != deed.InstanceStuck {
			t.Errorf("%+v", i)
		}
	}
	m = httpapi.Many{}
	if o.want(200, "POST", "/v1/sagas/cancel?state=stuck", "", &m); m.Count != 0 { // they are turned back already
		t.Errorf("cancelled: %+v", m)
	}
	o.road.Store(true)
	m = httpapi.Many{}
	newer := officeOn(t, o.rt.Store(), o.road, 1) // which does not know the version any more
	newer.want(200, "POST", "/v1/sagas/retry?state=stuck", "", &m)
	if m.Count != 2 || m.Refused != 2 || m.Refusals[0].Instance != "errand/e" || m.Refusals[0].Code != httpapi.CodeConflict || !strings.Contains(m.Refusals[0].Detail, "Former") {
		t.Errorf("retried without the version: %+v", m)
	}
	m = httpapi.Many{}
	if o.want(200, "POST", "/v1/sagas/retry?all=true", "", &m); m.Count != 2 || m.Refused != 0 || m.ByState["stuck"] != 2 {
		t.Errorf("retried: %+v", m)
	}
	for _, id := range []string{"e", "f"} {
		if o.want(200, "GET", "/v1/sagas/errand/"+id+"?wait=20s", "", &i); i.State != deed.InstanceUndone {
			t.Errorf("%+v", i)
		}
	}
	for _, path := range []string{
		"/v1/sagas/retry", "/v1/sagas/retry?state=stuck&all=true", "/v1/sagas/retry?state=completed", "/v1/sagas/retry?state=x", "/v1/sagas/undo?state=undone",
		"/v1/sagas/retry?state=stuck&after=x", "/v1/sagas/retry?state=stuck&after=stuck:x", "/v1/sagas/retry?state=stuck&dry_run=maybe", "/v1/sagas/retry?state=stuck&limit=5",
	} {
		o.refused(400, httpapi.CodeInvalid, "POST", path, "")
	}
	o.refused(400, httpapi.CodeInvalid, "POST", "/v1/sagas/retry?state=stuck", `{"step":"x"}`)
}

func TestTasksOverHTTP(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":50}`, nil)
	task := func(id string) string {
		t.Helper()
		var i deed.Instance
		o.want(202, "POST", "/v1/sagas/errand/"+id, `{"jar":"a","n":5,"count":true}`, &i)
		for i.Tasks["count"] == "" {
			o.want(200, "GET", "/v1/sagas/errand/"+id, "", &i)
		}
		return i.Tasks["count"]
	}
	a, b := task("a"), task("b")
	var one deed.Task
	if o.want(200, "GET", "/v1/tasks/"+a, "", &one); one.State != deed.TaskOpen || one.Question.Text != "How many?" {
		t.Errorf("%+v", one)
	}
	o.refused(404, httpapi.CodeNotFound, "GET", "/v1/tasks/none", "")
	o.refused(404, httpapi.CodeNotFound, "POST", "/v1/tasks/none/claim", "")
	o.refused(400, httpapi.CodeInvalid, "POST", "/v1/tasks/"+a+"/claim", "") // nobody knows who asks
	if o.want(200, "POST", "/v1/tasks/"+a+"/claim", "", &one, "X-Actor", "ann"); one.Claimed != "ann" {
		t.Errorf("%+v", one)
	}
	p := o.refused(409, httpapi.CodeConflict, "POST", "/v1/tasks/"+a+"/decision", `{"choice":"approve","data":{"coins":5}}`, "X-Actor", "ben")
	if !strings.Contains(p.Detail, "ann") {
		t.Error(p.Detail)
	}
	o.want(200, "POST", "/v1/tasks/"+a+"/release", "", nil, "X-Actor", "ann")
	for _, body := range []string{`{}`, `{"choice":"perhaps"}`, `{"choice":"approve"}`, `{"choice":"approve","data":{"coins":"five"}}`, `{"choice":"approve","colour":1}`, `[]`} {
		o.refused(400, httpapi.CodeInvalid, "POST", "/v1/tasks/"+a+"/decision", body, "X-Actor", "ben")
	}
	for range 2 {
		one = deed.Task{}
		o.want(200, "POST", "/v1/tasks/"+a+"/decision", `{"choice":"approve","reason":"five it is","data":{"coins":5}}`, &one, "X-Actor", "ben")
		if one.State != deed.TaskDecided || one.Decision == nil || one.Decision.By != "ben" || one.Decision.Reason != "five it is" {
			t.Errorf("%+v", one)
		}
	}
	o.refused(409, httpapi.CodeConflict, "POST", "/v1/tasks/"+a+"/decision", `{"choice":"reject","data":{"coins":5}}`, "X-Actor", "ben")
	o.want(200, "POST", "/v1/sagas/errand/b/close", `{"reason":"by hand"}`, nil)
	p = o.refused(409, httpapi.CodeConflict, "POST", "/v1/tasks/"+b+"/decision", `{"choice":"approve","data":{"coins":5}}`, "X-Actor", "ben")
	if !strings.Contains(p.Detail, "withdrawn") {
		t.Error(p.Detail)
	}
	c := task("c")
	for query, want := range map[string]string{
		"": "3", "state=open": c, "state=decided": a, "state=withdrawn&role=clerk": b, "role=clerk&limit=1": c, "role=boss": "0", "instance=$saga/errand/a": a, "claimed_by=ann": "0",
	} {
		var page httpapi.TaskPage
		var ids []string
		for try := 0; try < 500; try++ { // the view follows
			page, ids = httpapi.TaskPage{}, nil
			o.want(200, "GET", "/v1/tasks?"+query, "", &page)
			for _, t := range page.Tasks {
				ids = append(ids, t.ID)
			}
			if strings.Join(ids, " ") == want || fmt.Sprint(len(ids)) == want {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := strings.Join(ids, " "); got != want && fmt.Sprint(len(ids)) != want {
			t.Errorf("%s: %s, wanted %s", query, got, want)
		}
		if strings.Contains(query, "limit") {
			if o.want(200, "GET", "/v1/tasks?"+query+"&after="+page.Next, "", &page); page.Tasks[0].ID != b {
				t.Errorf("the next page: %+v", page)
			}
		}
	}
}

// Who is asked sees their own tasks without being a reader, and nobody else's.
func TestWhoSeesTasks(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, carriage(&atomic.Bool{}, 0), jars())
	g := newGate(t, s, rt)
	_, admin := g.key(t, "root", "admin")
	keys := map[string]string{}
	for _, role := range []string{"clerk", "saver", "reader", "boss"} {
		_, keys[role] = g.key(t, role, role)
	}
	ask(t, g.base, "POST", "/v1/pot/a/give", `{"N":50}`, admin)
	ask(t, g.base, "POST", "/v1/sagas/errand/a", `{"jar":"a","n":5,"count":true}`, admin)
	for role, want := range map[string]int{"clerk": 1, "saver": 0, "reader": 1, "boss": 0} {
		for try := 0; ; try++ {
			var page httpapi.TaskPage
			status, _, body := ask(t, g.base, "GET", "/v1/tasks", "", keys[role])
			if err := json.Unmarshal(body, &page); err != nil || status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			if role == "clerk" && len(page.Tasks) == 1 { // the others are asked when there is one
				task := page.Tasks[0].ID
				ask(t, g.base, "POST", "/v1/tasks/"+task+"/claim", "", keys["clerk"])
				for role, want := range map[string]int{"clerk": 200, "saver": 403, "reader": 200, "boss": 403} {
					if status, _, body := ask(t, g.base, "GET", "/v1/tasks/"+task, "", keys[role]); status != want {
						t.Errorf("%s looks at the task: %d %s", role, status, body)
					}
				}
			}
			if len(page.Tasks) == want {
				break
			}
			if time.Sleep(10 * time.Millisecond); try > 1000 {
				t.Fatalf("%s sees %d", role, len(page.Tasks))
			}
		}
	}
}

func TestLiveOfAProcess(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":1}`, nil)
	for try := 0; ; try++ { // the process follows the log
		if status, _, _ := ask(t, o.base, "GET", "/v1/processes/thrift/a", "", ""); status == 200 {
			break
		}
		if time.Sleep(10 * time.Millisecond); try > 1000 {
			t.Fatal("no process begins")
		}
	}
	heard := make(chan string)
	go func() {
		defer close(heard)
		resp, err := http.Get(o.base + "/v1/processes/thrift/a/live")
		if err != nil {
			return
		}
		defer resp.Body.Close()
		b := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(b)
			if n > 0 {
				heard <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	all := ""
	next := func(until string) {
		t.Helper()
		for end := time.After(20 * time.Second); !strings.Contains(all, until); {
			select {
			case s, more := <-heard:
				if all += s; !more {
					t.Fatalf("it ended with %q", all)
				}
			case <-end:
				t.Fatalf("no %q in %q", until, all)
			}
		}
	}
	next("id: 1\n")
	o.want(200, "POST", "/v1/pot/a/give", `{"N":1}`, nil)
	next("event: over")
	if strings.Count(all, "event: event") != 2 {
		t.Error(all)
	}
	o.refused(404, httpapi.CodeNotFound, "GET", "/v1/processes/thrift/none/live", "")
	begin := time.Now()
	o.refused(404, httpapi.CodeNotFound, "GET", "/v1/processes/thrift/none?wait=100ms", "")
	if d := time.Since(begin); d < 100*time.Millisecond {
		t.Errorf("a process that events may begin was waited for %v", d)
	}
}

func TestMapOverHTTP(t *testing.T) {
	o := newOffice(t)
	o.want(200, "POST", "/v1/pot/a/give", `{"N":50}`, nil)
	o.want(202, "POST", "/v1/sagas/errand/e-1", `{"jar":"a","n":5,"count":true}`, nil)
	var g struct{ Nodes, Edges []map[string]any }
	if o.want(200, "GET", "/v1/map", "", &g); len(g.Nodes) < 8 || len(g.Edges) < 6 {
		t.Errorf("%+v", g)
	}
	if o.want(200, "GET", "/v1/map?instance=saga/errand/e-1", "", &g); g.Nodes[0]["mark"] != "now" {
		t.Errorf("%+v", g)
	}
	for path, want := range map[string]string{
		"/v1/map?format=mermaid": "flowchart LR\n", "/v1/map?domain=carriage&format=mermaid": "title: \"carriage\"",
		"/v1/map?instance=saga/errand/e-1&format=mermaid": "title: \"saga errand e-1: running\"", "/v1/map?format=markdown": "\n## carriage\n",
	} {
		status, h, body := ask(t, o.base, "GET", path, "", "")
		if status != 200 || h.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %v %s", path, status, h, body)
		}
	}
	for path, status := range map[string]int{
		"/v1/map?format=svg": 400, "/v1/map?domain=none": 404, "/v1/map?instance=errand/e-1": 400, "/v1/map?instance=jar/errand/e-1": 400,
		"/v1/map?instance=saga/errand/none": 404, "/v1/map?instance=saga/none/x": 404, "/v1/map?domain=carriage&instance=saga/errand/e-1": 400,
		"/v1/map?format=markdown&domain=carriage": 400, "/v1/map?x=1": 400,
	} {
		if got, _, body := ask(t, o.base, "GET", path, "", ""); got != status {
			t.Errorf("%s: %d %s, wanted %d", path, got, body, status)
		}
	}
}
