package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// FollowerList is the status of all followers.
type FollowerList struct {
	Followers []deed.FollowerStatus `json:"followers"`
}

func (a *api) followers(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return answer(w, http.StatusOK, FollowerList{a.rt.Followers().List()})
}

func (a *api) pause(w http.ResponseWriter, r *http.Request) error {
	return a.direct(w, r, http.StatusOK, a.rt.Followers().Pause)
}

func (a *api) resume(w http.ResponseWriter, r *http.Request) error {
	return a.direct(w, r, http.StatusOK, a.rt.Followers().Resume)
}

func (a *api) rebuild(w http.ResponseWriter, r *http.Request) error {
	return a.direct(w, r, http.StatusAccepted, a.rt.Followers().Rebuild)
}

// direct does something to a follower and answers its status.
func (a *api) direct(w http.ResponseWriter, r *http.Request, status int, do func(context.Context, string) error) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if err := do(deed.With(r.Context(), call), name); err != nil {
		return err
	}
	for _, f := range a.rt.Followers().List() {
		if f.Name == name {
			return answer(w, status, f)
		}
	}
	return deed.ErrNoFollower
}

// NodeList is the processes that share the store.
type NodeList struct {
	Nodes []deed.Node `json:"nodes"`
}

func (a *api) nodes(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := a.rt.Nodes(r.Context())
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, NodeList{list})
}

// A DeadLetterPage is some dead letters.
type DeadLetterPage struct {
	DeadLetters []deed.DeadLetter `json:"dead_letters"`
	Next        string            `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

func (a *api) deadLetters(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "follower", "after", "limit")
	if err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	letters, next, err := a.rt.Followers().DeadLetters(r.Context(), q.Get("follower"), q.Get("after"), limit)
	if errors.Is(err, deed.ErrNoDeadLetter) {
		return deed.Invalid{Field: "after", Detail: "is not the id of a dead letter"}
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, DeadLetterPage{letters, next})
}

func (a *api) deadLetter(w http.ResponseWriter, r *http.Request) error {
	l, err := a.rt.Followers().DeadLetter(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, l)
}

// Redriven says what came of redriving.
type Redriven struct {
	Handled int `json:"handled"` // events, the one asked for and those behind it
}

func (a *api) redrive(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	n, err := a.rt.Followers().Redrive(deed.With(r.Context(), call), r.PathValue("id"))
	return redriven(w, r, n, err)
}

// redriven answers what came of redriving.
func redriven(w http.ResponseWriter, r *http.Request, n int, err error) error {
	switch {
	case err == nil:
		return answer(w, http.StatusOK, Redriven{n})
	case errors.Is(err, deed.ErrNoDeadLetter), errors.Is(err, deed.ErrNotRunning), errors.Is(err, deed.ErrNoSubscription), isInvalid(err), errors.Is(err, store.ErrUnavailable), r.Context().Err() != nil:
		return err
	}
	return problem(http.StatusConflict, CodeConflict, "it still cannot be handled: "+short(err.Error()))
}

func (a *api) discard(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	reason, err := a.reason(w, r)
	if err != nil {
		return err
	}
	if err := a.rt.Followers().Discard(deed.With(r.Context(), call), r.PathValue("id"), reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// A Description is what GET /v1 answers.
type Description struct {
	Program string `json:"program"`
	Version string `json:"version,omitempty"`
	deed.Info
	Head     store.Cursor `json:"head"`
	Volatile string       `json:"volatile,omitempty"` // what the store may lose, if it is not durable
}

func (a *api) describe(w http.ResponseWriter, r *http.Request) error {
	head, err := a.rt.Store().Head(r.Context())
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, Description{"deed", a.opts.Version, a.rt.Describe(), head, store.VolatileReason(a.rt.Store())})
}

func (a *api) alive(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, map[string]string{"status": "alive"})
}

// stale is how old the heartbeat of a follower may be before the program
// counts as unwell.
const stale = 60 * time.Second

// ready answers whether the program can do its work: the store answers, and
// every follower that is meant to move shows signs of life.
func (a *api) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if _, err := a.rt.Store().Head(ctx); err != nil {
		return err
	}
	// The head is known by heart; a read shows that the disk answers too.
	for _, err := range a.rt.Store().ReadAll(ctx, store.Start, store.Filter{Limit: 1}) {
		if err != nil {
			return err
		}
	}
	for _, f := range a.rt.Followers().List() {
		if f.State == "waiting" || f.State == "running" && f.Heartbeat != nil && time.Since(*f.Heartbeat) > stale {
			return problem(http.StatusServiceUnavailable, CodeUnavailable, "the follower "+f.Name+" does not move")
		}
	}
	return answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

// reason reads the body of a request that says why; it may be empty.
func (a *api) reason(w http.ResponseWriter, r *http.Request) (string, error) {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := a.decode(w, r, &body); err != nil {
		return "", err
	}
	return body.Reason, nil
}
