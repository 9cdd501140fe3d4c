package deed

import (
	"context"
	"fmt"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Cancel calls a run off, for a reason: it is not answered, and nothing is
// delivered. Whichever node answers it stops. What was recorded of it stays. The
// error is [ErrStands] if the run is over, and [ErrNotFound] if there is none.
func (q Queries) Cancel(ctx context.Context, id, reason string) error {
	x, err := q.open(ctx, id)
	for ; err == nil; err = x.catchUp(ctx) {
		if x.run.State.Over() {
			return fmt.Errorf("%w: it is %s", ErrStands, x.run.State)
		}
		if err := x.cancel(ctx, reason); !isConflict(err) || ctx.Err() != nil {
			q.rt.waiters.tell(runStream(id))
			return err
		}
	}
	return err
}

// cancel records that whoever the context names has called the run off.
func (x *runExecution) cancel(ctx context.Context, reason string) error {
	call := callOf(ctx)
	m, err := wire.Marshal(meta{Actor: call.Actor, Correlation: x.run.Correlation, Causation: call.Causation, Source: call.Source})
	if err != nil {
		return err
	}
	name, data, err := x.rt.codec.Encode(queryCancelled{clip(reason)})
	if err != nil {
		return err
	}
	_, err = x.rt.append(ctx, store.Write{
		Stream: runStream(x.id), Expect: store.Exactly(x.version),
		Events: []store.Event{{ID: newEventID(), Type: name.Type, Data: data, Meta: m}},
	})
	return err
}
