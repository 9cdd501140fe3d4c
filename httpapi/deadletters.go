package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A DeadLetterPage is some dead letters.
type DeadLetterPage struct {
	DeadLetters []deed.DeadLetter `json:"dead_letters"`
	Next        string            `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

// letterFilters are the parameters that say which dead letters are meant.
var letterFilters = []string{"follower", "subscription", "kind", "fingerprint", "state", "older"}

// letterFilter reads which dead letters are meant.
func letterFilter(q url.Values) (deed.LetterFilter, error) {
	f := deed.LetterFilter{
		Follower: q.Get("follower"), Subscription: q.Get("subscription"), Kind: q.Get("kind"), Fingerprint: q.Get("fingerprint"), State: q.Get("state"),
	}
	var err error
	f.Before, err = before(q.Get("older"))
	return f, err
}

// before is the time that lies so far back; "" is none.
func before(older string) (time.Time, error) {
	age, err := durationOf("older", older)
	if err != nil || older == "" {
		return time.Time{}, err
	}
	return time.Now().Add(-age), nil
}

func (a *api) deadLetters(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, append([]string{"after", "limit"}, letterFilters...)...)
	if err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	f, err := letterFilter(q)
	if err != nil {
		return err
	}
	letters, next, err := a.rt.DeadLetters().List(r.Context(), f, q.Get("after"), limit)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, DeadLetterPage{letters, next})
}

// LetterGroups is dead letters by what they failed of.
type LetterGroups struct {
	Groups []deed.LetterGroup `json:"groups"` // the most frequent first, at most a thousand
	Others int                `json:"others"` // letters that are in none of them
}

func (a *api) letterGroups(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, letterFilters...)
	if err != nil {
		return err
	}
	f, err := letterFilter(q)
	if err != nil {
		return err
	}
	groups, others, err := a.rt.DeadLetters().Groups(r.Context(), f)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, LetterGroups{groups, others})
}

func (a *api) deadLetter(w http.ResponseWriter, r *http.Request) error {
	l, err := a.rt.DeadLetters().Get(r.Context(), r.PathValue("id"))
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
	var body struct {
		DryRun bool `json:"dry_run"`
	}
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	if body.DryRun {
		l, err := a.rt.DeadLetters().Get(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		return answer(w, http.StatusOK, planOf(l))
	}
	n, err := a.rt.Followers().Redrive(deed.With(r.Context(), call), r.PathValue("id"))
	return redriven(w, r, n, err)
}

// planOf says what would be done to redrive one letter.
func planOf(l deed.DeadLetter) deed.LetterJob {
	j := deed.LetterJob{LetterAct: deed.LetterAct{Do: deed.DoRedrive}, Blocks: l.Blocks, ByFollower: map[string]int{}}
	if l.Closed == nil {
		j.Letters, j.Sample, j.ByFollower[l.Follower] = 1, []string{l.ID}, 1
	}
	return j
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
	ctx, reason, err := a.actWithReason(w, r)
	if err != nil {
		return err
	}
	if err := a.rt.Followers().Discard(ctx, r.PathValue("id"), reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// An Editing is what a follower is to see in the place of an event's data.
type Editing struct {
	Data    json.RawMessage `json:"data"`
	Reason  string          `json:"reason"`
	Redrive bool            `json:"redrive,omitzero"` // then try it again
}

// An EditedLetter is a dead letter that was edited, and what came of redriving it.
type EditedLetter struct {
	deed.DeadLetter
	Redriven *Redriven `json:"redriven,omitempty"` // if that was asked for
}

func (a *api) editLetter(w http.ResponseWriter, r *http.Request) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body Editing
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	ctx := deed.With(r.Context(), call)
	l, err := a.rt.DeadLetters().Edit(ctx, r.PathValue("id"), body.Data, body.Reason)
	if err != nil {
		return err
	}
	out := EditedLetter{DeadLetter: l}
	if body.Redrive {
		n, err := a.rt.Followers().Redrive(ctx, l.ID)
		if err != nil {
			return redriven(w, r, n, err)
		}
		out.Redriven = &Redriven{n}
	}
	return answer(w, http.StatusOK, out)
}

// A LetterAct is what is to be done with several dead letters.
type LetterAct struct {
	deed.LetterFilter
	Older  string  `json:"older,omitempty"`  // parked longer ago, for example 24h
	All    bool    `json:"all,omitzero"`     // if nothing says which
	Rate   float64 `json:"rate,omitzero"`    // redrive so many events a second, on average
	First  bool    `json:"first,omitzero"`   // redrive one, and the rest only if that is handled
	Reason string  `json:"reason,omitempty"` // needed to discard
	DryRun bool    `json:"dry_run,omitzero"` // say what would be done
	Wait   string  `json:"wait,omitempty"`   // how long to wait for it to be over; default 2s
}

// beginJob does something with several dead letters, as a job, and waits a moment
// for it to be over.
func (a *api) beginJob(do string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		call, err := callOf(r)
		if err != nil {
			return err
		}
		var body LetterAct
		if err := a.decode(w, r, &body); err != nil {
			return err
		}
		act := deed.LetterAct{Do: do, LetterFilter: body.LetterFilter, All: body.All, Rate: body.Rate, First: body.First, Reason: body.Reason}
		if body.Older != "" {
			if act.Before, err = before(body.Older); err != nil {
				return err
			}
		}
		letters := a.rt.DeadLetters()
		if body.DryRun {
			j, err := letters.Plan(r.Context(), act)
			if err != nil {
				return err
			}
			return answer(w, http.StatusOK, j)
		}
		wait := defaultWait
		if body.Wait != "" {
			if wait, err = durationOf("wait", body.Wait); err != nil {
				return err
			}
			wait = min(wait, maxWait)
		}
		j, err := letters.Begin(deed.With(r.Context(), call), act)
		if err != nil {
			return err
		}
		return a.awaitJob(w, r, j, wait)
	}
}

// jobLook is how often a request looks whether a job is over.
const jobLook = 20 * time.Millisecond

// awaitJob answers a job when it is over, or when the time is.
func (a *api) awaitJob(w http.ResponseWriter, r *http.Request, j deed.LetterJob, wait time.Duration) (err error) {
	id := j.ID
	for until := time.Now().Add(wait); j.State == deed.JobRunning && time.Now().Before(until); {
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-time.After(jobLook):
		}
		if j, err = a.rt.DeadLetters().Job(r.Context(), id); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if j.State == deed.JobRunning {
		status = http.StatusAccepted
		w.Header().Set("Location", "/v1/dead-letters/jobs/"+url.PathEscape(id))
	}
	return answer(w, status, j)
}

// LetterJobs is what is being done with many dead letters, and what was.
type LetterJobs struct {
	Jobs []deed.LetterJob `json:"jobs"` // those that run, and then those that ended last
}

func (a *api) letterJobs(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "limit")
	if err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	jobs, err := a.rt.DeadLetters().Jobs(r.Context(), limit)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, LetterJobs{jobs})
}

func (a *api) letterJob(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	j, err := a.rt.DeadLetters().Job(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, j)
}

func (a *api) cancelJob(w http.ResponseWriter, r *http.Request) error {
	ctx, reason, err := a.actWithReason(w, r)
	if err != nil {
		return err
	}
	j, err := a.rt.DeadLetters().Cancel(ctx, r.PathValue("id"), reason)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, j)
}
