package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Commands looks after the commands of a runtime: what became of them, and what
// is to become of those that are stored. What it changes is recorded in the
// command's own stream, with the actor of the context's [Call].
type Commands struct{ rt *Runtime }

// Commands returns the means to look after commands.
func (rt *Runtime) Commands() Commands { return Commands{rt} }

// ErrStands is the error of something that cannot be asked of a command, a process,
// a saga or the run of a query in the state it is in.
var ErrStands = errors.New("deed: that cannot be asked of it as it stands")

// Get returns the status of a command, or [ErrNotFound].
func (c Commands) Get(ctx context.Context, id string) (CommandStatus, error) {
	if err := store.CheckName("command id", id); err != nil || len(id) > MaxKey {
		return CommandStatus{}, Invalid{Detail: "that is no command id"}
	}
	x, err := c.rt.open(ctx, id)
	if err != nil {
		return CommandStatus{}, err
	}
	return x.status, nil
}

// Find returns the statuses of commands that satisfy q, in the order q asks
// for. They are those of the view "commands", which follows the log.
func (c Commands) Find(ctx context.Context, q store.Query) ([]CommandStatus, error) {
	var out []CommandStatus
	for row, err := range commandStatuses().Find(ctx, c.rt, q) {
		if err != nil {
			return nil, err
		}
		out = append(out, row.Value)
	}
	return out, nil
}

// Bounds of how often Wait looks for itself: this process may not be the one
// that handles the command.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = 250 * time.Millisecond
)

// Wait returns when a command stays in the state it is in until somebody asks
// for something else: when it is over, invalid, or has failed. If ctx ends
// first it returns the status so far with the error of ctx. A guest that has
// the store for itself handles the command meanwhile, see [Config].
func (c Commands) Wait(ctx context.Context, id string) (CommandStatus, error) {
	if c.rt.own != nil && ctx.Err() == nil {
		c.rt.own.queue.put(id, time.Time{}, latest)
	}
	w := c.rt.waiters.enter(id)
	defer c.rt.waiters.leave(id, w)
	look := firstLook
	if !store.IsShared(c.rt.store) {
		look = lastLook
	}
	for ; ; look = min(2*look, lastLook) {
		s, known := c.rt.waiters.final(id)
		if !known {
			var err error
			if s, err = c.Get(context.WithoutCancel(ctx), id); err != nil || s.State.stands() {
				return s, err
			}
		} else if s.State.Over() {
			return s, nil
		}
		select {
		case <-w:
		case <-time.After(look):
			c.rt.waiters.forget(id)
		case <-ctx.Done():
			if s.ID == "" {
				s, _ = c.Get(context.WithoutCancel(ctx), id)
			}
			return s, ctx.Err()
		}
	}
}

// Cancel asks for a command to be called off, for a reason. What its steps did
// is undone as far as they say how.
func (c Commands) Cancel(ctx context.Context, id, reason string) error {
	if s, err := c.Get(ctx, id); err != nil || s.Cancelling && !s.State.Over() {
		return err // asking twice is asking once
	}
	return c.ask(ctx, id, cancelRequested{reason}, func(s CommandStatus) bool { return !s.State.Over() })
}

// Resume lets a command go on that has failed, at the step that is not done, or
// at once if it would be tried again later.
func (c Commands) Resume(ctx context.Context, id string) error {
	return c.ask(ctx, id, commandRequeued{}, func(s CommandStatus) bool { return s.State == CommandFailed || s.State == CommandRetrying })
}

// Correct gives an invalid command other parameters, as JSON, and has it looked
// at again.
func (c Commands) Correct(ctx context.Context, id string, body []byte) error {
	s, err := c.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := c.rt.mayAsk(ctx, s); err != nil {
		return err
	}
	body, err = c.rt.canonical(s.Command, body)
	if err != nil {
		return err
	}
	return c.ask(ctx, id, commandCorrected{Hash: digest(string(body)), Body: body}, func(s CommandStatus) bool { return s.State == CommandInvalid })
}

// canonical is a command's JSON as it is stored.
func (rt *Runtime) canonical(name string, body []byte) (json.RawMessage, error) {
	c, err := rt.decodeCommand(name, body)
	if err != nil {
		return nil, err
	}
	if v, ok := c.(validator); ok {
		if err := v.Validate(); err != nil {
			return nil, asInvalid(err)
		}
	}
	return bodyOf(c)
}

// ask records a request about a command, if it is in a state for it.
func (c Commands) ask(ctx context.Context, id string, request any, fits func(CommandStatus) bool) error {
	call := callOf(ctx)
	for {
		x, err := c.rt.open(ctx, id)
		if err != nil {
			return err
		}
		if !fits(x.status) {
			return fmt.Errorf("%w: it is %s", ErrStands, x.status.State)
		}
		m, err := wire.Marshal(meta{Actor: call.Actor, Correlation: x.status.Correlation, Causation: call.Causation, Source: call.Source})
		if err != nil {
			return err
		}
		name, data, err := c.rt.codec.Encode(request)
		if err != nil {
			return err
		}
		_, err = c.rt.append(ctx, store.Write{
			Stream: commandStream(id), Expect: store.Exactly(x.version),
			Events: []store.Event{{ID: newEventID(), Type: name.Type, Data: data, Meta: m}},
		})
		if !isConflict(err) || ctx.Err() != nil {
			return err
		}
	}
}
