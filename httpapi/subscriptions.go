package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
)

// SubscriptionList is some subscriptions.
type SubscriptionList struct {
	Subscriptions []deed.SubscriptionStatus `json:"subscriptions"`
}

// NewSubscription is what a subscription is to be.
type NewSubscription struct {
	Target     json.RawMessage    `json:"target"`
	Start      string             `json:"start,omitempty"` // of a new one: now (the default), beginning, cursor:... or time:...
	Types      []string           `json:"types,omitempty"`
	Filters    []deed.EventFilter `json:"filters,omitempty"`
	Parallel   int                `json:"parallel,omitzero"`
	Batch      int                `json:"batch,omitzero"`
	Partitions int                `json:"partitions,omitzero"`
	Unordered  bool               `json:"unordered,omitzero"`
	Retry      []string           `json:"retry,omitempty"`
	Roles      []string           `json:"roles,omitempty"`
}

// Of returns the subscription of a topic that it is to be.
func (n NewSubscription) Of(topic, name string) deed.Subscription {
	return deed.Subscription{
		Topic: topic, Name: name, Target: n.Target, Types: n.Types, Filters: n.Filters,
		Parallel: n.Parallel, Batch: n.Batch, Partitions: n.Partitions, Unordered: n.Unordered, Retry: n.Retry, Roles: n.Roles,
	}
}

// A MadeSubscription is a subscription that was made or changed. Once are the
// secrets that were made for it: they are never shown again.
type MadeSubscription struct {
	deed.SubscriptionStatus
	Once map[string]string `json:"once,omitempty"`
}

func (a *api) subscriptions(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	all, err := a.rt.Subscriptions().List(r.Context(), r.PathValue("topic"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, SubscriptionList{all})
}

func (a *api) subscription(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	s, err := a.rt.Subscriptions().Get(r.Context(), r.PathValue("topic"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s)
}

func (a *api) putSubscription(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body NewSubscription
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	s, once, err := a.rt.Subscriptions().Put(deed.With(r.Context(), call), body.Of(r.PathValue("topic"), r.PathValue("name")), body.Start)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, http.StatusOK, MadeSubscription{s, once})
}

func (a *api) deleteSubscription(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	if err := a.rt.Subscriptions().Delete(deed.With(r.Context(), call), r.PathValue("topic"), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// directSubscription does something to a subscription and answers its status.
func (a *api) directSubscription(do func(deed.Subscriptions, context.Context, string, string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		call, err := callOf(r)
		if err != nil {
			return err
		}
		topic, name := r.PathValue("topic"), r.PathValue("name")
		if err := do(a.rt.Subscriptions(), deed.With(r.Context(), call), topic, name); err != nil {
			return err
		}
		s, err := a.rt.Subscriptions().Get(r.Context(), topic, name)
		if err != nil {
			return err
		}
		return answer(w, http.StatusOK, s)
	}
}

func (a *api) resetSubscription(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body struct {
		Start  string `json:"start"`
		DryRun bool   `json:"dry_run"`
	}
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	out, err := a.rt.Subscriptions().Reset(deed.With(r.Context(), call), r.PathValue("topic"), r.PathValue("name"), body.Start, body.DryRun)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, out)
}

func (a *api) testSubscription(w http.ResponseWriter, r *http.Request) error {
	attempt, err := a.rt.Subscriptions().Test(r.Context(), r.PathValue("topic"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, attempt)
}

// Secrets are what was made in place of former secrets.
type Secrets struct {
	Once map[string]string `json:"once"`
}

func (a *api) rotateSubscription(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	once, err := a.rt.Subscriptions().Rotate(deed.With(r.Context(), call), r.PathValue("topic"), r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, http.StatusOK, Secrets{once})
}

func (a *api) redriveSubscription(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	n, err := a.rt.Subscriptions().Redrive(deed.With(r.Context(), call), r.PathValue("topic"), r.PathValue("name"))
	return redriven(w, r, n, err)
}

// AttemptList is the latest attempts at deliveries, the newest first.
type AttemptList struct {
	Attempts []deed.Attempt `json:"attempts"`
}

func (a *api) attempts(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	all, err := a.rt.Subscriptions().Attempts(r.Context(), r.PathValue("topic"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, AttemptList{all})
}

// consumerRoles returns who may take messages from the queue that a request is
// about.
func (a *api) consumerRoles(r *http.Request) []string {
	q, err := a.queue(r)
	if err != nil {
		return []string{auth.RoleOperator}
	}
	return append(slices.Clone(q.Roles()), auth.RoleOperator)
}

// subscriptionProblem is the part of the mapping from errors to HTTP that is
// about subscriptions.
func subscriptionProblem(err error) (Problem, bool) {
	switch {
	case errors.Is(err, deed.ErrNoSubscription):
		return problem(http.StatusNotFound, CodeNotFound, plain(err)), true
	case errors.Is(err, deed.ErrLockLost):
		return problem(http.StatusConflict, CodeConflict, plain(err)+": lock another"), true
	}
	return Problem{}, false
}
