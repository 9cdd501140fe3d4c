package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/store"
)

// ErrFollowerInUse reports that somebody runs a follower.
var ErrFollowerInUse = errors.New("the follower is part of a program that runs")

// Forget removes all that is kept of a follower that no program has any more:
// its checkpoints, its dead letters and the notes of former ones, its documents, which colls names for each
// generation, and what it was meant to do. It returns how many dead letters
// that were. A follower of that name would begin anew, at the beginning of the
// log.
func (e *Engine) Forget(ctx context.Context, name string, colls func(generation uint64) []string) (letters int, err error) {
	if err := store.CheckName("the name of a follower", name); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnknownFollower, err)
	}
	if _, err := e.follower(name); err == nil || e.runElsewhere(name) {
		return 0, fmt.Errorf("%w: %q", ErrFollowerInUse, name)
	}
	i, rev, err := loadIntent(ctx, e.store, name)
	if err != nil {
		return 0, err
	}
	// The checkpoints go first: a worker that nobody has told can then commit
	// nothing more. The intent, which says how many generations there were,
	// goes last.
	checkpoints, err := e.removeAll(ctx, cursorColl, name+"/")
	if err != nil {
		return 0, err
	}
	if letters, err = e.removeAll(ctx, deadColl(name), ""); err != nil {
		return letters, err
	}
	for _, notes := range []string{discardedColl(name), editedColl(name)} {
		if err := store.DropColl(ctx, e.store, notes); err != nil {
			return letters, fmt.Errorf("dropping %s: %w", notes, err)
		}
	}
	for gen := uint64(1); gen <= i.Last; gen++ {
		for _, coll := range colls(gen) {
			if err := store.DropColl(ctx, e.store, coll); err != nil {
				return letters, fmt.Errorf("dropping %s: %w", coll, err)
			}
		}
	}
	if rev == 0 && checkpoints+letters == 0 {
		return 0, fmt.Errorf("%w: %q", ErrUnknownFollower, name)
	}
	return letters, e.store.Write(ctx, store.Change{Coll: followerColl, Key: name, Rev: store.AnyRev})
}

// runElsewhere reports whether another node has a follower.
func (e *Engine) runElsewhere(name string) bool {
	m := e.members
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for node, p := range m.peers {
		if p.Followers[name] > 0 && node != m.self.Node {
			return true // perhaps it is only cut off
		}
	}
	return false
}

// removeAll deletes documents, and returns how many that were.
func (e *Engine) removeAll(ctx context.Context, coll, prefix string) (n int, err error) {
	for d, err := range e.store.List(ctx, coll, prefix, "") {
		if err != nil {
			return n, err
		}
		if err := e.store.Write(ctx, store.Change{Coll: coll, Key: d.Key, Rev: store.AnyRev}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
