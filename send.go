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
	undo   *Sending
	to     kindRef
	id     string // of the entity
}

// Undo says what to send should the [Process] fail that sends this command,
// after it was accepted.
func (s Sending) Undo(with Sending) Sending {
	s.undo = &with
	return s
}

// Send says that cmd is to be asked of an entity.
func Send[S any](a Aggregate[S], id string, cmd Command[S]) Sending {
	return send(kindOf[S](a.Name), id, cmd)
}

func send(to kindRef, id string, cmd any) Sending {
	return Sending{stream: to.name + "/" + id, name: fmt.Sprintf("%T", cmd), cmd: cmd, to: to, id: id}
}

// empty is a Sending that nobody made with [Send].
func (s Sending) empty() bool { return s.to.state == nil }

// called is the name of the command, for example "order.submit".
func (s Sending) called(rt *Runtime) string {
	k, err := s.to.in(rt)
	if err != nil {
		return s.to.name + "." + s.name
	}
	_, name := k.commandType(s.cmd)
	return name
}

func (s Sending) ask(ctx context.Context, rt *Runtime) (Receipt, error) {
	k, err := s.to.in(rt)
	if err != nil {
		return Receipt{}, err
	}
	return k.execute(ctx, rt, s.id, s.cmd)
}

func (s Sending) target(rt *Runtime) (*target, error) {
	k, err := s.to.in(rt)
	if err != nil {
		return nil, err
	}
	if err := checkID(s.id); err != nil {
		return nil, err
	}
	return &target{rt: rt, k: k, id: s.id, cell: k.cells.of(s.id)}, nil
}

// A target is an entity that commands of a group are asked of. Once it is locked,
// it is nobody else's turn.
type target struct {
	rt   *Runtime
	k    *kind
	id   string
	cell *cell[any]
	out  store.Write // what all that were accepted decided on

	guessed bool // nobody here knows the entity, and it is thought to be new
}

func (x *target) lock(ctx context.Context) error { return x.cell.lock(ctx) }
func (x *target) tryLock() bool                  { return x.cell.tryLock() }

// refresh brings the entity up to date, or only makes sure that something is
// known of it if it need not be fresh.
func (x *target) refresh(ctx context.Context, rt *Runtime, fresh bool) error {
	if len(x.out.Events) > 0 || x.guessed { // of an earlier try
		x.cell.forget()
	}
	unknown := !x.cell.loaded
	switch x.guessed = unknown && !fresh && x.k.newcomers.likely(); {
	case x.guessed:
		x.cell.loaded, x.cell.folded = true, x.k.unborn()
	case unknown || fresh:
		if _, err := x.k.refresh(ctx, rt, x.id, x.cell); err != nil {
			return err
		}
		if unknown {
			x.k.newcomers.saw(x.cell.version == 0)
		}
	}
	x.out = store.Write{Stream: x.k.stream(x.id), Expect: store.Exactly(x.cell.version)}
	return nil
}

// decide asks a command of the entity as earlier ones of the group left it.
func (x *target) decide(rt *Runtime, a *asked, cmd any) (written, error) {
	if err := x.k.mine(cmd); err != nil {
		return written{}, err
	}
	if v, ok := cmd.(validator); ok {
		if err := v.Validate(); err != nil {
			return written{}, asInvalid(err)
		}
	}
	events, err := x.k.typed.decide(x.cell.state, x.k.stamped(rt, a, x.id, cmd))
	if err != nil {
		_, name := x.k.commandType(cmd)
		return written{}, Rejected{Stream: x.out.Stream, Command: name, Err: err}
	}
	return x.k.write(rt, a, x.out.Stream, x.cell.version, events)
}

// accept takes in what a command decided on.
func (x *target) accept(w written) {
	x.out.Events = append(x.out.Events, w.Events...) // first: should an Apply panic, the state is not what was recorded
	x.k.advance(&x.cell.folded, w.facts)
}

// leave gives the turn back. What the cell holds is the state after the events,
// so unless they were recorded it must be forgotten.
func (x *target) leave(recorded bool) {
	switch {
	case len(x.out.Events) == 0 && !x.guessed:
	case recorded && len(x.out.Events) > 0:
		x.k.takeSnapshot(x.rt, x.id, x.cell, uint64(x.out.Expect))
	default:
		x.cell.forget()
	}
	x.out.Events, x.guessed = nil, false
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
	streams, err = rt.allOrNone(ctx, a, sends, func(streams []string) (store.Write, error) { return a.outcome(outcome{Entities: streams}) })
	if !a.conflictsAt(commandStream(a.ID), err) {
		return streams, err
	}
	prior, found, err := rt.replay(ctx, a)
	if err == nil && !found {
		err = ErrInProgress
	}
	return prior.streams, err
}

// allOrNone asks commands of several entities that are accepted together or not at
// all. What says that they were goes into the same append: if its stream has moved
// on, that is the error. It returns the streams of the entities.
func (rt *Runtime) allOrNone(ctx context.Context, a *asked, sends []Sending, done func(streams []string) (store.Write, error)) ([]string, error) {
	targets := map[string]*target{}
	recorded := false
	defer func() {
		for _, x := range targets {
			x.leave(recorded)
		}
	}()
	// Turns are taken in the order of names, so that groups do not wait for
	// each other in a circle.
	for _, s := range slices.SortedFunc(slices.Values(sends), func(a, b Sending) int { return cmp.Compare(a.stream, b.stream) }) {
		if _, ok := targets[s.stream]; ok {
			continue
		}
		x, err := s.target(rt)
		if err != nil {
			return nil, err
		}
		if err := x.lock(ctx); err != nil {
			return nil, err
		}
		if targets[s.stream] = x; len(targets) > maxTogether {
			return nil, Invalid{Detail: fmt.Sprintf("more than %d entities cannot be written to at once", maxTogether)}
		}
	}
	last, err := done(slices.Sorted(maps.Keys(targets)))
	if err != nil {
		return nil, err
	}
	fresh := false // what is known of the entities was just read
	for try := 0; ; try++ {
		err := rt.tryTogether(ctx, a, sends, targets, last, fresh)
		switch {
		case err == nil:
			recorded = true
			return slices.Sorted(maps.Keys(targets)), nil
		case ctx.Err() != nil || a.conflictsAt(last.Stream, err) || fresh && (!isConflict(err) || try > rt.cfg.Retries):
			return nil, err
		}
		fresh = true
	}
}

// tryTogether reads what is not known, or everything afresh, decides and appends once.
func (rt *Runtime) tryTogether(ctx context.Context, a *asked, sends []Sending, targets map[string]*target, last store.Write, fresh bool) error {
	for _, stream := range sortedKeys(targets) {
		if err := targets[stream].refresh(ctx, rt, fresh); err != nil {
			return err
		}
	}
	var c claims
	for _, s := range sends {
		w, err := targets[s.stream].decide(rt, a, s.cmd)
		if err == nil && w.claims {
			err = rt.claim(ctx, &c, s.stream, w.facts, a.meta)
		}
		if err != nil {
			return err
		}
		if len(w.events) == 0 && !fresh { // that there is nothing to do must not rest on what is out of date
			return errStale
		}
		targets[s.stream].accept(w)
	}
	_, err := rt.append(ctx, append(append(writesOf(targets), c.writes...), last)...)
	return err
}

// writesOf is what commands of several entities decided on, in the order of the
// entities' names.
func writesOf(targets map[string]*target) (writes []store.Write) {
	for _, stream := range sortedKeys(targets) {
		if w := targets[stream].out; len(w.Events) > 0 {
			writes = append(writes, w)
		}
	}
	return writes
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
