package deed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/store"
)

// Instances looks after running processes and sagas: what became of them, and
// how to repair those that are stuck. What it changes is recorded in the
// instance's own stream, with the actor of the context's [Call] and the reason.
type Instances struct{ rt *Runtime }

// Instances returns the means to look after processes and sagas.
func (rt *Runtime) Instances() Instances { return Instances{rt} }

// ErrVersionGone is the error of what is asked of a process or saga that was
// begun with a version which the program does not have any more: add that to
// Former, or close the instance.
var ErrVersionGone = errors.New("deed: the program does not have version")

// roleOperator may repair instances.
const roleOperator = "operator"

// What can be asked of an instance.
const (
	requestCancel = "cancel"
	requestRetry  = "retry"
	requestSkip   = "skip"
	requestUndo   = "undo"
	requestClose  = "close"
)

// Codes of what becomes of instances.
const (
	codeCancelled = "cancelled"
	codeOverdue   = "overdue"
	codeStuck     = "stuck"
	codeFailed    = "failed"
)

// Get returns an instance by kind ("process" or "saga"), name and id, as its
// stream tells it. The error is [ErrNotFound] or [ErrUnknown].
func (s Instances) Get(ctx context.Context, kind, name, id string) (Instance, error) {
	return s.rt.readInstance(ctx, instanceStream("$"+kind, name, id))
}

// Find returns the instances that satisfy q, in the order q asks for. They are
// those of the view "instances", which follows the log.
func (s Instances) Find(ctx context.Context, q store.Query) ([]Instance, error) {
	out := []Instance{}
	for row, err := range instances().Find(ctx, s.rt, q) {
		if err != nil {
			return nil, err
		}
		out = append(out, row.Value)
	}
	return out, nil
}

// Start begins a saga, known by its name, with its state as JSON, like
// Saga.Start.
func (s Instances) Start(ctx context.Context, name, id string, body []byte) (Instance, error) {
	d, ok := s.rt.machines[sagaCategory+"/"+name]
	if !ok {
		return Instance{}, unknown("no saga", name, func(yield func(string) bool) {
			for _, d := range s.rt.machines {
				if d.kind == "saga" && !yield(d.name) {
					return
				}
			}
		})
	}
	in, err := d.start(body)
	if err != nil {
		return Instance{}, err
	}
	if id == "" {
		id = makeID("saga/"+name, callOf(ctx).ID)
	}
	return s.rt.startSaga(ctx, d, id, in)
}

// startSaga begins a saga if the caller may.
func (rt *Runtime) startSaga(ctx context.Context, d *definitions, id string, in input) (Instance, error) {
	stream := instanceStream(sagaCategory, d.name, id)
	if err := rt.mayDo(ctx, "saga."+d.name, stream, d.roles); err != nil {
		return Instance{}, err
	}
	i, err := rt.advance(ctx, stream, in)
	return i, overtakenTooOften(err)
}

// Wait returns when an instance is over or stuck. A process need not have begun,
// for it begins when it has seen an event. If ctx ends first it returns the
// instance as it is with the error of ctx.
func (s Instances) Wait(ctx context.Context, kind, name, id string) (Instance, error) {
	stream := instanceStream("$"+kind, name, id)
	w := s.rt.waiters.enter(stream)
	defer s.rt.waiters.leave(stream, w)
	look := firstLook
	if s.rt.runners.has(stream) { // this process does most of what is done about it
		look = lastLook
	}
	// As long as an instance is on its way, what this process knows will do; so it
	// does once this process has told that it rests.
	version, told := uint64(0), false
	for ; ; look = min(2*look, lastLook) {
		i, err := s.rt.instanceAt(context.WithoutCancel(ctx), stream, version)
		if version == 0 && !told && (err != nil || i.rests()) {
			i, err = s.rt.readInstance(context.WithoutCancel(ctx), stream)
		}
		expected := kind == "process" && errors.Is(err, ErrNotFound)
		if err != nil && !expected || i.rests() {
			return i, err
		}
		select {
		case <-w:
			version, told = 0, true
		case <-time.After(look):
			version, told = latest, false
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
}

// Cancel turns an instance back: what it did is undone.
func (s Instances) Cancel(ctx context.Context, kind, name, id, reason string) (Instance, error) {
	return s.request(ctx, kind, name, id, input{Request: requestCancel, Reason: reason})
}

// Undo undoes what an instance did, also of one that is completed.
func (s Instances) Undo(ctx context.Context, kind, name, id, reason string) (Instance, error) {
	return s.request(ctx, kind, name, id, input{Request: requestUndo, Reason: reason})
}

// Retry tries again at once what is stuck or going to be tried again later.
func (s Instances) Retry(ctx context.Context, kind, name, id, reason string) (Instance, error) {
	return s.request(ctx, kind, name, id, input{Request: requestRetry, Reason: reason})
}

// Skip passes over a step that is waited for or stuck, as if it were done; of a
// process that is stuck, the command that cannot be undone. The reason is not
// optional.
func (s Instances) Skip(ctx context.Context, kind, name, id, step, reason string) (Instance, error) {
	if strings.TrimSpace(reason) == "" {
		return Instance{}, Invalid{Field: "reason", Detail: "is missing: say why the step may be passed over"}
	}
	return s.request(ctx, kind, name, id, input{Request: requestSkip, Name: step, Reason: reason})
}

// Close declares an instance over as it stands: somebody has done by hand what
// was left to do. The reason is not optional.
func (s Instances) Close(ctx context.Context, kind, name, id, reason string) (Instance, error) {
	if strings.TrimSpace(reason) == "" {
		return Instance{}, Invalid{Field: "reason", Detail: "is missing: say what was done by hand"}
	}
	return s.request(ctx, kind, name, id, input{Request: requestClose, Reason: reason})
}

func (s Instances) request(ctx context.Context, kind, name, id string, in input) (Instance, error) {
	d, ok := s.rt.machines["$"+kind+"/"+name]
	if !ok {
		return Instance{}, fmt.Errorf("%w: this program has no %s %q", ErrUnknown, kind, name)
	}
	call := callOf(ctx)
	roles := []string{roleOperator}
	if in.Request == requestCancel {
		roles = append(roles, d.roles...)
	}
	if err := s.rt.mayDo(ctx, name+"."+in.Request, instanceStream("$"+kind, name, id), roles); err != nil {
		return Instance{}, err
	}
	in.Kind, in.actor, in.Reason = inputRequest, call.Actor, clip(strings.TrimSpace(in.Reason))
	i, err := s.rt.advance(ctx, instanceStream("$"+kind, name, id), in)
	return i, overtakenTooOften(err)
}

// requested takes in what somebody asks of an instance.
func (x *turn) requested(p *plan, in input) error {
	i := &x.cell.state
	over := i.State.Over()
	switch in.Request {
	case requestCancel, requestUndo:
		switch {
		case i.State == InstanceUndone || i.TurnedBack && !over:
			return x.stands(p, in, "it is turned back already")
		case over && in.Request == requestCancel, i.State == InstanceClosed:
			return x.stands(p, in, "it is over")
		}
		return x.def.fail(p, x, Reason{codeCancelled, orElse(in.Reason, "somebody has cancelled it")})
	case requestClose:
		if over {
			return x.stands(p, in, "it is over")
		}
		return x.end(p, InstanceClosed, Reason{codeCancelled, in.Reason})
	case requestRetry:
		if over {
			return x.stands(p, in, "it is over")
		}
		return x.retry(p)
	case requestSkip:
		if over {
			return x.stands(p, in, "it is over")
		}
		return x.skip(p, in)
	}
	return Permanent(fmt.Errorf("deed: nobody knows what %q asks of an instance", in.Request))
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// stands refuses a request. One that comes from another instance is passed over.
func (x *turn) stands(p *plan, in input, why string) error {
	if in.From != "" {
		x.ignore()
		return nil
	}
	if !p.fresh {
		return errStale
	}
	return fmt.Errorf("%w: %s %s: %s", ErrStands, x.defs.kind, x.cell.state.ID, why)
}

// retry lets everything that failed be tried again at once.
func (x *turn) retry(p *plan) error {
	i := &x.cell.state
	i.rounds++
	x.unstick()
	for _, st := range slices.Clone(i.Steps) {
		if st.State == StepUndoing || st.State == StepBegun {
			x.step(stepMoved{Name: st.Name, State: st.State, Unclear: st.Unclear})
		}
	}
	return x.def.move(p, x, input{Kind: inputGoOn})
}

// skip passes over something that is not done.
func (x *turn) skip(p *plan, in input) error {
	i := &x.cell.state
	if i.Kind == "process" {
		if i.State != InstanceStuck || !i.TurnedBack || len(i.Undo) == 0 {
			return x.stands(p, in, "there is no command that cannot be undone")
		}
		x.undid()
		x.unstick()
		return x.def.move(p, x, input{Kind: inputGoOn})
	}
	st := i.step(in.Name)
	switch {
	case st == nil && i.State == InstanceStuck && !i.TurnedBack && x.defs.hasStep(in.Name):
		x.step(stepMoved{Name: in.Name, State: StepSkipped, Error: in.Reason})
	case st == nil:
		return x.stands(p, in, "it has not come to a step "+in.Name)
	case st.State == StepUndoing:
		x.step(stepMoved{Name: st.Name, State: StepUndone, Attempts: st.Attempts, Error: in.Reason})
	case st.State == StepWaiting || st.State == StepBegun:
		if i.Tasks[st.Name] != "" {
			if err := p.withdraw(x, st.Name, in.Reason); err != nil {
				return err
			}
		}
		x.setTimer(st.Name, time.Time{})
		x.step(stepMoved{Name: st.Name, State: StepSkipped, Attempts: st.Attempts, Error: in.Reason})
	default:
		return x.stands(p, in, "the step "+in.Name+" is "+string(st.State))
	}
	x.unstick()
	return x.def.move(p, x, input{Kind: inputGoOn})
}

// reasonFor makes a reason of what a domain returned.
func reasonFor(err error) Reason {
	if why, no := saysNo(err); no {
		return why
	}
	return Reason{"rejected", err.Error()}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// clone is a copy that shares nothing that changes.
func (s Instance) clone() Instance {
	s.Steps, s.Entities, s.Undo = slices.Clone(s.Steps), slices.Clone(s.Entities), slices.Clone(s.Undo)
	s.Timers, s.Tasks, s.seen = maps.Clone(s.Timers), maps.Clone(s.Tasks), nil
	return s
}
