package deed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/deed-dev/deed/internal/engine"
)

// checking is the look at a command before its first step.
var checking = step{name: "check", timeout: time.Minute}

// steps does the steps that are not done, until the command is over or one of
// them gets stuck.
func (x *execution) steps(ctx context.Context) (time.Time, error) {
	var first []any
	if !x.checked {
		found, err := x.look(ctx)
		switch {
		case err != nil:
			return x.unchecked(ctx, err)
		case slices.ContainsFunc(found, func(f Finding) bool { return f.Fatal || x.def.strict }):
			return time.Time{}, x.record(ctx, x.invalid(found...))
		}
		warnings, count := toRecord(found)
		first = []any{commandValidated{warnings, count}}
	}
	next := x.ahead(nil)
	begins := slices.DeleteFunc(slices.Clone(next), func(st step) bool { return x.goesOn(st, CommandRunning) })
	for _, st := range begins {
		if limit := st.retry.engine().Limit(); x.attempts[st.name] >= limit {
			return x.stuck(ctx, st, Permanent(fmt.Errorf("the program ended in the middle of the step, %d times", limit)))
		}
	}
	if events := append(first, x.starting(begins)...); len(events) > 0 {
		if err := x.record(ctx, events...); err != nil {
			return time.Time{}, err
		}
	}
	for {
		if x.cancel != nil {
			return x.turnBack(ctx, commandUndoing{Code: typeCancelled, Reason: clip(*x.cancel)})
		}
		stuck, err := x.together(ctx, next)
		switch {
		case err != nil:
			return time.Time{}, x.interrupted(ctx, next, CommandRunning, err)
		case stuck != nil:
			return x.after(ctx, *stuck)
		case x.status.State.Over():
			return time.Time{}, nil
		}
		next = x.ahead(nil)
	}
}

// goesOn reports whether an attempt at a step was broken off by the store, in
// this process: then it is the same attempt that goes on, and none is used up.
func (x *execution) goesOn(st step, state CommandState) bool {
	p := x.status.step(st.name)
	return x.again && p != nil && p.State == state && x.attempts[st.name] > 0
}

// farewell is how long a process that stops may take to say so of a command.
const farewell = 2 * time.Second

// interrupted gives back the attempts at steps that are in a state, if they end
// because this process is told to stop: that is nothing to do with the steps. It
// returns the error.
func (x *execution) interrupted(ctx context.Context, steps []step, state CommandState, err error) error {
	if ctx.Err() == nil || errors.Is(err, errOvertaken) {
		return err
	}
	var events []any
	for _, st := range steps {
		if p := x.status.step(st.name); p != nil && p.State == state {
			events = append(events, stepFailed{
				Step: st.name, Attempt: x.attempts[st.name] - 1, Error: "the program was stopped in the middle of the step",
				Next: x.rt.cfg.Now().UTC(), Undo: state == CommandUndoing,
			})
		}
	}
	if len(events) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return errors.Join(err, x.record(ctx, events...))
}

// unchecked records that the look at the command came to no end, and what
// follows from that: the domain has said no, or it is looked at again.
func (x *execution) unchecked(ctx context.Context, err error) (time.Time, error) {
	reason, no := saysNo(err)
	found := findingsOf(err)
	switch {
	case isOurs(ctx, err) || !no:
		again := checking
		again.retry = x.def.rules.Retry
		return x.stuck(ctx, again, err)
	case len(found) > 0:
		return time.Time{}, x.record(ctx, x.invalid(found...))
	}
	return x.turnBack(ctx, commandUndoing{reason.Code, clip(reason.Text), checking.name, x.attempts[checking.name] + 1})
}

// look checks the command.
func (x *execution) look(ctx context.Context) (found []Finding, err error) {
	if x.def.check == nil {
		return nil, nil
	}
	err = x.safely(ctx, checking, func(ctx context.Context) error {
		found, err = x.def.check(ctx, x.rt, x.entity, x.command)
		return err
	})
	return found, err
}

// ahead returns the steps that come next: one, and those beside it, as far as
// they are not done. Those in besides count as done.
func (x *execution) ahead(besides []step) (next []step) {
	for i, st := range x.def.steps {
		if !st.beside && i > 0 && len(next) > 0 {
			break
		}
		p := x.status.step(st.name)
		done := p != nil && p.State == CommandCompleted || slices.ContainsFunc(besides, func(b step) bool { return b.name == st.name })
		if !done {
			next = append(next, st)
		}
	}
	return next
}

// starting is what is recorded when steps begin.
func (x *execution) starting(steps []step) []any {
	out := make([]any, len(steps))
	for i, st := range steps {
		out[i] = stepStarted{Step: st.name, Attempt: x.attempts[st.name] + 1}
	}
	return out
}

// A result is what came of an attempt at a step.
type result struct {
	step step
	work *Work
	err  error
}

// together does steps beside each other. What came of each is recorded as it
// comes; when the last is done, so is what follows. It returns the result that
// matters most if not all are done: a no of the domain, then a step that is not
// tried again.
func (x *execution) together(ctx context.Context, steps []step) (*result, error) {
	results := make(chan result, len(steps))
	for _, st := range steps {
		go func() { results <- x.attempt(ctx, st, false) }()
	}
	var worst *result
	var ours error
	for i := range steps {
		r := <-results
		switch {
		case r.err == nil && ours == nil:
			var follow []any
			if i == len(steps)-1 && worst == nil {
				follow = x.follow(steps)
			}
			ours = x.recordAll(ctx, append([]any{r.completed(false)}, follow...), len(follow))
		case r.err != nil && isOurs(ctx, r.err):
			ours = cmp.Or(ours, r.err)
		case r.err != nil && (worst == nil || gravity(r.err) > gravity(worst.err)):
			if worst != nil { // it has to be recorded too
				events, _ := x.failure(worst.step, false, worst.err)
				ours = cmp.Or(ours, x.record(ctx, events[:1]...))
			}
			worst = &r
		case r.err != nil:
			events, _ := x.failure(r.step, false, r.err)
			ours = cmp.Or(ours, x.record(ctx, events[:1]...))
		}
	}
	return worst, ours
}

func gravity(err error) int {
	if _, no := saysNo(err); no {
		return 2
	}
	if IsPermanent(err) {
		return 1
	}
	return 0
}

// follow is what is recorded together with the end of steps: the beginning of
// those that come next, or the end of the command.
func (x *execution) follow(done []step) []any {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cancel != nil {
		return nil
	}
	if next := x.ahead(done); len(next) > 0 {
		return x.starting(next)
	}
	return []any{commandCompleted{outcome{Command: x.status.Command, Stream: x.status.Stream, Hash: x.hash}}}
}

// after records a step that did not get done, and what follows from that.
func (x *execution) after(ctx context.Context, r result) (time.Time, error) {
	reason, no := saysNo(r.err)
	if !no {
		return x.stuck(ctx, r.step, r.err)
	}
	f := stepFailed{Step: r.step.name, Attempt: x.attempts[r.step.name], Error: clip(reason.Text), No: r.work.nothingDone()}
	if err := x.record(ctx, f); err != nil {
		return time.Time{}, err
	}
	return x.turnBack(ctx, commandUndoing{reason.Code, clip(reason.Text), f.Step, f.Attempt})
}

// attempt does a step, or undoes it, once.
func (x *execution) attempt(ctx context.Context, st step, undo bool) result {
	w := &Work{
		ID: x.entity, Command: x.id, Actor: x.call.Actor,
		Unclear: undo && !x.done(st.name),
		host:    x, step: st.name, undo: undo, sent: map[string]int{},
	}
	do := st.do
	if undo {
		do = st.undo
	}
	return result{st, w, x.safely(ctx, st, func(ctx context.Context) error { return do(ctx, w, x.command) })}
}

// safely calls what a domain has defined.
func (x *execution) safely(ctx context.Context, st step, f func(context.Context) error) error {
	return attempted(ctx, x.rt, x.def.name+"."+st.name, x.id, st.timeout, f)
}

// attempted calls what a domain has defined. It has a certain time, and a panic
// is an error that would come again.
func attempted(ctx context.Context, rt *Runtime, what, id string, timeout time.Duration, f func(context.Context) error) (err error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			rt.cfg.Logger.Error("step panicked", slog.String("step", what), slog.String("id", id),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = Permanent(fmt.Errorf("the step panicked: %v", p))
		}
		if err != nil && ctx.Err() == nil && errors.Is(timed.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("the step took longer than %v: %w", timeout, err)
		}
	}()
	return f(timed)
}

// What a step asks of the command that it is part of.

func (x *execution) runtime() *Runtime   { return x.rt }
func (x *execution) name() string        { return x.def.name }
func (x *execution) about() string       { return x.def.noun + "/" + x.entity }
func (x *execution) circumstances() Call { return x.call }

func (x *execution) keeps() bool { return true }

func (x *execution) rounds() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.requeued
}

func (x *execution) kept(step string) (json.RawMessage, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	data, ok := x.outputs[step]
	return data, ok
}

func (x *execution) progressed(ctx context.Context, e stepProgressed) error { return x.record(ctx, e) }

// done reports whether a step was done.
func (x *execution) done(step string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.outputs[step]
	return ok
}

// completed is what is recorded of a step that is done.
func (r result) completed(undo bool) stepCompleted {
	r.work.mu.Lock()
	defer r.work.mu.Unlock()
	return stepCompleted{Step: r.step.name, Entities: unique(r.work.touched), Output: r.work.output, Undo: undo}
}

// turnBack begins to undo what the steps did, because the command is cancelled
// or the domain said no. If there is nothing to undo the command is over.
func (x *execution) turnBack(ctx context.Context, why commandUndoing) (time.Time, error) {
	if len(x.undoable()) == 0 {
		return time.Time{}, x.record(ctx, x.ending(why, false))
	}
	if err := x.record(ctx, why); err != nil {
		return time.Time{}, err
	}
	return x.undo(ctx)
}

// undoable are the steps that have something to undo, the last one first: those
// that are done, and those that nobody knows of how far they got.
func (x *execution) undoable() (steps []step) {
	for _, st := range slices.Backward(x.def.steps) {
		p := x.status.step(st.name)
		if st.undo != nil && p != nil && p.State != CommandCancelled && p.State != CommandRejected {
			steps = append(steps, st)
		}
	}
	return steps
}

// undo undoes steps until none is left or one gets stuck.
func (x *execution) undo(ctx context.Context) (time.Time, error) {
	for _, st := range x.undoable() {
		if !x.goesOn(st, CommandUndoing) {
			if err := x.record(ctx, stepStarted{Step: st.name, Attempt: x.attempts[st.name] + 1, Undo: true}); err != nil {
				return time.Time{}, err
			}
		}
		r := x.attempt(ctx, st, true)
		switch {
		case r.err == nil:
			if err := x.record(ctx, r.completed(true)); err != nil {
				return time.Time{}, err
			}
		case isOurs(ctx, r.err):
			return time.Time{}, x.interrupted(ctx, []step{st}, CommandUndoing, r.err)
		default:
			if _, no := saysNo(r.err); no {
				r.err = Permanent(r.err)
			}
			events, next := x.failure(st, true, r.err)
			return next, x.record(ctx, events...)
		}
	}
	return time.Time{}, x.record(ctx, x.ending(*x.cause, true))
}

// ending is the last record of a command that was turned back.
func (x *execution) ending(why commandUndoing, undone bool) any {
	if why.Code == typeCancelled {
		return commandCancelled{Reason: why.Reason, Undone: undone}
	}
	return commandRejected{outcome{
		Command: x.status.Command, Stream: x.status.Stream, Hash: x.hash,
		Code: why.Code, Reason: why.Reason, Step: why.Step, Attempts: why.Attempts,
	}}
}

func (r Retry) engine() engine.Retry {
	return engine.Retry{Attempts: r.Attempts, First: r.First, Max: r.Max}
}
