package deed

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// FollowerStatus says how a follower is doing.
type FollowerStatus = engine.Status

// A DeadLetter is an event that a follower could not handle, or one that
// waits behind such an event, with everything needed to understand why.
type DeadLetter = engine.DeadLetter

// Errors about followers and dead letters.
var (
	ErrNoFollower     = engine.ErrUnknownFollower // there is no follower of that name
	ErrNoDeadLetter   = engine.ErrNoDeadLetter    // there is no dead letter of that id (any more)
	ErrNotRebuildable = engine.ErrNotRebuildable  // an event handler's effects cannot be undone
	ErrPaused         = engine.ErrPaused          // a follower that was waited for is paused
	ErrNotRunning     = engine.ErrNotRunning      // the follower is paused, or Run does not run
	ErrFollowerInUse  = engine.ErrFollowerInUse   // a program that runs has the follower
)

// Followers looks after the followers of a runtime. What it changes is
// recorded in the stream "$audit/followers", with the actor of the context's
// [Call].
type Followers struct{ rt *Runtime }

// Followers returns the means to look after the runtime's followers.
func (rt *Runtime) Followers() Followers { return Followers{rt} }

// List returns the status of every follower, in the order of their names.
func (f Followers) List() []FollowerStatus { return f.rt.engine.Status() }

// Pause makes a follower stop before its next batch. It stays paused, over
// restarts too, until Resume.
func (f Followers) Pause(ctx context.Context, name string) error {
	return f.act(ctx, "follower-paused", name, "", f.rt.engine.Pause(ctx, name))
}

// Resume lets a paused follower go on.
func (f Followers) Resume(ctx context.Context, name string) error {
	return f.act(ctx, "follower-resumed", name, "", f.rt.engine.Resume(ctx, name))
}

// Rebuild folds a projection's documents again, from the first event, beside
// the present ones; readers see the new ones when they have caught up. It
// returns when the rebuild has begun. [Rebuilds] has more of that.
func (f Followers) Rebuild(ctx context.Context, name string) error {
	return f.act(ctx, "projection-rebuilt", name, "", f.rt.engine.Rebuild(ctx, name, false))
}

// DeadLetters returns up to limit dead letters, of one follower or, if
// follower is "", of all, and where to go on ("" = there are no more).
// [DeadLetters] has more of that, and messages of queues.
func (f Followers) DeadLetters(ctx context.Context, follower, after string, limit int) ([]DeadLetter, string, error) {
	return f.rt.engine.DeadLetters(ctx, follower, after, limit)
}

// DeadLetter returns one dead letter.
func (f Followers) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	return f.rt.engine.DeadLetter(ctx, id)
}

// Redrive tries a dead letter again, and those that wait behind it. It
// returns how many were handled; an error if the first still cannot be. A message
// of a queue is open again, for its consumers to handle.
func (f Followers) Redrive(ctx context.Context, id string) (int, error) {
	if q, key, err := f.message(ctx, id); err != nil || key != "" {
		if err == nil {
			err = q.Redrive(ctx, key)
		}
		return 1, err
	}
	n, err := f.rt.engine.Redrive(ctx, id)
	return n, f.act(ctx, "dead-letter-redriven", id, "", err)
}

// Discard gives a dead letter up, for a reason, and lets those go on that
// wait behind it. The event itself stays in its stream.
func (f Followers) Discard(ctx context.Context, id, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Invalid{Field: "reason", Detail: "is missing: say why the event may be passed over"}
	}
	if q, key, err := f.message(ctx, id); err != nil || key != "" {
		if err == nil {
			err = q.Discard(ctx, key, reason)
		}
		return err
	}
	return f.act(ctx, "dead-letter-discarded", id, reason, f.rt.engine.Discard(ctx, id, reason, callOf(ctx).Actor))
}

// message returns the queue and the key of a dead letter that is a message; "" of
// one that is not. It may be one of a subscription that this node has still to hear
// of.
func (f Followers) message(ctx context.Context, id string) (Queue, string, error) {
	if _, _, ok := parseQueueLetterID(id); !ok {
		return Queue{}, "", f.rt.subs.sync(ctx)
	}
	p, key, err := f.rt.DeadLetters().placeOf(ctx, id)
	if err != nil {
		return Queue{}, "", err
	}
	return *p.queue, key, nil
}

// Forget removes all that is kept of a follower that no program has any more,
// for a reason: how far it has read, its dead letters, its documents. As long
// as that is kept, nothing is given up that the follower has not read, see
// [Runtime.Compact]. A follower of that name would begin anew, from the
// beginning.
func (f Followers) Forget(ctx context.Context, name, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Invalid{Field: "reason", Detail: "is missing: say why nobody needs it any more"}
	}
	letters, err := f.rt.engine.Forget(ctx, name, func(gen uint64) []string { return []string{(&view{name: name}).coll(gen), watchColl + name} })
	if letters > 0 {
		reason = fmt.Sprintf("%s (it had %d dead letters)", reason, letters)
	}
	return f.act(ctx, "follower-forgotten", name, reason, err)
}

// audited is the data of the events in "$audit/followers" and "$audit/subscriptions".
type audited struct {
	Subject string `json:"subject"` // name of the follower, id of the dead letter, topic/name of the subscription
	Reason  string `json:"reason,omitempty"`
}

// act records an administrative act that succeeded.
func (f Followers) act(ctx context.Context, typ, subject, reason string, err error) error {
	if err != nil {
		return err
	}
	return f.rt.audit(ctx, "$audit/followers", typ, subject, reason)
}

// audit records an administrative act.
func (rt *Runtime) audit(ctx context.Context, stream, typ, subject, reason string) error {
	call := callOf(ctx)
	data, dataErr := wire.Marshal(audited{subject, reason})
	circumstances, metaErr := wire.Marshal(meta{Actor: call.Actor, Correlation: call.Correlation, Source: call.Source})
	if err := errors.Join(dataErr, metaErr); err != nil {
		return err
	}
	_, err := rt.append(ctx, store.Write{
		Stream: stream, Expect: store.Any,
		Events: []store.Event{{ID: newEventID(), Type: typ, Data: data, Meta: circumstances}},
	})
	if err != nil {
		return fmt.Errorf("deed: it was done, but could not be recorded in the audit stream: %w", err)
	}
	return nil
}
