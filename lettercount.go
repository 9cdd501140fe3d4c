package deed

import (
	"context"
	"time"

	"github.com/deed-dev/deed/internal/engine"
)

// A LetterCount is how many dead letters a follower or a queue has, as far as this
// node knows: followers' letters are counted by whoever holds them.
type LetterCount struct {
	Name                    string // of the follower; topic and name, if it is a subscription's
	Kind                    string // projection, handler, subscription, queue ...
	Retrying, Waiting, Dead int
	Oldest                  time.Time // when the oldest of those that failed was parked; zero = there is none
}

// maxCounted is how many dead letters of a queue are counted.
const maxCounted = 1000

// Counts returns how many dead letters there are, up to a thousand of a queue, and of
// a subscription to whose place this program may not connect. It is cheap enough to be
// asked every few seconds.
func (d DeadLetters) Counts(ctx context.Context) ([]LetterCount, error) {
	places, err := d.allPlaces(ctx)
	if err != nil {
		return nil, err
	}
	status := map[string]engine.Status{}
	for _, s := range d.rt.engine.Status() {
		status[s.Name] = s
	}
	var out []LetterCount
	for _, p := range places {
		name := p.follower
		if p.sub != "" {
			name = p.sub
		}
		s, ok := status[p.follower]
		switch {
		case ok && s.State == engine.StateElsewhere && !d.rt.cfg.Guest:
			c, err := d.countStored(ctx, p.follower, name, s.Kind)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		case ok:
			c := LetterCount{Name: name, Kind: s.Kind, Retrying: s.Retrying, Waiting: s.Waiting, Dead: s.Dead}
			if s.OldestDead != nil {
				c.Oldest = *s.OldestDead
			}
			out = append(out, c)
		}
		if p.queue == nil {
			continue
		}
		c, err := p.queue.countDead(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// countStored counts the dead letters of a follower that this node cannot run, as it
// may be that none does.
func (d DeadLetters) countStored(ctx context.Context, follower, name, kind string) (LetterCount, error) {
	c := LetterCount{Name: name, Kind: kind}
	n := 0
	for l, err := range d.rt.engine.Letters(ctx, follower, "") {
		if err != nil {
			return c, err
		}
		switch l.State {
		case engine.StateRetrying:
			c.Retrying++
		case engine.StateWaiting:
			c.Waiting++
		default:
			c.Dead++
		}
		if l.State != engine.StateWaiting && (c.Oldest.IsZero() || l.FirstAt.Before(c.Oldest)) {
			c.Oldest = l.FirstAt
		}
		if n++; n == maxCounted {
			break
		}
	}
	return c, nil
}

// countDead counts the dead letters of a queue.
func (q Queue) countDead(ctx context.Context, name string) (LetterCount, error) {
	c := LetterCount{Name: name, Kind: engine.KindQueue}
	for m, err := range q.read(ctx, q.dead(), "") {
		if err != nil {
			return c, err
		}
		if c.Oldest.IsZero() || m.DeadAt.Before(c.Oldest) {
			c.Oldest = m.DeadAt
		}
		if c.Dead++; c.Dead == maxCounted {
			break
		}
	}
	return c, nil
}
