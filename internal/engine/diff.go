package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"

	"github.com/deed-dev/deed/store"
)

// Ways in which a document may differ.
const (
	DiffChanged = "changed"
	DiffAdded   = "added"
	DiffGone    = "gone"
)

// A Diff says how the documents of two generations differ, both having taken
// in the same records: those that readers see and those that are to take their
// place; or, when no rebuild is under way, the former ones and those that
// readers see.
type Diff struct {
	Name     string       `json:"name"`
	Before   Side         `json:"before"`
	After    Side         `json:"after"`
	Position store.Cursor `json:"position"` // both have taken in all up to here, and nothing after it
	Same     uint64       `json:"same"`
	Changed  uint64       `json:"changed"`
	Added    uint64       `json:"added"`
	Gone     uint64       `json:"gone"`
	Samples  []DiffSample `json:"samples"` // the first that differ, in the order of their keys
}

// A Side is one of the two generations that a [Diff] compares.
type Side struct {
	Generation uint64 `json:"generation"`
	Version    int    `json:"version,omitzero"`
}

// A DiffSample is a document that differs. The value that it does not have is
// missing.
type DiffSample struct {
	Key    string          `json:"key"`
	Change string          `json:"change"` // changed, added or gone
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// maxCatchUp is how many positions two generations may be apart to be compared:
// what is between is taken in in memory.
const maxCatchUp = 20_000

// Diff compares documents row by row, with up to so many samples of what
// differs. It looks at the store at one moment and disturbs nobody. Where a
// generation is behind the other at that moment, what it misses is taken in in
// memory.
func (e *Engine) Diff(ctx context.Context, name string, samples int) (d Diff, err error) {
	f, err := e.follower(name)
	if err != nil {
		return d, err
	}
	if !f.Pure || f.Fixed || f.Colls == nil {
		return d, fmt.Errorf("%w: %q", ErrNotRebuildable, name)
	}
	moved := false
	look := func(at store.Reading) error {
		d, err = f.diff(ctx, at, samples)
		return err
	}
	err = store.Snapshot(ctx, e.store, look)
	if !errors.Is(err, errors.ErrUnsupported) {
		return d, err
	}
	// Without such a look, nothing must move meanwhile.
	before, err := f.places(ctx)
	if err == nil {
		err = look(e.store)
	}
	if err == nil {
		var after []store.Doc
		after, err = f.places(ctx)
		moved = !slices.EqualFunc(before, after, func(a, b store.Doc) bool { return a.Key == b.Key && a.Rev == b.Rev })
	}
	if moved {
		return d, fmt.Errorf("%w: the documents of %s have changed while they were compared, and this store cannot show them at one moment: pause the follower, compare, resume it", ErrNotCaughtUp, name)
	}
	return d, err
}

// places is the checkpoints of all generations.
func (f *follower) places(ctx context.Context) (docs []store.Doc, err error) {
	for d, err := range f.store.List(ctx, cursorColl, f.Name+"/", "") {
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// diff compares the documents as a look at the store shows them.
func (f *follower) diff(ctx context.Context, at store.Reading, samples int) (Diff, error) {
	d := Diff{Name: f.Name, Samples: []DiffSample{}}
	i, _, err := loadIntent(ctx, at, f.Name)
	if err != nil {
		return d, err
	}
	before, after := i.Generation, i.Building
	if after == 0 {
		before, after = i.Former, i.Generation
	}
	if before == 0 {
		return d, fmt.Errorf("%s: %w, and %w", f.Name, ErrNoRebuild, ErrNoFormer)
	}
	d.Before, d.After = Side{before, i.version(before)}, Side{after, i.version(after)}
	old, err := f.replicaOf(ctx, at, i, before)
	if err != nil {
		return d, err
	}
	fresh, err := f.replicaOf(ctx, at, i, after)
	if err != nil {
		return d, err
	}
	if d.Position, err = meet(ctx, old, fresh); err != nil {
		return d, err
	}
	colls, into := f.Colls(before), f.Colls(after)
	for n := range colls {
		if err := d.compare(old.docs(ctx, colls[n]), fresh.docs(ctx, into[n]), samples); err != nil {
			return d, err
		}
	}
	return d, nil
}

// compare counts how documents differ. Both come in the order of their keys.
func (d *Diff) compare(before, after iter.Seq2[store.Doc, error], samples int) error {
	nextOld, stopOld := iter.Pull2(before)
	defer stopOld()
	nextNew, stopNew := iter.Pull2(after)
	defer stopNew()
	a, errA, moreA := nextOld()
	b, errB, moreB := nextNew()
	for moreA || moreB {
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		switch {
		case !moreB || moreA && a.Key < b.Key:
			d.Gone++
			d.sample(samples, DiffSample{Key: a.Key, Change: DiffGone, Before: a.Data})
			a, errA, moreA = nextOld()
			continue
		case !moreA || b.Key < a.Key:
			d.Added++
			d.sample(samples, DiffSample{Key: b.Key, Change: DiffAdded, After: b.Data})
			b, errB, moreB = nextNew()
			continue
		case alike(a.Data, b.Data):
			d.Same++
		default:
			d.Changed++
			d.sample(samples, DiffSample{Key: a.Key, Change: DiffChanged, Before: a.Data, After: b.Data})
		}
		a, errA, moreA = nextOld()
		b, errB, moreB = nextNew()
	}
	return errors.Join(errA, errB)
}

func (d *Diff) sample(limit int, s DiffSample) {
	if len(d.Samples) < limit {
		d.Samples = append(d.Samples, s)
	}
}

// alike reports whether two documents say the same: the order of their fields
// does not matter.
func alike(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var va, vb any
	return decodeExactly(a, &va) == nil && decodeExactly(b, &vb) == nil && reflect.DeepEqual(va, vb)
}

func decodeExactly(data []byte, into *any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}

// A replica is a generation as it was at one moment, which can take in more in
// memory.
type replica struct {
	f      *follower
	gen    uint64
	mine   bool // its version is that of this program
	saved  checkpoints
	parked letterList
	at     map[store.Position]bool // of what is parked
	shelf  *overlay
}

func (f *follower) replicaOf(ctx context.Context, at store.Reading, i intent, gen uint64) (*replica, error) {
	r := &replica{f: f, gen: gen, mine: f.runs(i, gen), at: map[store.Position]bool{}, shelf: over(at)}
	var err error
	if r.saved, err = loadCheckpoints(ctx, at, f.Name, gen); err != nil {
		return nil, err
	}
	for l, err := range letters(ctx, at, f.Name, gen, "") {
		if err != nil {
			return nil, err
		}
		r.parked.add(l)
		r.at[l.pos] = true
	}
	return r, nil
}

// meet brings two generations to the same place in the log, and returns it.
func meet(ctx context.Context, a, b *replica) (store.Cursor, error) {
	to := most(slices.Concat(a.saved.Cursors, b.saved.Cursors))
	ahead, err := a.f.ahead(ctx)
	if err != nil {
		return to, err
	}
	to = to.Join(ahead)
	for _, r := range []*replica{a, b} {
		from := least(r.saved.Cursors)
		n := from.Behind(to)
		switch {
		case n == 0:
		case !r.mine:
			// Nobody here can move it. The other has to come to where it stands.
			return from, other(r, a, b).returnTo(ctx, from)
		case n > maxCatchUp:
			return to, fmt.Errorf("%s: %w: %d events to go", r.f.Name, ErrNotCaughtUp, n)
		}
	}
	for _, r := range []*replica{a, b} {
		if err := r.takeIn(ctx, r.shelf, r.saved, to); err != nil {
			return to, err
		}
	}
	return to, nil
}

func other(r, a, b *replica) *replica {
	if r == a {
		return b
	}
	return a
}

// takeIn takes in the records after checkpoints, up to a place in the log, as
// workers would.
func (r *replica) takeIn(ctx context.Context, docs *overlay, saved checkpoints, to store.Cursor) error {
	from := least(saved.Cursors)
	if from.CoversAll(to) {
		return nil
	}
	var handlers []Handler
	for range max(saved.Partitions, 1) {
		handlers = append(handlers, r.f.New(r.gen))
	}
	tx, n := newTx(docs), 0
	flush := func() error {
		for _, h := range handlers {
			if err := safely(func() error { return h.Flush(ctx, tx) }); err != nil {
				return err
			}
		}
		for _, c := range tx.changes {
			docs.changed[docKey{c.Coll, c.Key}], docs.asked[docKey{c.Coll, c.Key}] = c.Data, true
		}
		tx, n = newTx(docs), 0
		return ctx.Err()
	}
	for rec, err := range r.f.store.ReadAll(ctx, from, r.f.Filter) {
		if err != nil {
			return err
		}
		if !to.Covers(rec.Position) {
			if to.Positions()[0].Shard == rec.Position.Shard && len(to.Positions()) == 1 {
				break
			}
			continue
		}
		part := store.PartitionOf(rec.Stream, len(handlers))
		if len(saved.Cursors) > 0 && saved.Cursors[part].Covers(rec.Position) || skips(saved.pasts, &rec) {
			continue
		}
		if r.waits(handlers[part], rec) {
			continue
		}
		if err := safely(func() error { return handlers[part].Handle(ctx, tx, rec) }); err != nil {
			return fmt.Errorf("%s: an event cannot be handled, redrive or discard its dead letter first: %s@%d: %w", r.f.Name, rec.Stream, rec.Version, err)
		}
		if n++; n == largeBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// waits reports whether a record is parked, or is going to be because it belongs
// to the sequence of one that is.
func (r *replica) waits(h Handler, rec store.Record) bool {
	if r.parked.empty() || r.at[rec.Position] {
		return r.at[rec.Position]
	}
	if r.saved.Cursors[store.PartitionOf(rec.Stream, r.saved.Partitions)].Covers(rec.Position) {
		return false
	}
	return r.parked.blocks(keysOf(h, rec))
}

// returnTo makes the documents those of an earlier place in the log: the ones
// that have taken in anything since are folded anew up to there.
func (r *replica) returnTo(ctx context.Context, to store.Cursor) error {
	if !r.mine {
		return fmt.Errorf("%s: %w: neither generation is of this program's version, and they are at different places", r.f.Name, ErrOtherVersion)
	}
	later, then := over(nothing{}), over(nothing{})
	if err := r.takeIn(ctx, later, checkpoints{past: past{Cursors: []store.Cursor{to}}}, most(r.saved.Cursors)); err != nil {
		return err
	}
	if err := r.takeIn(ctx, then, checkpoints{}, to); err != nil {
		return err
	}
	for k := range later.asked {
		r.shelf.changed[k] = then.changed[k] // nil = there was none
	}
	return nil
}

// docs yields the documents of a collection in the order of their keys.
func (r *replica) docs(ctx context.Context, coll string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		var keys []string
		for k := range maps.Keys(r.shelf.changed) {
			if k.coll == coll {
				keys = append(keys, k.key)
			}
		}
		slices.Sort(keys)
		// changed yields those before a key.
		changed := func(before string, all bool) bool {
			for len(keys) > 0 && (all || keys[0] < before) {
				d := store.Doc{Key: keys[0], Data: r.shelf.changed[docKey{coll, keys[0]}]}
				keys = keys[1:]
				if d.Data != nil && !yield(d, nil) {
					return false
				}
			}
			return true
		}
		for d, err := range r.shelf.List(ctx, coll, "", "") {
			if err != nil {
				yield(d, err)
				return
			}
			if !changed(d.Key, false) {
				return
			}
			if len(keys) > 0 && keys[0] == d.Key {
				d.Data, keys = r.shelf.changed[docKey{coll, d.Key}], keys[1:]
			}
			if d.Data != nil && !yield(d, nil) {
				return
			}
		}
		changed("", true)
	}
}

// An overlay is documents, some of which are changed in memory.
type overlay struct {
	store.Reading
	changed map[docKey][]byte // nil = removed
	asked   map[docKey]bool   // that somebody asked for, or changed
}

func over(docs store.Reading) *overlay {
	return &overlay{Reading: docs, changed: map[docKey][]byte{}, asked: map[docKey]bool{}}
}

func (o *overlay) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	o.asked[docKey{coll, key}] = true
	data, changed := o.changed[docKey{coll, key}]
	switch {
	case !changed:
		return o.Reading.Get(ctx, coll, key)
	case data == nil:
		return store.Doc{Key: key}, store.ErrNotFound
	}
	return store.Doc{Key: key, Rev: 1, Data: data}, nil
}

// nothing is no documents at all.
type nothing struct{}

func (nothing) Get(_ context.Context, _, key string) (store.Doc, error) {
	return store.Doc{Key: key}, store.ErrNotFound
}

func (nothing) List(context.Context, string, string, string) iter.Seq2[store.Doc, error] {
	return func(func(store.Doc, error) bool) {}
}
