package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
)

// A Saga does something that concerns several entities or services, in steps,
// and undoes the steps that were done, in reverse order, if a later one cannot
// be. Its state S is recorded with each step. No code is run again to find out
// where a saga was; after a crash it goes on at the first step that is not done.
//
// Steps that only send commands are recorded in the same append as the events
// that the commands are answered with, so they happen exactly once; several of
// them in a row share one append. A step that does something outside is done
// at least once, under a key that stays the same.
type Saga[S any] struct {
	Name    string   // lower-case words joined by hyphens: begun with POST /v1/sagas/{name}/{id}
	Doc     string   // one sentence for people
	Version int      // of this definition: change it when steps change that running sagas have begun
	State   S        // the prototype: defaults for what an arriving state does not have
	Roles   []string // who may begin and cancel it, if access is checked; none = administrators
	Steps   []SagaStep[S]
	Former  []Saga[S] // earlier versions, for sagas that were begun with them
}

// A SagaStep is part of a [Saga]. It does one thing: Send, Do, Ask, Await or
// Begin, whichever is set.
type SagaStep[S any] struct {
	Name string                    // lower-case words joined by hyphens; stored
	When func(id string, s S) bool // the step is skipped if this says no; nil: it never is

	// Send says which commands to send. Either all are accepted, or none is and
	// the saga is undone.
	Send func(id string, s S) []Sending
	// Do does something outside, and may change s. If it returns a [Reason], or
	// what a command that it asked was rejected for, the saga is undone. Any
	// other error is something in the way: it is tried again, see Retry, and if
	// that does not help the saga is undone too.
	Do func(ctx context.Context, w *Work, s *S) error
	// Ask says what somebody has to decide, and Decided takes the decision in;
	// an error means that the saga is undone. Without Decided, any choice but
	// the first does that.
	Ask     func(id string, s S) Question
	Decided func(s *S, d Decision) error
	// Await is an event that has to happen; make it with [Await].
	Await Awaited[S]
	// Begin begins another saga, made with Saga.Begin, and waits for its end.
	Begin func(id string, s S) Action

	// Undo says which commands undo what the step did: all are accepted, or none
	// is. UndoDo does so outside. It must be able to undo a step of which nobody
	// knows how far it came, see Work.Unclear. If undoing fails, the saga is
	// stuck, and has to be repaired.
	Undo   func(id string, s S) []Sending
	UndoDo func(ctx context.Context, w *Work, s *S) error

	Beside  bool          // it is done at the same time as the step before it; the two may change different fields of S
	Within  time.Duration // of waiting (Await, Begin): if it takes longer, the saga is undone; 0 = for ever
	Retry   Retry         // of Do, and of UndoDo unless there is an UndoRetry
	Timeout time.Duration // of one attempt at Do or UndoDo; default 1 minute

	// UndoRetry is the patience that UndoDo needs: when that is at an end, the
	// saga is stuck, and a person has to see to it.
	UndoRetry Retry
}

// An Awaited is an event that a step of a saga waits for. Make one with [Await].
type Awaited[S any] struct {
	event reflect.Type
	key   func(Meta, any) string
	take  func(*S, Meta, any) error
}

// Await waits for an E of which key says that it concerns the saga of that id.
// An E that happens before the saga is at the step counts as well. If f, which
// may be nil, returns an error, the saga is undone.
func Await[S, E any](key func(E) string, f func(*S, E) error) Awaited[S] {
	typ, _, unwrap := eventType[E]()
	a := Awaited[S]{event: typ, key: func(m Meta, e any) string { return key(unwrap(m, e)) }}
	if f != nil {
		a.take = func(s *S, m Meta, e any) error { return f(s, unwrap(m, e)) }
	}
	return a
}

// Start begins a saga and returns when that is recorded, together with the
// steps that could be done at once. Starting it again with the same id and state
// changes nothing, with another state it is [ErrMismatch].
func (g Saga[S]) Start(ctx context.Context, rt *Runtime, id string, s S) (Instance, error) {
	in, err := g.starting(s)
	if err != nil {
		return Instance{}, err
	}
	d, ok := rt.machines[sagaCategory+"/"+g.Name]
	if !ok {
		return Instance{}, fmt.Errorf("%w: the runtime has no saga %q", ErrUnknown, g.Name)
	}
	return rt.startSaga(ctx, d, id, in)
}

// Begin begins a saga, as an action of a process or a step of another saga.
func (g Saga[S]) Begin(id string, s S) Action { return beginSaga[S]{g, id, s} }

func (g Saga[S]) stream(id string) string { return instanceStream(sagaCategory, g.Name, id) }

func (g Saga[S]) starting(s S) (input, error) {
	if v, ok := any(s).(validator); ok {
		if err := v.Validate(); err != nil {
			return input{}, asInvalid(err)
		}
	}
	state, err := wire.Marshal(s)
	return input{Kind: inputStarted, Hash: digest(string(state)), state: state}, err
}

type beginSaga[S any] struct {
	saga Saga[S]
	id   string
	s    S
}

func (b beginSaga[S]) plan(p *plan, x *turn) error {
	in, err := b.saga.starting(b.s)
	if err != nil {
		return p.refuse(x, b.to(), "saga."+b.saga.Name, err)
	}
	stream := b.to()
	in.parent, in.meta = x.stream, Meta{Actor: x.cell.state.Actor, Correlation: x.cell.state.Correlation}
	there, err := p.hasBegun(stream, in)
	if err != nil {
		return p.refuse(x, stream, "saga."+b.saga.Name, err)
	}
	if !there {
		x.cur.Begun = append(x.cur.Begun, stream)
		p.queue = append(p.queue, queued{stream, in})
	}
	return nil
}

// hasBegun reports whether an instance that is to be begun has been, by the same
// parent and with the same state.
func (p *plan) hasBegun(stream string, in input) (bool, error) {
	child, err := p.turn(stream)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(p.queue, func(q queued) bool { return q.stream == stream && q.in.Kind == inputStarted && q.in.Hash == in.Hash }) {
		return true, nil
	}
	if child.cell.version == 0 {
		return false, nil
	}
	if err := p.again(child, in); err != nil && !errors.Is(err, ErrMismatch) {
		return false, err
	} else if err != nil || child.cell.state.Parent != in.parent {
		return false, Reason{codeExists, strings.TrimPrefix(stream, "$") + " exists already, and was begun by somebody else or with another state"}
	}
	return true, nil
}

func (g Saga[S]) order() int { return 3 }

func (g Saga[S]) register(rt *Runtime) error {
	if err := survivesJSON[S](); err != nil {
		return fmt.Errorf("saga %s: its state cannot be stored: %w", g.Name, err)
	}
	d := &definitions{kind: "saga", name: g.Name, doc: g.Doc, current: g.Version, roles: g.Roles, byVersion: map[int]machine{}}
	for _, v := range append([]Saga[S]{g}, g.Former...) {
		if err := v.check(); err != nil {
			return fmt.Errorf("saga %s: %w", g.Name, err)
		}
		if _, dup := d.byVersion[v.Version]; dup {
			return fmt.Errorf("saga %s has two versions %d", g.Name, v.Version)
		}
		d.byVersion[v.Version] = &saga[S]{Saga: v}
	}
	d.start = func(body []byte) (input, error) {
		v, err := wire.New(g.State)
		if err != nil {
			return input{}, err
		}
		if err := decodeInto(body, v); err != nil {
			return input{}, err
		}
		return g.starting(v.Elem().Interface().(S))
	}
	for _, st := range g.Steps {
		d.steps = append(d.steps, stepInfo(rt, st))
	}
	return rt.addMachine(d, g.awaits(), g.route)
}

// awaits are the types of the events that some version waits for.
func (g Saga[S]) awaits() (types []reflect.Type) {
	for _, v := range append([]Saga[S]{g}, g.Former...) {
		for _, st := range v.Steps {
			if t := st.Await.event; t != nil && !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	return types
}

// route says which sagas an event concerns.
func (g Saga[S]) route(m Meta, e any) (ids []string) {
	for _, v := range append([]Saga[S]{g}, g.Former...) {
		for _, st := range v.Steps {
			if st.Await.event != reflect.TypeOf(e) {
				continue
			}
			if id := st.Await.key(m, e); id != "" && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func (g Saga[S]) check() error {
	if err := checkName("saga", g.Name); err != nil {
		return err
	}
	if slices.Contains([]string{requestCancel, requestRetry, requestUndo}, g.Name) {
		return fmt.Errorf("the HTTP API uses that name")
	}
	if len(g.Steps) == 0 {
		return fmt.Errorf("has no steps")
	}
	for i, st := range g.Steps {
		if err := checkName("step", st.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(g.Steps[:i], func(other SagaStep[S]) bool { return other.Name == st.Name }) {
			return fmt.Errorf("two steps are named %q", st.Name)
		}
		if n := len(st.does()); n != 1 {
			return fmt.Errorf("step %s must do one thing: set Send, Do, Ask, Await or Begin (it has %d of them)", st.Name, n)
		}
		if st.Undo != nil && st.UndoDo != nil {
			return fmt.Errorf("step %s has both Undo and UndoDo", st.Name)
		}
	}
	return nil
}

// does names what a step does.
func (st SagaStep[S]) does() (what []string) {
	for _, d := range []struct {
		what string
		set  bool
	}{{"send", st.Send != nil}, {"do", st.Do != nil}, {"ask", st.Ask != nil}, {"await", st.Await.event != nil}, {"begin", st.Begin != nil}} {
		if d.set {
			what = append(what, d.what)
		}
	}
	return what
}

func stepInfo[S any](rt *Runtime, st SagaStep[S]) SagaStepInfo {
	i := SagaStepInfo{Name: st.Name, Does: st.does()[0], Undo: st.Undo != nil || st.UndoDo != nil || st.Begin != nil, Beside: st.Beside}
	if st.Await.event != nil {
		i.Events = rt.namesOf(st.Await.event)
	}
	return i
}

// saga is a version of a Saga as a machine.
type saga[S any] struct{ Saga[S] }

func (g *saga[S]) state(x *turn) (s S, err error) {
	err = wire.Unmarshal(x.cell.state.Data, &s)
	return s, err
}

func (g *saga[S]) setState(x *turn, s S) error {
	data, err := wire.Marshal(s)
	x.set(data)
	return err
}

func (g *saga[S]) find(name string) (SagaStep[S], bool) {
	i := slices.IndexFunc(g.Steps, func(st SagaStep[S]) bool { return st.Name == name })
	if i < 0 {
		return SagaStep[S]{}, false
	}
	return g.Steps[i], true
}

// move takes in an input of a saga that is not over.
func (g *saga[S]) move(p *plan, x *turn, in input) error {
	if name, ok := g.stranger(x); ok {
		return engine.Permanent(fmt.Errorf("deed: %s has begun the step %s, which version %d of saga %s does not have: give it that name again, or add the old definition to Former", x.stream, name, g.Version, g.Name))
	}
	switch in.Kind {
	case inputStarted, inputGoOn:
		return g.goOn(p, x)
	case inputEvent:
		return g.happened(p, x, in)
	case inputTimer:
		return g.timeIsUp(p, x, in)
	case inputDecision:
		return g.decided(p, x, in)
	case inputWork:
		return g.worked(p, x, in)
	case inputEnded:
		return g.ended(p, x, in)
	}
	return nil
}

// stranger returns a step that was begun and that the definition does not have.
func (g *saga[S]) stranger(x *turn) (string, bool) {
	for _, have := range x.cell.state.Steps {
		if _, ok := g.find(have.Name); !ok {
			return have.Name, true
		}
	}
	return "", false
}

// next is when a step that does something outside is due. That the saga is turned
// back does not wait for the next attempt at one.
func (g *saga[S]) next(x *turn, now time.Time) (at time.Time) {
	i := &x.cell.state
	for _, have := range i.Steps {
		st, _ := g.find(have.Name)
		due := have.Next
		switch {
		case have.State == StepBegun && i.State == InstanceUndoing:
			due = now
		case have.State == StepBegun, have.State == StepUndoing && st.UndoDo != nil:
			if due.IsZero() {
				due = now
			}
		default:
			continue
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return at
}

// late lets events pass that come after the end.
func (g *saga[S]) late(p *plan, x *turn, in input) (bool, error) {
	return in.Kind == inputGoOn || in.Kind == inputTimer, nil
}

// goOn does whatever can be done now.
func (g *saga[S]) goOn(p *plan, x *turn) error {
	x.cell.state.more = false
	switch x.cell.state.State {
	case InstanceRunning:
		return g.forward(p, x)
	case InstanceUndoing:
		return g.undo(p, x)
	}
	return nil
}

func finished(st *InstanceStep) bool {
	return st != nil && (st.State == StepDone || st.State == StepSkipped)
}

// groups yields the steps in order, each with those that are done beside it.
func (g *saga[S]) groups(yield func([]SagaStep[S]) bool) {
	for from := 0; from < len(g.Steps); {
		to := from + 1
		for to < len(g.Steps) && g.Steps[to].Beside {
			to++
		}
		if !yield(g.Steps[from:to]) {
			return
		}
		from = to
	}
}

// forward begins the steps that come next, and those after them when they are
// done at once.
func (g *saga[S]) forward(p *plan, x *turn) error {
	if x.apart(p) {
		return nil
	}
	for group := range g.groups {
		if waits, err := g.together(p, x, group); waits || err != nil {
			return err
		}
	}
	return x.end(p, InstanceCompleted, Reason{})
}

// together begins those of some steps that have not begun, and reports whether
// one of them is not done at once.
func (g *saga[S]) together(p *plan, x *turn, group []SagaStep[S]) (waits bool, err error) {
	for _, st := range group {
		if x.cell.state.step(st.Name) == nil {
			if x.full(p) {
				return true, nil
			}
			err := g.begin(p, x, st)
			if why, no := isRefusal(err); no {
				x.step(stepMoved{Name: st.Name, State: StepRefused, Error: why.Text})
				return true, g.fail(p, x, why)
			}
			if err != nil {
				return true, err
			}
		}
		waits = waits || !finished(x.cell.state.step(st.Name))
	}
	return waits, nil
}

// begin begins a step.
func (g *saga[S]) begin(p *plan, x *turn, st SagaStep[S]) error {
	s, err := g.state(x)
	if err != nil {
		return engine.Permanent(err)
	}
	id := x.cell.state.ID
	to := StepWaiting
	switch {
	case st.When != nil && !st.When(id, s):
		to = StepSkipped
	case st.Send != nil:
		to, err = StepDone, p.sendAll(x, st.Name, st.Send(id, s))
	case st.Do != nil:
		to = StepBegun
		x.started = append(x.started, st.Name)
	case st.Ask != nil:
		err = p.open(x, st.Name, st.Ask(id, s))
	case st.Begin != nil:
		var child beginning
		if child, err = g.child(x, st); err == nil {
			err = child.plan(p, x)
		}
	}
	if err != nil {
		return err
	}
	if to == StepWaiting && st.Within > 0 && st.Ask == nil {
		x.setTimer(st.Name, p.now.Add(st.Within))
	}
	x.step(stepMoved{Name: st.Name, State: to})
	return nil
}

// done records that a step is done, and goes on.
func (g *saga[S]) done(p *plan, x *turn, step string, e stepMoved) error {
	x.setTimer(step, time.Time{})
	e.Name = step
	x.step(e)
	return g.goOn(p, x)
}

// refused records that a step cannot be done, and turns back.
func (g *saga[S]) refused(p *plan, x *turn, e stepMoved, why Reason) error {
	x.setTimer(e.Name, time.Time{})
	e.Error = why.Text
	x.step(e)
	if x.cell.state.goesForward() {
		return g.fail(p, x, why)
	}
	return g.goOn(p, x)
}

// happened takes in an event that some step waits for, or is going to.
func (g *saga[S]) happened(p *plan, x *turn, in input) error {
	for _, st := range g.Steps {
		if st.Await.event != reflect.TypeOf(in.event) || st.Await.key(in.meta, in.event) != x.cell.state.ID {
			continue
		}
		if finished(x.cell.state.step(st.Name)) || !x.cell.state.goesForward() {
			continue
		}
		s, err := g.state(x)
		if err != nil {
			return engine.Permanent(err)
		}
		if st.Await.take != nil {
			if err := st.Await.take(&s, in.meta, in.event); err != nil {
				return g.refused(p, x, stepMoved{Name: st.Name, State: StepRefused}, reasonFor(err))
			}
		}
		if err := g.setState(x, s); err != nil {
			return engine.Permanent(err)
		}
		return g.done(p, x, st.Name, stepMoved{State: StepDone})
	}
	x.ignore()
	return nil
}

// timeIsUp turns back because a step has waited too long.
func (g *saga[S]) timeIsUp(p *plan, x *turn, in input) error {
	if done, err := p.taskTimer(x, in); done || err != nil {
		return err
	}
	if st := x.cell.state.step(in.Name); st == nil || st.State != StepWaiting || !x.cell.state.goesForward() {
		return nil
	}
	return g.refused(p, x, stepMoved{Name: in.Name, State: StepFailed, Unclear: true}, Reason{codeOverdue, "step " + in.Name + " took too long"})
}

// decided takes in what somebody has decided.
func (g *saga[S]) decided(p *plan, x *turn, in input) error {
	st, ok := g.find(in.Name)
	if was := x.cell.state.step(in.Name); !ok || was == nil || was.State != StepWaiting {
		return nil
	}
	s, err := g.state(x)
	if err != nil {
		return engine.Permanent(err)
	}
	if st.Decided != nil {
		err = st.Decided(&s, in.decision)
	} else {
		err = in.decision.unless(st.Ask(x.cell.state.ID, s))
	}
	if err != nil {
		return g.refused(p, x, stepMoved{Name: st.Name, State: StepRefused}, reasonFor(err))
	}
	if err := g.setState(x, s); err != nil {
		return engine.Permanent(err)
	}
	return g.done(p, x, st.Name, stepMoved{State: StepDone})
}

// ended takes in that a saga is over which a step has begun.
func (g *saga[S]) ended(p *plan, x *turn, in input) error {
	for _, st := range g.Steps {
		was := x.cell.state.step(st.Name)
		if st.Begin == nil || was == nil || was.State != StepWaiting && was.State != StepUndoing || !g.began(x, st, in.From) {
			continue
		}
		child := in.ended
		switch {
		case was.State == StepUndoing && child.State == InstanceCompleted:
			return nil // it is going to be undone
		case was.State == StepUndoing:
			return g.done(p, x, st.Name, stepMoved{State: StepUndone})
		case child.State == InstanceUndone:
			return g.refused(p, x, stepMoved{Name: st.Name, State: StepRefused}, Reason{child.Code, child.Name + " " + child.ID + ": " + child.Reason})
		}
		return g.done(p, x, st.Name, stepMoved{State: StepDone})
	}
	return nil
}

// began reports whether a step began the instance in a stream.
func (g *saga[S]) began(x *turn, st SagaStep[S], stream string) bool {
	child, err := g.child(x, st)
	return err == nil && child.to() == stream
}

// A beginning is an action that begins a saga.
type beginning interface {
	Action
	to() string // its stream
}

// child is what a step begins.
func (g *saga[S]) child(x *turn, st SagaStep[S]) (beginning, error) {
	s, err := g.state(x)
	if err != nil {
		return nil, engine.Permanent(err)
	}
	b, ok := st.Begin(x.cell.state.ID, s).(beginning)
	if !ok {
		return nil, engine.Permanent(fmt.Errorf("deed: step %s of saga %s begins no saga: make what Begin returns with Saga.Begin", st.Name, g.Name))
	}
	return b, nil
}

func (b beginSaga[S]) to() string { return b.saga.stream(b.id) }

// fail turns back.
func (g *saga[S]) fail(p *plan, x *turn, why Reason) error {
	if err := x.turnBack(p, why); err != nil {
		return err
	}
	return g.undo(p, x)
}

// undo undoes steps, the last one first, as far as it can.
func (g *saga[S]) undo(p *plan, x *turn) error {
	if x.apart(p) {
		return nil
	}
	i := &x.cell.state
	for _, st := range slices.Backward(g.Steps) {
		was := i.step(st.Name)
		switch {
		case was == nil, was.State == StepUndone, was.State == StepSkipped:
			continue
		case was.State == StepRefused && !was.Unclear:
			continue
		case was.State == StepBegun && slices.Contains(x.started, st.Name): // only in thought
			x.step(stepMoved{Name: st.Name, State: StepRefused, Error: turnedBack})
			continue
		case was.State == StepBegun: // it may be being done at this moment: that has to end first
			return nil
		case was.State == StepWaiting && st.Begin == nil:
			x.step(stepMoved{Name: st.Name, State: StepRefused, Error: turnedBack})
			continue
		case was.State == StepUndoing && st.UndoDo != nil: // it is being undone
			return nil
		}
		if x.full(p) {
			return nil
		}
		waits, err := g.undoStep(p, x, st, *was)
		if waits || err != nil {
			return err
		}
	}
	return x.undone(p)
}

// turnedBack is what is recorded of a step that nothing came of.
const turnedBack = "the saga was turned back"

// undoStep undoes one step, or begins to.
func (g *saga[S]) undoStep(p *plan, x *turn, st SagaStep[S], was InstanceStep) (waits bool, err error) {
	s, err := g.state(x)
	if err != nil {
		return false, engine.Permanent(err)
	}
	id := x.cell.state.ID
	switch {
	case st.UndoDo != nil:
		x.step(stepMoved{Name: st.Name, State: StepUndoing, Unclear: was.State != StepDone})
		return true, nil
	case st.Begin != nil:
		return g.undoChild(p, x, st)
	case st.Undo != nil:
		err := p.sendAll(x, "undo "+st.Name, st.Undo(id, s))
		if why, no := isRefusal(err); no {
			g.cannotUndo(x, stepMoved{Name: st.Name, Error: why.Text})
			return true, nil
		}
		if err != nil {
			return false, err
		}
		x.step(stepMoved{Name: st.Name, State: StepUndone})
	case finished(&was):
		x.step(stepMoved{Name: st.Name, State: StepUndone})
	}
	return false, nil
}

// undoChild has the saga undone that a step has begun.
func (g *saga[S]) undoChild(p *plan, x *turn, st SagaStep[S]) (waits bool, err error) {
	b, err := g.child(x, st)
	if err != nil {
		return false, err
	}
	child, err := p.turn(b.to())
	if err != nil {
		return false, err
	}
	switch child.cell.state.State {
	case InstanceUndone:
		x.step(stepMoved{Name: st.Name, State: StepUndone})
		return false, nil
	case InstanceClosed:
		g.cannotUndo(x, stepMoved{Name: st.Name, Error: "saga " + child.cell.state.Name + " " + child.cell.state.ID + " was closed by hand: undo what was done, then skip the step"})
		return true, nil
	}
	if was := x.cell.state.step(st.Name); was.State != StepUndoing {
		x.step(stepMoved{Name: st.Name, State: StepUndoing})
	}
	if !child.cell.state.TurnedBack {
		p.queue = append(p.queue, queued{b.to(), input{Kind: inputRequest, Request: requestUndo, Reason: x.cell.state.Reason, From: x.stream}})
	}
	return true, nil
}

// cannotUndo lets the saga wait for somebody to undo a step, or to see to it that
// it can be.
func (g *saga[S]) cannotUndo(x *turn, e stepMoved) {
	e.State = StepUndoing
	x.step(e)
	x.stick(Reason{codeStuck, "step " + e.Name + " cannot be undone: " + e.Error + " (it is being undone because: " + x.cell.state.cause.Reason + ")"})
}

// worked takes in what came of a step that does something outside.
func (g *saga[S]) worked(p *plan, x *turn, in input) error {
	w := in.worked
	st, ok := g.find(in.Name)
	was := x.cell.state.step(in.Name)
	if !ok || was == nil || was.State != StepBegun && !w.undo || w.undo && was.State != StepUndoing {
		return nil
	}
	if w.err == nil && !w.no && !w.dropped {
		data, err := merged(x.cell.state.Data, w.before, w.after)
		if err != nil {
			return engine.Permanent(err)
		}
		x.set(data)
		x.touched(w.touched)
		if w.undo {
			return g.done(p, x, st.Name, stepMoved{State: StepUndone, Attempts: was.Attempts})
		}
		return g.done(p, x, st.Name, stepMoved{State: StepDone, Attempts: was.Attempts})
	}
	return g.notDone(p, x, st, *was, w)
}

// notDone takes in that a step was not done, or not undone.
func (g *saga[S]) notDone(p *plan, x *turn, st SagaStep[S], was InstanceStep, w *worked) error {
	e := stepMoved{Name: st.Name, State: was.State, Attempts: was.Attempts + 1, Unclear: was.Unclear}
	retry := st.Retry.engine()
	if w.undo && st.UndoRetry != (Retry{}) {
		retry = st.UndoRetry.engine()
	}
	final := IsPermanent(w.err) || e.Attempts >= retry.Limit()
	switch {
	case w.dropped:
		e.State, e.Attempts, e.Unclear, e.Error = StepFailed, was.Attempts, true, was.Error
		x.step(e)
		return g.goOn(p, x)
	case w.no && !w.undo:
		e.State, e.Unclear = StepRefused, !w.nothing
		return g.refused(p, x, e, w.reason)
	case w.no, w.undo && final:
		e.Error = w.text()
		g.cannotUndo(x, e)
		return nil
	case final:
		e.State, e.Unclear = StepFailed, true
		return g.refused(p, x, e, Reason{codeFailed, fmt.Sprintf("step %s failed %d times: %v", st.Name, e.Attempts, w.err)})
	}
	e.Error, e.Next = w.err.Error(), p.now.Add(retry.Wait(e.Attempts))
	x.step(e)
	return nil
}

func (w *worked) text() string {
	if w.no {
		return w.reason.Text
	}
	return w.err.Error()
}

// outside returns what a step does outside, or does to be undone; nil: nothing.
// Of a step that the definition does not have, the next input tells.
func (g *saga[S]) outside(inst Instance, have InstanceStep) (st SagaStep[S], do func(context.Context, *Work, *S) error, undo bool) {
	st, _ = g.find(have.Name)
	switch {
	case have.State == StepBegun:
		return st, st.Do, false
	case have.State == StepUndoing && inst.State == InstanceUndoing:
		return st, st.UndoDo, true
	}
	return st, nil, false
}

func (g *saga[S]) worksOutside(inst Instance, now time.Time) bool {
	for _, have := range inst.Steps {
		_, do, undo := g.outside(inst, have)
		if do != nil && (undo || inst.State != InstanceUndoing) && !have.Next.After(now) {
			return true
		}
	}
	return false
}

// work does the steps that are due, beside each other.
func (g *saga[S]) work(ctx context.Context, rt *Runtime, stream string, inst Instance, now time.Time) (did bool, err error) {
	results := make(chan input)
	n := 0
	for _, have := range inst.Steps {
		st, do, undo := g.outside(inst, have)
		if do == nil {
			continue
		}
		w := &worked{undo: undo, before: inst.Data}
		in := input{Kind: inputWork, Name: have.Name, worked: w}
		switch {
		case !undo && inst.State == InstanceUndoing: // whoever was doing it is not any more
			w.dropped = true
		case have.Next.After(now):
			continue
		default:
			n++
			go func() {
				g.attempt(ctx, rt, inst, st, do, have, w)
				results <- in
			}()
			continue
		}
		n++
		go func() { results <- in }()
	}
	for range n {
		in := <-results
		if e := in.worked.err; e != nil && isOurs(ctx, e) {
			err = e
			continue
		}
		_, moveErr := rt.advance(context.WithoutCancel(ctx), stream, in)
		if err == nil {
			err = moveErr
		}
	}
	return n > 0, err
}

// attempt does a step once, or undoes it.
func (g *saga[S]) attempt(ctx context.Context, rt *Runtime, inst Instance, st SagaStep[S], do func(context.Context, *Work, *S) error, have InstanceStep, out *worked) {
	var s S
	if out.err = wire.Unmarshal(inst.Data, &s); out.err != nil {
		out.err = Permanent(out.err)
		return
	}
	w := &Work{
		ID: inst.ID, Command: inst.stream(), Actor: inst.Actor, Why: inst.why(), Unclear: out.undo && have.Unclear,
		host: sagaWork{rt, inst}, step: st.Name, undo: out.undo, sent: map[string]int{},
	}
	timeout := st.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	err := attempted(ctx, rt, inst.Name+"."+st.Name, inst.ID, timeout, func(ctx context.Context) error { return do(ctx, w, &s) })
	out.touched = unique(w.touched)
	if out.err = err; err != nil {
		if out.reason, out.no = saysNo(err); out.no {
			out.nothing = w.nothingDone()
		}
		return
	}
	if out.after, out.err = wire.Marshal(s); out.err != nil {
		out.err = Permanent(out.err)
	}
}

// merged is the state after a step that was given before and left after, while
// steps beside it may have changed other fields.
func merged(now, before, after json.RawMessage) (json.RawMessage, error) {
	if string(now) == string(before) {
		return after, nil
	}
	var n, b, a map[string]json.RawMessage
	for _, x := range []struct {
		data json.RawMessage
		into *map[string]json.RawMessage
	}{{now, &n}, {before, &b}, {after, &a}} {
		if err := wire.Unmarshal(x.data, x.into); err != nil {
			return after, nil // no object: the last one says what it is
		}
		if *x.into == nil {
			return after, nil
		}
	}
	for k, v := range a {
		if string(b[k]) != string(v) {
			n[k] = v
		}
	}
	for k := range b {
		if _, kept := a[k]; !kept {
			delete(n, k)
		}
	}
	return wire.Marshal(n)
}

// sagaWork is what a step that does something outside is part of.
type sagaWork struct {
	rt   *Runtime
	inst Instance
}

func (w sagaWork) runtime() *Runtime { return w.rt }
func (w sagaWork) name() string      { return w.inst.Name }
func (w sagaWork) about() string     { return "saga/" + w.inst.ID }

func (w sagaWork) circumstances() Call {
	return Call{Actor: w.inst.Actor, Correlation: w.inst.Correlation, Causation: w.inst.stream(), Source: "saga", why: w.inst.why()}
}

// A saga keeps things in its state.
func (w sagaWork) keeps() bool                         { return false }
func (w sagaWork) kept(string) (json.RawMessage, bool) { return nil, false }

func (w sagaWork) rounds() int { return w.inst.rounds }

func (w sagaWork) progressed(context.Context, stepProgressed) error { return nil }
