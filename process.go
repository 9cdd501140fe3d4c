package deed

import (
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

// A Process reacts to events with actions: commands to send, timers to set,
// questions to ask. Its state P, what it has set and asked, and how to undo what
// it did are recorded with each input, in the same append as the events that its
// commands are answered with. So an event that is delivered again changes
// nothing, and no input is ever half handled.
//
// Reactions decide and do nothing else: they may be called again when something
// else got in between.
type Process[P any] struct {
	Name    string // lower-case words joined by hyphens
	Doc     string // one sentence for people
	Version int    // of this definition: change it when reactions change on which running instances depend
	On      []ProcessReaction[P]
	Roles   []string     // who may cancel it, if access is checked; none = administrators
	Former  []Process[P] // earlier versions, for instances that were begun with them
}

// A ProcessReaction is what a process does about one kind of input. Make one
// with [Start], [StartBy], [React], [ReactBy], [OnTimer], [OnDecision],
// [OnRefused] or [OnEnded].
type ProcessReaction[P any] struct {
	event reflect.Type
	kind  string // of the input, if it is no event
	name  string // of the timer, the question, the saga
	start bool
	late  bool
	key   func(Meta, any) string // nil: the id of the entity
	react func(*P, input) []Action
}

// Late makes a reaction one to events that come after the end, too.
func (r ProcessReaction[P]) Late() ProcessReaction[P] {
	r.late = true
	return r
}

// Start begins a process when an E happens. The process has the id of the
// entity that the E happened to.
func Start[P, E any](f func(*P, E) []Action) ProcessReaction[P] {
	r := React(f)
	r.start = true
	return r
}

// StartBy is like [Start] for a process whose id is derived from the event. An
// event whose id is "" begins none.
func StartBy[P, E any](id func(E) string, f func(*P, E) []Action) ProcessReaction[P] {
	r := ReactBy(id, f)
	r.start = true
	return r
}

// React handles an E that follows from a command the process sent, or that
// happens to the entity from which the process has its id.
func React[P, E any](f func(*P, E) []Action) ProcessReaction[P] {
	typ, _, unwrap := eventType[E]()
	return ProcessReaction[P]{event: typ, kind: inputEvent, react: func(p *P, in input) []Action { return f(p, unwrap(in.meta, in.event)) }}
}

// ReactBy is like [React] for the process whose id is derived from the event.
func ReactBy[P, E any](id func(E) string, f func(*P, E) []Action) ProcessReaction[P] {
	r := React(f)
	_, _, unwrap := eventType[E]()
	r.key = func(m Meta, e any) string { return id(unwrap(m, e)) }
	return r
}

// OnTimer handles a timer that was set with [After] or [At].
func OnTimer[P any](timer string, f func(*P) []Action) ProcessReaction[P] {
	return ProcessReaction[P]{kind: inputTimer, name: timer, react: func(p *P, _ input) []Action { return f(p) }}
}

// OnDecision handles what somebody has decided who was asked with [Ask].
func OnDecision[P any](question string, f func(*P, Decision) []Action) ProcessReaction[P] {
	return ProcessReaction[P]{kind: inputDecision, name: question, react: func(p *P, in input) []Action { return f(p, in.decision) }}
}

// OnRefused handles a command of the process that was rejected. Without it, the
// process fails, see [Fail].
func OnRefused[P any](f func(*P, Rejected) []Action) ProcessReaction[P] {
	return ProcessReaction[P]{kind: inputRefused, react: func(p *P, in input) []Action { return f(p, in.rejected) }}
}

// OnEnded handles the end of a saga that the process has begun. Without it, a
// saga that was undone lets the process fail.
func OnEnded[P any](saga string, f func(*P, Instance) []Action) ProcessReaction[P] {
	return ProcessReaction[P]{kind: inputEnded, name: saga, react: func(p *P, in input) []Action { return f(p, *in.ended) }}
}

func (d Process[P]) order() int { return 3 }

func (d Process[P]) register(rt *Runtime) error {
	all := &definitions{kind: "process", name: d.Name, doc: d.Doc, current: d.Version, roles: d.Roles, byVersion: map[int]machine{}}
	var versions []*process[P]
	for _, v := range append([]Process[P]{d}, d.Former...) {
		if err := v.check(); err != nil {
			return fmt.Errorf("process %s: %w", d.Name, err)
		}
		if _, dup := all.byVersion[v.Version]; dup {
			return fmt.Errorf("process %s has two versions %d", d.Name, v.Version)
		}
		m := &process[P]{Process: v, of: map[string]bool{}}
		for _, r := range v.On {
			if r.start && r.key == nil {
				for _, n := range rt.codec.NamesOf(r.event) {
					m.of[n.Category] = true
				}
			}
		}
		versions = append(versions, m)
		all.byVersion[v.Version] = m
	}
	if err := survivesJSON(reflect.TypeFor[P]()); err != nil {
		return fmt.Errorf("process %s: its state cannot be stored: %w", d.Name, err)
	}
	zero, err := wire.Marshal(*new(P))
	if err != nil {
		return fmt.Errorf("process %s: its state cannot be stored: %w", d.Name, err)
	}
	all.zero = zero
	var types []reflect.Type
	for _, m := range versions {
		for _, r := range m.On {
			if r.event != nil && !slices.Contains(types, r.event) {
				types = append(types, r.event)
			}
			all.reactions = append(all.reactions, r.info(rt))
		}
	}
	return rt.addMachine(all, types, func(meta Meta, e any) (ids []string) {
		for _, m := range versions {
			for _, r := range m.On {
				if id := m.route(r, meta, e); id != "" && !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
		return ids
	})
}

func (d Process[P]) check() error {
	if err := checkName("process", d.Name); err != nil {
		return err
	}
	if !slices.ContainsFunc(d.On, func(r ProcessReaction[P]) bool { return r.start }) {
		return fmt.Errorf("nothing begins it: it needs a reaction made with Start or StartBy")
	}
	for i, r := range d.On {
		for _, other := range d.On[:i] {
			if r.event == other.event && r.kind == other.kind && r.name == other.name && !r.start {
				return fmt.Errorf("it has two reactions to %s", r.what())
			}
		}
		if r.name != "" {
			if err := checkName(r.kind, r.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// what names the input of a reaction.
func (r ProcessReaction[P]) what() string {
	if r.event != nil {
		return r.event.String()
	}
	return strings.TrimSpace(r.kind + " " + r.name)
}

func (r ProcessReaction[P]) info(rt *Runtime) ReactionInfo {
	i := ReactionInfo{Kind: r.kind, Name: r.name, Starts: r.start}
	if r.event != nil {
		i.Events = rt.namesOf(r.event)
	}
	return i
}

// namesOf returns the names under which events of a type are read, for example
// "order.placed".
func (rt *Runtime) namesOf(t reflect.Type) (names []string) {
	for _, n := range rt.codec.NamesOf(t) {
		names = append(names, n.String())
	}
	return names
}

// process is a version of a Process as a machine.
type process[P any] struct {
	Process[P]
	of map[string]bool // aggregates whose entities give an instance its id
}

// route returns the id of the instance that an event concerns by a reaction.
func (d *process[P]) route(r ProcessReaction[P], m Meta, e any) string {
	if r.event != reflect.TypeOf(e) {
		return ""
	}
	if r.key != nil {
		return r.key(m, e)
	}
	if !r.start {
		if id, caused := strings.CutPrefix(m.Causation, instanceStream(processCategory, d.Name, "")); caused {
			return id
		}
	}
	if r.start || d.of[m.Aggregate] {
		return m.ID
	}
	return ""
}

// reaction finds the reaction to an input.
func (d *process[P]) reaction(x *turn, in input) (ProcessReaction[P], bool) {
	began := x.cell.version > 0 || len(x.moves) > 1
	var found ProcessReaction[P]
	ok := false
	for _, r := range d.On {
		switch {
		case r.kind != in.Kind || r.name != "" && r.name != in.Name:
			continue
		case r.event != nil && (r.event != reflect.TypeOf(in.event) || d.route(r, in.meta, in.event) != x.cell.state.ID):
			continue
		case !began && r.event != nil && !r.start:
			continue
		}
		if !ok || began && found.start { // of two, the one that does not begin is for those that are begun
			found, ok = r, true
		}
	}
	return found, ok
}

// move takes in an input of an instance that is not over.
func (d *process[P]) move(p *plan, x *turn, in input) error {
	if in.Kind == inputGoOn {
		return d.goOn(p, x)
	}
	if in.Kind == inputTimer {
		if done, err := p.taskTimer(x, in); done || err != nil {
			return err
		}
	}
	if !x.cell.state.goesForward() {
		x.ignore()
		return nil
	}
	r, ok := d.reaction(x, in)
	switch {
	case ok:
		return d.react(p, x, r, in)
	case in.Kind == inputEnded && in.ended.State == InstanceUndone:
		return d.fail(p, x, Reason{in.ended.Code, in.ended.Name + " " + in.ended.ID + ": " + in.ended.Reason})
	case in.Kind == inputDecision && in.decision.Overdue:
		return d.fail(p, x, Reason{codeOverdue, "nobody has answered " + in.Name + " in time"})
	case in.Kind == inputEvent && x.cell.version == 0:
		return errNoInstance
	}
	return nil
}

// late takes in an event that came after the end, if a reaction wants it.
func (d *process[P]) late(p *plan, x *turn, in input) (bool, error) {
	r, ok := d.reaction(x, in)
	if !ok || !r.late {
		return false, nil
	}
	return true, d.react(p, x, r, in)
}

// react calls a reaction and does what it wants done.
func (d *process[P]) react(p *plan, x *turn, r ProcessReaction[P], in input) error {
	var s P
	if err := wire.Unmarshal(x.cell.state.Data, &s); err != nil {
		return engine.Permanent(err)
	}
	actions := r.react(&s, in)
	data, err := wire.Marshal(s)
	if err != nil {
		return engine.Permanent(err)
	}
	x.set(data)
	return d.perform(p, x, actions)
}

// maxRefusals is how many refusals may follow from one input, each from what was
// done about the one before.
const maxRefusals = 100

// perform does actions, until one is refused. That the process is done, or has
// failed, comes last.
func (d *process[P]) perform(p *plan, x *turn, actions []Action) error {
	over := x.cell.state.State.Over()
	var end Action
	for _, a := range actions {
		switch a.(type) {
		case finish:
			if end == nil {
				end = a
			}
			continue
		case setTimer, ask:
			if over {
				return engine.Permanent(fmt.Errorf("deed: %s is over: what comes late can only be answered with commands", x.stream))
			}
		}
		err := a.plan(p, x)
		no, refused := errors.AsType[declined](err)
		switch {
		case err == nil:
		case !refused:
			return err
		case !over:
			return d.refused(p, x, no)
		}
	}
	if end == nil || over { // how it ended does not change
		return nil
	}
	return end.plan(p, x)
}

// refused takes in that an action was refused. What comes after it in the list is
// not done.
func (d *process[P]) refused(p *plan, x *turn, no declined) error {
	in := input{Kind: inputRefused, rejected: Rejected{Stream: no.what.Stream, Command: no.what.Command, Err: no.Reason}}
	r, ok := d.reaction(x, in)
	if !ok || len(x.cur.Refused) >= maxRefusals {
		return d.fail(p, x, no.Reason)
	}
	return d.react(p, x, r, in)
}

// fail turns back.
func (d *process[P]) fail(p *plan, x *turn, why Reason) error {
	if err := x.turnBack(p, why); err != nil {
		return err
	}
	return d.undo(p, x)
}

func (d *process[P]) goOn(p *plan, x *turn) error {
	x.cell.state.more = false
	if x.cell.state.State == InstanceUndoing {
		return d.undo(p, x)
	}
	return nil
}

func (d *process[P]) next(*turn, time.Time) time.Time { return time.Time{} }

// undo sends what undoes the commands of the process, the last one first.
func (d *process[P]) undo(p *plan, x *turn) error {
	if x.apart(p) {
		return nil
	}
	i := &x.cell.state
	for len(i.Undo) > 0 {
		if x.full(p) {
			return nil
		}
		s, err := p.rt.kept(i.Undo[0])
		if err != nil {
			return engine.Permanent(fmt.Errorf("deed: %s of %s, which undoes what %s did: %w", i.Undo[0].Command, i.Undo[0].Stream, x.stream, err))
		}
		err = p.send(x, s)
		if why, no := isRefusal(err); no {
			x.stick(Reason{codeStuck, i.Undo[0].Command + " of " + i.Undo[0].Stream + " is refused: " + why.Text})
			return nil
		}
		if err != nil {
			return err
		}
		x.undid()
	}
	return x.undone(p)
}

// undid notes that the last command is undone.
func (x *turn) undid() {
	x.cell.state.Undo = x.cell.state.Undo[1:]
	x.cur.Undid++
}

// keep makes a record of a command that may have to be sent later.
func (rt *Runtime) keep(s Sending) (*UndoCommand, error) {
	body, err := bodyOf(s.cmd)
	if err != nil {
		return nil, err
	}
	name := s.called(rt)
	if _, err := rt.kept(UndoCommand{s.stream, name, body}); err != nil {
		return nil, err
	}
	return &UndoCommand{s.stream, name, json.RawMessage(body)}, nil
}

// kept makes a command of its record.
func (rt *Runtime) kept(u UndoCommand) (Sending, error) {
	aggregate, id, _ := strings.Cut(u.Stream, "/")
	_, verb, _ := strings.Cut(u.Command, ".")
	k, ok := rt.kinds[aggregate]
	if !ok {
		return Sending{}, rt.unknownAggregate(aggregate)
	}
	return k.sending(id, verb, u.Body)
}
