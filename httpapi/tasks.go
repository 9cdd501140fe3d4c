package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
)

// A TaskPage is some tasks. It may have fewer than it could although there are
// more: those that are looked at for one page are bounded.
type TaskPage struct {
	Tasks []deed.Task `json:"tasks"`
	Next  string      `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

var taskStates = []string{deed.TaskOpen, deed.TaskDecided, deed.TaskOverdue, deed.TaskWithdrawn}

// tasks answers a page of tasks, the latest first unless the request says
// otherwise. Who is no reader sees those that are for them.
func (a *api) tasks(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, append([]string{"state", "role", "instance", "claimed_by", "sort", "limit", "after"}, viewParams...)...)
	if err != nil {
		return err
	}
	if err := oneOf("state", q.Get("state"), taskStates); err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	role := q.Get("role")
	q.Del("role")
	filterBy(q, q, "state", "instance", "claimed_by")
	if q.Get("sort") == "" {
		q.Set("sort", "-opened_at")
	}
	q.Set("limit", strconv.Itoa(maxPage)) // so many are looked at
	page := TaskPage{Tasks: []deed.Task{}}
	if !a.machines {
		return answer(w, http.StatusOK, page)
	}
	rows, next, err := a.page(w, r, "tasks", q)
	if err != nil {
		return err
	}
	for n, row := range rows {
		t, err := documentOf[deed.Task]("tasks", row)
		if err != nil {
			return err
		}
		if !concerns(r, t) || role != "" && !slices.Contains(t.Roles, role) {
			continue
		}
		page.Tasks = append(page.Tasks, t)
		if len(page.Tasks) == limit && n < len(rows)-1 {
			next = markAt("tasks", q, row)
			break
		}
	}
	page.Next = next
	return answer(w, http.StatusOK, page)
}

// concerns reports whether who asks may see a task: readers, those whom it is
// for, and those who have decided it.
func concerns(r *http.Request, t deed.Task) bool {
	p, ok := r.Context().Value(principalKey{}).(auth.Principal)
	switch {
	case !ok || p.Is(auth.RoleReader) || slices.ContainsFunc(t.Roles, p.Is):
		return true
	case p.Actor == "":
		return false
	}
	return t.Claimed == p.Actor || t.Decision != nil && t.Decision.By == p.Actor
}

// task answers one task.
func (a *api) task(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	t, err := a.rt.Tasks().Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return noTask(err, r)
	}
	if !concerns(r, t) {
		return problem(http.StatusForbidden, CodeForbidden, "this task is for others")
	}
	return answer(w, http.StatusOK, t)
}

func noTask(err error, r *http.Request) error {
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "there is no task "+short(r.PathValue("id")))
	}
	return err
}

// claim makes a task the caller's.
func (a *api) claim(w http.ResponseWriter, r *http.Request) error {
	return a.onTask(w, r, a.rt.Tasks().Claim)
}

// release gives a task back.
func (a *api) release(w http.ResponseWriter, r *http.Request) error {
	return a.onTask(w, r, a.rt.Tasks().Release)
}

// decide decides a task.
func (a *api) decide(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Choice string          `json:"choice"`
		Reason string          `json:"reason"`
		Data   json.RawMessage `json:"data"`
	}
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	return a.onTask(w, r, func(ctx context.Context, id string) (deed.Task, error) {
		return a.rt.Tasks().Decide(ctx, id, body.Choice, body.Reason, body.Data)
	})
}

func (a *api) onTask(w http.ResponseWriter, r *http.Request, do func(context.Context, string) (deed.Task, error)) error {
	if _, err := query(r); err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	t, err := do(deed.With(r.Context(), call), r.PathValue("id"))
	if err != nil {
		return noTask(err, r)
	}
	return answer(w, http.StatusOK, t)
}
