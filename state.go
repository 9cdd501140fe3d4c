package deed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// folded is a state and the version of the stream it is the fold of.
type folded[S any] struct {
	state   S
	version uint64
}

// A cell holds the state of one entity between commands. The commands of an
// entity take turns at its cell, so that they do not race each other to the
// store; other processes may, and the store's expectations settle that.
type cell[S any] struct {
	turn   chan struct{} // holds one token: whoever has it may touch the rest
	loaded bool
	folded[S]
}

// cells keeps the states of the most recently used entities.
type cells[S any] struct{ byID recent[*cell[S]] }

func newCells[S any](size int) cells[S] {
	return cells[S]{newRecent[*cell[S]](size, nil)}
}

// of returns the cell of an entity. Should it be evicted while in use, a
// second one for the same entity does no harm: the store refuses the loser.
func (c cells[S]) of(id string) *cell[S] {
	if x, ok := c.byID.Get(id); ok {
		return x
	}
	x := &cell[S]{turn: make(chan struct{}, 1)}
	if prior, ok, _ := c.byID.PeekOrAdd(id, x); ok {
		return prior
	}
	return x
}

// forget has the states of some entities loaded anew.
func (c cells[S]) forget(ctx context.Context, which func(id string) bool) {
	for _, id := range c.byID.Keys() {
		if !which(id) {
			continue
		}
		if x, ok := c.byID.Peek(id); ok && x.lock(ctx) == nil {
			x.forget()
			x.unlock()
		}
	}
}

func (c *cell[S]) lock(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tryLock reports whether it is the caller's turn at once.
func (c *cell[S]) tryLock() bool {
	select {
	case c.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *cell[S]) unlock() { <-c.turn }

// newcomers tells whether entities of an aggregate that nobody here knows are
// likely to be new: then a plan need not look for them before it records what it
// expects to be their first events. Where they are not, it does.
type newcomers struct{ run atomic.Int32 } // so many in a row were

const likelyAfter = 8

func (n *newcomers) likely() bool { return n.run.Load() >= likelyAfter }

func (n *newcomers) saw(newcomer bool) {
	if !newcomer {
		n.run.Store(0)
	} else if !n.likely() {
		n.run.Add(1)
	}
}

// forget makes the next command load the state anew.
func (c *cell[S]) forget() { c.loaded, c.folded = false, folded[S]{} }

// refresh brings the cell up to the end of the stream and reports whether
// there was anything new.
func (k *kind) refresh(ctx context.Context, rt *Runtime, id string, c *cell[any]) (bool, error) {
	before := c.version
	if !c.loaded {
		f, err := k.load(ctx, rt, id)
		if err != nil {
			return false, err
		}
		c.folded, c.loaded = f, true
		return true, nil
	}
	if err := k.fold(ctx, rt, id, &c.folded); err != nil {
		c.forget()
		return false, err
	}
	return c.version > before, nil
}

// unborn is the state of an entity without events.
func (k *kind) unborn() folded[any] { return folded[any]{state: k.typed.zero()} }

// load folds what r sees of an entity, from a snapshot if that helps.
func (k *kind) load(ctx context.Context, r Reader, id string) (folded[any], error) {
	f, err := k.snapshot(ctx, r, id)
	if err != nil {
		return f, err
	}
	err = k.fold(ctx, r, id, &f)
	return f, err
}

// fold applies the events after f.version.
func (k *kind) fold(ctx context.Context, r Reader, id string, f *folded[any]) error {
	return k.foldEach(ctx, r, id, f, nil)
}

// foldEach is fold with something to do after each event, if it is not nil.
func (k *kind) foldEach(ctx context.Context, r Reader, id string, f *folded[any], after func(store.Record) error) error {
	rt := r.runtime()
	for rec, err := range readStream(ctx, r, k.stream(id), f.version) {
		if err != nil {
			return storeError(err)
		}
		e, err := rt.decode(rec)
		if err != nil {
			return err
		}
		if !k.typed.apply(f.state, e) {
			return fmt.Errorf("deed: %s@%d: %T is not an event of %s", rec.Stream, rec.Version, e, k.name)
		}
		f.version = rec.Version
		if after == nil {
			continue
		}
		if err := after(rec); err != nil {
			return err
		}
	}
	return nil
}

// stored is the document of a snapshot.
type storedState struct {
	Version uint64 `json:"version"` // of the stream
	Schema  int    `json:"schema"`  // Snapshot.Version when it was taken
	State   any    `json:"state"`
}

func (k *kind) snapshotColl() string { return "$snapshot/" + k.name }

// snapshot returns the stored state of an entity if there is one that r may
// see, else the zero state. A snapshot that cannot be read is as good as none.
func (k *kind) snapshot(ctx context.Context, r Reader, id string) (folded[any], error) {
	to, f := r.limit(), k.unborn()
	if k.snapshots.Every == 0 || !to.time.IsZero() || to.position != "" || !to.effective.IsZero() {
		return f, nil
	}
	d, err := r.runtime().store.Get(ctx, k.snapshotColl(), id)
	if errors.Is(err, store.ErrNotFound) {
		return f, nil
	}
	if err != nil {
		return f, storeError(err)
	}
	s := storedState{State: f.state}
	if err := wire.Unmarshal(d.Data, &s); err != nil || s.Schema != k.snapshots.Version || to.version > 0 && s.Version > to.version {
		return k.unborn(), nil
	}
	f.version = s.Version
	return f, nil
}

// takeSnapshot stores the state of a cell if it has passed a multiple of
// Every since before. It does so beside the command, which need not wait: a
// snapshot that is lost is taken again later.
func (k *kind) takeSnapshot(rt *Runtime, id string, c *cell[any], before uint64) {
	every := k.snapshots.Every
	if every == 0 || c.version/every == before/every {
		return
	}
	data, err := wire.Marshal(storedState{Version: c.version, Schema: k.snapshots.Version, State: c.state})
	if err != nil {
		rt.cfg.Logger.Warn("snapshot", slog.String("stream", k.stream(id)), slog.Any("error", err))
		return
	}
	version := c.version
	rt.background(func(ctx context.Context) {
		if err := k.writeSnapshot(ctx, rt, id, version, data); err != nil {
			rt.cfg.Logger.Warn("snapshot", slog.String("stream", k.stream(id)), slog.Any("error", err))
		}
	})
}

// writeSnapshot writes a snapshot, unless there is a newer one by now.
func (k *kind) writeSnapshot(ctx context.Context, rt *Runtime, id string, version uint64, data []byte) error {
	for {
		d, err := rt.store.Get(ctx, k.snapshotColl(), id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var there storedState
		if err == nil && wire.Unmarshal(d.Data, &there) == nil && there.Schema == k.snapshots.Version && there.Version >= version {
			return nil
		}
		err = rt.store.Write(ctx, store.Change{Coll: k.snapshotColl(), Key: id, Rev: d.Rev, Data: data})
		if !isConflict(err) { // with one that was taken meanwhile
			return err
		}
	}
}

// checkSnapshot refuses snapshots of a state that JSON would lose parts of.
func (k *kind) checkSnapshot() error {
	if k.snapshots.Every == 0 {
		return nil
	}
	if err := survivesJSON(k.state); err != nil {
		return fmt.Errorf("aggregate %s: its state cannot be snapshotted: %w", k.name, err)
	}
	return nil
}

// survivesJSON reports whether states of a type can be stored.
func survivesJSON(t reflect.Type) error {
	if field := wire.Lost(t); field != "" {
		return fmt.Errorf("JSON leaves out the field %s", field)
	}
	zero := reflect.New(t).Interface()
	data, err := wire.Marshal(zero)
	if err == nil {
		err = wire.Unmarshal(data, zero)
	}
	return err
}
