package engine

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/deed-dev/deed/store"
)

var errSuperseded = errors.New("engine: something else was asked meanwhile")

// replaceTime is how long readers' documents may stand still for another
// generation to catch up with them.
const replaceTime = 500 * time.Millisecond

// switchAgain is when a switch is tried again that failed because others moved.
const switchAgain = 10 * time.Millisecond

// replace lets a generation that has caught up take the place of the one that
// readers see. That one stands still meanwhile, so that nobody sees a document
// go back in time.
func (f *follower) replace(ctx context.Context, work generations) error {
	work.live.stop()
	still := time.NewTimer(replaceTime)
	defer still.Stop()
	ahead, err := f.ahead(ctx)
	if err != nil {
		return err
	}
	for {
		_, changed := f.working()
		err := f.trySwitch(ctx, work.building, ahead)
		if err == nil {
			return nil
		}
		if !isConflict(err) && !errors.Is(err, errBehind) {
			f.setWork(generations{building: work.building, former: work.former})
			if errors.Is(err, errSuperseded) {
				err = nil
			}
			return err
		}
		select {
		case <-changed:
			continue
		case <-time.After(switchAgain):
			continue
		case <-ctx.Done():
		case <-f.control: // it has been thought over
		case <-still.C:
		}
		f.setWork(generations{building: work.building, former: work.former})
		return nil
	}
}

var errBehind = errors.New("engine: not caught up yet")

// trySwitch makes what is built what readers see, provided that it has taken in
// all that those documents have. Other nodes may still work on these. So their
// checkpoints are part of the same write: it fails if one of them has moved.
func (f *follower) trySwitch(ctx context.Context, building *generation, ahead store.Cursor) error {
	i, rev, err := loadIntent(ctx, f.store, f.Name)
	if err != nil {
		return err
	}
	if i.Building != building.gen || i.Asked || i.Halted || i.Paused {
		return errSuperseded
	}
	shown, err := loadCheckpoints(ctx, f.store, f.Name, i.Generation)
	if err != nil {
		return err
	}
	built, err := building.reached(ctx, f)
	if err != nil {
		return err
	}
	if !coversAll(built, shown) || !least(built).CoversAll(ahead) {
		return errBehind
	}
	former := i.Generation
	i.take(time.Now())
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	changes := []store.Change{{Coll: followerColl, Key: f.Name, Rev: rev, Data: data}}
	for _, d := range shown.docs {
		changes = append(changes, store.Change{Coll: cursorColl, Key: d.Key, Rev: d.Rev, Data: d.Data})
	}
	write, cancel := unbroken(ctx)
	defer cancel()
	if err := f.store.Write(write, changes...); err != nil {
		return err
	}
	f.mu.Lock()
	old := f.work.former
	f.work = generations{live: building} // the former one is started again
	f.intent, f.rev, f.learnedAt = i, rev+1, time.Now()
	f.mu.Unlock()
	old.stop()
	f.wake()
	f.notify()
	f.log.Info("rebuilt", "follower", f.Name, "generation", building.gen, "former", former)
	f.tellOf(ctx, Notice{Follower: f.Name, What: Switched, Generation: building.gen, Version: f.Version})
	return nil
}

// unbroken is the context of a write that a stop does not break off: nobody would
// know whether it is done, and nobody would be told.
func unbroken(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), commitTime)
}

// reached is how far each partition of a generation has come. What other nodes
// hold is read from the store: what this one has seen of it is old.
func (g *generation) reached(ctx context.Context, f *follower) ([]store.Cursor, error) {
	saved, err := loadCheckpoints(ctx, f.store, f.Name, g.gen)
	if err != nil || saved.Partitions != len(g.workers) {
		return nil, err // another node has other partitions
	}
	for part, w := range g.workers {
		w.mu.Lock()
		saved.Cursors[part] = saved.Cursors[part].Join(w.at)
		w.mu.Unlock()
	}
	return saved.Cursors, nil
}

// coversAll reports whether partitions have taken in all that is in documents
// with these checkpoints.
func coversAll(built []store.Cursor, shown checkpoints) bool {
	if len(built) == shown.Partitions && len(shown.pasts) == 0 {
		for part, c := range built {
			if !c.CoversAll(shown.Cursors[part]) {
				return false
			}
		}
		return true
	}
	return len(built) > 0 && least(built).CoversAll(most(shown.Cursors))
}

// nearTheEnd is how many positions a generation may be behind for it to be worth
// while to hold the other one.
const nearTheEnd = 1000

// nearly reports whether a generation has almost caught up with what readers see,
// as it is saved.
func (f *follower) nearly(ctx context.Context, i intent, building *generation) (bool, error) {
	built, err := building.reached(ctx, f)
	if err != nil || built == nil {
		return false, err
	}
	shown, err := loadCheckpoints(ctx, f.store, f.Name, i.Generation)
	return least(built).Behind(least(shown.Cursors)) < nearTheEnd, err
}

// most is the cursor that covers all that any of the given does.
func most(cursors []store.Cursor) store.Cursor {
	out := store.Start
	for _, c := range cursors {
		out = out.Join(c)
	}
	return out
}

// Kinds of a [Notice].
const (
	Switched = "switched" // readers see another generation
	Began    = "began"    // a program has begun to build a generation of its version
	Resumed  = "resumed"  // a program has taken up the former generation, which is of its version
)

// A Notice says what an engine has done without being asked at that moment.
type Notice struct {
	Follower   string
	What       string
	Generation uint64
	Version    int
}

func (f *follower) tellOf(ctx context.Context, n Notice) {
	if f.notices != nil {
		f.notices(context.WithoutCancel(ctx), n)
	}
}

// beginVersion begins to build documents of the program's version, if those that
// readers see are of another one.
func (f *follower) beginVersion(ctx context.Context) error {
	if !f.Pure || f.Fixed {
		return nil
	}
	i, rev, err := loadIntent(ctx, f.store, f.Name)
	if err != nil || f.version(i) == f.Version {
		return err
	}
	fresh := false
	if rev == 0 {
		made, err := loadCheckpoints(ctx, f.store, f.Name, i.Generation)
		if err != nil {
			return err
		}
		fresh = made.Partitions == 0
	}
	what := ""
	write, cancel := unbroken(ctx)
	defer cancel()
	i, _, err = changeIntent(write, f.store, f.Name, func(i *intent) error {
		what = ""
		switch {
		case fresh && i.Last == 1:
			i.setVersion(i.Generation, f.Version)
		case !f.mayBegin(*i):
			return errUnchanged
		case i.Building == 0 && i.Former > 0 && i.version(i.Former) == f.Version:
			what = Resumed
			return i.goBack(time.Now())
		default:
			what = Began
			i.rebuild(f.Version, f.AskSwitch, time.Now())
		}
		return nil
	})
	if err == nil && what != "" {
		f.log.Info("the documents are of another version", "follower", f.Name, "version", f.version(i), "program", f.Version, "generation", i.Building)
		f.tellOf(ctx, Notice{Follower: f.Name, What: what, Generation: i.Building, Version: f.Version})
	}
	return err
}

// mayBegin reports whether a program is to begin a rebuild because what readers
// see is of another version. A newer one begins at once, an older one only when
// no newer one runs any more: both may run while a program is replaced node by
// node.
func (f *follower) mayBegin(i intent) bool {
	shown := f.version(i)
	switch {
	case !f.Pure || f.Fixed || f.guest || i.Paused, shown == f.Version:
		return false
	case i.Building > 0 && i.version(i.Building) == f.Version:
		return false // somebody has
	case i.Declined != nil && *i.Declined == f.Version:
		return false
	case i.Building > 0 && i.version(i.Building) > f.Version && f.othersRun(i.version(i.Building)):
		return false
	}
	return f.Version > shown || !f.othersRun(shown)
}

// othersRun reports whether another process that has a version of the follower is alive.
func (f *follower) othersRun(version int) bool {
	return f.members != nil && f.members.runs(f.Name, version)
}

// stranded reports whether nobody moves what readers see: it is of a version
// that no process has.
func (f *follower) stranded(i intent) bool {
	f.mu.Lock()
	known := f.watched.gen == i.Generation // this process has seen that it cannot
	f.mu.Unlock()
	built := i.Building > 0 && f.runs(i, i.Building)
	return known && !f.runs(i, i.Generation) && !built && !f.othersRun(f.version(i)) && !f.mayBegin(i)
}

// boundOf is how far a generation may read; false if there is no bound.
//
// The former one goes no further than the one readers see: a node that does not
// know yet of the switch still shows it, and must not show it anything that
// would be gone when it knows. So a roll-back that soon after a switch waits
// until all know of that.
//
// One that waits to be asked goes no further either if what readers see is of
// another version: the two are to be compared, and nobody here could move the
// other.
func (f *follower) boundOf(gen uint64) (store.Cursor, bool) {
	f.mu.Lock()
	i := f.intent
	f.mu.Unlock()
	former := gen == i.Former || gen == i.Building && i.Back && !f.settled(i)
	if former || gen == i.Building && i.Asked && !f.runs(i, i.Generation) {
		return f.cursor(), true
	}
	return store.Start, false
}

// pace is how fast a rebuild goes on.
type pace struct {
	gen  uint64
	at   store.Cursor
	when time.Time
	rate float64 // positions a second
}

// measurePace brings the pace up to date.
func (f *follower) measurePace(i intent) {
	work, _ := f.working()
	if work.building == nil {
		f.mu.Lock()
		f.pace = pace{}
		f.mu.Unlock()
		return
	}
	now, at := time.Now(), work.building.cursor()
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.pace
	switch d := now.Sub(p.when); {
	case p.gen != work.building.gen:
		*p = pace{gen: work.building.gen, at: at, when: now}
	case d >= time.Second:
		p.rate = float64(p.at.Behind(at)) / d.Seconds()
		p.at, p.when = at, now
	}
}
