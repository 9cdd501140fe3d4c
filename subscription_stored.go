package deed

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Where subscriptions are stored, and the latest attempts at deliveries.
const (
	subscriptionColl = "$subscription"
	attemptColl      = "$attempt"
)

// subscriptionDoc is what is stored of a subscription.
type subscriptionDoc struct {
	Subscription
	Created  time.Time    `json:"created_at"`
	By       string       `json:"created_by,omitempty"`
	Start    store.Cursor `json:"start"`
	Follower string       `json:"follower"`           // another one each time it begins elsewhere
	Disabled string       `json:"disabled,omitempty"` // why
	Deleted  bool         `json:"deleted,omitzero"`   // what is left of it is still to be removed
	Retired  []retired    `json:"retired,omitempty"`
}

// A retired follower is one whose remains are still to be removed, when no node
// can run it any more.
type retired struct {
	Follower string    `json:"follower"`
	At       time.Time `json:"at"`
}

func (d *subscriptionDoc) retire(now time.Time) {
	d.Retired = append(d.Retired, retired{d.Follower, now.UTC().Truncate(time.Millisecond)})
}

func (s Subscription) key() string { return subscriptionKey(s.Topic, s.Name) }

func subscriptionKey(topic, name string) string { return topic + "/" + name }

// followerOf makes a name for the follower of a subscription, which nobody has
// had before.
func followerOf(s Subscription) string {
	return s.Topic + "." + s.Name + "." + strings.ToLower(rand.Text()[:8])
}

// loadSubscription reads a subscription. Of one that is deleted it returns what
// is left, with [ErrNoSubscription].
func (rt *Runtime) loadSubscription(ctx context.Context, key string) (subscriptionDoc, uint64, error) {
	d, err := rt.store.Get(ctx, subscriptionColl, key)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return subscriptionDoc{}, 0, fmt.Errorf("%w: %s", ErrNoSubscription, key)
	}
	if err != nil {
		return subscriptionDoc{}, 0, err
	}
	doc, err := parseSubscription(d)
	if err == nil && doc.Deleted {
		err = fmt.Errorf("%w: %s", ErrNoSubscription, key)
	}
	return doc, d.Rev, err
}

func parseSubscription(d store.Doc) (doc subscriptionDoc, err error) {
	if err := wire.Unmarshal(d.Data, &doc); err != nil {
		return doc, fmt.Errorf("%w: subscription %s: %w", store.ErrCorrupt, d.Key, err)
	}
	return doc, nil
}

// subscriptionDocs yields what is stored of all subscriptions, deleted ones too.
func (rt *Runtime) subscriptionDocs(ctx context.Context, prefix string) iter.Seq2[subscriptionDoc, error] {
	return func(yield func(subscriptionDoc, error) bool) {
		for d, err := range rt.store.List(ctx, subscriptionColl, prefix, "") {
			var doc subscriptionDoc
			if err == nil {
				doc, err = parseSubscription(d)
			}
			if !yield(doc, err) || err != nil {
				return
			}
		}
	}
}

func (rt *Runtime) writeSubscription(ctx context.Context, key string, rev uint64, doc subscriptionDoc) error {
	data, err := wire.Marshal(doc)
	if err != nil {
		return err
	}
	err = rt.store.Write(ctx, store.Change{Coll: subscriptionColl, Key: key, Rev: rev, Data: data})
	if isConflict(err) {
		return Conflict{Stream: "subscription " + key, Version: rev}
	}
	return err
}

// changeSubscription changes what is stored of a subscription, against all
// others who do so at the same time.
func (rt *Runtime) changeSubscription(ctx context.Context, topic, name string, change func(*subscriptionDoc) error) error {
	for {
		doc, rev, err := rt.loadSubscription(ctx, subscriptionKey(topic, name))
		if err != nil {
			return err
		}
		if err := change(&doc); err != nil {
			return err
		}
		err = rt.writeSubscription(ctx, subscriptionKey(topic, name), rev, doc)
		if _, overtaken := errors.AsType[Conflict](err); !overtaken {
			return err
		}
	}
}

// checkSubscription reports what is wrong with what somebody wants, its target
// apart.
func (rt *Runtime) checkSubscription(s *Subscription) error {
	t, err := rt.topic(s.Topic)
	if err != nil {
		return err
	}
	if err := checkName("subscription", s.Name); err != nil {
		return Invalid{Field: "name", Detail: err.Error()}
	}
	if err := checkFilters(s.Filters); err != nil {
		return err
	}
	if err := t.checkTypes("types", s.Types); err != nil {
		return err
	}
	for field, n := range map[string][2]int{"parallel": {s.Parallel, 64}, "batch": {s.Batch, 1000}, "partitions": {s.Partitions, 16}} {
		if n[0] < 0 || n[0] > n[1] {
			return Invalid{Field: field, Detail: fmt.Sprintf("must be from 1 to %d", n[1])}
		}
	}
	_, err = s.retry()
	return err
}

// retrySchedule is how long to wait before each further attempt, if a
// subscription does not say: that of Standard Webhooks, about three days.
var retrySchedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

func (s *Subscription) retry() ([]time.Duration, error) {
	if len(s.Retry) == 0 {
		return retrySchedule, nil
	}
	var out []time.Duration
	for _, text := range s.Retry {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || len(s.Retry) > 100 {
			return nil, Invalid{Field: "retry", Detail: `is a list of up to 100 durations, for example ["5s", "5m", "30m"]`}
		}
		out = append(out, d)
	}
	return out, nil
}

// kindQueue is the kind of subscriptions whose messages are fetched.
const kindQueue = "queue"

func (rt *Runtime) isQueue(target json.RawMessage) bool {
	_, kind, err := rt.targetKind(target)
	return err == nil && kind == kindQueue
}

// targetKind returns the kind of a target, and its name; nil for a queue.
func (rt *Runtime) targetKind(target json.RawMessage) (TargetKind, string, error) {
	var named struct {
		Kind string `json:"kind"`
	}
	if err := wire.Unmarshal(target, &named); err != nil || named.Kind == "" {
		return nil, "", Invalid{Field: "target", Detail: `is a JSON object with a kind, for example {"kind":"queue"}`}
	}
	kind, ok := rt.cfg.Targets[named.Kind]
	if !ok && named.Kind != kindQueue {
		known := append(slices.Sorted(maps.Keys(rt.cfg.Targets)), kindQueue)
		return nil, named.Kind, Invalid{Field: "target.kind", Detail: fmt.Sprintf("is %q: this program has %s", named.Kind, strings.Join(known, ", "))}
	}
	return kind, named.Kind, nil
}

// prepareTarget returns what is to be stored of a target.
func (rt *Runtime) prepareTarget(ctx context.Context, s Subscription, former json.RawMessage) (json.RawMessage, map[string]string, error) {
	kind, name, err := rt.targetKind(s.Target)
	if err != nil {
		return nil, nil, err
	}
	if _, was, err := rt.targetKind(former); err != nil || was != name {
		former = nil
	}
	if kind == nil {
		stored, err := prepareQueue(s)
		return stored, nil, err
	}
	stored, once, err := kind.Prepare(ctx, s.key(), s.Target, former)
	if err != nil {
		if _, bad := errors.AsType[Invalid](err); !bad && !errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
			err = Invalid{Field: "target", Detail: err.Error()}
		}
		return nil, nil, err
	}
	return stored, once, nil
}

// openTarget returns the place of a subscription; nil for a queue.
func (rt *Runtime) openTarget(doc subscriptionDoc) (Target, error) {
	kind, _, err := rt.targetKind(doc.Target)
	if err != nil || kind == nil {
		return nil, err
	}
	return kind.Open(doc.key(), doc.Target)
}

// shown returns a subscription without what nobody is to see.
func (rt *Runtime) shown(s Subscription) Subscription {
	if kind, _, err := rt.targetKind(s.Target); err == nil && kind != nil {
		s.Target = kind.Shown(s.Target)
	}
	return s
}
