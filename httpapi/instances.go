package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/deed-dev/deed"
)

// An InstanceStatus is how a process or saga stands.
type InstanceStatus struct {
	deed.Instance
	History []Event `json:"history,omitempty"` // if asked for: the first thousand events of its stream
}

// An InstancePage is some processes or sagas.
type InstancePage struct {
	Instances []deed.Instance `json:"instances"`
	Next      string          `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

// startSaga begins a saga; without an id in the path, under one made from the
// Idempotency-Key or new. It answers with how the saga stands when it is over,
// or the caller does not want to wait any longer.
func (a *api) startSaga(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
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
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	i, err := a.rt.Instances().Start(deed.With(r.Context(), call), name, r.PathValue("id"), body)
	if errors.Is(err, deed.ErrMismatch) {
		return problem(http.StatusUnprocessableEntity, CodeIdempotencyMismatch, "a saga with this id was begun with another state, or by a process")
	}
	if err != nil {
		return err
	}
	if prefer.wait > 0 {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(prefer.wait/time.Second)))
		if i, err = a.waitFor(r.Context(), "saga", name, i.ID, prefer.wait); err != nil {
			return err
		}
	}
	w.Header().Set("Location", "/v1/sagas/"+url.PathEscape(name)+"/"+url.PathEscape(i.ID))
	status := http.StatusAccepted
	if i.State.Over() {
		status = http.StatusOK
	}
	return answer(w, status, i)
}

// waitFor waits until an instance is over or stuck, but not for ever.
func (a *api) waitFor(ctx context.Context, kind, name, id string, wait time.Duration) (deed.Instance, error) {
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	i, err := a.rt.Instances().Wait(timed, kind, name, id)
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		return a.rt.Instances().Get(ctx, kind, name, id)
	}
	return i, err
}

// instance answers how a process or saga stands. With wait=N it answers when it
// is over or stuck, or after so many seconds.
func (a *api) instance(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := query(r, "wait", "history")
		if err != nil {
			return err
		}
		wait, err := waitParam(q)
		if err != nil {
			return err
		}
		history, err := boolParam(q, "history")
		if err != nil {
			return err
		}
		name, id := r.PathValue("name"), r.PathValue("id")
		i, err := a.waitFor(r.Context(), kind, name, id, wait)
		if err != nil {
			return noInstance(err, kind, name, id)
		}
		s := InstanceStatus{Instance: i}
		if history {
			if s.History, err = a.history(r.Context(), streamOf(kind, name, id)); err != nil {
				return err
			}
		}
		return answer(w, http.StatusOK, s)
	}
}

func streamOf(kind, name, id string) string { return "$" + kind + "/" + name + "/" + id }

func noInstance(err error, kind, name, id string) error {
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, fmt.Sprintf("there is no %s %s %s", kind, short(name), short(id)))
	}
	return err
}

// instances answers a page of processes or sagas, those that changed last
// first unless the request says otherwise.
func (a *api) instances(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := query(r, append([]string{"name", "state", "definition", "sort", "limit", "after"}, viewParams...)...)
		if err != nil {
			return err
		}
		if err := oneOf("state", q.Get("state"), instanceStates); err != nil {
			return err
		}
		if q.Get("definition") == "0" {
			q.Set("definition", "null") // a first version is not written down
		}
		filterBy(q, q, "name", "state", "definition")
		q.Add("where", "kind="+kind)
		if q.Get("sort") == "" {
			q.Set("sort", "-changed_at")
		}
		rows, next, err := a.instanceRows(w, r, q)
		if err != nil {
			return err
		}
		page := InstancePage{Instances: []deed.Instance{}, Next: next}
		for _, row := range rows {
			i, err := documentOf[deed.Instance]("instances", row)
			if err != nil {
				return err
			}
			page.Instances = append(page.Instances, i)
		}
		return answer(w, http.StatusOK, page)
	}
}

// filterBy makes conditions on fields of a view of parameters with their names.
func filterBy(of, q url.Values, names ...string) {
	for _, name := range names {
		if v := q.Get(name); v != "" {
			of.Add("where", name+"="+v)
		}
		of.Del(name)
	}
}

// instanceRows reads a page of the view of instances, which a program without
// processes and sagas does not have.
func (a *api) instanceRows(w http.ResponseWriter, r *http.Request, q url.Values) ([]deed.Row[json.RawMessage], string, error) {
	if !a.machines {
		return nil, "", nil
	}
	return a.page(w, r, "instances", q)
}

var instanceStates = []deed.InstanceState{
	deed.InstanceRunning, deed.InstanceUndoing, deed.InstanceStuck, deed.InstanceCompleted, deed.InstanceUndone, deed.InstanceClosed,
}

// liveInstance sends the events of an instance's stream as they happen, until
// it is over (server-sent events).
func (a *api) liveInstance(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		name, id := r.PathValue("name"), r.PathValue("id")
		return a.liveStream(w, r, streamOf(kind, name, id), func(ctx context.Context) (bool, error) {
			i, err := a.rt.Instances().Get(ctx, kind, name, id)
			return i.State.Over(), noInstance(err, kind, name, id)
		})
	}
}
