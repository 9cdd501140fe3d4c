package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A plan is what follows from one input of an instance: what becomes of it, of
// the entities it sends commands to, of tasks, and of other instances that this
// concerns. All of it is recorded in one append, or nothing is, so there is
// never half an input to be made up for. Everything in a plan is thought only:
// it can be given up and made again, when others were faster.
type plan struct {
	rt    *Runtime
	ctx   context.Context
	now   time.Time
	fresh bool // what is known of entities and instances was just read
	whole bool // one thing at a time: what was to be one append is too much for one

	want  map[string]member // whose turn is needed, from earlier tries
	held  map[string]member
	queue []queued      // inputs for other instances that follow from this one
	extra []store.Write // to streams that are nobody's turn: tasks, stored commands
	steps int
}

// A member of a plan is an entity or an instance.
type member interface {
	lock(ctx context.Context) error
	tryLock() bool
	refresh(ctx context.Context, rt *Runtime, fresh bool) error
	leave(recorded bool)
}

type queued struct {
	stream string
	in     input
}

// errMore reports that a plan needs the turn of somebody else too, and has to be
// made again: turns are taken in the order of names, so that plans do not wait
// for each other in a circle.
var errMore = errors.New("deed: somebody else's turn is needed")

// errStale reports that a plan came to a refusal by what may be out of date.
var errStale = errors.New("deed: to be judged by the present state")

// advance gives an instance an input and records what follows. It returns the
// instance as it is then. The error is [ErrNotFound] if there is no instance,
// and the input does not begin one.
func (rt *Runtime) advance(ctx context.Context, stream string, in input, with ...store.Write) (Instance, error) {
	p := &plan{rt: rt, ctx: ctx, want: map[string]member{}}
	x, err := rt.instance(stream)
	if err != nil {
		return Instance{}, err
	}
	p.want[stream] = x
	for try := 0; ; try++ {
		inst, err := p.attempt(x, in, with)
		switch {
		case err == nil:
			return inst, nil
		case ctx.Err() != nil:
			return inst, ctx.Err()
		case errors.Is(err, errMore):
			try--
		case errors.Is(err, errStale):
			p.fresh = true
		case !p.whole && (isClash(err) || errors.Is(err, errTooMuch)):
			p.whole = true
		case p.whole && errors.Is(err, errTooMuch):
			return inst, engine.Permanent(err)
		case isConflict(err) && try < rt.cfg.Retries && !conflictsWith(err, with):
			p.fresh = true
		default:
			return inst, err
		}
	}
}

// errTooMuch reports that what follows does not fit in one append.
var errTooMuch = errors.New("deed: more streams than one append can write to")

func conflictsWith(err error, writes []store.Write) bool {
	c, ok := errors.AsType[*store.ConflictError](err)
	return ok && slices.ContainsFunc(writes, func(w store.Write) bool { return w.Stream == c.Stream })
}

// attempt makes the plan and records it.
func (p *plan) attempt(x *turn, in input, given []store.Write) (inst Instance, err error) {
	p.held, p.queue, p.extra, p.steps = map[string]member{}, nil, nil, 0
	p.now = p.rt.cfg.Now().UTC()
	recorded := false
	defer func() {
		if v := recover(); v != nil {
			p.rt.cfg.Logger.Error("instance panicked", slog.String("stream", x.stream), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = engine.Permanent(fmt.Errorf("deed: %s panicked: %v", x.stream, v))
		}
		for _, m := range p.held {
			m.leave(recorded)
		}
	}()
	for _, stream := range slices.Sorted(maps.Keys(p.want)) {
		m := p.want[stream]
		if err := m.lock(p.ctx); err != nil {
			return inst, err
		}
		p.held[stream] = m
	}
	for _, m := range p.held {
		if err := m.refresh(p.ctx, p.rt, p.fresh); err != nil {
			return inst, err
		}
	}
	if err := x.take(p, in); err != nil {
		return inst, err
	}
	for len(p.queue) > 0 {
		q := p.queue[0]
		p.queue = p.queue[1:]
		other, err := p.turn(q.stream)
		if err != nil {
			return inst, err
		}
		if err := other.take(p, q.in); err != nil && !errors.Is(err, ErrNotFound) {
			return inst, err
		}
		// What somebody else has begun under this id is not what was to be begun.
		if parent := q.in.parent; parent != "" && other.inst().Parent != parent {
			p.queue = append(p.queue, queued{parent, input{Kind: inputEnded, From: q.stream, ended: other.taken()}})
		}
	}
	inst = x.inst()
	recorded, err = p.record(given)
	return inst, err
}

// record appends all that the plan comes to. Nothing at all is nothing to
// record.
func (p *plan) record(given []store.Write) (bool, error) {
	targets := map[string]target{}
	var turns []*turn
	for stream, m := range p.held {
		switch m := m.(type) {
		case target:
			targets[stream] = m
		case *turn:
			if len(m.moves) > 0 {
				turns = append(turns, m)
			}
		}
	}
	if len(turns) == 0 && len(given) == 0 {
		return false, nil
	}
	slices.SortFunc(turns, func(a, b *turn) int { return cmp.Compare(a.stream, b.stream) })
	writes, err := p.rt.writesOf(p.ctx, targets, slices.Sorted(maps.Keys(targets)), nil)
	if err != nil {
		return false, err
	}
	for _, x := range turns {
		w, err := x.write()
		if err != nil {
			return false, err
		}
		writes = append(writes, w)
	}
	writes = append(append(writes, p.extra...), given...)
	if len(writes) > maxTogether {
		return false, errTooMuch
	}
	if _, err := p.rt.append(p.ctx, writes...); err != nil {
		return false, err
	}
	for _, x := range turns {
		p.rt.instanceMoved(x.inst())
	}
	return true, nil
}

// join takes the turn of somebody if nobody else has it, or says that the plan
// has to be made again with it.
func (p *plan) join(stream string, m member) (member, error) {
	if x, ok := p.held[stream]; ok {
		return x, nil
	}
	p.want[stream] = m
	if !m.tryLock() {
		return nil, errMore
	}
	p.held[stream] = m
	return m, m.refresh(p.ctx, p.rt, p.fresh)
}

func (p *plan) turn(stream string) (*turn, error) {
	x, err := p.rt.instance(stream)
	if err != nil {
		return nil, err
	}
	m, err := p.join(stream, x)
	if err != nil {
		return nil, err
	}
	return m.(*turn), nil
}

// declined is the error of a command that the domain said no to.
type declined struct{ Reason }

// send asks a command, in thought. A refusal is a [declined].
func (p *plan) send(x *turn, s Sending) error {
	if s.target == nil {
		return engine.Permanent(errors.New("deed: an empty Sending: make one with Send"))
	}
	fresh, err := s.target(p.rt)
	if err != nil {
		return p.refuse(x, s, err)
	}
	m, err := p.join(s.stream, fresh)
	if err != nil {
		return err
	}
	a, err := x.asks(p, s)
	if err != nil {
		return err
	}
	refs, err := m.(target).decide(p.rt, a, s.cmd)
	if err != nil {
		return p.refuse(x, s, err)
	}
	done := sent{Stream: s.stream, Command: a.name, ID: a.ID, Events: refs}
	if s.undo != nil {
		if done.Undo, err = p.rt.keep(*s.undo); err != nil {
			return engine.Permanent(err)
		}
	}
	x.sent(done)
	return nil
}

// sendAll asks commands, in thought: either all of them are accepted, or none is.
func (p *plan) sendAll(x *turn, all []Sending) error {
	back := p.mark(x)
	for _, s := range all {
		err := p.send(x, s)
		if _, no := isRefusal(err); no {
			if failed := back(); failed != nil {
				return failed
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mark returns what takes back all that is sent from now on.
func (p *plan) mark(x *turn) (back func() error) {
	sent, known := len(x.cur.Sent), x.cell.state.clone()
	marks := map[string]func(context.Context, *Runtime) error{}
	for stream, m := range p.held {
		if s, ok := m.(target); ok {
			marks[stream] = s.mark()
		}
	}
	return func() error {
		x.cur.Sent, x.cell.state = x.cur.Sent[:sent], known
		for stream, m := range p.held {
			back, had := marks[stream]
			if s, ok := m.(target); ok && !had { // it was not in the plan yet
				back = func(ctx context.Context, rt *Runtime) error { return s.refresh(ctx, rt, false) }
			} else if !ok {
				continue
			}
			if err := back(p.ctx, p.rt); err != nil {
				return err
			}
		}
		return nil
	}
}

// refuse notes that a command was not accepted. A refusal must not rest on a
// state that is out of date.
func (p *plan) refuse(x *turn, s Sending, err error) error {
	why, no := saysNo(err)
	switch {
	case !no && errors.Is(err, ErrUnknown):
		why = Reason{"unknown_command", err.Error()}
	case !no:
		return err
	case !p.fresh:
		return errStale
	}
	x.cur.Refused = append(x.cur.Refused, refused{s.stream, s.called(p.rt), why.Code, clip(why.Text)})
	return declined{why}
}

// spare reports whether another step may go into the same append.
func (p *plan) spare() bool {
	p.steps++
	return !p.whole && len(p.held) < maxTogether/2 || p.steps == 1
}

// asks are the circumstances of a command that an instance sends.
func (x *turn) asks(p *plan, s Sending) (*asked, error) {
	i := &x.cell.state
	id := uuid.NewSHA1(stepSpace, []byte(x.stream+"\x00"+strconv.Itoa(i.Commands+1))).String()
	a := &asked{Call: Call{ID: id, Actor: i.Actor, Correlation: i.Correlation, Causation: x.stream, Source: i.Kind, why: i.cause()}, name: s.called(p.rt), stream: s.stream}
	var err error
	a.meta, err = wire.Marshal(meta{Actor: a.Actor, Command: a.ID, Correlation: a.Correlation, Causation: a.Causation, Source: a.Source})
	return a, err
}
