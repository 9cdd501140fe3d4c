package deed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Watcher is told when a document really changes: not of every event, only of
// those that make something else of it. Watching a [Classifier], it is told
// when something becomes a member or ceases to be one.
//
// It folds the documents for itself, so it needs no other follower and sees
// every change there was, in order, however late it is. What it writes through
// its [Tx] happens exactly once; anything else may happen again after a crash,
// as in an [EventHandler].
type Watcher[V any] struct {
	Name    string
	Doc     string // one sentence for people
	Of      Projection[V]
	Changed func(context.Context, *Tx, Change[V]) error
	Retry   Retry // of Changed, when it returned an error
	FromNow bool  // it folds everything, and is told only of what is recorded after it was first run
}

// A Change is what an event has made of a document.
type Change[V any] struct {
	Meta        // of the event; with Key, Meta.Event is a key to recognise the change by
	Key         string
	Before, Now *V // nil = there was, or is, no document
}

// Same reports whether a member is in the group as another is: the rest of what
// a group knows may differ. A [Watcher] goes by it.
func (m Member[V]) Same(other Member[V]) bool { return m.In == other.In }

func (w Watcher[V]) order() int { return 3 }

func (w Watcher[V]) register(rt *Runtime) error {
	if w.Changed == nil {
		return fmt.Errorf("watcher %s has nobody to tell", w.Name)
	}
	p, err := w.Of.plain().at(rt)
	if err != nil {
		return fmt.Errorf("watcher %s: %w", w.Name, err)
	}
	return rt.addFollower(engine.Follower{
		Name: w.Name, Kind: "handler", Partitions: w.Of.Partitions, Filter: p.filter(),
		Retry: engine.Retry{Attempts: w.Retry.Attempts, First: w.Retry.First, Max: w.Retry.Max},
		New: func(uint64) engine.Handler {
			return &watching{
				name: w.Name, fromNow: w.FromNow, tell: w.tell,
				projector: &projector{projection: p, coll: watchColl + w.Name, docs: map[string]*held{}},
			}
		},
		Elsewhere: rt.cfg.Guest,
	})
}

// tell tells of a change, unless the documents are the same to who watches.
func (w Watcher[V]) tell(ctx context.Context, tx *Tx, m Meta, key string, before, now []byte) (err error) {
	change := Change[V]{Meta: m, Key: key}
	if change.Before, err = developed[V](before); err != nil {
		return engine.Permanent(err)
	}
	if change.Now, err = developed[V](now); err != nil {
		return engine.Permanent(err)
	}
	if change.same() {
		return nil
	}
	return w.Changed(ctx, tx, change)
}

// watchColl is where watchers keep what they have folded.
const (
	watchColl = "$watch/"
	watchFrom = "$watch-from" // where those began that are told only what is new
)

// watchBegin is the document of a watcher that is told only what is new.
type watchBegin struct {
	After store.Cursor `json:"after"`
}

// watching is a watcher at work: a projector that compares.
type watching struct {
	*projector
	name    string
	fromNow bool
	began   bool
	from    store.Cursor // what is at or before it is not told
	tell    func(ctx context.Context, tx *Tx, m Meta, key string, before, now []byte) error
}

// begin finds out from where on changes are told: of a watcher that is told
// only what is new, the end of the log when it began for the first time.
func (w *watching) begin(ctx context.Context) error {
	if w.began || !w.fromNow {
		return nil
	}
	for {
		d, err := w.rt.store.Get(ctx, watchFrom, w.name)
		if err == nil {
			var begin watchBegin
			if err := wire.Unmarshal(d.Data, &begin); err != nil {
				return engine.Permanent(fmt.Errorf("deed: where watcher %s began: %w", w.name, err))
			}
			w.from, w.began = begin.After, true
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		head, err := w.rt.store.Head(ctx)
		if err != nil {
			return err
		}
		data, err := wire.Marshal(watchBegin{head})
		if err != nil {
			return err
		}
		err = w.rt.store.Write(ctx, store.Change{Coll: watchFrom, Key: w.name, Data: data})
		if err != nil && !isConflict(err) {
			return err
		}
	}
}

func (w *watching) Handle(ctx context.Context, tx *engine.Tx, rec store.Record) (err error) {
	if err := w.begin(ctx); err != nil {
		return err
	}
	var m Meta
	var e any
	if w.touches, m, e, err = w.projection.touches(rec, w.touches); err != nil {
		return err
	}
	if m.Version == 0 { // no handler wanted to know
		if m, err = metaOf(rec); err != nil {
			return engine.Permanent(err)
		}
	}
	ctx = With(ctx, Call{Actor: m.Actor, Correlation: m.Correlation, Causation: rec.ID.String(), Source: "handler", Trace: m.Trace})
	for _, t := range w.touches {
		if err := w.touch(ctx, tx, t, m, e); err != nil {
			return err
		}
	}
	return nil
}

// touch does what a handler does to a document, and tells of it.
func (w *watching) touch(ctx context.Context, tx *engine.Tx, t touch, m Meta, e any) error {
	d, err := w.hold(ctx, tx, t.key, false)
	if err != nil {
		return err
	}
	if !d.exists && (t.later || t.apply == nil) {
		return nil
	}
	before, err := d.image()
	if err != nil {
		return engine.Permanent(err)
	}
	if t.apply == nil {
		d.value, d.exists = w.zero(), false
	} else {
		d.exists = true
		t.apply(d.value, m, e)
	}
	now, err := d.image()
	if err != nil {
		return engine.Permanent(err)
	}
	if bytes.Equal(before, now) {
		return nil
	}
	if !d.dirty {
		d.dirty = true
		w.dirty = append(w.dirty, t.key)
	}
	if w.from != "" && w.from.Covers(m.Position) {
		return nil
	}
	return w.tell(ctx, &Tx{w.rt, tx, w.name + "/" + m.Event.String() + "/" + t.key}, m, t.key, before, now)
}

// same reports whether the documents are the same to who watches.
func (c Change[V]) same() bool {
	if c.Before == nil || c.Now == nil {
		if m, ok := any(c.Now).(interface{ member() bool }); ok && c.Before == nil && c.Now != nil {
			return !m.member() // it was not in the group before it was known
		}
		return false
	}
	s, ok := any(*c.Before).(interface{ Same(V) bool })
	return ok && s.Same(*c.Now)
}

func (m *Member[V]) member() bool { return m.In }

// image is a document as it would be stored; nil if there is none.
func (d *held) image() ([]byte, error) {
	if !d.exists {
		return nil, nil
	}
	return wire.MarshalDocument(d.value)
}

func developed[V any](image []byte) (*V, error) {
	if image == nil {
		return nil, nil
	}
	v := new(V)
	return v, wire.Unmarshal(image, v)
}
