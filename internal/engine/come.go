package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/deed-dev/deed/store"
)

// Add has the engine run one more follower, at once if Run runs.
func (e *Engine) Add(def Follower) error {
	f, err := e.newFollower(def)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := slices.Clone(e.followers)
	i, there := slices.BinarySearchFunc(all, f.Name, byName)
	if there {
		return fmt.Errorf("engine: two followers are named %q: rename one", f.Name)
	}
	e.followers = slices.Insert(all, i, f)
	if e.members != nil {
		f.members = e.members
		e.members.add(f)
	}
	if e.begin != nil {
		e.begin(f)
	}
	return nil
}

// Remove has the engine run a follower no more. When it returns, the follower
// has stopped. What is stored of it stays, see Forget.
func (e *Engine) Remove(name string) error {
	e.mu.Lock()
	all := slices.Clone(e.followers)
	i, there := slices.BinarySearchFunc(all, name, byName)
	if !there {
		e.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrUnknownFollower, name)
	}
	f := all[i]
	e.followers = slices.Delete(all, i, i+1)
	if e.members != nil {
		e.members.drop(name)
	}
	e.mu.Unlock()
	if f.end != nil {
		f.end()
		<-f.ended
	}
	return nil
}

func byName(f *follower, name string) int { return cmp.Compare(f.Name, name) }

// list returns the followers there are, in the order of their names.
func (e *Engine) list() []*follower {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.followers
}

// started runs a follower until ctx ends, or it is removed. join makes this
// process a node, should it not be one yet.
func (e *Engine) started(ctx context.Context, f *follower, join func()) {
	if f.Elsewhere {
		return
	}
	ctx, f.end = context.WithCancel(ctx)
	f.ended = make(chan struct{})
	e.all.Go(func() {
		defer close(f.ended)
		defer f.stop()
		if f.wanted.wait(ctx) {
			join()
			f.run(ctx)
		}
	})
}

// add tells others that this node runs one more follower.
func (m *membership) add(f *follower) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.Followers[f.Name] = f.Partitions
	if f.Version != 0 {
		if m.self.Versions == nil {
			m.self.Versions = map[string]int{}
		}
		m.self.Versions[f.Name] = f.Version
	}
}

// drop tells others that this node runs a follower no more.
func (m *membership) drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.self.Followers, name)
	delete(m.self.Versions, name)
}

// Halt has a follower be paused that is still to be added.
func (e *Engine) Halt(ctx context.Context, name string) error {
	_, _, err := changeIntent(ctx, e.store, name, func(i *intent) error { i.Paused = true; return nil })
	return err
}

// A Place is where a follower stands that need not run, or not here.
type Place struct {
	Cursor store.Cursor // the slowest of its partitions; the start of the log if it has never run
	Head   store.Cursor
	Behind uint64
}

// Place reads where a follower stands.
func (e *Engine) Place(ctx context.Context, name string) (p Place, err error) {
	i, _, err := loadIntent(ctx, e.store, name)
	if err != nil {
		return p, err
	}
	saved, err := loadCheckpoints(ctx, e.store, name, i.Generation)
	if err != nil {
		return p, err
	}
	if p.Head, err = e.store.Head(ctx); err != nil {
		return p, err
	}
	p.Cursor = least(saved.Cursors)
	p.Behind = p.Cursor.Behind(p.Head)
	return p, nil
}
