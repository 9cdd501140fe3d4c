package deed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// projector is the worker of one partition: it keeps documents in memory
// while a batch lasts, and those it used lately beyond that.
type projector struct {
	*projection
	coll    string
	docs    map[string]*held
	dirty   []string
	touches []touch

	marks  string // if the projection is inline: the collection of what documents have taken in
	taken  map[string]*docMark
	marked []string
}

type held struct {
	value  any // a pointer to a document
	exists bool
	dirty  bool
}

// maxHeld is how many documents a projector keeps between batches.
const maxHeld = 4096

func (p *projection) worker(gen uint64) *projector {
	return &projector{projection: p, coll: p.view.coll(gen), docs: map[string]*held{}, marks: marksColl(p.view.name, gen), taken: map[string]*docMark{}}
}

func (w *projector) Keys(rec store.Record) []string {
	if !w.derived {
		return []string{rec.Stream}
	}
	touches, _, _, err := w.projection.touches(rec, nil)
	if err != nil || len(touches) == 0 {
		return []string{rec.Stream}
	}
	keys := make([]string, len(touches))
	for i, t := range touches {
		keys[i] = "key " + t.key
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Needs implements [engine.Needer].
func (w *projector) Needs(recs []store.Record) map[string][]string {
	seen := map[string]bool{}
	var wanted []string
	for i := range recs {
		for _, key := range w.keysOf(recs[i]) {
			if _, held := w.docs[key]; held || seen[key] {
				continue
			}
			if seen[key] = true; !w.beginsDoc(recs[i]) {
				wanted = append(wanted, key)
			}
		}
	}
	if w.inline {
		return map[string][]string{w.coll: wanted, w.marks: wanted}
	}
	return map[string][]string{w.coll: wanted}
}

// beginsDoc reports whether a record's document cannot be there yet: it is that of
// one stream, which begins. That streams are given up is said in other streams.
func (w *projector) beginsDoc(rec store.Record) bool {
	return w.single && rec.Version == 1 && store.Category(rec.Stream) != compactionCategory
}

// keysOf returns the documents a record concerns, as far as that can be told.
func (w *projector) keysOf(rec store.Record) []string {
	if !w.derived && store.Category(rec.Stream) != compactionCategory {
		key := w.keyOf(rec.Stream)
		if key == "" || len(w.handlers[wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}]) == 0 {
			return nil
		}
		return []string{key}
	}
	touches, _, _, err := w.projection.touches(rec, nil)
	if err != nil {
		return nil
	}
	keys := make([]string, len(touches))
	for i, t := range touches {
		keys[i] = t.key
	}
	return keys
}

func (w *projector) Handle(ctx context.Context, tx *engine.Tx, rec store.Record) (err error) {
	var m Meta
	var e any
	if w.touches, m, e, err = w.projection.touches(rec, w.touches); err != nil {
		return err
	}
	if w.inline {
		if had, err := w.mark(ctx, tx, rec); had || err != nil {
			return err
		}
	}
	for _, t := range w.touches {
		d, err := w.hold(ctx, tx, t.key, w.beginsDoc(rec))
		if err != nil {
			return err
		}
		if !d.exists && (t.later || t.apply == nil) {
			if t.keys != nil && !d.dirty { // there may be very many
				delete(w.docs, t.key)
			}
			continue
		}
		if !d.dirty {
			d.dirty = true
			w.dirty = append(w.dirty, t.key)
		}
		if t.apply == nil {
			*d = held{value: w.zero(), dirty: true}
			continue
		}
		d.exists = true
		t.apply(d.value, m, e)
	}
	return nil
}

// hold returns a document: one that is in memory, or that of the store, unless
// it is known that there is none.
func (w *projector) hold(ctx context.Context, tx *engine.Tx, key string, none bool) (*held, error) {
	if d, ok := w.docs[key]; ok {
		return d, nil
	}
	d := &held{value: w.zero()}
	if none {
		w.docs[key] = d
		return d, nil
	}
	stored, err := tx.Get(ctx, w.coll, key)
	switch {
	case err == nil:
		if err := wire.Unmarshal(stored.Data, d.value); err != nil {
			return nil, engine.Permanent(fmt.Errorf("deed: document %s/%s: %w", w.coll, key, err))
		}
		d.exists = true
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	w.docs[key] = d
	return d, nil
}

func (w *projector) Flush(_ context.Context, tx *engine.Tx) error {
	for _, key := range w.dirty {
		d := w.docs[key]
		d.dirty = false
		if err := d.save(tx, w.coll, key); err != nil {
			return engine.Permanent(fmt.Errorf("deed: document %s/%s: %w", w.coll, key, err))
		}
	}
	w.dirty = w.dirty[:0]
	if w.inline {
		return w.flushMarks(tx)
	}
	if len(w.docs) > maxHeld {
		clear(w.docs)
	}
	return nil
}

func (d *held) save(tx *engine.Tx, coll, key string) error {
	if !d.exists {
		return tx.Delete(coll, key)
	}
	data, err := wire.MarshalDocument(d.value)
	if err != nil {
		return err
	}
	return tx.Put(coll, key, data)
}

func (w *projector) Reset() {
	clear(w.docs)
	clear(w.taken)
	w.dirty, w.marked = w.dirty[:0], w.marked[:0]
}
