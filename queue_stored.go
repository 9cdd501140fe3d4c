package deed

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// queueSettings are the settings of the target of a queue.
type queueSettings struct {
	lock    time.Duration
	most    int
	ordered bool
}

// storedQueue is how they are stored.
type storedQueue struct {
	Kind          string `json:"kind"`
	Lock          string `json:"lock,omitempty"`          // how long a message is locked if the consumer does not say; default 30s
	MaxDeliveries int    `json:"max_deliveries,omitzero"` // how often a message is given out before it is a dead letter; default 10
	Ordered       bool   `json:"ordered,omitzero"`        // of a partition key, one message at a time is given out
}

// Bounds of queues.
const (
	longestLock = 12 * time.Hour
	maxLocked   = 100 // messages in one answer
)

// prepareQueue checks the settings of a queue.
func prepareQueue(s Subscription) (json.RawMessage, error) {
	if _, err := parseQueue(s.Target); err != nil {
		return nil, err
	}
	if s.Parallel != 0 || s.Batch != 0 || len(s.Retry) != 0 {
		return nil, Invalid{Field: "target", Detail: "is a queue: parallel, batch and retry are up to its consumers"}
	}
	return s.Target, nil
}

func parseQueue(target json.RawMessage) (queueSettings, error) {
	var stored storedQueue
	if err := wire.UnmarshalStrict(target, &stored); err != nil {
		return queueSettings{}, invalid(err)
	}
	q := queueSettings{lock: 30 * time.Second, most: cmp.Or(stored.MaxDeliveries, 10), ordered: stored.Ordered}
	if stored.Lock != "" {
		d, err := time.ParseDuration(stored.Lock)
		if err != nil || d < time.Second || d > longestLock {
			return q, Invalid{Field: "target.lock", Detail: "is a duration from 1s to 12h"}
		}
		q.lock = d
	}
	if q.most < 1 || q.most > 1000 {
		return q, Invalid{Field: "target.max_deliveries", Detail: "must be from 1 to 1000"}
	}
	return q, nil
}

func queueColl(follower string) string     { return "$queue/" + follower }
func queueDeadColl(follower string) string { return "$queue/" + follower + "/dead" }

// A storedMessage is a message as it is stored. Its key sorts by place in the
// log.
type storedMessage struct {
	Event      CloudEvent `json:"event"`
	Deliveries int        `json:"deliveries,omitzero"`
	Epoch      uint64     `json:"epoch,omitzero"` // grows whenever it is locked
	Until      time.Time  `json:"locked_until,omitzero"`
	Consumer   string     `json:"consumer,omitempty"`
	NotBefore  time.Time  `json:"not_before,omitzero"`
	Reason     string     `json:"reason,omitempty"`
	DeadAt     time.Time  `json:"dead_since,omitzero"`

	// Of one that was edited as a dead letter: Event has what consumers get.
	Original json.RawMessage `json:"original,omitempty"`
	Edits    []LetterEdit    `json:"edits,omitempty"`
}

// messageKey is the key of the nth public event of an event.
func messageKey(p store.Position, n int) string {
	return fmt.Sprintf("%010d:%019d:%06d", p.Shard, p.Seq, n)
}

// queueFollower fills a queue: a message and the cursor are stored together, so
// that each is there once.
func (rt *Runtime) queueFollower(doc subscriptionDoc, f engine.Follower, publish func(*store.Record) ([]CloudEvent, error)) (engine.Follower, error) {
	f.Pure, f.Fixed, f.Retry = true, true, engine.Retry{}
	f.New = func(uint64) engine.Handler { return &filler{queueColl(doc.Follower), publish} }
	return f, nil
}

// filler puts public events into a queue.
type filler struct {
	coll    string
	publish func(*store.Record) ([]CloudEvent, error)
}

func (q *filler) Keys(rec store.Record) []string { return []string{rec.Stream} }

func (q *filler) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	events, err := q.publish(&rec)
	if err != nil {
		return engine.Permanent(err)
	}
	for i, e := range events {
		data, err := wire.Marshal(storedMessage{Event: e})
		if err != nil {
			return engine.Permanent(err)
		}
		if err := tx.Put(q.coll, messageKey(rec.Position, i), data); err != nil {
			return err
		}
	}
	return nil
}

func (q *filler) Flush(context.Context, *engine.Tx) error { return nil }
func (q *filler) Reset()                                  {}
