package deed

import (
	"fmt"

	"github.com/deed-dev/deed/internal/engine"
)

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

// undoChild has the saga undone that a step has begun.
func (g *saga[S]) undoChild(p *plan, x *turn, st SagaStep[S]) (waits bool, err error) {
	b, err := g.child(x, st)
	if err != nil {
		return false, err
	}
	child, err := p.turn(b.to(), false)
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
