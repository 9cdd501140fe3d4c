package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/deed-dev/deed/store"
)

// Tasks looks after what processes and sagas ask people. What it changes is
// recorded in the task's own stream, with the actor of the context's [Call].
type Tasks struct{ rt *Runtime }

// Tasks returns the means to look after tasks.
func (rt *Runtime) Tasks() Tasks { return Tasks{rt} }

// ErrDecided is the error of a decision that comes too late: the task is decided
// or withdrawn, or what asked is over.
var ErrDecided = errors.New("deed: this task is closed")

// ErrClaimed is the error of whoever wants to decide, claim or release a task
// that somebody else has claimed.
var ErrClaimed = errors.New("deed: somebody else has claimed this task")

// Get returns a task, or [ErrNotFound].
func (t Tasks) Get(ctx context.Context, id string) (Task, error) {
	if err := checkID(id); err != nil {
		return Task{}, err
	}
	return t.rt.readTask(ctx, id)
}

// Find returns the tasks that satisfy q, in the order q asks for. They are those
// of the view "tasks", which follows the log.
func (t Tasks) Find(ctx context.Context, q store.Query) ([]Task, error) {
	out := []Task{}
	for row, err := range tasks().Find(ctx, t.rt, q) {
		if err != nil {
			return nil, err
		}
		out = append(out, row.Value)
	}
	return out, nil
}

// Claim makes the task the caller's: until it is released, nobody else can
// decide it.
func (t Tasks) Claim(ctx context.Context, id string) (Task, error) {
	return t.change(ctx, id, taskClaimed{})
}

// Release gives a claimed task back.
func (t Tasks) Release(ctx context.Context, id string) (Task, error) {
	return t.change(ctx, id, taskReleased{})
}

// change records something about an open task that is nothing to the instance.
func (t Tasks) change(ctx context.Context, id string, e any) (Task, error) {
	for try := 0; ; try++ {
		task, err := t.mine(ctx, id)
		if err != nil {
			return task, err
		}
		call := callOf(ctx)
		if _, claims := e.(taskClaimed); claims && call.Actor == "" {
			return task, Invalid{Detail: "nobody knows who claims this: the call has no actor"}
		} else if claims == (task.Claimed == call.Actor) && (claims || task.Claimed == "") {
			return task, nil
		}
		event, err := t.rt.taskEvent(e, meta{Actor: call.Actor, Correlation: call.Correlation, Source: call.Source})
		if err != nil {
			return task, err
		}
		if _, err = t.rt.append(ctx, taskWrite(id, task.version, event)); err == nil {
			return t.rt.readTask(ctx, id)
		}
		if !isConflict(err) || try >= t.rt.cfg.Retries {
			return task, overtakenTooOften(err)
		}
	}
}

// mine returns an open task that the caller may decide.
func (t Tasks) mine(ctx context.Context, id string) (Task, error) {
	task, err := t.Get(ctx, id)
	if err != nil {
		return task, err
	}
	call := callOf(ctx)
	if err := t.rt.mayDo(ctx, "task."+task.Name, taskCategory+"/"+id, task.Roles); err != nil {
		return task, err
	}
	if task.State != TaskOpen {
		return task, fmt.Errorf("%w: it is %s", ErrDecided, task.State)
	}
	if task.Claimed != "" && task.Claimed != call.Actor && !slices.Contains(call.Roles, RoleAdmin) {
		return task, fmt.Errorf("%w: %s", ErrClaimed, task.Claimed)
	}
	return task, nil
}

// Decide decides a task. What follows for the process or saga that asked is
// recorded in the same append. Deciding the same again changes nothing. Its
// errors are [ErrNotFound], [Forbidden], [Invalid], [ErrDecided] and
// [ErrClaimed].
func (t Tasks) Decide(ctx context.Context, id, choice, reason string, data json.RawMessage) (Task, error) {
	call := callOf(ctx)
	for try := 0; ; try++ {
		task, err := t.mine(ctx, id)
		if errors.Is(err, ErrDecided) && task.Decision != nil && task.Decision.Choice == choice && task.Decision.By == call.Actor {
			return task, nil
		}
		if err != nil {
			return task, err
		}
		d := Decision{Task: id, Choice: choice, Reason: strings.TrimSpace(reason), Data: data, By: call.Actor}
		if err := task.Question.accepts(d); err != nil {
			return task, err
		}
		event, err := t.rt.taskEvent(taskDecided{d}, meta{Actor: call.Actor, Correlation: call.Correlation, Source: call.Source})
		if err != nil {
			return task, err
		}
		w := taskWrite(id, task.version, event)
		_, err = t.rt.advance(ctx, task.Instance, input{Kind: inputDecision, From: w.Stream, Name: task.Name, Choice: choice, Reason: reason, decision: d, actor: call.Actor}, w)
		if err == nil {
			return t.rt.readTask(ctx, id)
		}
		if !isConflict(err) || try >= t.rt.cfg.Retries {
			return task, overtakenTooOften(err)
		}
	}
}
