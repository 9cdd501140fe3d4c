package deed

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Queue is the messages of a subscription of the kind "queue": one of many
// consumers gets each of them. A consumer locks a message, works on it, and
// completes it; one that it does not complete in time is given to another. All
// of that is stored, so consumers may ask any node.
type Queue struct {
	rt  *Runtime
	doc subscriptionDoc
	queueSettings
}

// A Message is a public event in a queue.
type Message struct {
	ID         string     `json:"id"`              // within the queue
	Token      string     `json:"token,omitempty"` // of whoever has locked it; good until somebody else has
	Event      CloudEvent `json:"event"`
	Deliveries int        `json:"deliveries"` // how often it was locked
	Until      time.Time  `json:"locked_until,omitzero"`
	Consumer   string     `json:"consumer,omitempty"`  // who has locked it, or did last
	NotBefore  time.Time  `json:"not_before,omitzero"` // nobody gets it before
	Reason     string     `json:"reason,omitempty"`    // why it was abandoned last, or given up
	DeadAt     time.Time  `json:"dead_since,omitzero"` // since when it is a dead letter
}

// ErrLockLost reports that a message is not locked by whoever asks, any more:
// time was up and another consumer has it, or it is done.
var ErrLockLost = errors.New("deed: the message is not locked by this token any more")

// Queue returns the queue of a subscription of that kind.
func (rt *Runtime) Queue(ctx context.Context, topic, name string) (Queue, error) {
	doc, _, err := rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return Queue{}, err
	}
	if !rt.isQueue(doc.Target) {
		return Queue{}, Invalid{Detail: fmt.Sprintf("the subscription %s is no queue", doc.key())}
	}
	q := Queue{rt: rt, doc: doc}
	q.queueSettings, err = parseQueue(doc.Target)
	return q, err
}

// Roles are those that may take messages besides operators, when access is checked.
func (q Queue) Roles() []string { return q.doc.Roles }

func (q Queue) coll() string { return queueColl(q.doc.Follower) }
func (q Queue) dead() string { return queueDeadColl(q.doc.Follower) }

// queuePoll is how often a consumer that waits looks for messages, at the least
// and at the most.
const (
	queuePollLeast = 20 * time.Millisecond
	queuePollMost  = 250 * time.Millisecond
)

// Lock gives a consumer up to limit messages (0 = 1, at most 100), for as long
// as lock says (0 = as the queue says). If there are none it waits for some, as
// long as wait says.
func (q Queue) Lock(ctx context.Context, consumer string, limit int, lock, wait time.Duration) ([]Message, error) {
	if limit < 0 || limit > maxLocked {
		return nil, Invalid{Field: "limit", Detail: fmt.Sprintf("must be from 1 to %d", maxLocked)}
	}
	if lock < 0 || lock > longestLock {
		return nil, Invalid{Field: "lock", Detail: "is a duration up to 12h"}
	}
	if lock == 0 {
		lock = q.lock
	}
	until := time.Now().Add(wait)
	for pause := queuePollLeast; ; pause = min(2*pause, queuePollMost) {
		got, err := q.lockNow(ctx, consumer, max(limit, 1), lock)
		left := time.Until(until)
		if err != nil || len(got) > 0 || left <= 0 {
			return got, err
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lockNow locks messages that can be had now, in their order.
func (q Queue) lockNow(ctx context.Context, consumer string, limit int, lock time.Duration) ([]Message, error) {
	held := map[string]bool{} // partition keys of which nothing more can be had
	if q.ordered {
		for m, err := range q.read(ctx, q.dead(), "") {
			if err != nil {
				return nil, err
			}
			held[m.Event.PartitionKey] = true
		}
	}
	now := q.rt.cfg.Now()
	out := []Message{}
	for m, err := range q.read(ctx, q.coll(), "") {
		if err != nil {
			return out, err
		}
		if q.ordered && held[m.Event.PartitionKey] {
			continue
		}
		free := !m.Until.After(now) && !m.NotBefore.After(now)
		held[m.Event.PartitionKey] = true
		if !free {
			continue
		}
		if m.Deliveries >= q.most {
			err := q.bury(ctx, m, cmp.Or(m.Reason, fmt.Sprintf("it was given out %d times, and never completed", m.Deliveries)))
			if err != nil && !errors.Is(err, ErrLockLost) {
				return out, err
			}
			continue
		}
		m.Epoch, m.Deliveries, m.Until, m.Consumer, m.NotBefore = m.Epoch+1, m.Deliveries+1, now.Add(lock).UTC(), consumer, time.Time{}
		switch err := q.write(ctx, m); {
		case errors.Is(err, ErrLockLost): // another consumer was faster
			continue
		case err != nil:
			return out, err
		}
		if out = append(out, m.shown(true)); len(out) == limit {
			break
		}
	}
	return out, nil
}

// found is a message that was read.
type found struct {
	storedMessage
	coll, key string
	rev       uint64
}

// place tells a message of this queue from the same event in another, and in this one
// before it was reset.
func (m found) place() string {
	return strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(m.coll))), 36)
}

func (m found) shown(token bool) Message {
	out := Message{
		ID: m.key, Event: m.Event, Deliveries: m.Deliveries, Until: m.Until, Consumer: m.Consumer, NotBefore: m.NotBefore, Reason: m.Reason, DeadAt: m.DeadAt,
	}
	if token {
		out.Token = base64.RawURLEncoding.EncodeToString([]byte(m.key + "|" + m.place() + "|" + strconv.FormatUint(m.Epoch, 10)))
	}
	return out
}

// read yields the messages of a collection after a key.
func (q Queue) read(ctx context.Context, coll, after string) func(func(found, error) bool) {
	return func(yield func(found, error) bool) {
		for d, err := range q.rt.store.List(ctx, coll, "", after) {
			m := found{coll: coll, key: d.Key, rev: d.Rev}
			if err == nil {
				err = parseMessage(d, &m.storedMessage)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

func parseMessage(d store.Doc, m *storedMessage) error {
	if err := wire.Unmarshal(d.Data, m); err != nil {
		return fmt.Errorf("%w: message %s: %w", store.ErrCorrupt, d.Key, err)
	}
	return nil
}

// write stores a message, if it is as it was read.
func (q Queue) write(ctx context.Context, m found) error {
	data, err := wire.Marshal(m.storedMessage)
	if err != nil {
		return err
	}
	return lost(q.rt.store.Write(ctx, store.Change{Coll: m.coll, Key: m.key, Rev: m.rev, Data: data}))
}

// lost makes ErrLockLost of a conflict: somebody else was faster.
func lost(err error) error {
	if isConflict(err) {
		return ErrLockLost
	}
	return err
}

// mine returns the message that a token has locked.
func (q Queue) mine(ctx context.Context, token string) (found, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	key, rest, _ := strings.Cut(string(text), "|")
	place, epochText, ok := strings.Cut(rest, "|")
	epoch, epochErr := strconv.ParseUint(epochText, 10, 64)
	if err != nil || !ok || epochErr != nil || store.CheckName("key", key) != nil {
		return found{}, Invalid{Field: "token", Detail: "is none that a queue has given out"}
	}
	m, err := q.get(ctx, q.coll(), key)
	if errors.Is(err, store.ErrNotFound) || err == nil && (m.Epoch != epoch || m.place() != place) {
		return m, ErrLockLost
	}
	return m, err
}

func (q Queue) get(ctx context.Context, coll, key string) (found, error) {
	m := found{coll: coll, key: key}
	d, err := q.rt.store.Get(ctx, coll, key)
	if err == nil {
		m.rev, err = d.Rev, parseMessage(d, &m.storedMessage)
	}
	return m, err
}

// Renew has a message locked for longer, from now on (0 = as the queue says).
// It returns until when.
func (q Queue) Renew(ctx context.Context, token string, lock time.Duration) (time.Time, error) {
	if lock < 0 || lock > longestLock {
		return time.Time{}, Invalid{Field: "lock", Detail: "is a duration up to 12h"}
	}
	m, err := q.mine(ctx, token)
	if err != nil {
		return time.Time{}, err
	}
	m.Until = q.rt.cfg.Now().Add(cmp.Or(lock, q.lock)).UTC()
	return m.Until, q.write(ctx, m)
}

// Complete says that a message is done: nobody gets it again.
func (q Queue) Complete(ctx context.Context, token string) error {
	m, err := q.mine(ctx, token)
	if err != nil {
		return err
	}
	changes := []store.Change{{Coll: m.coll, Key: m.key, Rev: m.rev}}
	if len(m.Edits) > 0 {
		note, err := q.note(m, engine.StateHandled, engine.Closed{At: q.rt.cfg.Now().UTC(), By: m.Consumer})
		if err != nil {
			return err
		}
		changes = append(changes, note)
	}
	return lost(q.rt.store.Write(ctx, changes...))
}

// Abandon gives a message back, for others to have it: not before some time.
func (q Queue) Abandon(ctx context.Context, token string, after time.Duration, reason string) error {
	if after < 0 || after > 7*24*time.Hour {
		return Invalid{Field: "after", Detail: "is a duration up to 168h"}
	}
	m, err := q.mine(ctx, token)
	if err != nil {
		return err
	}
	m.Until, m.NotBefore, m.Reason = time.Time{}, time.Time{}, clip(reason)
	m.Epoch++ // the token is worth nothing any more
	if after > 0 {
		m.NotBefore = q.rt.cfg.Now().Add(after).UTC()
	}
	return q.write(ctx, m)
}

// move stores a message elsewhere.
func (q Queue) move(ctx context.Context, m found, to string) error {
	data, err := wire.Marshal(m.storedMessage)
	if err != nil {
		return err
	}
	return lost(q.rt.store.Write(ctx, store.Change{Coll: m.coll, Key: m.key, Rev: m.rev}, store.Change{Coll: to, Key: m.key, Data: data}))
}
