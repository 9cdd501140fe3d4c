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

	// What earlier tries have found out.
	want     map[string]member  // whose turn is needed
	refusals map[string]refused // which commands that are accepted together or not at all are not, and why

	held   map[string]member
	queue  []queued // inputs for other instances that follow from this one
	claims claims
	tasks  map[string]*plannedTask
	extra  []store.Write // to streams that are nobody's turn: stored commands
	steps  int
	events int
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

// errAgain reports that a plan has found out something that it has to be made
// again with.
var errAgain = errors.New("deed: the plan has to be made again")

// errTooMuch reports that what follows does not fit in one append.
var errTooMuch = fmt.Errorf("deed: too much for one append, which can write to %d streams", maxTogether)

// errNoInstance reports an input for an instance that there is not.
var errNoInstance = fmt.Errorf("%w: there is no such instance", ErrNotFound)

// advance gives an instance an input and records what follows. It returns the
// instance as it is then. The error is [ErrNotFound] if there is no instance,
// and the input does not begin one.
func (rt *Runtime) advance(ctx context.Context, stream string, in input, with ...store.Write) (Instance, error) {
	p := &plan{rt: rt, ctx: ctx, want: map[string]member{}}
	x, err := rt.instance(stream)
	if err != nil {
		return Instance{}, err
	}
	x.begins = in.Kind == inputStarted
	p.want[stream] = x
	for try := 0; ; try++ {
		inst, err := p.attempt(x, in, with)
		switch {
		case err == nil:
			return inst, nil
		case ctx.Err() != nil:
			return inst, ctx.Err()
		case errors.Is(err, errMore), errors.Is(err, errAgain):
			try--
		case errors.Is(err, errStale):
			p.fresh = true
		case !p.whole && p.dividable(in, err):
			p.whole, p.refusals = true, nil
		case errors.Is(err, errTooMuch):
			return inst, engine.Permanent(err)
		case isConflict(err) && (try < rt.cfg.Retries || !p.fresh) && !conflictsWith(err, with):
			p.fresh, p.refusals = true, nil
		default:
			return inst, err
		}
	}
}

// dividable reports whether an input that cannot be recorded together with what
// follows from it may be recorded by itself: if that is too much, or if somebody
// is going to have to repair what follows and nobody waits for an answer. What
// was done outside is then not done again.
func (p *plan) dividable(in input, err error) bool {
	return errors.Is(err, errTooMuch) || engine.IsPermanent(err) && !in.isAsked()
}

func conflictsWith(err error, writes []store.Write) bool {
	c, ok := errors.AsType[*store.ConflictError](err)
	return ok && slices.ContainsFunc(writes, func(w store.Write) bool { return w.Stream == c.Stream })
}

// attempt makes the plan and records it.
func (p *plan) attempt(x *turn, in input, given []store.Write) (inst Instance, err error) {
	p.held, p.queue, p.claims, p.tasks, p.extra, p.steps, p.events = map[string]member{}, nil, claims{}, map[string]*plannedTask{}, nil, 0, 0
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
		other, err := p.turn(q.stream, q.in.Kind == inputStarted)
		if err != nil {
			return inst, err
		}
		if err := other.take(p, q.in); err != nil && !errors.Is(err, errNoInstance) {
			return inst, err
		}
	}
	inst = x.cell.state.clone()
	recorded, err = p.record(given)
	return inst, err
}

// record appends all that the plan comes to. Nothing at all is nothing to
// record.
func (p *plan) record(given []store.Write) (bool, error) {
	targets := map[string]*target{}
	var turns []*turn
	for stream, m := range p.held {
		switch m := m.(type) {
		case *target:
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
	writes := append(writesOf(targets), p.claims.writes...)
	for _, x := range turns {
		w, err := x.write()
		if err != nil {
			return false, err
		}
		writes = append(writes, w)
	}
	for _, id := range sortedKeys(p.tasks) {
		if w := p.tasks[id].write; len(w.Events) > 0 {
			writes = append(writes, w)
		}
	}
	writes = append(append(writes, p.extra...), given...)
	if len(writes) > maxTogether {
		return false, errTooMuch
	}
	if _, err := p.rt.append(p.ctx, writes...); errors.Is(err, store.ErrInvalid) {
		return false, fmt.Errorf("%w: %w", errTooMuch, err)
	} else if err != nil {
		return false, err
	}
	for _, x := range turns {
		p.rt.instanceMoved(x.stream, &x.cell.state)
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

func (p *plan) turn(stream string, begins bool) (*turn, error) {
	x, err := p.rt.instance(stream)
	if err != nil {
		return nil, err
	}
	x.begins = begins
	m, err := p.join(stream, x)
	if err != nil {
		return nil, err
	}
	return m.(*turn), nil
}

// declined is the error of an action that was refused: of a command to which
// the domain said no, for example.
type declined struct {
	Reason
	what refused
}

// isRefusal returns why an action was refused.
func isRefusal(err error) (Reason, bool) {
	r, ok := errors.AsType[declined](err)
	return r.Reason, ok
}

// send asks a command, in thought. A refusal is a [declined].
func (p *plan) send(x *turn, s Sending) error {
	if s.empty() {
		return engine.Permanent(errors.New("deed: an empty Sending: make one with Send"))
	}
	fresh, err := s.target(p.rt)
	if err != nil {
		return p.refuse(x, s.stream, s.called(p.rt), err)
	}
	m, err := p.join(s.stream, fresh)
	if err != nil {
		return err
	}
	a, err := x.asks(p, s)
	if err != nil {
		return err
	}
	w, err := m.(*target).decide(p.rt, a, s.cmd)
	if err == nil && w.claims {
		err = p.rt.claim(p.ctx, &p.claims, s.stream, w.facts, a.meta)
	}
	if err != nil {
		return p.refuse(x, s.stream, a.name, err)
	}
	if len(w.events) == 0 && !p.fresh { // nor must it that there is nothing to do
		return errStale
	}
	m.(*target).accept(w)
	p.events += len(w.events)
	done := sent{Stream: s.stream, Command: a.name, ID: a.ID, Events: w.events}
	if s.undo != nil {
		if done.Undo, err = p.rt.keep(*s.undo); err != nil {
			return engine.Permanent(err)
		}
	}
	x.sent(done)
	return nil
}

// sendAll sends either all of some commands or, if one is refused, none: then the
// plan is made again without them. What tells them from others of the instance.
func (p *plan) sendAll(x *turn, what string, all []Sending) error {
	key := x.stream + "\x00" + what
	if no, known := p.refusals[key]; known {
		x.cur.Refused = append(x.cur.Refused, no)
		return declined{Reason{no.Code, no.Reason}, no}
	}
	for n, s := range all {
		err := p.send(x, s)
		if no, ok := errors.AsType[declined](err); ok && n > 0 {
			if p.refusals == nil {
				p.refusals = map[string]refused{}
			}
			p.refusals[key] = no.what
			return errAgain
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refuse notes that something was not accepted. A refusal must not rest on a
// state that is out of date.
func (p *plan) refuse(x *turn, stream, command string, err error) error {
	why, no := saysNo(err)
	switch {
	case !no && errors.Is(err, ErrUnknown):
		why = Reason{"unknown_command", err.Error()}
	case !no:
		return err
	case !p.fresh:
		return errStale
	}
	what := refused{stream, command, why.Code, clip(why.Text)}
	x.cur.Refused = append(x.cur.Refused, what)
	return declined{why, what}
}

// enough is how many events go into one append together with those of another
// step.
const enough = 500

// spare reports whether another step may go into the same append.
func (p *plan) spare() bool {
	p.steps++
	return !p.whole && len(p.held) < maxTogether/2 && p.events < enough || p.steps == 1
}

// asks are the circumstances of a command that an instance sends.
func (x *turn) asks(p *plan, s Sending) (*asked, error) {
	i := &x.cell.state
	a := &asked{Call: Call{ID: x.commandID(), Actor: i.Actor, Correlation: i.Correlation, Causation: x.stream, Source: i.Kind, Trace: i.Trace, why: i.why()}, name: s.called(p.rt), stream: s.stream}
	var err error
	a.meta, err = wire.Marshal(meta{Actor: a.Actor, Command: a.ID, Correlation: a.Correlation, Causation: a.Causation, Source: a.Source, Trace: a.Trace})
	return a, err
}

// commandID makes the id of the next command that an instance sends.
func (x *turn) commandID() string {
	return uuid.NewSHA1(stepSpace, []byte(x.stream+"\x00"+strconv.Itoa(x.cell.state.Commands+1))).String()
}
