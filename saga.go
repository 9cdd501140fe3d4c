package deed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

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
	in.parent, in.meta = x.stream, Meta{Actor: x.cell.state.Actor, Correlation: x.cell.state.Correlation, Trace: x.cell.state.Trace}
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
	child, err := p.turn(stream, true)
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
	if err := survivesJSON(reflect.TypeFor[S]()); err != nil {
		return fmt.Errorf("saga %s: its state cannot be stored: %w", g.Name, err)
	}
	d := &definitions{kind: "saga", name: g.Name, doc: g.Doc, current: g.Version, roles: g.Roles, proto: g.State, byVersion: map[int]machine{}}
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
