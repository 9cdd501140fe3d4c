package httpapi

import (
	"context"
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

// actWithReason returns the context of somebody who does something, and why.
func (a *api) actWithReason(w http.ResponseWriter, r *http.Request) (context.Context, string, error) {
	call, err := callOf(r)
	if err != nil {
		return nil, "", err
	}
	reason, err := a.reason(w, r)
	return deed.With(r.Context(), call), reason, err
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
