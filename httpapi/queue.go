package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
)

// MessageList is some messages of a queue.
type MessageList struct {
	Messages []deed.Message `json:"messages"`
}

// A Locking asks for messages of a queue.
type Locking struct {
	Limit    int    `json:"limit,omitzero"`     // at most so many; default 1
	Lock     string `json:"lock,omitempty"`     // for how long, for example "30s"; default: as the queue says
	Wait     string `json:"wait,omitempty"`     // how long to wait for some if there are none, for example "20s"
	Consumer string `json:"consumer,omitempty"` // who asks, to tell people; default: the actor
}

// A Settling says what became of a message.
type Settling struct {
	Token  string `json:"token"`
	Lock   string `json:"lock,omitempty"`   // renew: for how long from now on
	After  string `json:"after,omitempty"`  // abandon: nobody gets it before
	Reason string `json:"reason,omitempty"` // abandon, dead-letter
}

func (a *api) queue(r *http.Request) (deed.Queue, error) {
	return a.rt.Queue(r.Context(), r.PathValue("topic"), r.PathValue("name"))
}

func (a *api) lockMessages(w http.ResponseWriter, r *http.Request) error {
	q, err := a.queue(r)
	if err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	var body Locking
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	lock, err := durationOf("lock", body.Lock)
	if err != nil {
		return err
	}
	wait, err := durationOf("wait", body.Wait)
	if err != nil {
		return err
	}
	if wait > maxWait {
		return deed.Invalid{Field: "wait", Detail: "is a duration up to " + maxWait.String()}
	}
	got, err := q.Lock(r.Context(), cmp.Or(body.Consumer, asking(r, call).Actor), body.Limit, lock, wait)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, MessageList{got})
}

// Renewed says until when a message is locked.
type Renewed struct {
	Until time.Time `json:"locked_until"`
}

func (a *api) renewMessage(w http.ResponseWriter, r *http.Request) error {
	return a.settleMessage(w, r, func(q deed.Queue, s Settling) (any, error) {
		lock, err := durationOf("lock", s.Lock)
		if err != nil {
			return nil, err
		}
		until, err := q.Renew(r.Context(), s.Token, lock)
		return Renewed{until}, err
	})
}

func (a *api) completeMessage(w http.ResponseWriter, r *http.Request) error {
	return a.settleMessage(w, r, func(q deed.Queue, s Settling) (any, error) { return nil, q.Complete(r.Context(), s.Token) })
}

func (a *api) abandonMessage(w http.ResponseWriter, r *http.Request) error {
	return a.settleMessage(w, r, func(q deed.Queue, s Settling) (any, error) {
		after, err := durationOf("after", s.After)
		if err != nil {
			return nil, err
		}
		return nil, q.Abandon(r.Context(), s.Token, after, s.Reason)
	})
}

func (a *api) buryMessage(w http.ResponseWriter, r *http.Request) error {
	return a.settleMessage(w, r, func(q deed.Queue, s Settling) (any, error) { return nil, q.DeadLetter(r.Context(), s.Token, s.Reason) })
}

// settleMessage does what a consumer says of a message.
func (a *api) settleMessage(w http.ResponseWriter, r *http.Request, do func(deed.Queue, Settling) (any, error)) error {
	q, err := a.queue(r)
	if err != nil {
		return err
	}
	var body Settling
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	out, err := do(q, body)
	switch {
	case err != nil:
		return err
	case out != nil:
		return answer(w, http.StatusOK, out)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) messages(w http.ResponseWriter, r *http.Request) error {
	params, err := query(r, "dead", "after", "limit")
	if err != nil {
		return err
	}
	dead, err := boolParam(params, "dead")
	if err != nil {
		return err
	}
	limit, err := limitParam(params)
	if err != nil {
		return err
	}
	q, err := a.queue(r)
	if err != nil {
		return err
	}
	all, err := q.Messages(r.Context(), dead, params.Get("after"), limit)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, MessageList{all})
}

// actOnQueue is the queue of a request that changes it, and the context to do so in.
func (a *api) actOnQueue(r *http.Request) (deed.Queue, context.Context, error) {
	call, err := callOf(r)
	if err != nil {
		return deed.Queue{}, nil, err
	}
	q, err := a.queue(r)
	return q, deed.With(r.Context(), call), err
}

func (a *api) redriveMessage(w http.ResponseWriter, r *http.Request) error {
	q, ctx, err := a.actOnQueue(r)
	if err != nil {
		return err
	}
	return redriven(w, r, 1, q.Redrive(ctx, r.PathValue("id")))
}

func (a *api) discardMessage(w http.ResponseWriter, r *http.Request) error {
	q, ctx, err := a.actOnQueue(r)
	if err != nil {
		return err
	}
	reason, err := a.reason(w, r)
	if err != nil {
		return err
	}
	if err := q.Discard(ctx, r.PathValue("id"), reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// durationOf reads a duration of a body; "" is none.
func durationOf(field, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, deed.Invalid{Field: field, Detail: "is a duration, for example 30s"}
	}
	return d, nil
}
