package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// What a LetterAct can do.
const (
	DoRedrive = "redrive"
	DoDiscard = "discard"
)

// States of a LetterJob.
const (
	JobRunning   = "running"
	JobDone      = "done"      // all of them were tried, or given up
	JobStopped   = "stopped"   // Why says why it did not go on
	JobCancelled = "cancelled" // somebody called it off
)

// A LetterAct is what is to be done with several dead letters: with those that a
// filter means, and had failed when it began. All has to say so if no filter does.
type LetterAct struct {
	Do           string `json:"do"` // redrive or discard
	LetterFilter `json:"filter"`
	All          bool    `json:"all,omitzero"`
	Rate         float64 `json:"rate,omitzero"`    // events a second at most, on average; 0 = as fast as it goes
	First        bool    `json:"first,omitzero"`   // redrive one, and the rest only if that is handled
	Reason       string  `json:"reason,omitempty"` // needed to discard
}

// A LetterJob is a LetterAct under way, or what it would do. It is stored, and goes
// on when the program starts again; any node may do it.
type LetterJob struct {
	LetterAct
	ID         string         `json:"id,omitempty"` // "" = it would be
	State      string         `json:"state,omitempty"`
	Why        string         `json:"why,omitempty"`         // it is stopped or cancelled
	Letters    int            `json:"letters"`               // that it is about: those that had failed when it began
	Blocks     int            `json:"blocks"`                // events and messages that waited behind them
	ByFollower map[string]int `json:"by_follower,omitempty"` // Letters, by the followers concerned
	Sample     []string       `json:"sample,omitempty"`      // ids of the first hundred
	Handled    int            `json:"handled"`               // events so far, those that waited behind too; messages that are open again. At least: a crash may lose count
	Failed     int            `json:"failed"`                // letters that failed once more
	Discarded  int            `json:"discarded"`             // letters so far
	Failure    string         `json:"failure,omitempty"`     // of the first that failed once more
	By         string         `json:"by,omitempty"`          // who began it
	Begun      time.Time      `json:"begun_at,omitzero"`
	Ended      time.Time      `json:"ended_at,omitzero"`
}

// ErrNoJob reports that there is no such redrive or discarding.
var ErrNoJob = errors.New("deed: there is no such redrive or discarding of dead letters")

// Where jobs are stored: those that run, and those that are over. Their keys sort
// by when they began.
const (
	jobColl      = "$redrive"
	jobEndedColl = "$redriven"
)

// maxSample is how many letters a job names.
const maxSample = 100

// storedJob is a job as it is stored.
type storedJob struct {
	LetterJob
	Mark    string    `json:"mark,omitempty"`     // the letter that it has come to
	FirstID string    `json:"first_id,omitempty"` // the one it begins with, if it waits what comes of that
	Since   time.Time `json:"since,omitzero"`     // it waits
	Passed  bool      `json:"passed,omitzero"`    // that one was handled
	Node    string    `json:"node,omitempty"`     // who does it
	Until   time.Time `json:"until,omitzero"`     // unless it says so again
}

func (act LetterAct) check() error {
	empty := act.LetterFilter.Follower == "" && act.Subscription == "" && act.Kind == "" && act.Fingerprint == "" && act.State == "" && act.Before.IsZero() && len(act.IDs) == 0
	switch {
	case act.Do != DoRedrive && act.Do != DoDiscard:
		return Invalid{Field: "do", Detail: "is redrive or discard"}
	case empty && !act.All:
		return Invalid{Field: "all", Detail: "says that all dead letters are meant: set it, or say which are"}
	case act.past() || act.State == engine.StateWaiting:
		return Invalid{Field: "state", Detail: "is retrying or dead: what waits goes on with what it waits behind"}
	case act.Do == DoDiscard && strings.TrimSpace(act.Reason) == "":
		return Invalid{Field: "reason", Detail: "is missing: say why they may be passed over"}
	case act.Do == DoDiscard && (act.First || act.Rate != 0):
		return Invalid{Field: "rate", Detail: "and first are for redriving"}
	case act.Rate < 0 || math.IsNaN(act.Rate) || act.Rate > 1e6:
		return Invalid{Field: "rate", Detail: "is events a second, up to a million; 0 = as fast as it goes"}
	}
	return act.LetterFilter.check()
}

// Plan says what an act would do now: with how many letters of which followers, and
// how many wait behind them.
func (d DeadLetters) Plan(ctx context.Context, act LetterAct) (LetterJob, error) {
	if err := act.check(); err != nil {
		return LetterJob{}, err
	}
	act.IDs = inLogOrder(act.IDs)
	j := LetterJob{LetterAct: act, ByFollower: map[string]int{}}
	places, err := d.places(ctx, act.LetterFilter)
	if err != nil {
		return j, err
	}
	for _, p := range places {
		g := grouping{filter: act.LetterFilter, by: map[string]*LetterGroup{}, together: true}
		g.each = func(l *DeadLetter) {
			if j.ByFollower[l.Follower]++; len(j.Sample) < maxSample {
				j.Sample = append(j.Sample, l.ID)
			}
		}
		if err := d.group(ctx, p, &g); err != nil {
			return j, err
		}
		if one := g.by[""]; one != nil {
			j.Letters, j.Blocks = j.Letters+one.Count, j.Blocks+one.Blocks
		}
	}
	return j, nil
}

// inLogOrder sorts ids by follower, and then as the letters lie in the log.
func inLogOrder(ids []string) []string {
	type place struct {
		id, follower, key string
	}
	all := make([]place, len(ids))
	for i, id := range ids {
		all[i] = place{id, followerOfLetter(id), letterKey(id)}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.follower, b.follower), cmp.Compare(a.key, b.key))
	})
	var out []string
	for _, p := range all {
		out = append(out, p.id)
	}
	return slices.Compact(out)
}

// letterKey sorts the letters of a follower as a list of them does.
func letterKey(id string) string {
	if _, key, message := parseQueueLetterID(id); message {
		return "1" + key
	}
	if _, key, ok := parseQueueLetterID(id + "~0"); ok {
		return "0" + key
	}
	return ""
}

// Begin begins an act, and returns the job that does it. Job says how it is doing. A
// process that is a guest leaves it to the program that serves.
func (d DeadLetters) Begin(ctx context.Context, act LetterAct) (LetterJob, error) {
	j, err := d.Plan(ctx, act)
	if err != nil {
		return j, err
	}
	if j.Letters == 0 && len(act.IDs) > 0 {
		return j, fmt.Errorf("%w that has failed: %s", ErrNoDeadLetter, strings.Join(act.IDs[:min(len(act.IDs), 10)], ", "))
	}
	j.ID, j.State, j.By, j.Begun = newEventID().String(), JobRunning, callOf(ctx).Actor, time.Now().UTC()
	j.Reason = clip(j.Reason)
	coll := jobColl
	if j.Letters == 0 {
		coll, j.State, j.Ended = jobEndedColl, JobDone, j.Begun
	}
	data, err := wire.Marshal(storedJob{LetterJob: j})
	if err != nil {
		return j, err
	}
	if err := d.rt.store.Write(ctx, store.Change{Coll: coll, Key: j.ID, Data: data}); err != nil {
		return j, err
	}
	d.rt.letters.wake()
	return j, d.rt.audit(ctx, "$audit/followers", map[string]string{DoRedrive: "dead-letters-redriven", DoDiscard: "dead-letters-discarded"}[j.Do], "job "+j.ID, j.about())
}

// about says in words what a job is about.
func (j LetterJob) about() string {
	filter, err := wire.Marshal(j.LetterFilter)
	words := []string{fmt.Sprintf("%d dead letters: %s", j.Letters, filter)}
	if err != nil || j.Reason != "" {
		words = append([]string{j.Reason}, words...)
	}
	return clip(strings.Join(words, "; "))
}

// Job returns a job, or [ErrNoJob].
func (d DeadLetters) Job(ctx context.Context, id string) (LetterJob, error) {
	for range 2 { // it may end between the two
		for _, coll := range []string{jobColl, jobEndedColl} {
			doc, err := d.rt.store.Get(ctx, coll, id)
			if err == nil {
				j, err := parseJob(doc)
				return j.LetterJob, err
			}
			if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrInvalid) {
				return LetterJob{}, err
			}
		}
	}
	return LetterJob{}, fmt.Errorf("%w: %q", ErrNoJob, id)
}

func parseJob(d store.Doc) (j storedJob, err error) {
	if err := wire.Unmarshal(d.Data, &j); err != nil {
		return j, fmt.Errorf("%w: redrive %s: %w", store.ErrCorrupt, d.Key, err)
	}
	return j, nil
}

// Jobs returns the jobs that run, and up to limit (0 = 100) of those that ended
// last.
func (d DeadLetters) Jobs(ctx context.Context, limit int) ([]LetterJob, error) {
	out := []LetterJob{}
	ended := []LetterJob{}
	for _, coll := range []string{jobColl, jobEndedColl} {
		for doc, err := range d.rt.store.List(ctx, coll, "", "") {
			if err != nil {
				return nil, err
			}
			j, err := parseJob(doc)
			switch {
			case err != nil:
				return nil, err
			case j.State == JobRunning:
				out = append(out, j.LetterJob)
			default:
				ended = append(ended, j.LetterJob)
			}
		}
	}
	slices.SortFunc(ended, func(a, b LetterJob) int { return b.Ended.Compare(a.Ended) })
	return append(out, ended[:min(len(ended), cmp.Or(limit, 100))]...), nil
}

// Cancel calls a job off, for a reason: it does nothing more, and what it has done
// stays. One that is over stays as it is, and the error is [ErrStands].
func (d DeadLetters) Cancel(ctx context.Context, id, reason string) (LetterJob, error) {
	for {
		doc, err := d.rt.store.Get(ctx, jobColl, id)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
			j, err := d.Job(ctx, id)
			if err == nil {
				err = fmt.Errorf("%w: it is %s", ErrStands, j.State)
			}
			return j, err
		}
		if err != nil {
			return LetterJob{}, err
		}
		j, err := parseJob(doc)
		if err != nil {
			return j.LetterJob, err
		}
		j.State, j.Why = JobCancelled, clip(reason)
		if err := d.rt.letters.end(ctx, &j, doc.Rev); !isConflict(err) {
			return j.LetterJob, errors.Join(err, d.rt.audit(ctx, "$audit/followers", "dead-letters-cancelled", "job "+id, reason))
		}
	}
}
