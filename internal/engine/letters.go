package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/deed-dev/deed/store"
)

// pageSize is how many dead letters there are to a page if nobody says.
const pageSize = 100

// DeadLetters returns up to limit dead letters (0 = 100) in log order, of one
// follower or, if name is "", of one after the other, beginning after a mark.
// The mark it returns is where to go on; "" = there are no more.
func (e *Engine) DeadLetters(ctx context.Context, name, after string, limit int) ([]DeadLetter, string, error) {
	if limit <= 0 {
		limit = pageSize
	}
	followers := e.list()
	if name != "" {
		f, err := e.follower(name)
		if err != nil {
			return nil, "", err
		}
		followers = []*follower{f}
	}
	var from string
	var at store.Position
	if after != "" {
		var err error
		if from, at, err = parseLetterID(after); err != nil {
			return nil, "", err
		}
	}
	out := []DeadLetter{}
	for _, f := range followers {
		if f.Name < from {
			continue
		}
		i, err := f.known(ctx)
		if err != nil {
			return nil, "", err
		}
		key := ""
		if f.Name == from {
			key = deadKey(i.Generation, at)
		}
		for l, err := range letters(ctx, e.store, f.Name, i.Generation, key) {
			if err != nil {
				return nil, "", err
			}
			if len(out) == limit {
				return out, out[limit-1].ID, nil
			}
			out = append(out, l.DeadLetter)
		}
	}
	return out, "", nil
}

// Parked returns the sequences of which a follower has parked records, and the
// id of the first dead letter of each.
func (e *Engine) Parked(ctx context.Context, name string) (map[string]string, error) {
	f, err := e.follower(name)
	if err != nil {
		return nil, err
	}
	i, err := f.known(ctx)
	if err != nil {
		return nil, err
	}
	parked := map[string]string{}
	for l, err := range letters(ctx, e.store, name, i.Generation, "") {
		if err != nil {
			return nil, err
		}
		for _, key := range l.Keys {
			if _, known := parked[key]; !known {
				parked[key] = l.ID
			}
		}
	}
	return parked, nil
}

// DeadLetter returns one dead letter.
func (e *Engine) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	f, p, err := e.addressee(id)
	if err != nil {
		return DeadLetter{}, err
	}
	i, err := f.known(ctx)
	if err != nil {
		return DeadLetter{}, err
	}
	l, err := getLetter(ctx, e.store, f.Name, i.Generation, p)
	if err != nil {
		return DeadLetter{}, err
	}
	return l.DeadLetter, nil
}

// Redrive tries a dead letter again now, with the others of its sequence and
// in order. It returns how many were handled, and an error that says why the
// first that was not could not be.
func (e *Engine) Redrive(ctx context.Context, id string) (int, error) {
	return e.onLetter(ctx, id, func(ctx context.Context, w *worker, l *letter) (outcome, error) {
		return w.redrive(ctx, w.parked.sequence(l.Keys), true)
	})
}

// RedriveAll tries all dead letters of a follower again now, each sequence in
// order. It returns what Redrive does.
func (e *Engine) RedriveAll(ctx context.Context, name string) (int, error) {
	f, err := e.follower(name)
	if err != nil {
		return 0, err
	}
	work, _ := f.working()
	if work.live == nil {
		return 0, f.notRunning()
	}
	var tasks []*task
	for _, w := range work.live.workers {
		t := newTask(func(ctx context.Context, w *worker) (outcome, error) {
			return w.redrive(ctx, slices.Clone(w.parked.letters), true)
		})
		if !w.ask(t) {
			return 0, f.notRunning()
		}
		tasks = append(tasks, t)
	}
	handled, failure := 0, error(nil)
	for _, t := range tasks {
		n, err := t.wait(ctx)
		handled += n
		failure = cmp.Or(failure, err)
	}
	return handled, failure
}

// Discard gives a dead letter up, for a reason, and lets those go on that
// wait behind it.
func (e *Engine) Discard(ctx context.Context, id, reason, actor string) error {
	_, err := e.onLetter(ctx, id, func(ctx context.Context, w *worker, l *letter) (outcome, error) {
		return outcome{}, w.discard(ctx, l, reason, actor)
	})
	return err
}

// addressee returns the follower that has a dead letter.
func (e *Engine) addressee(id string) (*follower, store.Position, error) {
	name, p, err := parseLetterID(id)
	if err != nil {
		return nil, p, err
	}
	f, err := e.follower(name)
	if err != nil {
		return nil, p, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	return f, p, nil
}

// onLetter has the worker that owns a letter do something with it.
func (e *Engine) onLetter(ctx context.Context, id string, do func(context.Context, *worker, *letter) (outcome, error)) (int, error) {
	f, p, err := e.addressee(id)
	if err != nil {
		return 0, err
	}
	l, err := e.DeadLetter(ctx, id)
	if err != nil {
		return 0, err
	}
	t := onLetter(p, do)
	work, _ := f.working()
	if work.live == nil || !work.live.worker(l.Stream).ask(t) {
		return 0, f.notRunning()
	}
	return t.wait(ctx)
}

// notRunning is the error of asking something of a follower without workers.
func (f *follower) notRunning() error { return fmt.Errorf("%w: %s", ErrNotRunning, f.Name) }
