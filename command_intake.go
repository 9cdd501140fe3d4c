package deed

import (
	"context"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Submit stores cmd, to be asked of the entity with the given id by whichever
// node gets to it, and returns when it is stored. What becomes of it,
// [Commands] tells. Its errors are those of Execute that do not come from
// Decide.
func (a Aggregate[S]) Submit(ctx context.Context, rt *Runtime, id string, cmd Command[S]) (Receipt, error) {
	k, err := a.kind(rt)
	if err != nil {
		return Receipt{}, err
	}
	call := callOf(ctx)
	call.Async = true
	return k.submit(With(ctx, call), rt, id, cmd)
}

func (k *kind) submit(ctx context.Context, rt *Runtime, id string, cmd any) (Receipt, error) {
	q, err := k.ask(ctx, rt, id, cmd)
	if err != nil {
		return Receipt{}, err
	}
	return rt.receive(ctx, q, cmd)
}

// receive stores a command, unless it is stored already. Its quota is used up
// by that, for what is received will be handled.
func (rt *Runtime) receive(ctx context.Context, a *asked, cmd any) (Receipt, error) {
	if a.keyed {
		if r, found, err := rt.replay(ctx, a); found || err != nil {
			return r, err
		}
	}
	received, err := a.receiving(cmd)
	if err != nil {
		return Receipt{}, err
	}
	for {
		guards, err := rt.guards(ctx, a)
		if _, over := err.(QuotaExceeded); over {
			rt.poison(ctx, a, "quota_exceeded", err)
		}
		if err != nil {
			return Receipt{}, err
		}
		writes := []store.Write{received}
		for _, g := range guards {
			writes = append(writes, g.write(a))
		}
		written, err := rt.append(ctx, writes...)
		switch {
		case err == nil:
			rt.waiters.received(a.ID)
			return Receipt{
				Command: a.ID, Stream: a.stream, Events: []EventRef{}, Pending: true,
				Position: string(store.CursorAt(written[0].Position)),
			}, nil
		case a.conflictsAt(commandStream(a.ID), err):
			r, found, err := rt.replay(ctx, a)
			if err == nil && !found {
				err = ErrInProgress
			}
			return r, err
		case !overtaken(err) || ctx.Err() != nil:
			return Receipt{}, err
		}
	}
}

// receiving is what is recorded of a command that is stored first.
func (a *asked) receiving(cmd any) (store.Write, error) {
	raw, err := bodyOf(cmd)
	if err != nil {
		return store.Write{}, err
	}
	data, err := wire.Marshal(commandReceived{Command: a.name, Stream: a.stream, Hash: a.hash, Body: raw, Callbacks: a.Callbacks, IfVersion: a.IfVersion})
	return store.Write{
		Stream: commandStream(a.ID), Expect: store.None,
		Events: []store.Event{{ID: newEventID(), Type: typeReceived, Data: data, Meta: a.meta}},
	}, err
}
