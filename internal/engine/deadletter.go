package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/store"
)

// States of a dead letter.
const (
	StateRetrying = "retrying" // is going to be tried again by itself
	StateWaiting  = "waiting"  // waits behind another one of its sequence
	StateDead     = "dead"     // waits for somebody to redrive or discard it
)

// A DeadLetter is a record that a follower could not handle, or one that
// waits behind such a record because it belongs to the same sequence.
type DeadLetter struct {
	ID       string          `json:"id"` // "<follower>.<position>"
	Follower string          `json:"follower"`
	State    string          `json:"state"` // retrying, waiting or dead
	Stream   string          `json:"stream"`
	Version  uint64          `json:"version"`
	Type     string          `json:"type"`
	Position string          `json:"position"`
	Event    store.ID        `json:"event"` // the event's id
	Keys     []string        `json:"keys"`  // the sequences it belongs to
	Reason   string          `json:"reason"`
	Stack    string          `json:"stack,omitempty"` // where it panicked
	Attempts int             `json:"attempts"`
	FirstAt  time.Time       `json:"first_at"`         // when it was parked
	LastAt   time.Time       `json:"last_at,omitzero"` // of the last attempt
	NextAt   time.Time       `json:"next_at,omitzero"` // of the next attempt, if retrying
	Data     json.RawMessage `json:"data,omitempty"`   // the event as stored
}

// discarded is what remains of a dead letter that somebody gave up.
type discarded struct {
	DeadLetter
	Discarded time.Time `json:"discarded_at"`
	By        string    `json:"discarded_by,omitempty"`
	Why       string    `json:"discarded_because"`
}

// letter is a dead letter in the hands of a worker.
type letter struct {
	DeadLetter
	pos store.Position
}

func deadColl(follower string) string      { return "$dead/" + follower }
func discardedColl(follower string) string { return "$discarded/" + follower }

// deadKey sorts by generation, then by place in the log.
func deadKey(gen uint64, p store.Position) string {
	return fmt.Sprintf("%s%05d:%019d", deadPrefix(gen), p.Shard, p.Seq)
}

func deadPrefix(gen uint64) string { return fmt.Sprintf("%06d/", gen) }

func letterID(follower string, p store.Position) string { return follower + "." + p.String() }

// parseLetterID takes the id of a dead letter apart.
func parseLetterID(id string) (follower string, p store.Position, err error) {
	i := strings.LastIndexByte(id, '.')
	if i < 0 {
		return "", p, fmt.Errorf("%w: %q", ErrNoDeadLetter, id)
	}
	c, err := store.ParseCursor(id[i+1:])
	if ps := c.Positions(); err == nil && len(ps) == 1 {
		return id[:i], ps[0], nil
	}
	return "", p, fmt.Errorf("%w: %q", ErrNoDeadLetter, id)
}

func newLetter(f *follower, rec store.Record, keys []string, now time.Time) *letter {
	l := &letter{pos: rec.Position, DeadLetter: DeadLetter{
		ID: letterID(f.Name, rec.Position), Follower: f.Name, State: StateWaiting,
		Stream: rec.Stream, Version: rec.Version, Type: rec.Type, Position: rec.Position.String(), Event: rec.ID,
		Keys: keys, FirstAt: now.UTC(), Reason: "waits behind an earlier event of its sequence",
	}}
	if json.Valid(rec.Data) {
		l.Data = json.RawMessage(rec.Data)
	}
	return l
}

// failed notes an attempt and decides about the next.
func (l *letter) failed(err error, r Retry, now time.Time) {
	l.Attempts++
	l.LastAt, l.NextAt = now.UTC(), time.Time{}
	l.Reason, l.Stack = reasonOf(err), ""
	if p, ok := errors.AsType[*panicked](err); ok {
		l.Stack = p.stack
	}
	if isPermanent(err) || l.Attempts >= r.attempts() {
		l.State = StateDead
		return
	}
	l.State, l.NextAt = StateRetrying, now.Add(r.wait(l.Attempts)).UTC()
}

const maxReason = 2000

func reasonOf(err error) string {
	s := strings.ToValidUTF8(err.Error(), "?")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "..."
	}
	return s
}

func (l *letter) change(f *follower, gen uint64) (store.Change, error) {
	data, err := json.Marshal(l.DeadLetter)
	return store.Change{Coll: deadColl(f.Name), Key: deadKey(gen, l.pos), Rev: store.AnyRev, Data: data}, err
}

// letters yields the dead letters of a generation in log order.
func letters(ctx context.Context, s store.Docs, follower string, gen uint64, after string) iter.Seq2[*letter, error] {
	return func(yield func(*letter, error) bool) {
		for d, err := range s.List(ctx, deadColl(follower), deadPrefix(gen), after) {
			if err != nil {
				yield(nil, err)
				return
			}
			l := &letter{}
			if err := json.Unmarshal(d.Data, &l.DeadLetter); err != nil {
				yield(nil, fmt.Errorf("%w: dead letter %s of %s: %w", store.ErrCorrupt, d.Key, follower, err))
				return
			}
			if _, l.pos, err = parseLetterID(l.ID); err != nil || !yield(l, nil) {
				return
			}
		}
	}
}

// lot is the dead letters of a worker, in log order, and the sequences they
// block.
type lot struct {
	letters []*letter
	blocked map[string]int // key -> letters that have it
}

func (b *lot) add(l *letter) {
	if b.blocked == nil {
		b.blocked = map[string]int{}
	}
	b.letters = append(b.letters, l)
	for _, k := range l.Keys {
		b.blocked[k]++
	}
}

func (b *lot) remove(l *letter) {
	b.letters = slices.DeleteFunc(b.letters, func(x *letter) bool { return x == l })
	for _, k := range l.Keys {
		if b.blocked[k]--; b.blocked[k] == 0 {
			delete(b.blocked, k)
		}
	}
}

func (b *lot) blocks(keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return b.blocked[k] > 0 })
}

func (b *lot) find(p store.Position) *letter {
	for _, l := range b.letters {
		if l.pos == p {
			return l
		}
	}
	return nil
}

// sequence returns the letters connected to one by shared keys, in log order.
func (b *lot) sequence(of []string) []*letter {
	keys := map[string]bool{}
	for _, k := range of {
		keys[k] = true
	}
	for grew := true; grew; {
		grew = false
		for _, l := range b.letters {
			if !slices.ContainsFunc(l.Keys, func(k string) bool { return keys[k] }) {
				continue
			}
			for _, k := range l.Keys {
				grew = grew || !keys[k]
				keys[k] = true
			}
		}
	}
	var out []*letter
	for _, l := range b.letters {
		if slices.ContainsFunc(l.Keys, func(k string) bool { return keys[k] }) {
			out = append(out, l)
		}
	}
	return out
}

// due returns the first letter to be tried again at a time, and when the
// next is to be if none is yet.
func (b *lot) due(now time.Time) (l *letter, next time.Time) {
	for _, l := range b.letters {
		if l.State != StateRetrying {
			continue
		}
		if !l.NextAt.After(now) {
			return l, now
		}
		if next.IsZero() || l.NextAt.Before(next) {
			next = l.NextAt
		}
	}
	return nil, next
}
