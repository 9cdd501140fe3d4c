package engine

import (
	"context"
	"sync"
)

// A guest is a process that is there for a moment: it opens a store beside the
// program that serves, or while none does, to look at something. What nobody
// waits for it leaves to that program. On a shared store it holds a partition
// only as long as no node can.

// wanted says that a follower is to run, whose process is a guest.
type wanted struct {
	once sync.Once
	ch   chan struct{}
}

// now has the follower run.
func (w *wanted) now() { w.once.Do(func() { close(w.ch) }) }

// wait waits until the follower is to run, and reports false if ctx ends before.
func (w *wanted) wait(ctx context.Context) bool {
	select {
	case <-w.ch:
		return true
	case <-ctx.Done():
		return false
	}
}

// lookAt finds out how far a follower has come that this process never runs.
func (f *follower) lookAt(ctx context.Context) error {
	i, err := f.known(ctx)
	if err != nil {
		return err
	}
	return f.watch(ctx, i.Generation)
}
