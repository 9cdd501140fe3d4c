package engine

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// An Inlining says which documents of a follower are to be updated together with
// the events that are recorded, by whoever records them.
type Inlining struct {
	Generations []uint64   // none = they are left to the follower
	Shown       bool       // the first of them is the one that readers see
	Hold        store.Hold // what the follower is meant to do must stay so until they are written
}

// Inline returns which documents are to be updated with the events: those that
// readers see and those that are to take their place, as far as they are of this
// program's version. While a follower is paused, its documents stand still.
func (e *Engine) Inline(ctx context.Context, name string) (Inlining, error) {
	f, err := e.follower(name)
	if err != nil {
		return Inlining{}, err
	}
	if _, err := f.known(ctx); err != nil {
		return Inlining{}, err
	}
	f.mu.Lock()
	i, rev := f.intent, f.rev
	f.mu.Unlock()
	if rev == 0 && f.Version == 0 { // with a version, the follower has to begin
		if i, rev, err = changeIntent(ctx, f.store, name, func(*intent) error { return nil }); err != nil {
			return Inlining{}, err
		}
		f.learn(i, rev)
	}
	in := Inlining{Hold: store.Hold{Coll: followerColl, Key: name, Rev: rev}}
	if rev == 0 || i.Paused {
		return in, nil
	}
	if f.runs(i, i.Generation) {
		in.Generations, in.Shown = append(in.Generations, i.Generation), true
	}
	if i.Building > 0 && !i.Halted && f.runs(i, i.Building) {
		in.Generations = append(in.Generations, i.Building)
	}
	return in, nil
}

// LookAgain reads what a follower is meant to do, because it is not as this process
// believed.
func (e *Engine) LookAgain(ctx context.Context, name string) {
	if f, err := e.follower(name); err == nil {
		f.lookAgain(ctx)
	}
}

// Collect returns the changes of documents that f makes. Each document that f has
// read must still be as it was when they are written.
func Collect(s store.Reading, f func(*Tx) error) ([]store.Change, error) {
	tx := newTx(s)
	err := safely(func() error { return f(tx) })
	return tx.changes, err
}

// ahead is a place in the log that documents of a generation must have come to
// before readers are shown them. Those that they see may be ahead of their
// checkpoint, if they are updated with the events. From when a generation is built,
// it is updated, too; so what it may still lack is before the end of the log.
func (f *follower) ahead(ctx context.Context) (store.Cursor, error) {
	if !f.Inline {
		return store.Start, nil
	}
	return f.store.Head(ctx)
}
