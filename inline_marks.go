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

// A docMark says how far a document has taken in the streams that it is of, by their
// categories: the version of each.
type docMark struct {
	versions map[string]uint64
	dirty    bool
}

func marksColl(view string, gen uint64) string { return fmt.Sprintf("inline/%s/%d", view, gen) }

func (p *projection) aside(gen uint64) []string {
	if !p.inline {
		return nil
	}
	return []string{marksColl(p.view.name, gen)}
}

// about is the projection as something inline.
func (p *projection) about() *inlineState {
	if p.state == nil {
		p.state = &inlineState{name: p.view.name}
		switch {
		case p.derived:
			p.state.refused = errors.New("it derives keys from events, so a document takes in events of any number of streams, and nobody could tell which it has; wait for the view with min-position instead")
		case p.named:
			p.state.refused = errors.New("its documents are not those of entities")
		case p.wantsMeta():
			p.state.refused = errors.New("it handles a deed.Recorded, and when an event is recorded is known only afterwards; have the event say what the document needs (see deed.Stamper)")
		}
	}
	return p.state
}

func (p *projection) wantsMeta() bool {
	for _, handlers := range p.handlers {
		if slices.ContainsFunc(handlers, func(h handler) bool { return h.meta }) {
			return true
		}
	}
	return false
}

func (p *projection) handles(stream, typ string) bool {
	return len(p.handlers[wire.Name{Category: store.Category(stream), Type: typ}]) > 0
}

// concerned reports whether any of some events is one that it handles.
func (p *projection) concerned(writes []store.Write) bool {
	return slices.ContainsFunc(writes, func(w store.Write) bool { return p.handlesAny(w) })
}

func (p *projection) handlesAny(w store.Write) bool {
	return slices.ContainsFunc(w.Events, func(e store.Event) bool { return p.handles(w.Stream, e.Type) })
}

// changes are those of documents that events bring about which are to be recorded. It
// is what the follower would do, and what it has still to do of these streams comes
// first.
func (p *projection) changes(ctx context.Context, gen uint64, writes []store.Write) ([]store.Change, error) {
	w := p.worker(gen)
	return engine.Collect(p.rt.store, func(tx *engine.Tx) error {
		for _, wr := range writes {
			if !p.handlesAny(wr) {
				continue
			}
			if err := w.takeIn(ctx, tx, wr); err != nil {
				return err
			}
		}
		return w.Flush(ctx, tx)
	})
}

func (w *projector) takeIn(ctx context.Context, tx *engine.Tx, wr store.Write) error {
	if wr.Expect < 0 { // it cannot be told which versions they are going to be
		return errNotNow
	}
	version := uint64(wr.Expect)
	m, err := w.markOf(ctx, tx, entityID(wr.Stream))
	if err != nil {
		return err
	}
	switch had := m.versions[store.Category(wr.Stream)]; {
	case had > version: // the writer does not know the latest events: it is refused
		return nil
	case had < version:
		if err := w.takeInOlder(ctx, tx, wr.Stream, had, version); err != nil {
			return err
		}
	}
	for _, e := range wr.Events {
		version++
		if err := w.Handle(ctx, tx, store.Record{ID: e.ID, Stream: wr.Stream, Version: version, Type: e.Type, Data: e.Data, Meta: e.Meta}); err != nil {
			return err
		}
	}
	return nil
}

// takeInOlder takes in what the follower has still to take in of a stream. Where
// something is parked, it is the follower's to say what comes of it.
func (w *projector) takeInOlder(ctx context.Context, tx *engine.Tx, stream string, had, version uint64) error {
	if version-had > maxInline {
		return errNotNow
	}
	if parked, err := w.rt.engine.Parked(ctx, w.view.name); err != nil || len(parked) > 0 {
		return errors.Join(errNotNow, err)
	}
	for rec, err := range w.rt.store.Read(ctx, stream, store.Range{From: had + 1, Limit: int(version - had)}) {
		if err != nil {
			return err
		}
		if err := w.Handle(ctx, tx, rec); err != nil {
			return err
		}
	}
	return nil
}

// mark notes that a document takes in a record, unless it has.
func (w *projector) mark(ctx context.Context, tx *engine.Tx, rec store.Record) (had bool, err error) {
	if !w.handles(rec.Stream, rec.Type) {
		return false, nil
	}
	key, category := entityID(rec.Stream), store.Category(rec.Stream)
	m, err := w.markOf(ctx, tx, key)
	if err != nil || m.versions[category] >= rec.Version {
		return true, err
	}
	m.versions[category] = rec.Version
	if !m.dirty {
		m.dirty = true
		w.marked = append(w.marked, key)
	}
	return false, nil
}

func (w *projector) markOf(ctx context.Context, tx *engine.Tx, key string) (*docMark, error) {
	if m, ok := w.taken[key]; ok {
		return m, nil
	}
	m := &docMark{versions: map[string]uint64{}}
	d, err := tx.Get(ctx, w.marks, key)
	switch {
	case err == nil:
		if err := wire.Unmarshal(d.Data, &m.versions); err != nil {
			return nil, engine.Permanent(fmt.Errorf("deed: document %s/%s: %w", w.marks, key, err))
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	w.taken[key] = m
	return m, nil
}

// flushMarks writes the marks, and forgets everything: who records events changes
// documents, too.
func (w *projector) flushMarks(tx *engine.Tx) error {
	for _, key := range w.marked {
		data, err := wire.MarshalDocument(w.taken[key].versions)
		if err != nil {
			return engine.Permanent(err)
		}
		if err := tx.Put(w.marks, key, data); err != nil {
			return err
		}
	}
	w.Reset()
	return nil
}
