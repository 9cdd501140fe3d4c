package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed"
)

// Bounds of what is asked of many instances at once.
const (
	maxMany   = 1000 // instances
	maxNamed  = 100  // of them that an answer names
	manyHands = 8    // that are asked at the same time
)

// A Many says what was asked of many processes or sagas at once, or would be.
type Many struct {
	DryRun    bool           `json:"dry_run"`   // nothing was asked
	Count     int            `json:"count"`     // instances that it concerns
	ByName    map[string]int `json:"by_name"`   // the same, by process or saga
	ByState   map[string]int `json:"by_state"`  // the same, by the state they were in
	Instances []string       `json:"instances"` // the first hundred, each as name/id
	Refused   int            `json:"refused"`   // of those asked
	Refusals  []Refusal      `json:"refusals,omitempty"`
	More      bool           `json:"more"`           // there are more than a thousand, which it does not concern
	Next      string         `json:"next,omitempty"` // pass as after to go on with those
}

// A Refusal says why something could not be asked of an instance.
type Refusal struct {
	Instance string `json:"instance"`
	Code     string `json:"code"`
	Detail   string `json:"detail"`
}

// askable are the states of instances that many at once can be asked this in.
func askable(verb string) []deed.InstanceState {
	switch verb {
	case "cancel":
		return []deed.InstanceState{deed.InstanceRunning, deed.InstanceStuck}
	case "retry":
		return []deed.InstanceState{deed.InstanceStuck, deed.InstanceUndoing, deed.InstanceRunning}
	}
	return []deed.InstanceState{deed.InstanceRunning, deed.InstanceStuck, deed.InstanceCompleted}
}

// applies reports whether an instance in one of those states can be asked this:
// what is turned back cannot be again.
func applies(verb string, i deed.Instance) bool {
	return verb == "retry" || i.State != deed.InstanceStuck || !i.TurnedBack
}

// repairMany asks something of many processes or sagas, a thousand at most, or
// says of which. Who does not say which states are meant has to say that all
// are.
func (a *api) repairMany(kind, verb string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := query(r, "name", "state", "all", "dry_run", "after")
		if err != nil {
			return err
		}
		states, err := statesParam(q, verb)
		if err != nil {
			return err
		}
		dry, err := boolParam(q, "dry_run")
		if err != nil {
			return err
		}
		call, err := callOf(r)
		if err != nil {
			return err
		}
		var body repairBody
		if err := a.decode(w, r, &body); err != nil {
			return err
		}
		if body.Step != "" {
			return deed.Invalid{Field: "step", Detail: "is only for skip"}
		}
		all, next, err := a.many(w, r, kind, verb, q, states)
		if err != nil {
			return err
		}
		m := manyOf(all)
		m.DryRun, m.More, m.Next = dry, next != "", next
		if dry {
			return answer(w, http.StatusOK, m)
		}
		m.Refusals, err = a.askMany(deed.With(r.Context(), call), verb, all, body)
		if err != nil {
			return err
		}
		m.Refused = len(m.Refusals)
		m.Refusals = m.Refusals[:min(len(m.Refusals), maxNamed)]
		return answer(w, http.StatusOK, m)
	}
}

// statesParam reads which states are meant.
func statesParam(q url.Values, verb string) ([]deed.InstanceState, error) {
	can := askable(verb)
	state := deed.InstanceState(q.Get("state"))
	if err := oneOf("state", q.Get("state"), instanceStates); err != nil {
		return nil, err
	}
	all, err := boolParam(q, "all")
	switch {
	case err != nil:
		return nil, err
	case all == (state != ""):
		return nil, deed.Invalid{Field: "state", Detail: "say which are meant, for example state=" + string(can[0]) + ", or all=true"}
	case all:
		return can, nil
	case !slices.Contains(can, state):
		return nil, deed.Invalid{Field: "state", Detail: verb + " is for those that are " + list(can)}
	}
	return []deed.InstanceState{state}, nil
}

// many finds the instances that are in one of some states, a thousand at most,
// and where to go on: a state, and a mark in the list of those that are in it.
func (a *api) many(w http.ResponseWriter, r *http.Request, kind, verb string, q url.Values, states []deed.InstanceState) (all []deed.Instance, next string, err error) {
	head, err := a.rt.Store().Head(r.Context())
	if err != nil {
		return nil, "", err
	}
	after := ""
	if q.Get("after") != "" {
		state, mark, _ := strings.Cut(q.Get("after"), ":")
		n := slices.Index(states, deed.InstanceState(state))
		if n < 0 {
			return nil, "", errMark
		}
		states, after = states[n:], mark
	}
	for _, state := range states {
		room := a.most - len(all)
		of := url.Values{"where": {"kind=" + kind, "state=" + string(state)}, "limit": {strconv.Itoa(max(room, 1))}, "after": {after}}
		of.Set("min-position", string(head)) // as things stand now
		of.Set("wait", "10s")
		filterBy(of, q, "name")
		after = ""
		rows, mark, err := a.instanceRows(w, r, of)
		switch {
		case err != nil:
			return nil, "", err
		case room == 0 && len(rows) > 0:
			return all, string(state) + ":", nil
		}
		for _, row := range rows {
			i, err := documentOf[deed.Instance]("instances", row)
			if err != nil {
				return nil, "", err
			}
			if applies(verb, i) {
				all = append(all, i)
			}
		}
		if mark != "" {
			return all, string(state) + ":" + mark, nil
		}
	}
	return all, "", nil
}

// manyOf counts instances.
func manyOf(all []deed.Instance) Many {
	m := Many{Count: len(all), ByName: map[string]int{}, ByState: map[string]int{}, Instances: []string{}}
	for _, i := range all {
		m.ByName[i.Name]++
		m.ByState[string(i.State)]++
		if len(m.Instances) < maxNamed {
			m.Instances = append(m.Instances, i.Name+"/"+i.ID)
		}
	}
	return m
}

// askMany asks something of instances, and returns which it could not be asked
// of, in their order. If the store fails it stops: what was asked is recorded,
// and asking all of them again does no harm.
func (a *api) askMany(ctx context.Context, verb string, all []deed.Instance, body repairBody) ([]Refusal, error) {
	refusals := make([]*Refusal, len(all))
	var hands errgroup.Group
	hands.SetLimit(manyHands)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for n, i := range all {
		hands.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			_, err := a.ask(ctx, verb, i.Kind, i.Name, i.ID, body)
			if err == nil {
				return nil
			}
			p := problemOf(err)
			if p.Status >= http.StatusInternalServerError {
				stop(err)
				return err
			}
			refusals[n] = &Refusal{i.Name + "/" + i.ID, p.Code, p.Detail}
			return nil
		})
	}
	if err := hands.Wait(); err != nil {
		return nil, context.Cause(ctx)
	}
	var some []Refusal
	for _, r := range refusals {
		if r != nil {
			some = append(some, *r)
		}
	}
	return some, nil
}
