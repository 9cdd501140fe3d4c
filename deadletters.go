package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
)

// DeadLetters looks after what could not be handled, wherever that was: events that
// a projection, an event handler, a process or a subscription parked, and messages
// that a queue gave up. What it changes is recorded in the streams
// "$audit/followers" and "$audit/subscriptions", with the actor of the context's
// [Call].
type DeadLetters struct{ rt *Runtime }

// DeadLetters returns the means to look after dead letters.
func (rt *Runtime) DeadLetters() DeadLetters { return DeadLetters{rt} }

// A LetterFilter says which dead letters are meant: those of which all is true
// that it says.
type LetterFilter struct {
	IDs          []string  `json:"ids,omitempty"`          // at most 1000
	Follower     string    `json:"follower,omitempty"`     // the name of a follower
	Subscription string    `json:"subscription,omitempty"` // topic and name: "orders/billing"
	Kind         string    `json:"kind,omitempty"`         // projection, handler, runner, subscription, queue ...
	Fingerprint  string    `json:"fingerprint,omitempty"`  // what failed for this reason
	State        string    `json:"state,omitempty"`        // retrying, waiting or dead; discarded or handled: what is kept of former ones
	Before       time.Time `json:"before,omitzero"`        // parked before
}

// Bounds of what is said of dead letters.
const (
	maxNamedLetters = 1000
	maxGroups       = 1000
	maxEdits        = 256 << 10 // bytes that the edits of a letter may have together
)

// check reports what is wrong with a filter.
func (f LetterFilter) check() error {
	states := []string{engine.StateRetrying, engine.StateWaiting, engine.StateDead, engine.StateDiscarded, engine.StateHandled}
	switch {
	case f.State != "" && !slices.Contains(states, f.State):
		return Invalid{Field: "state", Detail: "is one of " + strings.Join(states, ", ")}
	case len(f.IDs) > maxNamedLetters:
		return Invalid{Field: "ids", Detail: fmt.Sprintf("names more than %d dead letters: say what they have in common", maxNamedLetters)}
	case f.Follower != "" && f.Subscription != "":
		return Invalid{Field: "subscription", Detail: "is a follower too: give one of them"}
	}
	return nil
}

// past reports whether the filter means former dead letters.
func (f LetterFilter) past() bool {
	return f.State == engine.StateDiscarded || f.State == engine.StateHandled
}

func (f LetterFilter) matches(l *DeadLetter) bool {
	return (f.Kind == "" || f.Kind == l.Kind) && (f.Fingerprint == "" || f.Fingerprint == l.Fingerprint) &&
		(f.State == "" || f.State == l.State) && (f.Before.IsZero() || l.FirstAt.Before(f.Before)) &&
		(len(f.IDs) == 0 || slices.Contains(f.IDs, l.ID))
}

// List returns up to limit dead letters (0 = 100) that a filter means, of one
// follower after the other and in the order of the log, and where to go on ("" =
// there are no more).
func (d DeadLetters) List(ctx context.Context, f LetterFilter, after string, limit int) ([]DeadLetter, string, error) {
	limit = cmp.Or(limit, 100)
	if after != "" && letterKey(after) == "" {
		return nil, "", Invalid{Field: "after", Detail: "is not the id of a dead letter"}
	}
	out := []DeadLetter{}
	for l, err := range d.each(ctx, f, after) {
		if err != nil {
			return nil, "", err
		}
		if len(out) == limit {
			return out, out[limit-1].ID, nil
		}
		l.Behind = "" // a page does not always know
		out = append(out, l)
	}
	return out, "", nil
}

// A letterPlace is where the dead letters of a follower are.
type letterPlace struct {
	follower string
	runs     bool   // the engine has it
	sub      string // topic and name, if it is a subscription's
	queue    *Queue // it has messages too
}

// places returns where the letters are that a filter may mean, in the order of
// their followers' names.
func (d DeadLetters) places(ctx context.Context, f LetterFilter) ([]letterPlace, error) {
	all, err := d.allPlaces(ctx)
	if err == nil {
		err = d.checkKind(f.Kind)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case f.Follower != "":
		all = slices.DeleteFunc(all, func(p letterPlace) bool { return p.follower != f.Follower })
		if len(all) == 0 {
			return nil, fmt.Errorf("%w: %q", ErrNoFollower, f.Follower)
		}
	case f.Subscription != "":
		all = slices.DeleteFunc(all, func(p letterPlace) bool { return p.sub != f.Subscription })
		if len(all) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrNoSubscription, f.Subscription)
		}
	case len(f.IDs) > 0:
		named := map[string]bool{}
		for _, id := range f.IDs {
			named[followerOfLetter(id)] = true
		}
		all = slices.DeleteFunc(all, func(p letterPlace) bool { return !named[p.follower] })
	}
	return all, nil
}

// checkKind reports whether there are followers of a kind, or could be.
func (d DeadLetters) checkKind(kind string) error {
	known := map[string]bool{"": true, "projection": true, handlerKind: true, receptionKind: true, "process": true, "saga": true, subscriptionKind: true, engine.KindQueue: true}
	for _, s := range d.rt.engine.Status() {
		known[s.Kind] = true
	}
	if known[kind] {
		return nil
	}
	return Invalid{Field: "kind", Detail: "is one of " + strings.Join(slices.Sorted(maps.Keys(known))[1:], ", ")}
}

func (d DeadLetters) allPlaces(ctx context.Context) ([]letterPlace, error) {
	if err := d.rt.subs.sync(ctx); err != nil {
		return nil, err
	}
	all := map[string]letterPlace{}
	for _, name := range d.rt.engine.Names() {
		all[name] = letterPlace{follower: name, runs: true}
	}
	for doc, err := range d.rt.subscriptionDocs(ctx, "") {
		if err != nil {
			return nil, err
		}
		if doc.Deleted || d.rt.topics[doc.Topic] == nil { // what is left of it, or it is of another program
			continue
		}
		p := letterPlace{follower: doc.Follower, runs: all[doc.Follower].runs, sub: doc.key()}
		if q, ok := d.rt.queueOf(doc); ok {
			p.queue = &q
		}
		all[doc.Follower] = p
	}
	out := make([]letterPlace, 0, len(all))
	for _, p := range all {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b letterPlace) int { return cmp.Compare(a.follower, b.follower) })
	return out, nil
}

// followerOfLetter returns the follower that an id names.
func followerOfLetter(id string) string {
	return id[:max(strings.LastIndexByte(id, '.'), 0)]
}

// each yields the dead letters that a filter means, after the one of an id.
func (d DeadLetters) each(ctx context.Context, f LetterFilter, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		var places []letterPlace
		err := f.check()
		if err == nil {
			places, err = d.places(ctx, f)
		}
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		from := followerOfLetter(after)
		for _, p := range places {
			if p.follower < from {
				continue
			}
			mark := ""
			if p.follower == from {
				mark = after
			}
			for l, err := range d.at(ctx, p, f, mark) {
				if err != nil {
					yield(DeadLetter{}, err)
					return
				}
				if f.matches(&l) && !yield(l, nil) {
					return
				}
			}
		}
	}
}

// at yields the letters of a place after the one of an id: first the events, then
// the messages.
func (d DeadLetters) at(ctx context.Context, p letterPlace, f LetterFilter, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		_, key, message := parseQueueLetterID(after)
		if p.runs && !message {
			letters := d.rt.engine.Letters(ctx, p.follower, after)
			if f.past() {
				letters = d.rt.engine.Closed(ctx, p.follower, f.State, after)
			}
			for l, err := range letters {
				l.Subscription = p.sub
				if !yield(l, err) || err != nil {
					return
				}
			}
		}
		if p.queue == nil {
			return
		}
		messages := p.queue.letters(ctx, key)
		if f.past() {
			messages = p.queue.notes(ctx, f.State, key)
		}
		for l, err := range messages {
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// Get returns a dead letter, with what it waits behind or how many wait behind it.
// Of one that somebody discarded, or that was handled as edited, it returns what is
// kept.
func (d DeadLetters) Get(ctx context.Context, id string) (DeadLetter, error) {
	p, key, err := d.placeOf(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	if key != "" {
		return d.message(ctx, *p.queue, key)
	}
	l, err := d.rt.engine.DeadLetter(ctx, id)
	if errors.Is(err, ErrNoDeadLetter) {
		l, err = d.rt.engine.ClosedLetter(ctx, id)
		l.Subscription = p.sub
		return l, err
	}
	if err != nil {
		return l, err
	}
	l.Subscription = p.sub
	for other, err := range d.rt.engine.Letters(ctx, p.follower, "") {
		switch {
		case err != nil:
			return l, err
		case other.ID == id:
			l.Behind = other.Behind
		case other.Behind == id:
			l.Blocks++
		}
	}
	return l, nil
}

// message returns the dead letter that a message is, or what is kept of it.
func (d DeadLetters) message(ctx context.Context, q Queue, key string) (DeadLetter, error) {
	m, err := q.letter(ctx, key)
	if errors.Is(err, ErrNoDeadLetter) {
		return q.closed(ctx, key)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	l := q.asLetter(m)
	held, err := q.blocked(ctx)
	l.Blocks = held[m.Event.PartitionKey]
	return l, err
}

// placeOf returns where a dead letter is, and the key of a message.
func (d DeadLetters) placeOf(ctx context.Context, id string) (letterPlace, string, error) {
	none := fmt.Errorf("%w: %q", ErrNoDeadLetter, id)
	all, err := d.allPlaces(ctx)
	if err != nil {
		return letterPlace{}, "", err
	}
	i := slices.IndexFunc(all, func(p letterPlace) bool { return p.follower == followerOfLetter(id) })
	if i < 0 {
		return letterPlace{}, "", none
	}
	_, key, message := parseQueueLetterID(id)
	if message && all[i].queue == nil || !message && !all[i].runs {
		return letterPlace{}, "", none
	}
	return all[i], key, nil
}
