package deed

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Sending is a command on its way to an entity. Make one with [Send].
type Sending struct {
	stream string
	name   string // of the command, as its Go type
	cmd    any
	ask    func(ctx context.Context, rt *Runtime) (Receipt, error)
	sit    func(ctx context.Context, rt *Runtime) (seat, error)
}

// Send says that cmd is to be asked of an entity.
func Send[S any](a Aggregate[S], id string, cmd Command[S]) Sending {
	return Sending{
		stream: a.Name + "/" + id, name: fmt.Sprintf("%T", cmd), cmd: cmd,
		ask: func(ctx context.Context, rt *Runtime) (Receipt, error) { return a.Execute(ctx, rt, id, cmd) },
		sit: func(ctx context.Context, rt *Runtime) (seat, error) {
			k, err := a.kind(rt)
			if err != nil {
				return nil, err
			}
			if err := checkID(id); err != nil {
				return nil, err
			}
			x := &place[S]{k: k, id: id, cell: k.cells.of(id)}
			return x, x.cell.lock(ctx)
		},
	}
}

// A seat is an entity whose turn a group of commands has.
type seat interface {
	refresh(ctx context.Context, rt *Runtime) error
	// decide asks a command of the entity as earlier ones of the group left it.
	decide(rt *Runtime, a *asked, cmd any) error
	// write is what all of them decided on.
	write(rt *Runtime, a *asked) (written, error)
	leave(recorded bool)
}

// place is a seat at the table of an aggregate.
type place[S any] struct {
	k      *kind[S]
	id     string
	cell   *cell[S]
	before uint64
	events []Event[S]
}

func (x *place[S]) refresh(ctx context.Context, rt *Runtime) error {
	if len(x.events) > 0 { // of an earlier try
		x.cell.forget()
	}
	_, err := x.k.refresh(ctx, rt, x.id, x.cell)
	x.before, x.events = x.cell.version, nil
	return err
}

func (x *place[S]) decide(rt *Runtime, a *asked, c any) error {
	cmd, ok := c.(Command[S])
	if !ok {
		return fmt.Errorf("%w: %T is no command of %s", ErrUnknown, c, x.k.Name)
	}
	if v, ok := c.(validator); ok {
		if err := v.Validate(); err != nil {
			return asInvalid(err)
		}
	}
	events, err := stamped(rt, a, x.id, cmd).Decide(x.cell.state)
	if err != nil {
		_, name := x.k.commandType(cmd)
		return Rejected{Stream: x.k.stream(x.id), Command: name, Err: err}
	}
	x.cell.apply(events)
	x.events = append(x.events, events...)
	return nil
}

func (x *place[S]) write(rt *Runtime, a *asked) (written, error) {
	return x.k.write(rt, a, x.k.stream(x.id), x.before, x.events)
}

// leave gives the turn back. What the cell holds is the state after the events,
// so unless they were recorded it must be forgotten.
func (x *place[S]) leave(recorded bool) {
	if !recorded {
		x.cell.forget()
	}
	x.cell.unlock()
}

// maxTogether is how many entities one append may write to on behalf of a
// group of commands: what every store can do.
const maxTogether = 500

// together asks commands of several entities. Either all are accepted, and what
// they decide on is recorded in one append, or none is.
func (rt *Runtime) together(ctx context.Context, a *asked, sends []Sending) (streams []string, err error) {
	if prior, found, err := rt.replay(ctx, a); found || err != nil {
		return prior.streams, err
	}
	seats := map[string]seat{}
	recorded := false
	defer func() {
		for _, x := range seats {
			x.leave(recorded)
		}
	}()
	// Turns are taken in the order of names, so that groups do not wait for
	// each other in a circle.
	for _, s := range slices.SortedFunc(slices.Values(sends), func(a, b Sending) int { return cmp.Compare(a.stream, b.stream) }) {
		if _, ok := seats[s.stream]; ok {
			continue
		}
		x, err := s.sit(ctx, rt)
		if err != nil {
			return nil, err
		}
		if seats[s.stream] = x; len(seats) > maxTogether {
			return nil, Invalid{Detail: fmt.Sprintf("more than %d entities cannot be written to at once", maxTogether)}
		}
	}
	streams = slices.Sorted(maps.Keys(seats))
	for try := 0; ; try++ {
		err := rt.tryTogether(ctx, a, sends, seats, streams)
		switch {
		case err == nil:
			recorded = true
			return streams, nil
		case a.conflictsAt(commandStream(a.ID), err):
			prior, found, err := rt.replay(ctx, a)
			if err == nil && !found {
				err = ErrInProgress
			}
			return prior.streams, err
		case !isConflict(err) || try >= rt.cfg.Retries || ctx.Err() != nil:
			return nil, err
		}
	}
}

// tryTogether reads, decides and appends once.
func (rt *Runtime) tryTogether(ctx context.Context, a *asked, sends []Sending, seats map[string]seat, streams []string) error {
	for _, stream := range streams {
		if err := seats[stream].refresh(ctx, rt); err != nil {
			return err
		}
	}
	for _, s := range sends {
		if err := seats[s.stream].decide(rt, a, s.cmd); err != nil {
			return err
		}
	}
	var writes []store.Write
	claims := map[string]bool{}
	for _, stream := range streams {
		w, err := seats[stream].write(rt, a)
		if err != nil {
			return err
		}
		if len(w.events) > 0 {
			writes = append(writes, w.Write)
		}
		if !w.claims {
			continue
		}
		ws, err := rt.claimWrites(ctx, stream, w.facts, a.meta)
		if err != nil {
			return err
		}
		for _, c := range ws {
			if claims[c.Stream] {
				return Invalid{Detail: "two entities of the group touch the same claim " + c.Stream}
			}
			claims[c.Stream] = true
		}
		writes = append(writes, ws...)
	}
	w, err := a.outcome(outcome{Entities: streams})
	if err != nil {
		return err
	}
	_, err = rt.append(ctx, append(writes, w)...)
	return err
}

// hashOfAll identifies what a group of commands asks.
func hashOfAll(sends []Sending) (string, error) {
	type one struct {
		Stream  string `json:"stream"`
		Command string `json:"command"`
		Hash    string `json:"hash"`
	}
	all := make([]one, len(sends))
	for i, s := range sends {
		h, err := hashOf(s.name, s.stream, s.cmd)
		if err != nil {
			return "", err
		}
		all[i] = one{s.stream, s.name, h}
	}
	data, err := wire.Marshal(all)
	return digest(string(data)), err
}
