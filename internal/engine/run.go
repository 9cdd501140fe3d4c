package engine

import (
	"context"
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
	guest   bool          // the process is there for a moment
	notices func(context.Context, Notice)
	waiting atomic.Int64  // how many wait for the cursor
	end     func()        // stops it; nil = it has not begun
	ended   chan struct{} // closed when it has stopped
	wanted  wanted        // somebody waits for it, or did; for ever so unless the process is a guest

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when a cursor moves or a generation changes
	running    bool
	over       bool // it has stopped
	intent     intent
	rev        uint64 // of the intent
	carried    bool   // an intent is carried out, that of carriedRev
	carriedRev uint64
	learnedAt  time.Time
	work       generations // what this process works on
	trouble    string      // why nothing works
	watched    watched     // what is known of the generation readers see while this process does not work on it
	pace       pace        // of a rebuild
}

// run does what the follower is meant to, until ctx is done.
func (f *follower) run(ctx context.Context) {
	f.mu.Lock()
	f.running, f.over, f.carried = true, false, false
	f.mu.Unlock()
	f.notify()
	defer f.setWork(generations{})
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

// buildingLook is how often a follower looks at its intent while a rebuild is
// under way, or other processes move what readers see: they have no way to say so.
const buildingLook = 250 * time.Millisecond

// carryOut brings the generations in line with the intent and then waits for
// either to change.
func (f *follower) carryOut(ctx context.Context) error {
	if err := f.beginVersion(ctx); err != nil {
		return err
	}
	i, rev, err := f.reload(ctx)
	if err != nil {
		return err
	}
	work, err := f.apply(ctx, i)
	if err != nil {
		return err
	}
	f.carriedOut(rev)
	if err := f.clean(ctx, &i); err != nil {
		return err
	}
	// Another node may change the intent, and has no way to say so.
	every := f.poll
	if i.Building > 0 || !f.runs(i, i.Generation) {
		every = min(every, buildingLook)
	}
	look := time.NewTicker(every)
	defer look.Stop()
	for {
		_, changed := f.working()
		switch {
		case work.building == nil || i.Asked || i.Back && !f.settled(i):
			changed = nil
		case work.building.cursor().CoversAll(f.cursor()):
			return f.replace(ctx, work)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.control:
			return nil
		case <-changed:
		case <-look.C:
			if again, err := f.lookAround(ctx, i, rev); again || err != nil {
				return err
			}
		}
	}
}

// carriedOut notes that what works is what an intent asks for.
func (f *follower) carriedOut(rev uint64) {
	f.mu.Lock()
	f.carried, f.carriedRev = true, rev
	f.mu.Unlock()
	f.notify()
}

// lookAround finds out what others have done meanwhile, and reports whether
// the intent is to be carried out anew.
func (f *follower) lookAround(ctx context.Context, i intent, rev uint64) (again bool, err error) {
	if work, _ := f.working(); work.live == nil {
		if err := f.watch(ctx, i.Generation); err != nil {
			return false, err
		}
	}
	f.measurePace(i)
	if work, _ := f.working(); work.building != nil && f.members != nil && !i.Asked && (!i.Back || f.settled(i)) {
		near, err := f.nearly(ctx, i, work.building)
		if err != nil {
			return false, err
		}
		if near {
			return true, f.replace(ctx, work)
		}
	}
	if _, now, err := f.reload(ctx); err != nil || now != rev {
		return true, err
	}
	return len(i.Retired) > 0 && f.settled(i) || f.version(i) != f.Version && f.mayBegin(i), nil
}

// runs reports whether a generation is one that this program can work on.
func (f *follower) runs(i intent, gen uint64) bool { return i.version(gen) == f.Version }

// version is that of what readers see.
func (f *follower) version(i intent) int { return i.version(i.Generation) }

// generations is what a process works on; nil = it does not.
type generations struct {
	live     *generation // what readers see
	building *generation // what is to take its place
	former   *generation // what was seen before, and is kept
}

func (g generations) all() []*generation { return []*generation{g.live, g.building, g.former} }

// of returns a generation, nil if it is not among them.
func (g generations) of(gen uint64) *generation {
	for _, x := range g.all() {
		if x != nil && x.gen == gen {
			return x
		}
	}
	return nil
}

// apply starts the generations that the intent asks for and stops the others.
func (f *follower) apply(ctx context.Context, i intent) (generations, error) {
	have, _ := f.working()
	wanted := func(gen uint64) bool {
		return gen > 0 && !i.Paused && f.runs(i, gen) && (gen != i.Building || !i.Halted)
	}
	keep := func(gen uint64) *generation {
		if !wanted(gen) {
			return nil
		}
		return have.of(gen)
	}
	work := generations{keep(i.Generation), keep(i.Building), keep(i.Former)}
	f.setWork(work)
	for _, place := range []struct {
		gen uint64
		at  **generation
	}{{i.Generation, &work.live}, {i.Building, &work.building}, {i.Former, &work.former}} {
		if *place.at != nil || !wanted(place.gen) {
			continue
		}
		g, err := f.start(ctx, place.gen)
		if err != nil {
			return work, err
		}
		*place.at = g
		f.setWork(work)
	}
	if work.live == nil {
		return work, f.watch(ctx, i.Generation)
	}
	return work, nil
}

// setWork makes generations the present ones; those it replaces are stopped.
func (f *follower) setWork(work generations) {
	f.mu.Lock()
	old := f.work
	f.work, f.trouble = work, ""
	if work.live != nil {
		f.watched = watched{}
	}
	f.mu.Unlock()
	for _, g := range old.all() {
		if g != nil && work.of(g.gen) != g {
			g.stop()
		}
	}
	f.notify()
}

// clean removes what is left of generations that nobody reads any more. The
// checkpoints go first: a worker that does not know yet can then commit
// nothing more.
func (f *follower) clean(ctx context.Context, at *intent) error {
	i := *at
	if !f.settled(i) {
		return nil
	}
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
		for _, coll := range f.colls(gen) {
			if err := store.DropColl(ctx, f.store, coll); err != nil {
				return fmt.Errorf("dropping %s: %w", coll, err)
			}
		}
		if f.Drop == nil {
			continue
		}
		if err := f.Drop(ctx, gen); err != nil {
			return fmt.Errorf("dropping generation %d: %w", gen, err)
		}
	}
	at.Retired = nil
	if len(i.Retired) == 0 {
		return nil
	}
	_, _, err = changeIntent(ctx, f.store, f.Name, func(now *intent) error {
		now.Retired = slices.DeleteFunc(now.Retired, func(gen uint64) bool { return slices.Contains(i.Retired, gen) })
		return nil
	})
	return err
}

// colls are all collections that belong to a generation alone.
func (f *follower) colls(gen uint64) (all []string) {
	if f.Colls != nil {
		all = append(all, f.Colls(gen)...)
	}
	if f.Aside != nil {
		all = append(all, f.Aside(gen)...)
	}
	return all
}

// settled reports whether all nodes know of the last switch. One that does not
// still shows what was seen before: that must not be removed, nor go on beyond
// what the others show.
func (f *follower) settled(i intent) bool {
	return f.members == nil || time.Since(i.Switched) > 2*f.poll
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
		over := !i.has(gen) && gen <= i.Last
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
	if rev < f.rev { // somebody has learned of a later one meanwhile
		i, rev = f.intent, f.rev
	}
	moved := f.intent.Generation != i.Generation
	f.intent, f.rev, f.learnedAt = i, rev, time.Now()
	f.mu.Unlock()
	if moved {
		f.notify()
	}
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

// lookAgain reads the intent, because somebody has moved a checkpoint: perhaps
// readers see something else since then.
func (f *follower) lookAgain(ctx context.Context) {
	if _, _, err := f.reload(ctx); err != nil && ctx.Err() == nil {
		f.log.Debug("intent not read", "follower", f.Name, "error", err)
	}
	f.wake()
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

// stop notes that the follower does not run any more.
func (f *follower) stop() {
	f.mu.Lock()
	f.running, f.over = false, true
	f.mu.Unlock()
	f.notify()
}

// begins reports whether the follower is still to do what it is meant to: it has
// just been started, or its intent has changed. One that cannot, or that has
// stopped, does not begin.
func (f *follower) begins() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.over && f.trouble == "" && !(f.carried && f.carriedRev == f.rev)
}

// working returns what the process works on and a channel that is closed at
// the next change of anything.
func (f *follower) working() (generations, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.work, f.changed
}

// cursor is how far the documents that readers see have come; the start of
// the log if that is not known.
func (f *follower) cursor() store.Cursor {
	f.mu.Lock()
	gen, shown, seen := f.intent.Generation, f.work.of(f.intent.Generation), f.watched
	f.mu.Unlock()
	switch {
	case shown != nil:
		return shown.cursor()
	case seen.gen == gen:
		return seen.at
	}
	return store.Start
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
	if work, _ := f.working(); work.live != nil {
		work.live.poke()
	}
	for {
		_, changed := f.working()
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
		if f.stranded(i) {
			return fmt.Errorf("%w: %s has version %d, its documents are of version %d", ErrOtherVersion, f.Name, f.Version, f.version(i))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", f.Name, ctx.Err())
		}
	}
}
