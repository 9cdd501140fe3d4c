package deed

import (
	"context"
	"fmt"
	"time"
)

// caught is what this process knows of how far a follower has come that gives
// instances their events. Timers go by it: what happened before must not come
// after.
type caught struct {
	turn   chan struct{}     // holds one token: whoever has it may touch the rest
	at     time.Time         // all that was recorded by then is taken in or parked
	parked map[string]string // what was parked by then: instance -> dead letter
}

// catchUp is how long to wait for a follower to catch up with the log, before
// others have their turn.
const catchUp = time.Second

// caughtUp returns when a process has taken in all that was recorded by the time
// a timer of an instance was to go off. As long as an event is parked that the
// instance could not take in, its timers wait.
func (rt *Runtime) caughtUp(ctx context.Context, d *definitions, stream string, due time.Time) error {
	if d.follower == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	c := &d.caught
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, parked := c.parked[stream]; parked || c.at.Before(due) {
		if err := rt.catchUp(ctx, d.follower, c); err != nil {
			return fmt.Errorf("deed: a timer waits until %s has caught up with the log: %w", d.follower, err)
		}
	}
	if id, parked := c.parked[stream]; parked {
		return fmt.Errorf("deed: a timer waits until the dead letter %s is redriven or discarded", id)
	}
	return nil
}

func (rt *Runtime) catchUp(ctx context.Context, follower string, c *caught) error {
	now := rt.cfg.Now()
	head, err := rt.store.Head(ctx)
	if err != nil {
		return err
	}
	for _, p := range head.Positions() {
		if err := rt.engine.WaitFor(ctx, follower, p); err != nil {
			return err
		}
	}
	if c.parked, err = rt.engine.Parked(ctx, follower); err == nil {
		c.at = now
	}
	return err
}
