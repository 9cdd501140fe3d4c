package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// Errors of an Engine.
var (
	ErrUnknownFollower = errors.New("there is no such follower")
	ErrNotRebuildable  = errors.New("an event handler cannot be rebuilt: what it did outside cannot be undone")
	ErrNotRunning      = errors.New("the follower is not running: resume it, or start the program")
	ErrPaused          = errors.New("the follower is paused")
	ErrNoDeadLetter    = errors.New("there is no such dead letter (any more)")
)

// Config says what an Engine runs.
type Config struct {
	Store     store.Store
	Followers []Follower
	Logger    *slog.Logger  // default: slog.Default()
	Poll      time.Duration // how often followers look for themselves; default 1 s
}

// An Engine runs followers.
type Engine struct {
	store     store.Store
	followers []*follower // in the order of their names
}

// New returns an engine for followers with different names.
func New(cfg Config) (*Engine, error) {
	e := &Engine{store: cfg.Store}
	for _, def := range cfg.Followers {
		def.Partitions = max(def.Partitions, 1)
		def.Timeout = cmp.Or(def.Timeout, 30*time.Second)
		e.followers = append(e.followers, &follower{
			Follower: def, store: cfg.Store, log: cmp.Or(cfg.Logger, slog.Default()), poll: cmp.Or(cfg.Poll, time.Second),
			changed: make(chan struct{}), control: make(chan struct{}, 1),
		})
	}
	slices.SortFunc(e.followers, func(a, b *follower) int { return cmp.Compare(a.Name, b.Name) })
	for i, f := range e.followers[1:] {
		if f.Name == e.followers[i].Name {
			return nil, fmt.Errorf("engine: two followers are named %q", f.Name)
		}
	}
	return e, nil
}

// Run runs the followers until ctx is done, then returns nil. When it
// returns, every goroutine it started has ended.
func (e *Engine) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, f := range e.followers {
		all.Go(func() { f.run(ctx) })
	}
	all.Wait()
	return nil
}

func (e *Engine) follower(name string) (*follower, error) {
	i, ok := slices.BinarySearchFunc(e.followers, name, func(f *follower, n string) int { return cmp.Compare(f.Name, n) })
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownFollower, name)
	}
	return e.followers[i], nil
}

// Status reports on every follower, in the order of their names.
func (e *Engine) Status() []Status {
	out := make([]Status, len(e.followers))
	for i, f := range e.followers {
		out[i] = f.status()
	}
	return out
}

// Generation returns the generation of a follower's documents that readers
// are to see.
func (e *Engine) Generation(ctx context.Context, name string) (uint64, error) {
	f, err := e.follower(name)
	if err != nil {
		return 0, err
	}
	i, err := f.known(ctx)
	return i.Generation, err
}

// Cursor returns how far the documents that readers see have come; the start
// of the log while Run does not run.
func (e *Engine) Cursor(name string) store.Cursor {
	f, err := e.follower(name)
	if err != nil {
		return store.Start
	}
	live, _, _ := f.crews()
	if live == nil {
		return store.Start
	}
	return live.cursor()
}

// WaitFor returns when a follower has handled, or parked, the record at p and
// all before it.
func (e *Engine) WaitFor(ctx context.Context, name string, p store.Position) error {
	f, err := e.follower(name)
	if err != nil {
		return err
	}
	return f.waitFor(ctx, p)
}

// WaitAll does WaitFor for every follower.
func (e *Engine) WaitAll(ctx context.Context, p store.Position) error {
	for _, f := range e.followers {
		if err := f.waitFor(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Pause makes a follower stop; it stays so, over restarts too, until Resume.
func (e *Engine) Pause(ctx context.Context, name string) error {
	return e.intend(ctx, name, func(_ *follower, i *intent) error { i.Paused = true; return nil })
}

// Resume lets a paused follower go on.
func (e *Engine) Resume(ctx context.Context, name string) error {
	return e.intend(ctx, name, func(_ *follower, i *intent) error { i.Paused = false; return nil })
}

// Rebuild begins to build a follower's documents anew, beside the present
// ones, which readers see until the new ones have caught up. A rebuild that
// was going on already begins again.
func (e *Engine) Rebuild(ctx context.Context, name string) error {
	return e.intend(ctx, name, func(f *follower, i *intent) error {
		if !f.Pure {
			return fmt.Errorf("%w: %q", ErrNotRebuildable, name)
		}
		if i.Building > 0 {
			i.Retired = append(i.Retired, i.Building)
		}
		*i = i.next()
		return nil
	})
}

func (e *Engine) intend(ctx context.Context, name string, change func(*follower, *intent) error) error {
	f, err := e.follower(name)
	if err != nil {
		return err
	}
	i, err := changeIntent(ctx, e.store, name, func(i *intent) error { return change(f, i) })
	if err != nil {
		return err
	}
	f.learn(i)
	return nil
}

// DeadLetters returns up to limit dead letters in log order, of one follower
// or, if name is "", of one after the other, beginning after a mark. The
// mark it returns is where to go on; "" = there are no more.
func (e *Engine) DeadLetters(ctx context.Context, name, after string, limit int) ([]DeadLetter, string, error) {
	out := []DeadLetter{}
	followers := e.followers
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
	for l, err := range letters(ctx, e.store, f.Name, i.Generation, "") {
		if err != nil {
			return DeadLetter{}, err
		}
		if l.pos == p {
			return l.DeadLetter, nil
		}
	}
	return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
}

// Redrive tries a dead letter again now, with the others of its sequence and
// in order. It returns how many were handled, and an error that says why the
// first that was not could not be.
func (e *Engine) Redrive(ctx context.Context, id string) (int, error) {
	return e.onLetter(ctx, id, func(ctx context.Context, w *worker, l *letter) (int, error) {
		return w.redrive(ctx, w.lot.sequence(l.Keys), l)
	})
}

// Discard gives a dead letter up, for a reason, and lets those go on that
// wait behind it.
func (e *Engine) Discard(ctx context.Context, id, reason, actor string) error {
	_, err := e.onLetter(ctx, id, func(ctx context.Context, w *worker, l *letter) (int, error) {
		return w.discard(ctx, l, reason, actor)
	})
	return err
}

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

// onLetter does something with a letter in the worker that owns it, so that
// documents keep a single writer.
func (e *Engine) onLetter(ctx context.Context, id string, do func(context.Context, *worker, *letter) (int, error)) (int, error) {
	f, p, err := e.addressee(id)
	if err != nil {
		return 0, err
	}
	l, err := e.DeadLetter(ctx, id)
	if err != nil {
		return 0, err
	}
	t := onLetter(p, do)
	live, _, _ := f.crews()
	if live == nil || !live.worker(l.Stream).ask(t) {
		return 0, fmt.Errorf("%w: %s", ErrNotRunning, f.Name)
	}
	select {
	case <-t.done:
		return t.n, t.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
