package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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
			out = append(out, f.shown(l))
		}
	}
	return out, "", nil
}

// shown is a letter with what is not stored of it.
func (f *follower) shown(l *letter) DeadLetter {
	out := l.DeadLetter
	out.Kind, out.Fingerprint = f.Kind, out.fingerprint()
	return out
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
	f, p, gen, err := e.shownAt(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	l, err := getLetter(ctx, e.store, f.Name, gen, p)
	if err != nil {
		return DeadLetter{}, err
	}
	return f.shown(l), nil
}

// shownAt returns the follower and the position of an id, and the generation of
// that follower that readers see.
func (e *Engine) shownAt(ctx context.Context, id string) (*follower, store.Position, uint64, error) {
	f, p, err := e.addressee(id)
	if err != nil {
		return nil, p, 0, err
	}
	i, err := f.known(ctx)
	return f, p, i.Generation, err
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
	live, err := f.atWork(ctx)
	if err != nil {
		return 0, err
	}
	var tasks []*task
	for _, w := range live.workers {
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
	live, err := f.atWork(ctx)
	if err != nil {
		return 0, err
	}
	t := onLetter(p, do)
	if !live.worker(l.Stream).ask(t) {
		return 0, f.notRunning()
	}
	return t.wait(ctx)
}

// beginning is how long somebody who asks something of a follower waits for it to
// begin, at most.
const beginning = 10 * time.Second

// atWork returns what this process works on of what readers see. A follower that
// is still beginning is waited for; one that is paused, or has stopped, or cannot
// begin, or works on something else, or runs elsewhere is ErrNotRunning.
func (f *follower) atWork(ctx context.Context) (*generation, error) {
	soon, cancel := context.WithTimeout(ctx, beginning)
	defer cancel()
	f.wanted.now()
	for {
		begins := f.begins()
		work, changed := f.working()
		if work.live != nil {
			return work.live, nil
		}
		i, err := f.known(ctx)
		if err != nil {
			return nil, err
		}
		if f.Elsewhere || i.Paused || f.stranded(i) || !begins {
			return nil, f.notRunning()
		}
		select {
		case <-changed:
		case <-soon.Done():
			return nil, cmp.Or(ctx.Err(), f.notRunning())
		}
	}
}

// notRunning is the error of asking something of a follower without workers. It
// says why there are none, if something is the matter.
func (f *follower) notRunning() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trouble != "" {
		return fmt.Errorf("%w: %s (%s)", ErrNotRunning, f.Name, f.trouble)
	}
	return fmt.Errorf("%w: %s", ErrNotRunning, f.Name)
}

// Redriven says what came of trying several dead letters again.
type Redriven struct {
	Handled int      // events, those that waited behind too
	Failed  []string // ids of those asked for that were tried and could not be handled
	Untried []string // ids of those that are there still and were not tried, or of which it is not known yet what comes of them
	Failure error    // of the first that could not be handled, or why nothing could be tried
}

// RedriveSome tries dead letters of one follower again now, with the others of
// their sequences and in order. Those that are none any more are passed over.
func (e *Engine) RedriveSome(ctx context.Context, name string, ids []string) (Redriven, error) {
	var all Redriven
	var mu sync.Mutex
	handled, err := e.onSome(ctx, name, ids, func(ctx context.Context, w *worker, at []store.Position) (outcome, error) {
		var keys []string
		before := map[store.Position]int{}
		for _, l := range w.parked.among(at) {
			keys = append(keys, l.Keys...)
			before[l.pos] = l.Attempts
		}
		out, err := w.redrive(ctx, w.parked.sequence(keys), true)
		if err != nil {
			return out, err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, l := range w.parked.among(at) {
			if l.Attempts > before[l.pos] {
				all.Failed = append(all.Failed, l.ID)
			} else {
				all.Untried = append(all.Untried, l.ID)
			}
		}
		all.Failure = cmp.Or(all.Failure, out.failure)
		return outcome{handled: out.handled}, nil
	})
	mu.Lock() // a worker may be at it still, if ctx has ended
	defer mu.Unlock()
	all.Handled = handled
	return all, err
}

// DiscardSome gives dead letters of one follower up, for a reason, and returns how
// many. Those that are none any more are passed over.
func (e *Engine) DiscardSome(ctx context.Context, name string, ids []string, reason, actor string) (int, error) {
	return e.onSome(ctx, name, ids, func(ctx context.Context, w *worker, at []store.Position) (out outcome, err error) {
		for _, l := range w.parked.among(at) {
			if w.parked.find(l.pos) == nil {
				continue // it was handled when one before it was given up
			}
			if err := w.discard(ctx, l, reason, actor); err != nil {
				return out, err
			}
			out.handled++
		}
		return out, nil
	})
}

// onSome has the workers that own some letters of a follower do something with
// them, and adds up what they say.
func (e *Engine) onSome(ctx context.Context, name string, ids []string, do func(context.Context, *worker, []store.Position) (outcome, error)) (int, error) {
	f, err := e.follower(name)
	if err != nil {
		return 0, err
	}
	live, err := f.atWork(ctx)
	if err != nil {
		return 0, err
	}
	i, err := f.known(ctx)
	if err != nil {
		return 0, err
	}
	of := map[*worker][]store.Position{}
	for _, id := range ids {
		_, p, err := parseLetterID(id)
		if err != nil {
			return 0, err
		}
		l, err := getLetter(ctx, e.store, name, i.Generation, p)
		if errors.Is(err, ErrNoDeadLetter) {
			continue
		}
		if err != nil {
			return 0, err
		}
		w := live.worker(l.Stream)
		of[w] = append(of[w], p)
	}
	var tasks []*task
	for w, at := range of {
		t := newTask(func(ctx context.Context, w *worker) (outcome, error) { return do(ctx, w, at) })
		if !w.ask(t) {
			return 0, f.notRunning()
		}
		tasks = append(tasks, t)
	}
	total, failure := 0, error(nil)
	for _, t := range tasks {
		n, err := t.wait(ctx)
		total += n
		failure = cmp.Or(failure, err)
	}
	return total, failure
}
