package deed

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/engine"
)

// A Rebuild says which generations of its documents a view has: the one that
// readers see, the one that is to take its place, and the former one.
type Rebuild = engine.Rebuild

// A RebuildDiff says how two generations of a view differ, both having taken in
// the same events.
type RebuildDiff = engine.Diff

// Errors about rebuilds.
var (
	ErrNoRebuild    = engine.ErrNoRebuild    // no rebuild is under way
	ErrRebuilding   = engine.ErrRebuilding   // a rebuild is under way
	ErrNoFormer     = engine.ErrNoFormer     // no former documents are kept
	ErrNotCaughtUp  = engine.ErrNotCaughtUp  // documents that are to be compared are too far apart, or move
	ErrOtherVersion = engine.ErrOtherVersion // no program that runs has the version that documents are of
)

// Rebuilds looks after the rebuilds of views: a projection's documents folded
// anew, beside those that readers see, from the first event. What it changes is
// recorded in the stream "$audit/followers", with the actor of the context's
// [Call], and so is what happens by itself.
type Rebuilds struct{ rt *Runtime }

// Rebuilds returns the means to look after rebuilds of views.
func (rt *Runtime) Rebuilds() Rebuilds { return Rebuilds{rt} }

// Status says which generations a view has, and how far each is.
func (r Rebuilds) Status(ctx context.Context, view string) (Rebuild, error) {
	name, err := r.projection(view)
	if err != nil {
		return Rebuild{}, err
	}
	return r.rt.engine.Rebuilding(ctx, name)
}

// Begin begins a rebuild. Readers see the new documents as soon as these have
// caught up; or, if it is to be asked, when somebody calls Switch. A rebuild
// that was under way begins again. The former documents go.
func (r Rebuilds) Begin(ctx context.Context, view string, asked bool) error {
	how := "switches by itself"
	if asked {
		how = "waits to be asked"
	}
	return r.act(ctx, "projection-rebuilt", view, how, func(name string) error { return r.rt.engine.Rebuild(ctx, name, asked) })
}

// Switch has readers see the new documents, as soon as these have caught up.
// Those they have seen are kept, and kept up to date, until the next rebuild or
// Discard.
func (r Rebuilds) Switch(ctx context.Context, view string) error {
	return r.act(ctx, "rebuild-switched", view, "", func(name string) error { return r.rt.engine.Switch(ctx, name) })
}

// Pause has a rebuild wait, over restarts too, while the view itself goes on.
func (r Rebuilds) Pause(ctx context.Context, view string) error {
	return r.act(ctx, "rebuild-paused", view, "", func(name string) error { return r.rt.engine.HaltRebuild(ctx, name, true) })
}

// Resume lets a rebuild that waits go on.
func (r Rebuilds) Resume(ctx context.Context, view string) error {
	return r.act(ctx, "rebuild-resumed", view, "", func(name string) error { return r.rt.engine.HaltRebuild(ctx, name, false) })
}

// Cancel gives a rebuild up. If a program began it because of its version, none
// does so again by itself.
func (r Rebuilds) Cancel(ctx context.Context, view string) error {
	return r.act(ctx, "rebuild-cancelled", view, "", func(name string) error { return r.rt.engine.CancelRebuild(ctx, name) })
}

// RollBack has readers see the former documents again, as they are now. Those they
// see at the moment are then the former ones: rolling back twice changes
// nothing. If the former ones are of a version that no program has which runs, it
// is [ErrOtherVersion]: start that program.
func (r Rebuilds) RollBack(ctx context.Context, view string) error {
	return r.act(ctx, "projection-rolled-back", view, "", func(name string) error { return r.rt.engine.RollBack(ctx, name) })
}

// Discard gives the former documents up.
func (r Rebuilds) Discard(ctx context.Context, view string) error {
	return r.act(ctx, "former-discarded", view, "", func(name string) error { return r.rt.engine.DiscardFormer(ctx, name) })
}

// Diff compares, row by row, the documents that readers see with those that are to
// take their place; or, when no rebuild is under way, the former ones with those
// that readers see. Both as they are at the same place in the log. It has up to so many
// samples of documents that differ.
func (r Rebuilds) Diff(ctx context.Context, view string, samples int) (RebuildDiff, error) {
	name, err := r.projection(view)
	if err != nil {
		return RebuildDiff{}, err
	}
	d, err := r.rt.engine.Diff(ctx, name, samples)
	if err != nil {
		return d, fmt.Errorf("deed: %w", err)
	}
	return d, nil
}

// projection is the follower that makes a view's documents.
func (r Rebuilds) projection(view string) (string, error) {
	v, ok := r.rt.viewOrTables(view)
	switch {
	case !ok:
		return "", r.rt.unknownView(view)
	case v.follower == "":
		return "", fmt.Errorf("%w: the view %s is written by event handlers", ErrNotRebuildable, view)
	}
	return v.follower, nil
}

func (r Rebuilds) act(ctx context.Context, typ, view, reason string, do func(name string) error) error {
	name, err := r.projection(view)
	if err != nil {
		return err
	}
	return r.rt.Followers().act(ctx, typ, name, reason, do(name))
}

// notice records what a follower has done by itself.
func (rt *Runtime) notice(ctx context.Context, n engine.Notice) {
	ctx, cancel := context.WithTimeout(With(ctx, Call{Source: "runtime"}), 10*time.Second)
	defer cancel()
	typ := map[string]string{engine.Switched: "projection-switched", engine.Began: "projection-rebuilt", engine.Resumed: "former-taken-up"}[n.What]
	reason := fmt.Sprintf("generation %d, version %d", n.Generation, n.Version)
	if err := rt.Followers().act(ctx, typ, n.Follower, reason, nil); err != nil {
		rt.cfg.Logger.Error("not recorded in $audit/followers", "follower", n.Follower, "what", typ, "error", err)
	}
}
