package deed

import (
	"context"
	"errors"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A RunEvent is the end of a run: it was answered, or there is no answer.
type RunEvent struct {
	Meta              // ID is the run's
	Type       string // completed, rejected or failed
	Deliveries int    // to so many places the answer goes

	rt *Runtime
}

// HandleRun reacts to runs that come to an end and were recorded before; it is
// an entry of EventHandler.On.
func HandleRun(f func(ctx context.Context, tx *Tx, e RunEvent) error) Reaction {
	return Reaction{runs: f, meta: true}
}

// runEnds are the stored names of the events that HandleRun handles.
func runEnds() []wire.Name {
	return []wire.Name{{Category: queryCategory, Type: typeCompleted}, {Category: queryCategory, Type: typeRejected}, {Category: queryCategory, Type: typeFailed}}
}

// Run reads the run as it stands, with its answer.
func (e RunEvent) Run(ctx context.Context) (Run, error) {
	run, err := Queries{e.rt}.Get(ctx, e.ID)
	if errors.Is(err, ErrNotFound) {
		err = errGivenUp
	}
	return run, err
}

// Delivered records that the answer was delivered to one of the places it goes to.
func (e RunEvent) Delivered(ctx context.Context, to string) error {
	return e.note(ctx, queryDelivered{To: to})
}

// Undeliverable records why the answer cannot be delivered to one of the places.
func (e RunEvent) Undeliverable(ctx context.Context, to, reason string) error {
	return e.note(ctx, queryUndeliverable{To: to, Reason: clip(reason)})
}

func (e RunEvent) note(ctx context.Context, what any) error {
	for {
		x, err := e.rt.openRun(ctx, e.ID)
		if errors.Is(err, ErrNotFound) {
			return errGivenUp
		}
		if err != nil {
			return err
		}
		if err := x.record(ctx, what); !errors.Is(err, errOvertaken) || ctx.Err() != nil {
			e.rt.waiters.tell(runStream(e.ID))
			return err
		}
	}
}

// runEvent is the event as a reaction gets it.
func runEvent(rt *Runtime, m Meta, rec store.Record) RunEvent {
	return RunEvent{Meta: m, Type: rec.Type, Deliveries: m.callbacks, rt: rt}
}
