package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Subscription brings public events of a topic to one place: what a
// subscriber wants to know, where it goes and how. Subscriptions are data: they
// are made, changed and ended while the program runs, on all its nodes.
//
// A subscription has a cursor of its own. It delivers every event at least
// once, in order for each partition key; repetitions have the same id.
type Subscription struct {
	Topic string `json:"topic"`
	Name  string `json:"name"`

	// Target is where events go: a JSON object whose member "kind" names one of
	// Config.Targets, or is "queue"; the others are the kind's settings.
	Target json.RawMessage `json:"target"`

	Types   []string      `json:"types,omitempty"`   // of events that are wanted; none = all
	Filters []EventFilter `json:"filters,omitempty"` // all of which an event has to match

	Parallel   int  `json:"parallel,omitzero"`   // so many deliveries at once, up to 64; default 8
	Batch      int  `json:"batch,omitzero"`      // so many events in one delivery, up to 1000; default 1
	Partitions int  `json:"partitions,omitzero"` // in which nodes share the work, up to 16; default 1. With more, order is kept for each stream only
	Unordered  bool `json:"unordered,omitzero"`  // no order is kept: an event that fails holds up no other

	// Retry is how long to wait before each further attempt at an event, for
	// example ["5s", "5m"]. After the last it is a dead letter. Default: ten
	// attempts in about three days.
	Retry []string `json:"retry,omitempty"`

	Roles []string `json:"roles,omitempty"` // who may take messages from a queue, when access is checked; none = operators
}

// An EventFilter is a condition on the attributes of public events, as in the
// CloudEvents Subscriptions API: exact, prefix, suffix, all, any or not.
type EventFilter = delivery.Filter

// A Target is a place that public events are delivered to; a TargetKind is a
// kind of such places, see Config.Targets.
type (
	Target     = delivery.Target
	TargetKind = delivery.Kind
)

// An Attempt is one try to deliver something.
type Attempt = delivery.Attempt

// A SubscriptionStatus is a subscription and how it is doing. Of secrets it
// says nothing.
type SubscriptionStatus struct {
	Subscription
	State    string       `json:"state"`            // running, paused, disabled, blocked (its place is away), waiting (for the store), standby (other nodes hold it), stopped
	Reason   string       `json:"reason,omitempty"` // why it is disabled
	Created  time.Time    `json:"created_at"`
	By       string       `json:"created_by,omitempty"`
	Start    store.Cursor `json:"start"`    // it delivers what comes after that
	Follower string       `json:"follower"` // under which it and its dead letters are found

	Cursor     store.Cursor `json:"cursor"`
	Head       store.Cursor `json:"head"`
	Behind     uint64       `json:"behind"`
	LagSeconds float64      `json:"lag_seconds"`
	Rate       float64      `json:"rate"` // events a second, lately
	Retrying   int          `json:"retrying"`
	Waiting    int          `json:"waiting"`
	Dead       int          `json:"dead"`
	LastError  string       `json:"last_error,omitempty"`
	ErrorAt    *time.Time   `json:"last_error_at,omitempty"`
	Nodes      []string     `json:"nodes,omitempty"`
}

// ErrNoSubscription reports that there is no subscription of that name.
var ErrNoSubscription = errors.New("deed: there is no such subscription")

// stateDisabled is that of a subscription whose place wants nothing more.
const stateDisabled = "disabled"

// Subscriptions looks after the subscriptions of a runtime. What it changes is
// recorded in the stream "$audit/subscriptions", without settings of targets,
// with the actor of the context's [Call].
type Subscriptions struct{ rt *Runtime }

// Subscriptions returns the means to look after subscriptions.
func (rt *Runtime) Subscriptions() Subscriptions { return Subscriptions{rt} }

// Put makes a subscription, or changes the one there is, which then goes on
// where it was. A new one begins where start says: "now" (or ""), "beginning",
// "cursor:" and a cursor, or "time:" and a time. What it returns beside the
// status is for the caller's eyes only, and is never shown again: the secrets
// of a target that were made for it.
func (s Subscriptions) Put(ctx context.Context, sub Subscription, start string) (SubscriptionStatus, map[string]string, error) {
	rt := s.rt
	if err := rt.checkSubscription(&sub); err != nil {
		return SubscriptionStatus{}, nil, err
	}
	key := sub.key()
	former, rev, err := rt.loadSubscription(ctx, key)
	made := errors.Is(err, ErrNoSubscription)
	if err != nil && !made {
		return SubscriptionStatus{}, nil, err
	}
	now := subscriptionDoc{Subscription: sub, Created: rt.cfg.Now().UTC(), By: callOf(ctx).Actor, Retired: former.Retired}
	what := "subscription-made"
	if made {
		if now.Start, err = rt.startOf(ctx, sub.Topic, start); err != nil {
			return SubscriptionStatus{}, nil, err
		}
		now.Follower = followerOf(sub)
	} else {
		if start != "" {
			return SubscriptionStatus{}, nil, Invalid{Field: "start", Detail: "is for a new subscription: this one is there, reset it to begin elsewhere"}
		}
		if rt.isQueue(former.Target) != rt.isQueue(sub.Target) {
			return SubscriptionStatus{}, nil, Invalid{Field: "target", Detail: "a queue stays one, and nothing else becomes one: what waits would be lost; make another subscription, and delete this one when it has nothing left"}
		}
		what, now.Created, now.By, now.Start, now.Follower = "subscription-changed", former.Created, former.By, former.Start, former.Follower
		now.Disabled = former.Disabled
	}
	stored, once, err := rt.prepareTarget(ctx, sub, former.Target)
	if err != nil {
		return SubscriptionStatus{}, nil, err
	}
	now.Target = stored
	if err := rt.writeSubscription(ctx, key, rev, now); err != nil {
		return SubscriptionStatus{}, nil, err
	}
	if err := s.act(ctx, what, key, start); err != nil {
		return SubscriptionStatus{}, once, err
	}
	status, err := s.Get(ctx, sub.Topic, sub.Name)
	return status, once, err
}

// Get returns a subscription and how it is doing.
func (s Subscriptions) Get(ctx context.Context, topic, name string) (SubscriptionStatus, error) {
	if err := s.rt.subs.sync(ctx); err != nil {
		return SubscriptionStatus{}, err
	}
	doc, _, err := s.rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return SubscriptionStatus{}, err
	}
	return s.rt.statusOf(ctx, doc)
}

// List returns the subscriptions of a topic, or of all if topic is "", in the
// order of topics and names.
func (s Subscriptions) List(ctx context.Context, topic string) ([]SubscriptionStatus, error) {
	if topic != "" {
		if _, err := s.rt.topic(topic); err != nil {
			return nil, err
		}
		topic += "/"
	}
	if err := s.rt.subs.sync(ctx); err != nil {
		return nil, err
	}
	out := []SubscriptionStatus{}
	for doc, err := range s.rt.subscriptionDocs(ctx, topic) {
		if err != nil {
			return nil, err
		}
		if doc.Deleted {
			continue
		}
		status, err := s.rt.statusOf(ctx, doc)
		if err != nil {
			return nil, err
		}
		out = append(out, status)
	}
	return out, nil
}

// Delete ends a subscription, and forgets its cursor and its dead letters.
func (s Subscriptions) Delete(ctx context.Context, topic, name string) error {
	err := s.rt.changeSubscription(ctx, topic, name, func(d *subscriptionDoc) error {
		d.retire(s.rt.cfg.Now())
		d.Deleted, d.Target = true, json.RawMessage("{}")
		return nil
	})
	if err != nil {
		return err
	}
	return s.act(ctx, "subscription-deleted", subscriptionKey(topic, name), "")
}

// Pause has nothing more delivered, over restarts too, until Resume.
func (s Subscriptions) Pause(ctx context.Context, topic, name string) error {
	return s.direct(ctx, "subscription-paused", topic, name, s.rt.engine.Pause)
}

// Resume lets a subscription go on that is paused or disabled.
func (s Subscriptions) Resume(ctx context.Context, topic, name string) error {
	err := s.rt.changeSubscription(ctx, topic, name, func(d *subscriptionDoc) error { d.Disabled = ""; return nil })
	if err != nil {
		return err
	}
	return s.direct(ctx, "subscription-resumed", topic, name, s.rt.engine.Resume)
}

// direct does something to the follower of a subscription.
func (s Subscriptions) direct(ctx context.Context, what, topic, name string, do func(context.Context, string) error) error {
	if err := s.rt.subs.sync(ctx); err != nil {
		return err
	}
	doc, _, err := s.rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return err
	}
	if err := do(ctx, doc.Follower); err != nil {
		return err
	}
	return s.act(ctx, what, subscriptionKey(topic, name), "")
}

// Redrive tries all dead letters of a subscription again now, each sequence in
// order. It returns how many were delivered, and why the first that was not
// could not be.
func (s Subscriptions) Redrive(ctx context.Context, topic, name string) (n int, err error) {
	err = s.direct(ctx, "subscription-redriven", topic, name, func(ctx context.Context, follower string) (err error) {
		n, err = s.rt.engine.RedriveAll(ctx, follower)
		return err
	})
	return n, err
}

// Attempts returns the latest attempts at deliveries, the newest first. They
// are kept now and then, so the very last may be missing.
func (s Subscriptions) Attempts(ctx context.Context, topic, name string) ([]Attempt, error) {
	doc, _, err := s.rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return nil, err
	}
	all := []Attempt{}
	for d, err := range s.rt.store.List(ctx, attemptColl, doc.Follower+"/", "") {
		if err != nil {
			return nil, err
		}
		var some []Attempt
		if err := wire.Unmarshal(d.Data, &some); err != nil {
			return nil, fmt.Errorf("%w: attempts of %s: %w", store.ErrCorrupt, d.Key, err)
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, func(a, b Attempt) int { return b.At.Compare(a.At) })
	return all, nil
}

// Test delivers an event of the type "deed.test" to the place of a
// subscription, now, and returns what came of it. Nothing is recorded.
func (s Subscriptions) Test(ctx context.Context, topic, name string) (Attempt, error) {
	doc, _, err := s.rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return Attempt{}, err
	}
	target, err := s.rt.openTarget(doc)
	if err != nil {
		return Attempt{}, err
	}
	if target == nil {
		return Attempt{}, Invalid{Detail: "a queue has no place of its own that could be tested"}
	}
	id, now := newEventID(), s.rt.cfg.Now().UTC()
	e := CloudEvent{
		SpecVersion: "1.0", ID: "test:" + id.String(), Source: "/" + topic, Type: "deed.test", Subject: "$test/" + name, Time: now,
		ContentType: "application/json", PartitionKey: "$test/" + name, Sequence: "0", Data: json.RawMessage(`{"test":true}`),
	}
	start := time.Now()
	err = target.Deliver(ctx, []CloudEvent{e})
	a := Attempt{At: now, Event: e.ID, Millis: time.Since(start).Milliseconds()}
	if err != nil {
		a.Error = err.Error()
	}
	return a, nil
}

// Rotate replaces the secrets of a subscription's target, and returns the new
// ones, once. The former ones are good for a while beside them.
func (s Subscriptions) Rotate(ctx context.Context, topic, name string) (once map[string]string, err error) {
	err = s.rt.changeSubscription(ctx, topic, name, func(d *subscriptionDoc) error {
		kind, _, err := s.rt.targetKind(d.Target)
		if err != nil {
			return err
		}
		r, ok := kind.(delivery.Rotator)
		if !ok {
			return Invalid{Detail: "this kind of target has no secrets that can be rotated"}
		}
		stored, secrets, err := r.Rotate(d.Target)
		if err != nil {
			return err
		}
		d.Target, once = stored, secrets
		return nil
	})
	if err != nil {
		return nil, err
	}
	return once, s.act(ctx, "subscription-rotated", subscriptionKey(topic, name), "")
}

// A Reset says what comes, or would come, of letting a subscription begin
// elsewhere.
type Reset struct {
	Start   store.Cursor `json:"start"`
	From    store.Cursor `json:"from"`            // where it stands
	Events  int          `json:"events"`          // public events that it is going to deliver, for all that is known now
	AtLeast bool         `json:"at_least"`        // there are more: they are not counted beyond 100,000 events of the log
	First   string       `json:"first,omitempty"` // id of the first of them
	Passed  int          `json:"passed_over"`     // public events between where it stands and where it begins: they are never delivered
	Letters int          `json:"dead_letters"`    // parked events that are forgotten: dead ones, those that are tried again, and those that wait behind them
	DryRun  bool         `json:"dry_run"`
}

// maxCount is how many events of the log a preview looks at.
const maxCount = 100_000

// Reset lets a subscription begin elsewhere, see Put for how to say where:
// events are delivered again, or passed over. Its dead letters are forgotten.
// With dryRun it only says what would come of that.
func (s Subscriptions) Reset(ctx context.Context, topic, name, start string, dryRun bool) (Reset, error) {
	if start == "" {
		return Reset{}, Invalid{Field: "start", Detail: `is missing: say "beginning", "now", "cursor:..." or "time:..."`}
	}
	if err := s.rt.subs.sync(ctx); err != nil {
		return Reset{}, err
	}
	doc, _, err := s.rt.loadSubscription(ctx, subscriptionKey(topic, name))
	if err != nil {
		return Reset{}, err
	}
	out := Reset{DryRun: dryRun}
	if out.Start, err = s.rt.startOf(ctx, topic, start); err != nil {
		return out, err
	}
	status, err := s.rt.statusOf(ctx, doc)
	if err != nil {
		return out, err
	}
	out.From, out.Letters = status.Cursor, status.Retrying+status.Waiting+status.Dead
	if err := s.rt.countFrom(ctx, doc.Subscription, &out); err != nil || dryRun {
		return out, err
	}
	fresh := followerOf(doc.Subscription)
	if status.State == engine.StatePaused || status.State == stateDisabled {
		if err := s.rt.engine.Halt(ctx, fresh); err != nil {
			return out, err
		}
	}
	err = s.rt.changeSubscription(ctx, topic, name, func(d *subscriptionDoc) error {
		d.retire(s.rt.cfg.Now())
		d.Start, d.Follower = out.Start, fresh
		return nil
	})
	if err != nil {
		return out, err
	}
	return out, s.act(ctx, "subscription-reset", subscriptionKey(topic, name), start)
}

// act records what was done to a subscription, and has it done.
func (s Subscriptions) act(ctx context.Context, what, key, reason string) error {
	if err := s.rt.subs.sync(ctx); err != nil {
		return err
	}
	return s.rt.audit(ctx, "$audit/subscriptions", what, key, reason)
}

// startOf returns the cursor that a start means.
func (rt *Runtime) startOf(ctx context.Context, topic, start string) (store.Cursor, error) {
	bad := Invalid{Field: "start", Detail: `is "beginning", "now", "cursor:" and a cursor that an answer gave you, or "time:" and a time like 2026-02-03T04:05:06Z`}
	what, rest, _ := strings.Cut(start, ":")
	switch what {
	case "", "now":
		return rt.store.Head(ctx)
	case "beginning":
		return store.Start, nil
	case "cursor":
		c, err := store.ParseCursor(rest)
		if err != nil {
			return c, bad
		}
		head, err := rt.store.Head(ctx)
		if err == nil && !head.CoversAll(c) {
			err = Invalid{Field: "start", Detail: fmt.Sprintf("is beyond the end of the log, which is %q", head)}
		}
		return c, err
	case "time":
		at, err := time.Parse(time.RFC3339Nano, rest)
		if err != nil {
			return "", bad
		}
		return rt.cursorBefore(ctx, topic, at)
	}
	return "", bad
}

// cursorBefore returns the cursor before the first event of a topic that was
// recorded at a time or later.
func (rt *Runtime) cursorBefore(ctx context.Context, name string, at time.Time) (store.Cursor, error) {
	t, err := rt.topic(name)
	if err != nil {
		return "", err
	}
	head, recs, err := store.Tail(ctx, rt.store, store.Start, t.filter)
	if err != nil {
		return "", err
	}
	c := store.Start
	for rec, err := range recs {
		if err != nil {
			return "", err
		}
		if !rec.Time.Before(at) {
			return c, nil
		}
		c = c.Advance(rec.Position)
	}
	return c.Join(head), nil
}

// countFrom counts what a subscription is going to deliver if it begins at a start.
func (rt *Runtime) countFrom(ctx context.Context, sub Subscription, out *Reset) error {
	t, err := rt.topic(sub.Topic)
	if err != nil {
		return err
	}
	n := 0
	for e, err := range rt.preview(ctx, t, sub, out.Start, &n) {
		if err != nil {
			return err
		}
		if out.Events++; out.Events == 1 {
			out.First = e.id
		}
	}
	passed := 0
	for e, err := range rt.preview(ctx, t, sub, out.From, &passed) {
		if err != nil {
			return err
		}
		if !out.Start.Covers(e.at) {
			break
		}
		out.Passed++
	}
	out.AtLeast = n == maxCount || passed == maxCount
	return nil
}

// A previewed event is one that a subscription would deliver.
type previewed struct {
	id string
	at store.Position
}

// preview yields what a subscription delivers after a cursor, of the next maxCount
// events of the log; read counts these.
func (rt *Runtime) preview(ctx context.Context, t *topic, sub Subscription, after store.Cursor, read *int) iter.Seq2[previewed, error] {
	f := t.filter
	f.Limit = maxCount
	return func(yield func(previewed, error) bool) {
		for rec, err := range rt.store.ReadAll(ctx, after, f) {
			if err != nil {
				yield(previewed{}, err)
				return
			}
			*read++
			events, err := t.tryPublish(rt, &rec, sub.Types)
			if err != nil {
				events = []CloudEvent{{ID: rec.Stream}} // it is going to be a dead letter
			} else {
				events = filtered(sub, events)
			}
			for _, e := range events {
				if !yield(previewed{e.ID, rec.Position}, nil) {
					return
				}
			}
		}
	}
}
