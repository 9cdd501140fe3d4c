package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// subscriptionKind is the kind of the followers that subscriptions are.
const subscriptionKind = "subscription"

// lookForSubscriptions is how often a node looks at the stored subscriptions.
const lookForSubscriptions = time.Second

// subscribers has the engine run what the stored subscriptions say.
type subscribers struct {
	rt *Runtime

	mu      sync.Mutex        // held by a sync
	running map[string]string // follower -> what it was made of
	broken  map[string]string // follower -> why it cannot be run
	idle    map[string]bool   // those of them that the engine knows: their dead letters are there
}

// run follows the stored subscriptions until ctx ends.
func (s *subscribers) run(ctx context.Context) {
	tick := time.NewTicker(min(s.rt.cfg.Poll, lookForSubscriptions))
	defer tick.Stop()
	for {
		if err := s.sync(ctx); err != nil && ctx.Err() == nil {
			s.rt.cfg.Logger.Error("subscriptions cannot be read", "error", err)
		}
		if !s.rt.cfg.Guest {
			if err := s.clean(ctx); err != nil && ctx.Err() == nil {
				s.rt.cfg.Logger.Warn("what is left of subscriptions is still there", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sync brings what runs in line with what is stored.
func (s *subscribers) sync(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]subscriptionDoc{}
	for doc, err := range s.rt.subscriptionDocs(ctx, "") {
		if err != nil {
			return err
		}
		if !doc.Deleted && s.rt.topics[doc.Topic] != nil { // else it is of another program
			wanted[doc.Follower] = doc
		}
	}
	for follower, made := range s.running {
		doc, there := wanted[follower]
		of, err := definition(doc)
		if err != nil {
			return err
		}
		if !there || of != made {
			if err := s.rt.engine.Remove(follower); err != nil && !errors.Is(err, engine.ErrUnknownFollower) {
				return err
			}
			delete(s.running, follower)
		}
	}
	for follower := range s.idle {
		if _, there := wanted[follower]; !there {
			if err := s.unlist(follower); err != nil {
				return err
			}
		}
	}
	former := s.broken
	s.broken = map[string]string{}
	for follower, doc := range wanted {
		if _, runs := s.running[follower]; runs {
			continue
		}
		if err := s.begin(ctx, doc); err != nil {
			s.broken[follower] = err.Error()
			if former[follower] == err.Error() {
				continue // it was said
			}
			s.rt.cfg.Logger.Error("a subscription cannot be run", "subscription", doc.key(), "error", err)
		}
	}
	return nil
}

// definition is what a follower is made of.
func definition(doc subscriptionDoc) (string, error) {
	data, err := wire.Marshal(doc.Subscription)
	return string(data), err
}

// unlist has the engine forget a follower that it does not run.
func (s *subscribers) unlist(follower string) error {
	if err := s.rt.engine.Remove(follower); err != nil && !errors.Is(err, engine.ErrUnknownFollower) {
		return err
	}
	delete(s.idle, follower)
	return nil
}

// begin has the engine run a subscription, or know it at least: this program may be
// unable to connect to its place, and still there are its dead letters.
func (s *subscribers) begin(ctx context.Context, doc subscriptionDoc) error {
	f, err := s.rt.followerOfSubscription(doc)
	if err != nil {
		if f.Name == "" || s.idle[f.Name] {
			return err
		}
		f.Elsewhere, f.New = true, func(uint64) engine.Handler { return nil }
		if also := s.rt.engine.Add(f); also != nil {
			return errors.Join(err, also)
		}
		s.idle[f.Name] = true
		return err
	}
	if err := s.unlist(doc.Follower); err != nil {
		return err
	}
	of, err := definition(doc)
	if err != nil {
		return err
	}
	if doc.Disabled != "" {
		if err := s.rt.engine.Halt(ctx, doc.Follower); err != nil {
			return err
		}
	}
	if err := s.rt.engine.Add(f); err != nil {
		return err
	}
	s.running[doc.Follower] = of
	return nil
}

// followerOfSubscription is what delivers a subscription. If that cannot be because of
// its place, it is known all the same what it would follow, beside the error.
func (rt *Runtime) followerOfSubscription(doc subscriptionDoc) (engine.Follower, error) {
	t, err := rt.topic(doc.Topic)
	if err != nil {
		return engine.Follower{}, err
	}
	schedule, err := doc.retry()
	if err != nil {
		return engine.Follower{}, err
	}
	f := engine.Follower{
		Name: doc.Follower, Kind: subscriptionKind, Filter: t.filter, Partitions: cmp.Or(doc.Partitions, 1),
		Retry: engine.Retry{Schedule: schedule}, From: doc.Start, Outward: true, Elsewhere: rt.cfg.Guest,
	}
	publish := rt.publisher(t, doc.Subscription)
	target, err := rt.openTarget(doc)
	if err != nil {
		return f, err
	}
	if target == nil {
		return rt.queueFollower(doc, f, publish)
	}
	route := delivery.Route{
		Publish: publish, Parallel: doc.Parallel, Batch: doc.Batch, Unordered: doc.Unordered,
		Outlet: delivery.NewOutlet(target, func(why string) { rt.disable(doc, why) }),
		Attempts: func(stream string) (string, string) {
			return attemptColl, doc.Follower + "/" + strconv.Itoa(store.PartitionOf(stream, f.Partitions))
		},
	}
	f.New, f.Editable = func(uint64) engine.Handler { return delivery.NewHandler(route) }, true
	return f, nil
}

// publisher makes the public events of records that a subscription wants.
func (rt *Runtime) publisher(t *topic, s Subscription) func(*store.Record) ([]CloudEvent, error) {
	return func(rec *store.Record) ([]CloudEvent, error) {
		events, err := t.publish(rt, rec, s.Types)
		if err != nil {
			return nil, err
		}
		return filtered(s, events), nil
	}
}

// filtered are those of some events of its types that a subscription wants.
func filtered(s Subscription, events []CloudEvent) []CloudEvent {
	return slices.DeleteFunc(events, func(e CloudEvent) bool { return !delivery.Matches(s.Filters, &e) })
}

// disable notes that a place wants nothing more, and delivers nothing more to it.
func (rt *Runtime) disable(doc subscriptionDoc, why string) {
	rt.background(func(ctx context.Context) {
		changed := false
		err := rt.changeSubscription(ctx, doc.Topic, doc.Name, func(d *subscriptionDoc) error {
			changed = d.Follower == doc.Follower && d.Disabled == ""
			if changed {
				d.Disabled = why
			}
			return nil
		})
		if err == nil && changed {
			err = errors.Join(rt.engine.Pause(ctx, doc.Follower), rt.audit(ctx, "$audit/subscriptions", "subscription-disabled", doc.key(), why))
		}
		if err != nil {
			rt.cfg.Logger.Error("a subscription could not be disabled", "subscription", doc.key(), "because", why, "error", err)
		}
	})
}

// clean removes what is left of followers that were retired, once every node
// has had the time to hear of it.
func (s *subscribers) clean(ctx context.Context) error {
	var errs []error
	for doc, err := range s.rt.subscriptionDocs(ctx, "") {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if len(doc.Retired) > 0 {
			errs = append(errs, s.cleanOne(ctx, doc))
		}
	}
	return errors.Join(errs...)
}

func (s *subscribers) cleanOne(ctx context.Context, doc subscriptionDoc) error {
	var gone []string
	for _, r := range doc.Retired {
		if s.rt.cfg.Now().Sub(r.At) < 3*max(s.rt.cfg.Poll, lookForSubscriptions) {
			continue
		}
		_, err := s.rt.engine.Forget(ctx, r.Follower, func(uint64) []string { return []string{queueColl(r.Follower), queueDeadColl(r.Follower)} })
		if errors.Is(err, engine.ErrFollowerInUse) {
			continue // a node has still to hear of it
		}
		if err != nil && !errors.Is(err, engine.ErrUnknownFollower) {
			return fmt.Errorf("subscription %s: %w", doc.key(), err)
		}
		for d, err := range s.rt.store.List(ctx, attemptColl, r.Follower+"/", "") {
			if err != nil {
				return err
			}
			if err := s.rt.store.Write(ctx, store.Change{Coll: attemptColl, Key: d.Key, Rev: store.AnyRev}); err != nil {
				return err
			}
		}
		gone = append(gone, r.Follower)
	}
	if len(gone) == 0 {
		return nil
	}
	now, rev, err := s.rt.loadSubscription(ctx, doc.key())
	if err != nil && !now.Deleted {
		return err
	}
	now.Retired = slices.DeleteFunc(now.Retired, func(r retired) bool { return slices.Contains(gone, r.Follower) })
	if now.Deleted && len(now.Retired) == 0 {
		err = s.rt.store.Write(ctx, store.Change{Coll: subscriptionColl, Key: doc.key(), Rev: rev})
	} else {
		err = s.rt.writeSubscription(ctx, doc.key(), rev, now)
	}
	if _, overtaken := errors.AsType[Conflict](err); overtaken || isConflict(err) {
		return nil // next time
	}
	return err
}

// statusOf is a subscription and how it is doing.
func (rt *Runtime) statusOf(ctx context.Context, doc subscriptionDoc) (SubscriptionStatus, error) {
	s := SubscriptionStatus{
		Subscription: rt.shown(doc.Subscription), State: engine.StateStopped, Created: doc.Created, By: doc.By, Start: doc.Start, Follower: doc.Follower,
		Cursor: doc.Start,
	}
	all := rt.engine.Status()
	i := slices.IndexFunc(all, func(f engine.Status) bool { return f.Name == doc.Follower })
	if i >= 0 {
		f := all[i]
		s.State, s.Cursor, s.Head, s.Behind, s.LagSeconds, s.Rate = f.State, s.Cursor.Join(f.Cursor), f.Head, f.Behind, f.LagSeconds, f.Rate
		s.Retrying, s.Waiting, s.Dead, s.LastError, s.ErrorAt, s.Nodes = f.Retrying, f.Waiting, f.Dead, f.LastError, f.ErrorAt, f.Nodes
	}
	if s.State != engine.StateRunning && s.State != engine.StateBlocked && s.State != engine.StateTrouble {
		if err := rt.lookAtSubscription(ctx, &s); err != nil {
			return s, err
		}
	}
	if err := rt.countDead(ctx, doc, &s); err != nil {
		return s, err
	}
	rt.subs.mu.Lock()
	why, broken := rt.subs.broken[doc.Follower]
	rt.subs.mu.Unlock()
	switch {
	case doc.Disabled != "":
		s.State, s.Reason = stateDisabled, doc.Disabled
	case broken:
		s.State, s.LastError = engine.StateStopped, why
	}
	return s, nil
}

// lookAtSubscription finds out how a subscription is doing that this process
// does not deliver.
func (rt *Runtime) lookAtSubscription(ctx context.Context, s *SubscriptionStatus) error {
	p, err := rt.engine.Place(ctx, s.Follower)
	if err != nil {
		return err
	}
	s.Cursor = s.Cursor.Join(p.Cursor)
	s.Head, s.Behind = p.Head, s.Cursor.Behind(p.Head)
	c, err := rt.DeadLetters().countStored(ctx, s.Follower, s.Name, subscriptionKind)
	if errors.Is(err, engine.ErrUnknownFollower) {
		err = nil
	}
	s.Retrying, s.Waiting, s.Dead = c.Retrying, c.Waiting, c.Dead
	return err
}

// countDead adds the dead letters of a queue, up to a thousand.
func (rt *Runtime) countDead(ctx context.Context, doc subscriptionDoc, s *SubscriptionStatus) error {
	if !rt.isQueue(doc.Target) {
		return nil
	}
	n := 0
	for _, err := range rt.store.List(ctx, queueDeadColl(doc.Follower), "", "") {
		if err != nil {
			return err
		}
		if n++; n == 1000 {
			break
		}
	}
	s.Dead += n
	return nil
}

func checkFilters(filters []EventFilter) error {
	if err := delivery.Check(filters); err != nil {
		return Invalid{Field: "filters", Detail: err.Error()}
	}
	return nil
}
