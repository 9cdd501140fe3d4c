package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed/store"
)

// States of a rebuild.
const (
	RebuildBuilding  = "building"  // it goes on
	RebuildPaused    = "paused"    // it, or the follower, was paused
	RebuildReady     = "ready"     // it has caught up, and waits to be asked to switch
	RebuildElsewhere = "elsewhere" // its version is that of another program
)

// Progress says how far a rebuild is.
type Progress struct {
	State      string       `json:"state"`
	Generation uint64       `json:"generation"`
	Version    int          `json:"version,omitzero"`
	Switch     string       `json:"switch"` // "auto": by itself, when it has caught up; "asked": when it is asked to
	Begun      *time.Time   `json:"begun,omitempty"`
	Cursor     store.Cursor `json:"cursor"`
	Behind     uint64       `json:"behind"`                // at most so many records are still to be read
	Rate       float64      `json:"rate"`                  // records handled a second, by this process
	Left       *float64     `json:"left_seconds,omitzero"` // how long it is going to take; missing = not known

	trouble string
}

// A Shown says of which generation, and how far, documents are.
type Shown struct {
	Generation uint64       `json:"generation"`
	Version    int          `json:"version,omitzero"`
	Cursor     store.Cursor `json:"cursor"`
	Behind     uint64       `json:"behind"`         // at most so many records are still to be read
	Moves      bool         `json:"moves"`          // some program that runs has its version, and keeps it up to date
	Since      *time.Time   `json:"since,omitzero"` // when readers began to see it; missing = always, or not known
}

// A Rebuild says which generations of its documents a follower has.
type Rebuild struct {
	Name    string    `json:"name"`
	Version int       `json:"version,omitzero"`  // of the definition, in this program
	Paused  bool      `json:"paused,omitzero"`   // the follower is
	Shown   Shown     `json:"shown"`             // what readers see
	Rebuild *Progress `json:"rebuild,omitempty"` // what is to take its place
	Former  *Shown    `json:"former,omitempty"`  // what they saw before, kept for a roll-back
}

func switchOf(i intent) string {
	if i.Asked {
		return "asked"
	}
	return "auto"
}

// progressOf reports on the generation that this process builds.
func progressOf(i intent, building *generation, pace pace, head store.Cursor, now time.Time) *Progress {
	p := &Progress{State: RebuildBuilding, Generation: building.gen, Version: i.version(building.gen), Switch: switchOf(i), Cursor: building.cursor()}
	if !i.Begun.IsZero() {
		p.Begun = &i.Begun
	}
	for _, w := range building.workers {
		r := w.reported(now)
		head = head.Join(r.head)
		p.Rate += r.rate
		if r.state == StateTrouble {
			p.trouble = r.lastError
		}
	}
	p.behind(head, pace)
	return p
}

// behind says how much is left, and how long that takes.
func (p *Progress) behind(head store.Cursor, pace pace) {
	p.Behind = p.Cursor.Behind(head)
	if pace.gen == p.Generation && pace.rate > 0 {
		left := float64(p.Behind) / pace.rate
		p.Left = &left
	}
}

// Rebuild begins to build a follower's documents anew, beside the present
// ones, which readers see until the new ones have caught up and, if it is asked
// for, until Switch. A rebuild that was going on already begins again. The
// former documents go.
func (e *Engine) Rebuild(ctx context.Context, name string, asked bool) error {
	return e.rebuilding(ctx, name, func(f *follower, i *intent) error {
		i.rebuild(f.Version, asked, time.Now())
		return nil
	})
}

// Switch has readers see what is built, as soon as it has caught up.
func (e *Engine) Switch(ctx context.Context, name string) error {
	return e.rebuilding(ctx, name, func(_ *follower, i *intent) error {
		if i.Building == 0 {
			return ErrNoRebuild
		}
		i.Asked = false
		return nil
	})
}

// HaltRebuild has a rebuild pause, or go on.
func (e *Engine) HaltRebuild(ctx context.Context, name string, halt bool) error {
	return e.rebuilding(ctx, name, func(_ *follower, i *intent) error {
		if i.Building == 0 {
			return ErrNoRebuild
		}
		i.Halted = halt
		return nil
	})
}

// CancelRebuild gives up what is built. Readers see what they did.
func (e *Engine) CancelRebuild(ctx context.Context, name string) error {
	return e.rebuilding(ctx, name, func(_ *follower, i *intent) error { return i.cancel() })
}

// RollBack has readers see the former documents again, which have been kept up to
// date. What they see now is then the former. If the two are of different
// versions, programs do not build the later one again by themselves.
func (e *Engine) RollBack(ctx context.Context, name string) error {
	return e.rebuilding(ctx, name, func(f *follower, i *intent) error {
		if v := i.version(i.Former); i.Former > 0 && v != f.Version && !f.othersRun(v) {
			return fmt.Errorf("%w: the former documents of %s are of version %d; start that program, which takes them up where they are and shows them when they have caught up", ErrOtherVersion, name, v)
		}
		shown := i.Generation
		if err := i.goBack(time.Now()); err != nil {
			return err
		}
		if v := i.version(shown); v != i.version(i.Building) {
			i.Declined = &v
		}
		return nil
	})
}

// DiscardFormer gives the former documents up.
func (e *Engine) DiscardFormer(ctx context.Context, name string) error {
	return e.rebuilding(ctx, name, func(_ *follower, i *intent) error { return i.discard() })
}

// rebuilding changes what a follower that can be rebuilt is meant to do.
func (e *Engine) rebuilding(ctx context.Context, name string, change func(*follower, *intent) error) error {
	_, err := e.intend(ctx, name, func(f *follower, i *intent) error {
		if !f.Pure || f.Fixed {
			return fmt.Errorf("%w: %q", ErrNotRebuildable, name)
		}
		if err := change(f, i); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	return err
}

// Rebuilding reports which generations of its documents a follower has, as it
// is stored; how fast a rebuild goes on only if this process takes part.
func (e *Engine) Rebuilding(ctx context.Context, name string) (Rebuild, error) {
	f, err := e.follower(name)
	if err != nil {
		return Rebuild{}, err
	}
	if !f.Pure || f.Fixed {
		return Rebuild{}, fmt.Errorf("%w: %q", ErrNotRebuildable, name)
	}
	i, _, err := f.reload(ctx) // so that readers here see from now on what this says
	if err != nil {
		return Rebuild{}, err
	}
	head, err := e.store.Head(ctx)
	if err != nil {
		return Rebuild{}, err
	}
	r := Rebuild{Name: name, Version: f.Version, Paused: i.Paused}
	if r.Shown, err = f.shownAs(ctx, i, i.Generation, head); err != nil {
		return r, err
	}
	if !i.Switched.IsZero() {
		r.Shown.Since = &i.Switched
	}
	if i.Former > 0 {
		former, err := f.shownAs(ctx, i, i.Former, head)
		if err != nil {
			return r, err
		}
		r.Former = &former
	}
	if i.Building > 0 {
		r.Rebuild, err = f.progress(ctx, i, head, r.Shown)
	}
	return r, err
}

// shownAs reports on a generation that readers see, or did.
func (f *follower) shownAs(ctx context.Context, i intent, gen uint64, head store.Cursor) (Shown, error) {
	at, err := f.storedCursor(ctx, gen)
	version := i.version(gen)
	moves := !i.Paused && (version == f.Version && !f.guest || f.othersRun(version))
	return Shown{Generation: gen, Version: version, Cursor: at, Behind: at.Behind(head), Moves: moves}, err
}

// storedCursor is how far a generation has come: as this process knows it if it
// works on it, else as it is saved.
func (f *follower) storedCursor(ctx context.Context, gen uint64) (store.Cursor, error) {
	if work, _ := f.working(); work.of(gen) != nil {
		return work.of(gen).cursor(), nil
	}
	saved, err := loadCheckpoints(ctx, f.store, f.Name, gen)
	return least(saved.Cursors), err
}

// progress reports on a rebuild, whoever works on it.
func (f *follower) progress(ctx context.Context, i intent, head store.Cursor, shown Shown) (*Progress, error) {
	f.mu.Lock()
	building, pace := f.work.of(i.Building), f.pace
	f.mu.Unlock()
	var p *Progress
	if building != nil {
		p = progressOf(i, building, pace, head, time.Now())
	} else {
		at, err := f.storedCursor(ctx, i.Building)
		if err != nil {
			return nil, err
		}
		p = &Progress{State: RebuildBuilding, Generation: i.Building, Version: i.version(i.Building), Switch: switchOf(i), Cursor: at, Begun: &i.Begun}
		p.behind(head, pace)
	}
	switch {
	case i.Halted || i.Paused:
		p.State, p.Left = RebuildPaused, nil
	case i.Asked && p.Cursor.CoversAll(shown.Cursor):
		p.State, p.Left = RebuildReady, nil
	case !f.runs(i, i.Building):
		p.State = RebuildElsewhere
	}
	return p, nil
}
