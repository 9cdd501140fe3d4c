package deed

import (
	"slices"

	"github.com/deed-dev/deed/internal/engine"
)

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

// cannotUndo lets the saga wait for somebody to undo a step, or to see to it that
// it can be.
func (g *saga[S]) cannotUndo(x *turn, e stepMoved) {
	e.State = StepUndoing
	x.step(e)
	x.stick(Reason{codeStuck, "step " + e.Name + " cannot be undone: " + e.Error + " (it is being undone because: " + x.cell.state.cause.Reason + ")"})
}
