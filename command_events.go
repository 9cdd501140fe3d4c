package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A CommandEvent is something that happened to a command: an event of the
// command's own stream.
type CommandEvent struct {
	Meta                      // ID is the command's
	Type      string          // for example "received", "step-completed" or "failed"
	Data      json.RawMessage // as it is stored
	Callbacks int             // so many callbacks the sender of the command has named

	rt *Runtime
}

// A CommandLife is what is known of a command as of one of its events.
type CommandLife struct {
	Status    CommandStatus
	Error     *CommandError // what went wrong, if anything ever did
	Callbacks []Callback
}

// HandleCommand reacts to what happens to commands, as far as it is of the
// given types; it is an entry of EventHandler.On.
func HandleCommand(f func(ctx context.Context, tx *Tx, e CommandEvent) error, types ...string) Reaction {
	return Reaction{command: f, types: types, meta: true}
}

// names are the stored names of the events that a reaction handles.
func (r Reaction) names(c *wire.Codec) ([]wire.Name, error) {
	if r.runs != nil {
		return runEnds(), nil
	}
	if r.command == nil {
		if names := c.NamesOf(r.event); len(names) > 0 {
			return names, nil
		}
		return nil, fmt.Errorf("handles %v, which no aggregate declares", r.event)
	}
	if len(r.types) == 0 {
		return nil, fmt.Errorf("handles events of commands, but says of no type")
	}
	var names []wire.Name
	for _, t := range r.types {
		if _, ok := commandEvents()[t]; !ok {
			return nil, fmt.Errorf("handles the event %q of commands; there is %v", t, slices.Sorted(maps.Keys(commandEvents())))
		}
		names = append(names, wire.Name{Category: commandCategory, Type: t})
	}
	return names, nil
}

// errGivenUp reports that a command is gone that was there when its event was
// read: an event handler that is new reads what is about to be given up.
var errGivenUp = errors.New("deed: the command was given up")

// Life reads what was known of the command when the event had happened,
// however much has happened since.
func (e CommandEvent) Life(ctx context.Context) (life CommandLife, err error) {
	var wrong CommandError
	last := uint64(0)
	for rec, err := range e.rt.store.Read(ctx, commandStream(e.ID), store.Range{Limit: int(e.Version)}) {
		if err != nil {
			return life, storeError(err)
		}
		m, event, err := e.rt.understand(rec)
		if err != nil {
			return life, err
		}
		if first, ok := event.(commandReceived); ok {
			life.Callbacks = first.Callbacks
		}
		life.Status.take(m, event)
		wrong.take(m, event)
		last = rec.Version
	}
	if last < e.Version {
		return life, errGivenUp
	}
	if wrong.Times > 0 {
		life.Error = &wrong
	}
	return life, nil
}
