package deed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// DeadLetter gives a message up, for a reason: nobody gets it, until somebody
// redrives it. If the queue is ordered, later messages with its partition key
// wait.
func (q Queue) DeadLetter(ctx context.Context, token, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Invalid{Field: "reason", Detail: "is missing: say why it cannot be done"}
	}
	m, err := q.mine(ctx, token)
	if err != nil {
		return err
	}
	return q.bury(ctx, m, reason)
}

// bury makes a dead letter of a message.
func (q Queue) bury(ctx context.Context, m found, reason string) error {
	m.Reason, m.DeadAt, m.Until, m.NotBefore = clip(reason), q.rt.cfg.Now().UTC(), time.Time{}, time.Time{}
	return q.move(ctx, m, q.dead())
}

// Messages returns up to limit messages after an id, in order, without locking
// them: those that are open, or the dead letters.
func (q Queue) Messages(ctx context.Context, dead bool, after string, limit int) ([]Message, error) {
	coll := q.coll()
	if dead {
		coll = q.dead()
	}
	out := []Message{}
	for m, err := range q.read(ctx, coll, after) {
		if err != nil {
			return out, err
		}
		if out = append(out, m.shown(false)); len(out) == limit {
			break
		}
	}
	return out, nil
}

// Redrive makes an open message of a dead letter again.
func (q Queue) Redrive(ctx context.Context, id string) error {
	m, err := q.letter(ctx, id)
	if err != nil {
		return err
	}
	if err := q.reopen(ctx, m); err != nil {
		return err
	}
	return q.rt.audit(ctx, "$audit/subscriptions", "message-redriven", q.doc.key()+"/"+id, "")
}

// reopen makes an open message of a dead letter.
func (q Queue) reopen(ctx context.Context, m found) error {
	m.Deliveries, m.DeadAt = 0, time.Time{}
	m.Epoch++
	return q.move(ctx, m, q.coll())
}

// Discard removes a dead letter, for a reason, of which a note is kept.
func (q Queue) Discard(ctx context.Context, id, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return Invalid{Field: "reason", Detail: "is missing: say why the message may be passed over"}
	}
	m, err := q.letter(ctx, id)
	if err != nil {
		return err
	}
	if err := q.giveUp(ctx, m, reason, callOf(ctx).Actor); err != nil {
		return err
	}
	return q.rt.audit(ctx, "$audit/subscriptions", "message-discarded", q.doc.key()+"/"+id, reason)
}

// giveUp removes a dead letter, and keeps a note of it.
func (q Queue) giveUp(ctx context.Context, m found, reason, actor string) error {
	note, err := q.note(m, engine.StateDiscarded, engine.Closed{At: q.rt.cfg.Now().UTC(), By: actor, Why: reason})
	if err != nil {
		return err
	}
	return lost(q.rt.store.Write(ctx, store.Change{Coll: m.coll, Key: m.key, Rev: m.rev}, note))
}

// letter reads a dead letter of the queue.
func (q Queue) letter(ctx context.Context, id string) (found, error) {
	m, err := q.get(ctx, q.dead(), id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return m, fmt.Errorf("%w: %s in the queue %s", ErrNoDeadLetter, id, q.doc.key())
	}
	return m, err
}
