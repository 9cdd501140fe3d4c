package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	ErrNotEditable     = errors.New("what this follower does has to be what the log says: a dead letter of it cannot be edited")
	ErrNoRebuild       = errors.New("no rebuild is under way")
	ErrRebuilding      = errors.New("a rebuild is under way: wait for it, or cancel it")
	ErrNoFormer        = errors.New("no former documents are kept")
	ErrNotCaughtUp     = errors.New("the new documents have not caught up yet")
	ErrOtherVersion    = errors.New("no program that runs has the version that the documents are of")
)

// Config says what an Engine runs.
type Config struct {
	Store     store.Store
	Followers []Follower
	Logger    *slog.Logger  // default: slog.Default()
	Poll      time.Duration // how often followers look for themselves; default 1 s

	// Node names this process among several that use the same store; "" if
	// nobody else does. Host and PID tell people where it runs.
	Node  string
	Host  string
	PID   int
	Lease time.Duration // after which a silent node counts as dead; default 6 s

	// Guest says that this process is there for a moment: a follower runs from
	// when somebody waits for it, and holds a partition of a shared store only
	// as long as no other node can.
	Guest bool

	// Notices, if not nil, is told what followers do by themselves.
	Notices func(context.Context, Notice)
}

// An Engine runs followers.
type Engine struct {
	store   store.Store
	cfg     Config
	members *membership // nil if nobody else uses the store
	guest   bool

	mu        sync.Mutex
	followers []*follower     // in the order of their names; replaced, never changed
	begin     func(*follower) // runs one that comes; nil = Run does not run
	all       sync.WaitGroup  // followers that run
}

// New returns an engine for followers with different names.
func New(cfg Config) (*Engine, error) {
	e := &Engine{store: cfg.Store, guest: cfg.Guest, cfg: cfg}
	if cfg.Node != "" {
		e.members = newMembership(cfg)
	}
	for _, def := range cfg.Followers {
		if err := e.Add(def); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// newFollower makes a follower of its definition.
func (e *Engine) newFollower(def Follower) (*follower, error) {
	if err := check(def); err != nil {
		return nil, err
	}
	def.Partitions = max(def.Partitions, 1)
	def.Timeout = cmp.Or(def.Timeout, 30*time.Second)
	f := &follower{
		Follower: def, store: e.store, log: cmp.Or(e.cfg.Logger, slog.Default()), poll: cmp.Or(e.cfg.Poll, time.Second),
		guest: e.guest, notices: e.cfg.Notices,
		changed: make(chan struct{}), control: make(chan struct{}, 1), wanted: wanted{ch: make(chan struct{})},
	}
	if !e.guest {
		f.wanted.now()
	}
	return f, nil
}

// check reports whether a follower can be run.
func check(f Follower) error {
	if err := store.CheckName("the name of a follower", f.Name); err != nil {
		return err
	}
	switch {
	case strings.Contains(f.Name, "/"):
		return fmt.Errorf("engine: follower %q: a name has no slash, keys of documents are made of it", f.Name)
	case f.New == nil:
		return fmt.Errorf("engine: follower %q has no handler: set New", f.Name)
	case f.Version < 0:
		return fmt.Errorf("engine: follower %q: a version is not negative", f.Name)
	case f.Filter.Limit != 0 || f.Filter.Partitions != 0:
		return fmt.Errorf("engine: follower %q: its filter may name categories and types only", f.Name)
	}
	return nil
}

// Run runs the followers until ctx is done, then returns nil. When it
// returns, every goroutine it started has ended.
func (e *Engine) Run(ctx context.Context) error {
	var member sync.WaitGroup
	last, leave := context.WithCancel(context.WithoutCancel(ctx)) // a node leaves when its followers have ended
	defer leave()
	join := sync.OnceFunc(func() {
		if e.members != nil {
			e.members.join(ctx)
			member.Go(func() { e.members.run(last) })
		}
	})
	if !e.guest {
		join()
	}
	begin := func(f *follower) { e.started(ctx, f, join) }
	e.mu.Lock()
	for _, f := range e.followers {
		begin(f)
	}
	e.begin = begin
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	e.begin = nil
	e.mu.Unlock()
	e.all.Wait()
	leave()
	member.Wait()
	return nil
}

func (e *Engine) follower(name string) (*follower, error) {
	all := e.list()
	i, ok := slices.BinarySearchFunc(all, name, byName)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownFollower, name)
	}
	return all[i], nil
}

// Status reports on every follower, in the order of their names.
func (e *Engine) Status() []Status {
	all := e.list()
	out := make([]Status, len(all))
	for i, f := range all {
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
	return f.cursor()
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

// WaitAll does WaitFor for every follower. If some are paused it waits for
// the others, and then says so; those that are left to other processes it only
// looks at, and those that deliver to somewhere else it passes over.
func (e *Engine) WaitAll(ctx context.Context, p store.Position) error {
	all := e.list()
	for _, f := range all {
		f.wanted.now() // all begin at the same time
	}
	var paused error
	for _, f := range all {
		if f.Outward {
			continue
		}
		if f.Elsewhere {
			if err := f.lookAt(ctx); err != nil {
				return err
			}
			continue
		}
		err := f.waitFor(ctx, p)
		if err != nil && !errors.Is(err, ErrPaused) && !errors.Is(err, ErrOtherVersion) {
			return err
		}
		paused = errors.Join(paused, err)
	}
	return paused
}

// Pause makes a follower stop; it stays so, over restarts too, until Resume.
// When Pause returns, it has stopped.
func (e *Engine) Pause(ctx context.Context, name string) error {
	f, err := e.intend(ctx, name, func(_ *follower, i *intent) error { i.Paused = true; return nil })
	if err != nil {
		return err
	}
	return f.until(ctx, func() bool { return !f.running || !f.intent.Paused || f.work.live == nil })
}

// Resume lets a paused follower go on. When Resume returns, it runs, unless
// the store is in trouble.
func (e *Engine) Resume(ctx context.Context, name string) error {
	f, err := e.intend(ctx, name, func(_ *follower, i *intent) error { i.Paused = false; return nil })
	if err != nil {
		return err
	}
	return f.until(ctx, func() bool {
		return !f.running || f.intent.Paused || f.work.live != nil || f.trouble != "" || !f.runs(f.intent, f.intent.Generation)
	})
}

// intend stores what a follower is meant to do, and has it done.
func (e *Engine) intend(ctx context.Context, name string, change func(*follower, *intent) error) (*follower, error) {
	f, err := e.follower(name)
	if err != nil {
		return nil, err
	}
	i, rev, err := changeIntent(ctx, e.store, name, func(i *intent) error { return change(f, i) })
	if err != nil {
		return nil, err
	}
	f.learn(i, rev)
	return f, nil
}
