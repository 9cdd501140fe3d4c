package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// QueryList is the queries there are.
type QueryList struct {
	Queries []deed.QueryInfo `json:"queries"`
}

// queries answers which queries there are.
func (a *api) queries(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return answer(w, http.StatusOK, QueryList{a.rt.Describe().Queries})
}

// defaultQueryWait is how long an answer is waited for, unless the request says.
const defaultQueryWait = 30 * time.Second

// askQuery asks a query whose parameters are the body. If the answer takes too long, is
// to be delivered, or the request wants that, it is asked in the background, and
// the answer says where to look.
func (a *api) askQuery(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "at", "position", "version", "effective", "max-age")
	if err != nil {
		return err
	}
	if err := noCommandHeaders(r); err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	prefer, err := preferenceOf(r.Header)
	if err != nil {
		return err
	}
	asking, err := a.askingOf(r, q)
	if err != nil {
		return err
	}
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	ctx, name := deed.With(r.Context(), call), r.PathValue("name")
	if !prefer.async && len(asking.Deliver) == 0 && !a.rt.Queries().IsAsync(name) {
		wait := defaultQueryWait
		if prefer.wait > 0 {
			wait = prefer.wait
		}
		timed, cancel := context.WithTimeout(ctx, wait)
		run, err := a.rt.Queries().Ask(timed, name, body, asking)
		late := timed.Err() != nil && r.Context().Err() == nil
		cancel()
		if err == nil || !late {
			return a.asked(w, run, prefer, queryProblem(err))
		}
		prefer.wait = 0 // it was waited for
	}
	run, err := a.rt.Queries().Start(ctx, name, body, asking)
	if err != nil {
		return a.asked(w, run, preference{}, queryProblem(err))
	}
	if prefer.wait > 0 {
		if run, err = a.runOver(r.Context(), run.ID, prefer.wait); err != nil {
			return err
		}
	}
	return a.asked(w, run, prefer, runProblem(run))
}

// asked answers with a run, or says why there is no answer.
func (a *api) asked(w http.ResponseWriter, run deed.Run, p preference, err error) error {
	if run.ID != "" {
		w.Header().Set("Location", runPath(run))
	}
	if p.wait > 0 {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(p.wait/time.Second)))
	}
	if err != nil {
		return err
	}
	if run.Position != "" {
		w.Header().Set("X-Read-Position", string(run.Position))
	}
	if run.Age > 0 {
		w.Header().Set("Age", strconv.Itoa(int((run.Age+time.Second-1)/time.Second)))
	}
	if run.State != deed.RunCompleted {
		return answer(w, http.StatusAccepted, run)
	}
	return answer(w, http.StatusOK, run)
}

func runPath(run deed.Run) string {
	return "/v1/queries/" + url.PathEscape(run.Query) + "/runs/" + url.PathEscape(run.ID)
}

// askingOf reads how a query is asked.
func (a *api) askingOf(r *http.Request, q url.Values) (deed.Asking, error) {
	var asking deed.Asking
	of, err := a.reader(q)
	if err != nil {
		return asking, err
	}
	asking.Of = of
	if s := q.Get("max-age"); s != "" {
		if asking.MaxAge, err = time.ParseDuration(s); err != nil || asking.MaxAge < 0 {
			return asking, deed.Invalid{Field: "max-age", Detail: "must be a duration, for example 10s"}
		}
	}
	asking.Deliver, err = deliveriesOf(r.Header)
	return asking, err
}

// deliveriesOf reads where an answer is to be delivered:
//
//	Deed-Deliver: <https://host/path>, <file:name>
//
// The header may be repeated.
func deliveriesOf(h http.Header) (all []string, err error) {
	for _, line := range h.Values("Deed-Deliver") {
		for rest := strings.TrimSpace(line); ; {
			inner, ok := strings.CutPrefix(rest, "<")
			place, after, closed := strings.Cut(inner, ">")
			if after = strings.TrimSpace(after); !ok || !closed || after != "" && after[0] != ',' {
				return nil, deed.Invalid{Detail: "Deed-Deliver must be like <https://host/path>, <file:name>"}
			}
			if all = append(all, place); after == "" {
				break
			}
			rest = strings.TrimSpace(after[1:])
		}
	}
	return all, nil
}

// queryProblem is the problem of a query that was not answered.
func queryProblem(err error) error {
	switch {
	case errors.Is(err, deed.ErrBehind):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "a view that the query reads has not read that far yet: ask again, allow an older answer with max-age, or look at GET /v1/followers")
	case errors.Is(err, deed.ErrMismatch):
		return problem(http.StatusUnprocessableEntity, CodeIdempotencyMismatch, "this Idempotency-Key was used for another query or other parameters: use a new key")
	case errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "the answer takes too long")
	}
	return err
}

// runProblem is the problem that became of a recorded asking, the same as if it
// had been answered at once; nil if there is none, or nobody knows yet.
func runProblem(run deed.Run) error {
	switch run.State {
	case deed.RunRejected:
		return refused(deed.CommandStatus{Code: run.Code, Reason: run.Reason})
	case deed.RunInvalid:
		return wrong(deed.CommandStatus{Findings: run.Findings, FindingCount: run.FindingCount})
	}
	return nil
}

// runOver waits until a run is over, but not for ever.
func (a *api) runOver(ctx context.Context, id string, wait time.Duration) (deed.Run, error) {
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	run, err := a.rt.Queries().Wait(timed, id)
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		err = nil
	}
	return run, err
}

// A RunPage is some recorded askings of a query.
type RunPage struct {
	Runs []deed.Run `json:"runs"`
	Next string     `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

var runStates = []deed.RunState{deed.RunAsked, deed.RunRetrying, deed.RunInvalid, deed.RunCompleted, deed.RunRejected, deed.RunFailed, deed.RunCancelled}

// runs answers a page of the recorded askings of a query, the latest first unless
// the request says otherwise.
func (a *api) runs(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, append([]string{"state", "actor", "sort", "limit", "after"}, viewParams...)...)
	if err != nil {
		return err
	}
	if err := oneOf("state", q.Get("state"), runStates); err != nil {
		return err
	}
	if _, ok := a.queryRoles[r.PathValue("name")]; !ok {
		return problem(http.StatusNotFound, CodeNotFound, "there is no query "+short(r.PathValue("name")))
	}
	filterBy(q, q, "state", "actor")
	q.Add("where", "query="+r.PathValue("name"))
	if q.Get("sort") == "" {
		q.Set("sort", "-asked_at")
	}
	rows, next, err := a.page(w, r, "query-runs", q)
	if err != nil {
		return err
	}
	runs, err := documentsOf[deed.Run]("query-runs", rows)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, RunPage{Runs: runs, Next: next})
}

// run answers a recorded asking as it stands, with its answer as it was when it
// was asked. With wait=N it answers when it is over, or after so long.
func (a *api) run(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "wait")
	if err != nil {
		return err
	}
	wait, err := waitParam(q)
	if err != nil {
		return err
	}
	run, err := a.runOf(r)
	if err == nil && wait > 0 && !run.State.Over() {
		run, err = a.runOver(r.Context(), run.ID, wait)
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, run)
}

// runOf returns the run that a request is about.
func (a *api) runOf(r *http.Request) (deed.Run, error) {
	run, err := a.rt.Queries().Get(r.Context(), r.PathValue("id"))
	if err == nil && run.Query != r.PathValue("name") {
		err = deed.ErrNotFound
	}
	if errors.Is(err, deed.ErrNotFound) {
		err = problem(http.StatusNotFound, CodeNotFound, fmt.Sprintf("the query %s has no run %s", short(r.PathValue("name")), short(r.PathValue("id"))))
	}
	return run, err
}

// liveRun sends the events of a run's stream as they happen, until it is over and
// delivered (server-sent events).
func (a *api) liveRun(w http.ResponseWriter, r *http.Request) error {
	run, err := a.runOf(r)
	if err != nil {
		return err
	}
	return a.liveStream(w, r, "$query/"+run.ID, func(context.Context) (bool, error) {
		run, err := a.runOf(r)
		return run.State == deed.RunCancelled || run.State.Over() && delivered(run), err
	})
}

// delivered reports whether there is nothing left to be delivered of a run, or
// nothing that can be.
func delivered(run deed.Run) bool {
	return !slices.ContainsFunc(run.Deliveries, func(d deed.RunDelivery) bool { return d.Done.IsZero() && d.Reason == "" })
}

// cancelRun calls a recorded asking off.
func (a *api) cancelRun(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	ctx, reason, err := a.actWithReason(w, r)
	if err != nil {
		return err
	}
	if _, err := a.runOf(r); err != nil {
		return err
	}
	if err := a.rt.Queries().Cancel(ctx, r.PathValue("id"), reason); err != nil {
		return err
	}
	run, err := a.runOf(r)
	if err != nil {
		return err
	}
	run.Parameters = nil // an operator need not be somebody who may ask it
	return answer(w, http.StatusOK, run)
}

// liveQuery sends what a query comes to, and then whatever it comes to when that
// has changed (server-sent events).
func (a *api) liveQuery(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "parameters", "max-age")
	if err != nil {
		return err
	}
	asking, err := a.askingOf(r, q)
	if err != nil {
		return err
	}
	if len(asking.Deliver) > 0 {
		return deed.Invalid{Detail: "the header Deed-Deliver is for queries that are asked once"}
	}
	next := func(last deed.Run, wait time.Duration) (deed.Run, error) {
		timed, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		return a.rt.Queries().Next(timed, r.PathValue("name"), []byte(q.Get("parameters")), asking, last)
	}
	run, err := next(deed.Run{}, defaultQueryWait)
	if err != nil {
		return queryProblem(err)
	}
	t, err := newTail(w)
	if err != nil {
		return err
	}
	if t.send("retry: 1000\n\n") != nil || r.Header.Get("Last-Event-ID") != answerID(run) && t.result(run) != nil {
		return nil
	}
	for r.Context().Err() == nil {
		changed, err := next(run, heartbeat)
		switch {
		case err == nil:
			if run = changed; t.result(run) != nil {
				return nil
			}
		case errors.Is(err, context.DeadlineExceeded):
			if t.send(": still here\n\n") != nil {
				return nil
			}
		default:
			t.end(r, a, err)
			return nil
		}
	}
	return nil
}

// result sends an answer.
func (t *tail) result(run deed.Run) error {
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return t.send(fmt.Sprintf("id: %s\nevent: answer\ndata: %s\n\n", answerID(run), data))
}

// answerID is the same for answers that are the same: who comes back with it need
// not be told again.
func answerID(run deed.Run) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %s", run.State, run.Code, run.Result)
	return strconv.FormatUint(h.Sum64(), 36)
}

// askedFor returns who asked the query whose run a request is about.
func (a *api) askedFor(r *http.Request) (string, error) {
	run, err := a.rt.Queries().Get(r.Context(), r.PathValue("id"))
	if err == nil && run.Query != r.PathValue("name") {
		err = deed.ErrNotFound
	}
	return run.Actor, err
}

// queryRoles returns who may ask which query.
func queryRoles(rt *deed.Runtime) map[string][]string {
	all := map[string][]string{}
	for _, q := range rt.Describe().Queries {
		all[q.Name] = q.Roles
	}
	return all
}
