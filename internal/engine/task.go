package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/deed-dev/deed/store"
)

// A task is something that others ask a worker to do between batches, so that
// documents keep a single writer.
type task struct {
	// run does it. An error means that the worker has to begin afresh.
	run  func(ctx context.Context, w *worker) (outcome, error)
	done chan struct{}
	lost int // so many times another node took the partition before it was done

	// The answer, once done is closed.
	out outcome
	err error
}

func newTask(run func(ctx context.Context, w *worker) (outcome, error)) *task {
	return &task{run: run, done: make(chan struct{})}
}

func (t *task) answer(out outcome, err error) {
	t.out, t.err = out, err
	close(t.done)
}

// onLetter makes a task of something to do with the letter at p.
func onLetter(p store.Position, do func(ctx context.Context, w *worker, l *letter) (outcome, error)) *task {
	return newTask(func(ctx context.Context, w *worker) (outcome, error) {
		l := w.parked.find(p)
		if l == nil {
			return outcome{failure: fmt.Errorf("%w: %s", ErrNoDeadLetter, letterID(w.f.Name, p))}, nil
		}
		return do(ctx, w, l)
	})
}

// ask hands the worker a task; it reports false if the worker has ended.
func (w *worker) ask(t *task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.alive {
		return false
	}
	w.tasks = append(w.tasks, t)
	w.poked = true
	if w.poke != nil {
		w.poke()
	}
	return true
}

func (w *worker) nextTask() *task {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.tasks) == 0 {
		return nil
	}
	t := w.tasks[0]
	w.tasks = w.tasks[1:]
	return t
}

// tryAgain puts a task back of which nothing is done, because another node took
// the partition meanwhile. That may go on for a while where many ask something of
// the same partition by way of different nodes.
func (w *worker) tryAgain(t *task) bool {
	const often = 20
	if t.lost++; t.lost > often || w.f.members == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tasks = slices.Insert(w.tasks, 0, t)
	return true
}

// end answers whoever still waits.
func (w *worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive, w.state = false, StateStopped
	for _, t := range w.tasks {
		t.answer(outcome{}, fmt.Errorf("%w: %s", ErrNotRunning, w.f.Name))
	}
	w.tasks = nil
}

// wait returns the answer to a task, or the error of ctx.
func (t *task) wait(ctx context.Context) (int, error) {
	select {
	case <-t.done:
		if t.err != nil {
			return t.out.handled, t.err
		}
		return t.out.handled, t.out.failure
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
