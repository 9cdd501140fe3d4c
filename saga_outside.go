package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
)

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
	return Call{Actor: w.inst.Actor, Correlation: w.inst.Correlation, Causation: w.inst.stream(), Source: "saga", Trace: w.inst.Trace, why: w.inst.why()}
}

// A saga keeps things in its state.
func (w sagaWork) keeps() bool                         { return false }
func (w sagaWork) kept(string) (json.RawMessage, bool) { return nil, false }

func (w sagaWork) rounds() int { return w.inst.rounds }

func (w sagaWork) progressed(context.Context, stepProgressed) error { return nil }
