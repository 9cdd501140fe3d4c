package deed

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/deed-dev/deed/store"
)

// A RunState says where an asking of a query is in its life.
type RunState string

// The states of a run. All but the first two are the end of it.
const (
	RunAsked     RunState = "asked"     // recorded, and being answered, or going to be
	RunRetrying  RunState = "retrying"  // an attempt failed, and there will be another by itself
	RunInvalid   RunState = "invalid"   // its parameters are malformed
	RunCompleted RunState = "completed" // answered
	RunRejected  RunState = "rejected"  // the domain has no answer
	RunFailed    RunState = "failed"    // too many attempts failed: ask anew once the cause is gone
	RunCancelled RunState = "cancelled" // somebody called it off: it is not answered, and nothing is delivered
)

// Over reports whether nothing more becomes of a run in this state, but for its
// deliveries.
func (s RunState) Over() bool {
	return s == RunInvalid || s == RunCompleted || s == RunRejected || s == RunFailed || s == RunCancelled
}

// A RunDelivery is where the answer of a run goes.
type RunDelivery struct {
	To     string    `json:"to"` // for example "https://host/path", "file:name" or "topic:name"
	Done   time.Time `json:"done_at,omitzero"`
	Reason string    `json:"reason,omitempty"` // why it cannot be delivered
}

// A Run is one asking of a query.
type Run struct {
	ID           string          `json:"id,omitempty"` // "" = the asking is not recorded
	Query        string          `json:"query"`
	State        RunState        `json:"state"`
	Parameters   json.RawMessage `json:"parameters,omitempty"` // not in lists
	Result       json.RawMessage `json:"result,omitempty"`     // not in lists
	Position     store.Cursor    `json:"position,omitempty"`   // the answer is what had been recorded up to here comes to
	Inexact      bool            `json:"inexact,omitzero"`     // it may rest on a little more than that: on views that event handlers write, or that have fallen behind
	Cached       bool            `json:"cached,omitzero"`      // the answer was given before, and nothing has changed it
	Age          time.Duration   `json:"-"`                    // so old the answer may be, if that is allowed
	Parts        int             `json:"parts,omitzero"`       // that the answer consists of
	Answered     int             `json:"answered,omitzero"`    // of the parts
	Findings     []Finding       `json:"findings,omitempty"`   // what is wrong with the parameters
	FindingCount int             `json:"finding_count,omitzero"`
	Attempts     int             `json:"attempts,omitzero"` // that failed
	Code         string          `json:"code,omitempty"`    // why there is no answer
	Reason       string          `json:"reason,omitempty"`
	Deliveries   []RunDelivery   `json:"deliveries,omitempty"`
	Actor        string          `json:"actor,omitempty"`
	Source       string          `json:"source,omitempty"`
	Correlation  string          `json:"correlation,omitempty"`
	Causation    string          `json:"causation,omitempty"`
	Asked        time.Time       `json:"asked_at,omitzero"`
	Finished     time.Time       `json:"finished_at,omitzero"`
	Next         time.Time       `json:"next_at,omitzero"` // when a retrying one is tried again
}

// take folds an event of the run's stream.
func (r *Run) take(m Meta, e any) {
	if r.ID == "" {
		r.ID, r.Asked = m.ID, m.Time
		r.Actor, r.Source, r.Correlation, r.Causation = m.Actor, m.Source, m.Correlation, m.Causation
	}
	switch e := e.(type) {
	case queryAsked:
		r.Query, r.State, r.Parameters = e.Query, RunAsked, e.Parameters
		for _, to := range e.Deliver {
			r.Deliveries = append(r.Deliveries, RunDelivery{To: to})
		}
	case queryAnswered:
		r.finish(m, RunCompleted)
		r.Query, r.Parameters, r.Cached = e.Query, e.Parameters, e.Cached
		r.Result, r.Position, r.Inexact, r.Code, r.Reason = e.Result, e.Position, e.Inexact, e.Code, e.Reason
		if e.Code != "" {
			r.State = RunRejected
		} else {
			r.Result = jsonOf(e.Result)
		}
	case queryInvalid:
		r.finish(m, RunInvalid)
		r.Query, r.Parameters = e.Query, e.Parameters
		r.Code, r.Reason = typeInvalid, e.Findings[0].Text
		r.Findings, r.FindingCount = e.Findings, max(e.Count, len(e.Findings))
	case partsRequested:
		r.Parts += len(e.Keys)
	case partsAnswered:
		r.Answered += len(e.Parts)
	case attemptFailed:
		r.State, r.Attempts, r.Reason, r.Next = RunRetrying, e.Attempt, e.Error, e.Next
	case queryCompleted:
		r.finish(m, RunCompleted)
		r.Code, r.Reason, r.Result, r.Position, r.Inexact = "", "", jsonOf(e.Result), e.Position, e.Inexact
	case queryRejected:
		r.finish(m, RunRejected)
		r.Code, r.Reason = e.Code, e.Reason
	case queryFailed:
		r.finish(m, RunFailed)
		r.Code, r.Reason, r.Attempts = typeFailed, e.Reason, e.Attempts
	case queryCancelled:
		r.finish(m, RunCancelled)
		r.Code, r.Reason = "", e.Reason
	case queryDelivered:
		r.deliver(e.To, func(d *RunDelivery) { d.Done, d.Reason = m.Time, "" })
	case queryPublished:
		r.deliver(topicScheme+e.Topic, func(d *RunDelivery) { d.Done, d.Reason = m.Time, "" })
	case queryUndeliverable:
		r.deliver(e.To, func(d *RunDelivery) { d.Reason = e.Reason })
	}
}

func (r *Run) finish(m Meta, state RunState) {
	r.State, r.Finished, r.Next = state, m.Time, time.Time{}
}

// deliver notes what became of a delivery. What was noted before may be in use.
func (r *Run) deliver(to string, note func(*RunDelivery)) {
	r.Deliveries = slices.Clone(r.Deliveries)
	for i := range r.Deliveries {
		if r.Deliveries[i].To == to {
			note(&r.Deliveries[i])
		}
	}
}

// runs has every recorded asking, without its parameters and its answer.
func runs() Projection[Run] {
	return Projection[Run]{
		Name:    "query-runs",
		Doc:     "The recorded askings of queries.",
		Indexes: []string{"query", "state", "actor", "asked_at"},
		On: []Handler[Run]{
			runLives[queryAsked](), runLives[queryAnswered](), runLives[queryInvalid](), runLives[partsRequested](), runLives[partsAnswered](), runLives[attemptFailed](),
			runLives[queryCompleted](), runLives[queryRejected](), runLives[queryFailed](), runLives[queryCancelled](), runLives[queryDelivered](), runLives[queryUndeliverable](), runLives[queryPublished](),
			forgets[Run](givenUp.runs),
		},
	}
}

func runLives[E any]() Handler[Run] {
	return On(func(r *Run, e Recorded[E]) {
		r.take(e.Meta, e.Event)
		r.Parameters, r.Result = nil, nil // they are in the run's stream, and may be large
	})
}
