package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed/store"
)

// follower is a Follower at work.
type follower struct {
	Follower
	store   store.Store
	log     *slog.Logger
	poll    time.Duration
	control chan struct{} // the intent may have changed
	members *membership   // nil if nobody else uses the store
	waiting atomic.Int64  // how many wait for the cursor
	wanted  wanted        // somebody waits for it, or did; for ever so unless the process is a guest

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when a cursor moves or a generation changes
	running   bool
	intent    intent
	rev       uint64 // of the intent
	learnedAt time.Time
	live      *generation
	building  *generation
	trouble   string // why nothing works
	paused    paused // what is known while it is
}

// run does what the follower is meant to, until ctx is done.
func (f *follower) run(ctx context.Context) {
	f.setRunning(true)
	defer f.setRunning(false)
	defer f.setGenerations(nil, nil)
	failures := 0
	for ctx.Err() == nil {
		err := f.carryOut(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		level := slog.LevelError
		if isConflict(err) { // nodes that start together make the same documents: one of them is first
			level = slog.LevelInfo
		}
		f.log.Log(ctx, level, "follower waits", "follower", f.Name, "error", err)
		f.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Wait(failures)):
		}
	}
}

// carryOut brings the generations in line with the intent and then waits for
// either to change.
func (f *follower) carryOut(ctx context.Context) error {
	i, rev, err := f.reload(ctx)
	if err != nil {
		return err
	}
	live, building, err := f.apply(ctx, i)
	if err != nil {
		return err
	}
	if err := f.clean(ctx, i); err != nil {
		return err
	}
	// Another node may change the intent, and has no way to say so.
	look := time.NewTicker(f.poll)
	defer look.Stop()
	for {
		_, _, changed := f.generations()
		if building != nil && building.cursor().CoversAll(live.cursor()) {
			return f.replace(ctx, live, building)
		}
		if building == nil {
			changed = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.control:
			return nil
		case <-changed:
		case <-look.C:
			if i.Paused {
				if err := f.watch(ctx, i.Generation); err != nil {
					return err
				}
			}
			if _, now, err := f.reload(ctx); err != nil || now != rev {
				return err
			}
		}
	}
}

// apply starts the generations that the intent asks for and stops the others.
func (f *follower) apply(ctx context.Context, i intent) (live, building *generation, err error) {
	live, building, _ = f.generations()
	if building != nil && (i.Paused || building.gen != i.Building) {
		building.stop()
		building = nil
	}
	if live != nil && (i.Paused || live.gen != i.Generation) {
		live.stop()
		live = nil
	}
	if i.Paused {
		f.setGenerations(nil, nil)
		return nil, nil, f.watch(ctx, i.Generation)
	}
	if live == nil {
		if live, err = f.start(ctx, i.Generation); err != nil {
			f.setGenerations(nil, nil)
			return nil, nil, err
		}
	}
	if building == nil && i.Building > 0 {
		if building, err = f.start(ctx, i.Building); err != nil {
			f.setGenerations(live, nil)
			return nil, nil, err
		}
	}
	f.setGenerations(live, building)
	return live, building, nil
}

// setGenerations makes generations the present ones; those it replaces are
// stopped.
func (f *follower) setGenerations(live, building *generation) {
	f.mu.Lock()
	oldLive, oldBuilding := f.live, f.building
	f.live, f.building, f.trouble = live, building, ""
	if live != nil {
		f.paused = paused{}
	}
	f.mu.Unlock()
	for _, old := range []*generation{oldLive, oldBuilding} {
		if old != live && old != building {
			old.stop()
		}
	}
	f.notify()
}

// replace lets a generation that has caught up take the place of the live
// one. That stands still meanwhile, so that nobody sees a document go back in
// time.
func (f *follower) replace(ctx context.Context, live, building *generation) error {
	live.stop()
	for {
		_, _, changed := f.generations()
		if building.cursor().CoversAll(live.cursor()) {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		case <-f.control: // it has been thought over
		}
		f.setGenerations(nil, building)
		return nil
	}
	i, rev, err := changeIntent(ctx, f.store, f.Name, func(i *intent) error {
		if i.Building != building.gen {
			return errSuperseded
		}
		i.Retired = append(i.Retired, i.Generation)
		i.Generation, i.Building = i.Building, 0
		return nil
	})
	if err != nil {
		f.setGenerations(nil, building)
		if errors.Is(err, errSuperseded) {
			return nil
		}
		return err
	}
	f.mu.Lock()
	f.live, f.building = building, nil
	f.mu.Unlock()
	f.learn(i, rev)
	f.log.Info("rebuilt", "follower", f.Name, "generation", building.gen)
	return nil
}

var errSuperseded = errors.New("engine: another rebuild has begun")

// clean removes what is left of generations that nobody reads any more. The
// checkpoints go first: a worker that does not know yet can then commit
// nothing more.
func (f *follower) clean(ctx context.Context, i intent) error {
	revived, err := f.revived(ctx, i)
	if err != nil {
		return err
	}
	for _, gen := range slices.Concat(i.Retired, revived) {
		if err := f.remove(ctx, cursorColl, cursorPrefix(f.Name, gen)); err != nil {
			return err
		}
		if err := f.remove(ctx, deadColl(f.Name), deadPrefix(gen)); err != nil {
			return err
		}
		if f.Colls == nil {
			continue
		}
		for _, coll := range f.Colls(gen) {
			if err := store.DropColl(ctx, f.store, coll); err != nil {
				return fmt.Errorf("dropping %s: %w", coll, err)
			}
		}
	}
	if len(i.Retired) == 0 {
		return nil
	}
	_, _, err = changeIntent(ctx, f.store, f.Name, func(now *intent) error {
		now.Retired = slices.DeleteFunc(now.Retired, func(gen uint64) bool { return slices.Contains(i.Retired, gen) })
		return nil
	})
	return err
}

// revived returns the generations that were removed and begun again, by a node
// that had still to learn that their time was over.
func (f *follower) revived(ctx context.Context, i intent) (gens []uint64, err error) {
	for d, err := range f.store.List(ctx, cursorColl, f.Name+"/", "") {
		if err != nil {
			return nil, err
		}
		gen, err := generationOfKey(d.Key)
		if err != nil {
			return nil, err
		}
		// One above Last is of an intent that this node has still to read.
		over := gen != i.Generation && gen != i.Building && gen <= i.Last
		if over && !slices.Contains(i.Retired, gen) && !slices.Contains(gens, gen) {
			gens = append(gens, gen)
		}
	}
	return gens, nil
}

func (f *follower) remove(ctx context.Context, coll, prefix string) error {
	for d, err := range f.store.List(ctx, coll, prefix, "") {
		if err != nil {
			return err
		}
		if err := f.store.Write(ctx, store.Change{Coll: coll, Key: d.Key, Rev: store.AnyRev}); err != nil {
			return err
		}
	}
	return nil
}

// reload reads the intent from the store.
func (f *follower) reload(ctx context.Context) (intent, uint64, error) {
	i, rev, err := loadIntent(ctx, f.store, f.Name)
	if err != nil {
		return i, rev, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intent, f.rev, f.learnedAt = i, rev, time.Now()
	return i, rev, nil
}

// known returns the intent as this process knows it. Run keeps it fresh;
// without it, it is read again from time to time.
func (f *follower) known(ctx context.Context) (intent, error) {
	f.mu.Lock()
	i, learned := f.intent, !f.learnedAt.IsZero() && (f.running || time.Since(f.learnedAt) < f.poll)
	f.mu.Unlock()
	if learned {
		return i, nil
	}
	i, _, err := f.reload(ctx)
	return i, err
}

// learn notes an intent that was just stored and has it acted upon.
func (f *follower) learn(i intent, rev uint64) {
	f.mu.Lock()
	f.intent, f.rev, f.learnedAt = i, rev, time.Now()
	f.mu.Unlock()
	f.wake()
	f.notify()
}

// wake has the intent looked at again.
func (f *follower) wake() {
	select {
	case f.control <- struct{}{}:
	default:
	}
}

// notify wakes everybody who waits for a cursor or a generation.
func (f *follower) notify() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) fail(err error) {
	f.mu.Lock()
	f.trouble = reasonOf(err)
	f.mu.Unlock()
	f.notify()
}

func (f *follower) setRunning(running bool) {
	f.mu.Lock()
	f.running = running
	f.mu.Unlock()
	f.notify()
}

// generations returns the present generations and a channel that is closed at
// the next change of anything.
func (f *follower) generations() (live, building *generation, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live, f.building, f.changed
}

// cursor is how far the documents that readers see have come; the start of
// the log if that is not known.
func (f *follower) cursor() store.Cursor {
	f.mu.Lock()
	live, at := f.live, f.paused.at
	f.mu.Unlock()
	if live != nil {
		return live.cursor()
	}
	return at
}

// until waits for something to be so. It is asked under the mutex.
func (f *follower) until(ctx context.Context, so func() bool) error {
	for {
		f.mu.Lock()
		ok, changed := so(), f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) waitFor(ctx context.Context, p store.Position) error {
	if f.Elsewhere {
		return f.notRunning()
	}
	f.wanted.now()
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	if live, _, _ := f.generations(); live != nil && f.members != nil {
		live.poke()
	}
	for {
		_, _, changed := f.generations()
		if f.cursor().Covers(p) {
			return nil
		}
		i, err := f.known(ctx)
		if err != nil {
			return err
		}
		if i.Paused {
			return fmt.Errorf("%w: %s", ErrPaused, f.Name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", f.Name, ctx.Err())
		}
	}
}
