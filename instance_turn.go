package deed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A machine is a [Process] or [Saga] as its instances see it: it says what
// follows from an input. It changes nothing but the turn and the plan.
type machine interface {
	// move takes in an input of an instance that is not over.
	move(p *plan, x *turn, in input) error
	// late takes in an event that came after the end; false: it is ignored.
	late(p *plan, x *turn, in input) (bool, error)
	// fail begins to undo what the instance did.
	fail(p *plan, x *turn, why Reason) error
	// undo goes on with undoing as far as it can.
	undo(p *plan, x *turn) error
	// next is when the instance goes on with its steps by itself; zero: never.
	next(x *turn, now time.Time) time.Time
}

// A turn is an instance in a plan.
type turn struct {
	stream string
	cell   *cell[Instance]
	defs   *definitions
	def    machine
	before uint64
	moves  []moved
	cur    *moved

	started []string // steps that have begun only in this plan
	begins  bool     // it is to be begun: unless it is known here, it is thought not to exist
	guessed bool     // that is all that is known
}

// definitions are the versions of a process or saga that a program has.
type definitions struct {
	kind, name, doc string
	current         int
	byVersion       map[int]machine
	roles           []string                         // who may begin and cancel it
	follower        string                           // which gives it events; "": it takes in none
	caught          caught                           // how far that has come
	zero            json.RawMessage                  // the state a process begins with
	proto           any                              // of the state a saga begins with
	cron            string                           // of a schedule
	start           func(body []byte) (input, error) // nil: it is a process
	steps           []SagaStepInfo
	reactions       []ReactionInfo
}

func (d *definitions) hasStep(name string) bool {
	return slices.ContainsFunc(d.steps, func(st SagaStepInfo) bool { return st.Name == name })
}

func (rt *Runtime) instance(stream string) (*turn, error) {
	category := store.Category(stream)
	name, id := splitInstance(strings.TrimPrefix(stream, category+"/"))
	d, ok := rt.machines[category+"/"+name]
	if !ok {
		return nil, fmt.Errorf("%w: this program has no %s %q", ErrUnknown, strings.TrimPrefix(category, "$"), name)
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	return &turn{stream: stream, cell: rt.instances.of(stream), defs: d}, nil
}

func (x *turn) lock(ctx context.Context) error { return x.cell.lock(ctx) }
func (x *turn) tryLock() bool                  { return x.cell.tryLock() }

func (x *turn) leave(recorded bool) {
	if !recorded && (len(x.moves) > 0 || x.guessed) {
		x.cell.forget()
	}
	x.moves, x.cur, x.guessed = nil, nil, false
	x.cell.unlock()
}

func (x *turn) refresh(ctx context.Context, rt *Runtime, fresh bool) error {
	if len(x.moves) > 0 {
		x.cell.forget()
	}
	x.moves, x.cur, x.started = nil, nil, nil
	unknown := !x.cell.loaded || x.cell.version == 0 // that there is no instance may change
	x.guessed = unknown && x.begins && !fresh
	if fresh || unknown && !x.guessed {
		if err := rt.foldInstance(ctx, x.stream, &x.cell.folded); err != nil {
			x.cell.forget()
			return err
		}
	}
	x.cell.loaded = true
	x.before = x.cell.version
	return nil
}

// foldInstance takes in the records after f.version.
func (rt *Runtime) foldInstance(ctx context.Context, stream string, f *folded[Instance]) error {
	for rec, err := range rt.store.Read(ctx, stream, store.Range{From: f.version + 1}) {
		if err != nil {
			return storeError(err)
		}
		m, e, err := rt.understand(rec)
		if err != nil {
			return err
		}
		f.state.take(m, e.(moved))
		f.version = rec.Version
	}
	return nil
}

// take takes an input in, in thought.
func (x *turn) take(p *plan, in input) error {
	i := &x.cell.state
	began := x.cell.version > 0
	switch {
	case in.Kind == inputStarted && began:
		return p.again(x, in)
	case in.Kind != inputStarted && !began && x.guessed:
		return errStale
	case in.Kind != inputStarted && !began && in.state == nil:
		return errNoInstance
	case in.From != "" && in.Version > 0 && in.Version <= i.seen[in.From]:
		return nil // it was taken in before
	}
	version := x.defs.current
	if began {
		version = i.Definition
	}
	def, ok := x.defs.byVersion[version]
	if !ok && !in.needsNobody(i.State.Over()) {
		return x.outOfDate(version)
	}
	x.def = def
	x.open(p, in, began)
	if err := x.handle(p, in, began); err != nil {
		return err
	}
	x.cur.More = i.more
	x.cur.Wake = x.wake(p)
	i.Wake = x.cur.Wake
	x.cell.version++
	i.version = x.cell.version
	return nil
}

func (x *turn) outOfDate(version int) error {
	return engine.Permanent(fmt.Errorf("%w %d of %s, with which %s was begun: add it to Former, or close the instance", ErrVersionGone, version, x.defs.name, x.stream))
}

// needsNobody reports whether an input can be taken in without the definition
// of the instance.
func (in input) needsNobody(over bool) bool {
	if in.Kind == inputRequest {
		return in.Request == requestClose
	}
	return over
}

// open begins a record.
func (x *turn) open(p *plan, in input, began bool) {
	i := &x.cell.state
	x.moves = append(x.moves, moved{Input: in})
	x.cur = &x.moves[len(x.moves)-1]
	if !began {
		call := callOf(p.ctx)
		actor, correlation, trace := call.Actor, call.Correlation, call.Trace
		if in.Kind == inputEvent || in.parent != "" {
			actor, correlation, trace = in.meta.Actor, in.meta.Correlation, in.meta.Trace
		}
		if correlation == "" {
			correlation = strings.TrimPrefix(x.stream, "$")
		}
		x.cur.Definition, x.cur.Parent = x.defs.current, in.parent
		category := store.Category(x.stream)
		i.begin(Meta{Aggregate: category, ID: strings.TrimPrefix(x.stream, category+"/"), Time: p.now, Actor: actor, Correlation: correlation, Trace: trace}, *x.cur)
		x.set(in.state)
	}
	i.Changed = p.now
	if in.From != "" && in.Version > 0 {
		if i.seen == nil {
			i.seen = map[string]uint64{}
		}
		i.seen[in.From] = in.Version
	}
}

// handle lets the machine say what follows.
func (x *turn) handle(p *plan, in input, began bool) error {
	i := &x.cell.state
	switch {
	case in.Kind == inputRequest:
		return x.requested(p, in)
	case in.Kind == inputStuck:
		return x.cannotGoOn(in)
	case in.Kind == inputTimer && !i.Timers[in.Name].Equal(in.due):
		return errMoved
	case in.Kind == inputDecision && i.Tasks[in.Name] != in.decision.Task && !p.fresh:
		return errStale
	case in.Kind == inputTimer:
		x.setTimer(in.Name, time.Time{})
	case in.Kind == inputDecision && i.Tasks[in.Name] != in.decision.Task:
		return ErrDecided
	case in.Kind == inputDecision:
		x.setTask(in.Name, "")
		x.setTimer(dueTimer+in.Name, time.Time{})
		x.setTimer(escalateTimer+in.Name, time.Time{})
	}
	if began && i.State.Over() {
		known, err := false, error(nil)
		if x.def != nil {
			known, err = x.def.late(p, x, in)
		}
		if !known {
			x.ignore()
		}
		return err
	}
	return x.def.move(p, x, in)
}

// errMoved reports that a timer was set anew before it could go off, or that the
// instance has moved on otherwise.
var errMoved = errors.New("deed: the instance has moved on")

// cannotGoOn lets an instance wait for somebody because its code fails, unless
// something has come in since.
func (x *turn) cannotGoOn(in input) error {
	i := &x.cell.state
	if i.State.Over() || i.State == InstanceStuck || !i.Wake.Equal(in.due) {
		return errMoved
	}
	x.stick(Reason{codeStuck, in.Reason})
	return nil
}

// again answers who begins an instance that there is.
func (p *plan) again(x *turn, in input) error {
	if !p.fresh {
		return errStale
	}
	var first moved
	if x.before == 0 { // it was begun by this very plan
		first = x.moves[0]
	}
	for rec, err := range p.rt.store.Read(p.ctx, x.stream, store.Range{Limit: 1}) {
		if err != nil {
			return storeError(err)
		}
		if err := wire.Unmarshal(rec.Data, &first); err != nil {
			return err
		}
	}
	if first.Input.Kind == inputStarted && first.Input.Hash == in.Hash {
		return nil
	}
	return ErrMismatch
}

// wake is when somebody has to come back to the instance.
func (x *turn) wake(p *plan) time.Time {
	i := &x.cell.state
	if i.State.Over() || i.State == InstanceStuck {
		return time.Time{}
	}
	at := i.earliest()
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	sooner(x.def.next(x, p.now))
	if i.more {
		sooner(p.now)
	}
	return at
}

// apart reports whether what follows from an input is left to another append,
// because together they are too much for one.
func (x *turn) apart(p *plan) bool {
	x.cell.state.more = p.whole && x.cur.Input.Kind != inputGoOn
	return x.cell.state.more
}

// full reports whether there is no room for another step in the append. The
// instance then goes on with it in another one.
func (x *turn) full(p *plan) bool {
	x.cell.state.more = !p.spare()
	return x.cell.state.more
}

func (x *turn) set(state json.RawMessage) {
	i := &x.cell.state
	if state == nil || bytes.Equal(state, i.Data) {
		return
	}
	i.Data, x.cur.State = state, state
}

func (x *turn) sent(c sent) {
	i := &x.cell.state
	i.Commands++
	i.touched(c.Stream)
	if c.Undo != nil {
		i.Undo = append([]UndoCommand{*c.Undo}, i.Undo...)
	}
	x.cur.Sent = append(x.cur.Sent, c)
}

// touched notes entities that a step asked commands of, as far as there is room.
func (x *turn) touched(streams []string) {
	i := &x.cell.state
	before := len(i.Entities)
	for _, stream := range streams {
		i.touched(stream)
	}
	x.cur.Touched = i.Entities[before:]
}

// setTimer has a timer go off at a time, or takes it back if that is zero. Times
// in the log are whole microseconds; so is this one, rounded up. Else what happens
// in the instant in which it goes off would seem to have happened before.
func (x *turn) setTimer(name string, at time.Time) {
	if part := at.Nanosecond() % int(time.Microsecond); part > 0 {
		at = at.Add(time.Microsecond - time.Duration(part))
	}
	i := &x.cell.state
	if _, set := i.Timers[name]; !set && at.IsZero() {
		return
	}
	i.setTimer(name, at)
	x.cur.Timers = append(slices.DeleteFunc(x.cur.Timers, func(t timerSet) bool { return t.Name == name }), timerSet{name, at})
}

func (x *turn) setTask(name, task string) {
	i := &x.cell.state
	if i.Tasks[name] == task {
		return
	}
	i.setTask(name, task)
	x.cur.Tasks = append(slices.DeleteFunc(x.cur.Tasks, func(t taskSet) bool { return t.Name == name }), taskSet{name, task})
}

func (x *turn) step(e stepMoved) {
	e.Error = clip(e.Error)
	i := &x.cell.state
	i.moveStep(Meta{Time: i.Changed}, e)
	x.cur.Steps = append(x.cur.Steps, e)
}

// become changes the state of the instance.
func (x *turn) become(s InstanceState, why Reason) {
	i := &x.cell.state
	x.cur.Status, x.cur.Code, x.cur.Reason = s, why.Code, clip(why.Text)
	if s == InstanceUndoing {
		x.cur.Cause = &cause{x.cur.Code, x.cur.Reason}
	}
	i.settle(Meta{Time: i.Changed}, *x.cur)
}

// ignore notes that an input came too late to matter.
func (x *turn) ignore() {
	x.cur.Ignored = true
	x.cell.state.Ignored++
}

// turnBack begins to undo: nothing is waited for any more.
func (x *turn) turnBack(p *plan, why Reason) error {
	if err := p.withdrawAll(x, why.Text); err != nil {
		return err
	}
	for _, name := range sortedKeys(x.cell.state.Timers) {
		x.setTimer(name, time.Time{})
	}
	x.become(InstanceUndoing, why)
	return nil
}

// end lets the instance be over, and tells who has begun it.
func (x *turn) end(p *plan, s InstanceState, why Reason) error {
	if err := p.withdrawAll(x, "the "+x.defs.kind+" is over"); err != nil {
		return err
	}
	x.become(s, why)
	x.cell.state.more = false
	if i := x.cell.state.clone(); i.Parent != "" {
		p.queue = append(p.queue, queued{i.Parent, input{Kind: inputEnded, From: x.stream, Name: i.Name, ended: &i}})
	}
	return nil
}

// stick lets the instance wait for somebody to repair it.
func (x *turn) stick(why Reason) { x.become(InstanceStuck, why) }

// unstick lets the instance go on as it was going before it got stuck.
func (x *turn) unstick() {
	i := &x.cell.state
	switch {
	case i.State != InstanceStuck:
	case !i.TurnedBack:
		x.become(InstanceRunning, Reason{})
	default:
		x.become(InstanceUndoing, Reason{i.cause.Code, i.cause.Reason})
	}
}

// undone lets the instance be over because all it did is undone.
func (x *turn) undone(p *plan) error {
	why := x.cell.state.cause
	return x.end(p, InstanceUndone, Reason{why.Code, why.Reason})
}

// write is the instance's share of the append.
func (x *turn) write() (store.Write, error) {
	w := store.Write{Stream: x.stream, Expect: store.Exactly(x.before)}
	i := &x.cell.state
	for _, e := range x.moves {
		data, err := wire.Marshal(e)
		if err != nil {
			return w, err
		}
		m := meta{Actor: i.Actor, Correlation: i.Correlation, Source: i.Kind, Trace: i.Trace}
		switch in := e.Input; in.Kind {
		case inputEvent:
			m.Causation = in.meta.Event.String()
		case inputStarted:
			m.Causation = in.parent
		case inputEnded:
			m.Causation = in.From
		case inputDecision, inputRequest:
			m.Actor, m.Causation = in.actor, in.From
		}
		circumstances, err := wire.Marshal(m)
		if err != nil {
			return w, err
		}
		w.Events = append(w.Events, store.Event{ID: newEventID(), Type: e.Input.Kind, Data: data, Meta: circumstances})
	}
	return w, nil
}
