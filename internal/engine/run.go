package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// follower is a Follower at work.
type follower struct {
	Follower
	store   store.Store
	log     *slog.Logger
	poll    time.Duration
	control chan struct{} // somebody has changed the intent

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a cursor moves or a crew changes
	intent   intent
	learned  bool // intent is known
	live     *crew
	building *crew
	trouble  string // why no crew works
}

// run does what the follower is meant to, until ctx is done.
func (f *follower) run(ctx context.Context) {
	defer f.settle(nil, nil)
	failures := 0
	for ctx.Err() == nil {
		err := f.direct(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		f.log.Error("follower waits", "follower", f.Name, "error", err)
		f.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(Retry{First: 50 * time.Millisecond, Max: 5 * time.Second}.wait(failures)):
		}
	}
}

// direct brings the crews in line with the intent and then waits for either
// to change.
func (f *follower) direct(ctx context.Context) error {
	i, err := f.reload(ctx)
	if err != nil {
		return err
	}
	if err := f.clean(ctx, i); err != nil {
		return err
	}
	live, building, err := f.man(ctx, i)
	if err != nil {
		return err
	}
	for {
		_, _, changed := f.crews()
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
		}
	}
}

// man starts the crews that the intent asks for and stops the others.
func (f *follower) man(ctx context.Context, i intent) (live, building *crew, err error) {
	live, building, _ = f.crews()
	if building != nil && (i.Paused || building.gen != i.Building) {
		building.stop()
		building = nil
	}
	if live != nil && (i.Paused || live.gen != i.Generation) {
		live.stop()
		live = nil
	}
	if !i.Paused && live == nil {
		if live, err = f.start(ctx, i.Generation); err != nil {
			f.settle(nil, nil)
			return nil, nil, err
		}
	}
	if !i.Paused && building == nil && i.Building > 0 {
		if building, err = f.start(ctx, i.Building); err != nil {
			f.settle(live, nil)
			return nil, nil, err
		}
	}
	f.settle(live, building)
	return live, building, nil
}

// settle makes crews the present ones; those it replaces are stopped.
func (f *follower) settle(live, building *crew) {
	f.mu.Lock()
	oldLive, oldBuilding := f.live, f.building
	f.live, f.building, f.trouble = live, building, ""
	f.mu.Unlock()
	for _, old := range []*crew{oldLive, oldBuilding} {
		if old != live && old != building {
			old.stop()
		}
	}
	f.notify()
}

// replace lets a generation that has caught up take the place of the live
// one. The live crew stands still meanwhile, so that nobody sees a document
// go back in time.
func (f *follower) replace(ctx context.Context, live, building *crew) error {
	live.stop()
	for !building.cursor().CoversAll(live.cursor()) {
		_, _, changed := f.crews()
		if building.cursor().CoversAll(live.cursor()) {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	i, err := changeIntent(ctx, f.store, f.Name, func(i *intent) error {
		if i.Building != building.gen {
			return errSuperseded
		}
		i.Retired = append(i.Retired, i.Generation)
		i.Generation, i.Building = i.Building, 0
		return nil
	})
	if errors.Is(err, errSuperseded) {
		f.settle(nil, building)
		return nil
	}
	if err != nil {
		f.settle(nil, building)
		return err
	}
	f.mu.Lock()
	f.intent, f.learned = i, true
	f.live, f.building = building, nil
	f.mu.Unlock()
	f.notify()
	f.log.Info("rebuilt", "follower", f.Name, "generation", building.gen)
	return nil
}

var errSuperseded = errors.New("engine: another rebuild has begun")

// clean removes what is left of generations that nobody reads any more.
func (f *follower) clean(ctx context.Context, i intent) error {
	for _, gen := range i.Retired {
		if f.Colls != nil {
			for _, coll := range f.Colls(gen) {
				if err := store.DropColl(ctx, f.store, coll); err != nil {
					return fmt.Errorf("dropping %s: %w", coll, err)
				}
			}
		}
		for _, at := range []struct{ coll, prefix string }{
			{cursorColl, cursorPrefix(f.Name, gen)}, {deadColl(f.Name), deadPrefix(gen)},
		} {
			if err := f.remove(ctx, at.coll, at.prefix); err != nil {
				return err
			}
		}
	}
	if len(i.Retired) == 0 {
		return nil
	}
	_, err := changeIntent(ctx, f.store, f.Name, func(now *intent) error {
		now.Retired = now.Retired[min(len(i.Retired), len(now.Retired)):]
		return nil
	})
	return err
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
func (f *follower) reload(ctx context.Context) (intent, error) {
	i, _, err := loadIntent(ctx, f.store, f.Name)
	if err != nil {
		return i, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intent, f.learned = i, true
	return i, nil
}

// known returns the intent as this process knows it.
func (f *follower) known(ctx context.Context) (intent, error) {
	f.mu.Lock()
	i, learned := f.intent, f.learned
	f.mu.Unlock()
	if learned {
		return i, nil
	}
	return f.reload(ctx)
}

// learn notes an intent that was just stored and has it acted upon.
func (f *follower) learn(i intent) {
	f.mu.Lock()
	f.intent, f.learned = i, true
	f.mu.Unlock()
	select {
	case f.control <- struct{}{}:
	default:
	}
	f.notify()
}

// notify wakes everybody who waits for a cursor or a crew.
func (f *follower) notify() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = reasonOf(err)
}

// crews returns the present crews and a channel that is closed at the next
// change of anything.
func (f *follower) crews() (live, building *crew, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live, f.building, f.changed
}

func (f *follower) waitFor(ctx context.Context, p store.Position) error {
	for {
		live, _, changed := f.crews()
		if live != nil && live.cursor().Covers(p) {
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

func (f *follower) status() Status {
	f.mu.Lock()
	s := Status{Name: f.Name, Kind: f.Kind, State: StateStopped, Generation: f.intent.Generation, Partitions: f.Partitions}
	live, building, trouble := f.live, f.building, f.trouble
	if f.learned && f.intent.Paused {
		s.State = StatePaused
	}
	f.mu.Unlock()
	now := time.Now()
	if trouble != "" {
		s.State, s.LastError = StateTrouble, trouble
	}
	if live != nil {
		if s.State == StateStopped {
			s.State = StateRunning
		}
		for _, w := range live.workers {
			s.merge(w.reported(now), now)
		}
		s.Cursor = live.cursor()
	}
	if building != nil {
		p := Progress{Generation: building.gen, Cursor: building.cursor()}
		for _, w := range building.workers {
			r := w.reported(now)
			p.Behind += r.at.Behind(r.head)
			p.Rate += r.rate
			if r.state == StateTrouble {
				s.State, s.LastError = r.state, r.lastError
			}
		}
		s.Rebuild = &p
		if s.State == StateRunning {
			s.State = StateRebuilding
		}
	}
	return s
}
