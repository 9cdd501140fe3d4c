package deed

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
)

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
