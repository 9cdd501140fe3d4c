package deed

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A plainProjection is a Projection without the type V of its documents: they are
// pointers to some V. What is generic is compiled anew for each V, in the programs of
// others, so only what they see is.
type plainProjection struct {
	name, doc       string
	indexes, search []string
	on              []handler
	partitions      int
	roles           []string
	inline          bool
	version         int
	keyOf           func(stream string) string
	gather          time.Duration

	typ  reflect.Type // V
	zero func() any   // a new V
}

// fold does to a document what the events of one entity do.
func (p plainProjection) fold(doc any, events []any) {
	for _, e := range events {
		var m Meta
		if r, ok := e.(recorded); ok {
			m, e = r.unwrap()
		}
		for _, h := range p.on {
			if h.event == reflect.TypeOf(e) {
				h.on(doc, m, e)
			}
		}
	}
}

// at is the projection at work in a runtime, which need not keep its documents.
func (p plainProjection) at(rt *Runtime) (*projection, error) {
	if len(p.on) == 0 {
		return nil, fmt.Errorf("projection %s handles no events", p.name)
	}
	w := &projection{rt: rt, zero: p.zero, handlers: map[wire.Name][]handler{}, keyOf: p.keyOf, named: p.keyOf != nil}
	if !w.named {
		w.keyOf = entityID
	}
	for _, h := range p.on {
		names := rt.codec.NamesOf(h.event)
		if len(names) == 0 {
			return nil, fmt.Errorf("projection %s handles %v, which no aggregate declares", p.name, h.event)
		}
		if h.key != nil {
			w.derived = true
		}
		for _, n := range names {
			w.handlers[n] = append(w.handlers[n], h)
		}
	}
	if p.partitions > 1 && w.derived {
		return nil, fmt.Errorf("projection %s cannot have partitions: it derives keys from events, so a document may take in events of streams in different partitions", p.name)
	}
	w.single = !w.derived && (w.named || len(w.filter().Categories) == 1)
	w.view = &view{name: p.name, doc: p.doc, indexes: p.indexes, search: p.search, roles: p.roles, typ: p.typ, follower: p.name, past: w.past, filter: w.filter(), touched: w.touched, derived: w.derived}
	return w, nil
}

func (p plainProjection) register(rt *Runtime) error {
	w, err := p.at(rt)
	if err != nil {
		return err
	}
	if err := rt.addView(w.view); err != nil {
		return err
	}
	if p.inline {
		if err := rt.addInline(w); err != nil {
			return fmt.Errorf("projection %s cannot be inline: %w", p.name, err)
		}
		w.inline, w.single = true, false // the first event of a stream finds what its own append has written
	}
	return rt.addFollower(engine.Follower{
		Name: p.name, Kind: "projection", Filter: w.filter(), Partitions: p.partitions, Pure: true, Gather: p.gather, Inline: p.inline,
		Version: p.version, AskSwitch: rt.cfg.AskSwitch,
		New:     func(gen uint64) engine.Handler { return w.worker(gen) },
		Prepare: w.view.prepare,
		Colls:   func(gen uint64) []string { return []string{w.view.coll(gen)} },
		Aside:   w.aside,
	})
}

// projection is a Projection at work in a runtime.
type projection struct {
	rt       *Runtime
	zero     func() any // a new document
	view     *view
	handlers map[wire.Name][]handler
	derived  bool // some key is derived from an event
	single   bool // a document is that of one stream: its first event finds none
	keyOf    func(stream string) string
	named    bool // that is not the entity's id
	inline   bool // documents are updated with the events
	state    *inlineState
}

// entityID is the id of the entity that a stream is of.
func entityID(stream string) string {
	_, id, _ := strings.Cut(stream, "/")
	return id
}

func (p *projection) filter() store.Filter {
	categories, types := map[string]bool{}, map[string]bool{}
	for n := range p.handlers {
		categories[n.Category], types[n.Type] = true, true
	}
	return store.Filter{Categories: slices.Sorted(maps.Keys(categories)), Types: slices.Sorted(maps.Keys(types))}
}

// touch is one handler's business with one document.
type touch struct {
	handler
	key string
}

// touches says which documents a record concerns and how.
func (p *projection) touches(rec store.Record, into []touch) ([]touch, Meta, any, error) {
	into = into[:0]
	category := store.Category(rec.Stream)
	handlers := p.handlers[wire.Name{Category: category, Type: rec.Type}]
	if len(handlers) == 0 || rec.Version == 1 && !slices.ContainsFunc(handlers, func(h handler) bool { return !h.later }) {
		return into, Meta{}, nil, nil
	}
	e, err := p.rt.decode(rec)
	if err != nil {
		return into, Meta{}, nil, engine.Permanent(err)
	}
	var m Meta
	if slices.ContainsFunc(handlers, func(h handler) bool { return h.meta }) {
		if m, err = metaOf(rec); err != nil {
			return into, m, e, engine.Permanent(err)
		}
	}
	for _, h := range handlers {
		if h.keys != nil {
			for _, key := range h.keys(e) {
				into = append(into, touch{h, key})
			}
			continue
		}
		key := p.keyOf(rec.Stream)
		if h.key != nil {
			key = h.key(m, e)
		}
		if key == "" {
			continue
		}
		if err := store.CheckName("key", key); err != nil {
			return into, m, e, engine.Permanent(fmt.Errorf("deed: projection %s: %w", p.view.name, err))
		}
		into = append(into, touch{h, key})
	}
	return into, m, e, nil
}

// touched are the keys of the documents that a record may concern.
func (p *projection) touched(rec store.Record) ([]string, error) {
	handlers := p.handlers[wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}]
	if len(handlers) == 0 {
		return nil, nil
	}
	if key := p.keyOf(rec.Stream); !p.derived && key != "" && store.Category(rec.Stream) != compactionCategory {
		return []string{key}, nil
	}
	touches, _, _, err := p.touches(rec, nil)
	keys := make([]string, len(touches))
	for i, t := range touches {
		keys[i] = t.key
	}
	return keys, err
}

// past folds the documents as a reader of the past sees them.
func (p *projection) past(ctx context.Context, r Reader, key string) (iter.Seq2[store.Doc, error], error) {
	docs := map[string]any{}
	var touches []touch
	for rec, err := range p.pastRecords(ctx, r, key) {
		if err != nil {
			return nil, storeError(err)
		}
		var m Meta
		var e any
		if touches, m, e, err = p.touches(rec, touches); err != nil {
			return nil, err
		}
		for _, t := range touches {
			if t.apply == nil {
				delete(docs, t.key)
				continue
			}
			v := docs[t.key]
			if v == nil && t.later {
				continue
			}
			if v == nil {
				v = p.zero()
				docs[t.key] = v
			}
			t.apply(v, m, e)
		}
	}
	return func(yield func(store.Doc, error) bool) {
		for _, k := range slices.Sorted(maps.Keys(docs)) {
			data, err := wire.MarshalDocument(docs[k])
			if !yield(store.Doc{Key: k, Rev: 1, Data: data}, err) || err != nil {
				return
			}
		}
	}, nil
}

// pastRecords yields the records that a document, or all of them, consist of.
// If keys are ids of entities of one category, that is one stream: if it was
// given up, it is not there.
func (p *projection) pastRecords(ctx context.Context, r Reader, key string) iter.Seq2[store.Record, error] {
	f := p.filter()
	own := slices.DeleteFunc(slices.Clone(f.Categories), func(c string) bool { return c == compactionCategory })
	if key != "" && !p.derived && !p.named && len(own) == 1 {
		return readStream(ctx, r, own[0]+"/"+key, 0)
	}
	return readLog(ctx, r, f)
}
