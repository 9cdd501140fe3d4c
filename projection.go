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

// A Projection folds events, of one or more aggregates, into documents V,
// each starting from the zero value. There is one document per entity unless
// a handler says otherwise. The documents can be thrown away and folded
// again, so handlers must depend on nothing but their arguments.
type Projection[V any] struct {
	Name       string
	Doc        string   // one sentence for people
	Indexes    []string // fields to filter and sort by, by their JSON names, for example "status" or "customer.city"
	Search     []string // fields whose text is searched for words, for example "name" or "items.name" of each in a list
	On         []Handler[V]
	Partitions int      // so many workers share the streams; default 1; only without OnBy and DropBy
	Roles      []string // who may read it, when access is checked; none = readers

	// Inline has the documents updated together with the events, so that whoever
	// has recorded something sees it at once. It takes a store that can do that, and
	// handlers that know nothing but the event: no [OnBy], no [Recorded].
	Inline bool

	// Version is that of what the handlers make of events. A program with another
	// one than the documents were made by builds them anew when it starts, beside
	// those that readers see, see [Rebuilds]. Raise it when On changes.
	Version int

	keyOf  func(stream string) string // the key of a stream's document; nil = the entity's id
	gather time.Duration              // see [engine.Follower]
}

// A Handler folds one type of event into a V. Make one with [On], [OnBy],
// [Drop] or [DropBy].
type Handler[V any] struct {
	event reflect.Type
	key   func(Meta, any) string // nil = the entity's id
	keys  func(any) []string     // of many documents, which are dropped; nil = it is about one
	apply func(*V, Meta, any)    // nil = drop the document
	meta  bool                   // key or apply look at the Meta
	later bool                   // only if there is a document, which the first event of a stream never finds
}

// On handles events of type E. If E is a [Recorded], the handler also learns
// when and by whom the event was recorded.
func On[V, E any](f func(*V, E)) Handler[V] {
	typ, wants, unwrap := eventType[E]()
	return Handler[V]{event: typ, meta: wants, apply: func(v *V, m Meta, e any) { f(v, unwrap(m, e)) }}
}

// OnBy is like [On] for the document whose key is derived from the event. An
// event whose key is "" is left out.
func OnBy[V, E any](key func(E) string, f func(*V, E)) Handler[V] {
	h := On(f)
	_, _, unwrap := eventType[E]()
	h.key = func(m Meta, e any) string { return key(unwrap(m, e)) }
	return h
}

// Drop removes the document of the entity an E happens to. The argument is
// only there to name the type: Drop[Statement](Closed{}).
func Drop[V, E any](E) Handler[V] { return Handler[V]{event: reflect.TypeFor[E]()} }

// DropBy removes the document whose key is derived from the event.
func DropBy[V, E any](key func(E) string) Handler[V] {
	typ, wants, unwrap := eventType[E]()
	return Handler[V]{event: typ, meta: wants, key: func(m Meta, e any) string { return key(unwrap(m, e)) }}
}

// Get returns one document, or [ErrNotFound].
func (p Projection[V]) Get(ctx context.Context, r Reader, key string) (V, error) {
	return p.View().Get(ctx, r, key)
}

// All yields every document in key order.
func (p Projection[V]) All(ctx context.Context, r Reader) iter.Seq2[Row[V], error] {
	return p.View().All(ctx, r)
}

// Find yields the documents that satisfy q, in the order q asks for. Only
// declared indexes can be asked for.
func (p Projection[V]) Find(ctx context.Context, r Reader, q store.Query) iter.Seq2[Row[V], error] {
	return p.View().Find(ctx, r, q)
}

// Count returns how many documents satisfy q, whatever its After and Limit.
func (p Projection[V]) Count(ctx context.Context, r Reader, q store.Query) (int, error) {
	return p.View().Count(ctx, r, q)
}

// View is the view that holds the projection's documents.
func (p Projection[V]) View() View[V] {
	return View[V]{Name: p.Name, Doc: p.Doc, Indexes: p.Indexes, Search: p.Search, Roles: p.Roles}
}

// Fold is the document after the given events of one entity, as a test would
// like to know. An event that has circumstances is given as a [Recorded].
func (p Projection[V]) Fold(events ...any) (v V) {
	for _, e := range events {
		var m Meta
		if r, ok := e.(recorded); ok {
			m, e = r.unwrap()
		}
		for _, h := range p.On {
			if h.event != reflect.TypeOf(e) {
				continue
			}
			if h.apply == nil {
				v = *new(V)
				continue
			}
			h.apply(&v, m, e)
		}
	}
	return v
}

func (p Projection[V]) order() int { return 2 }

// at is the projection at work in a runtime, which need not keep its documents.
func (p Projection[V]) at(rt *Runtime) (*projection[V], error) {
	if len(p.On) == 0 {
		return nil, fmt.Errorf("projection %s handles no events", p.Name)
	}
	w := &projection[V]{rt: rt, handlers: map[wire.Name][]Handler[V]{}, keyOf: p.keyOf, named: p.keyOf != nil}
	if !w.named {
		w.keyOf = entityID
	}
	for _, h := range p.On {
		names := rt.codec.NamesOf(h.event)
		if len(names) == 0 {
			return nil, fmt.Errorf("projection %s handles %v, which no aggregate declares", p.Name, h.event)
		}
		if h.key != nil {
			w.derived = true
		}
		for _, n := range names {
			w.handlers[n] = append(w.handlers[n], h)
		}
	}
	if p.Partitions > 1 && w.derived {
		return nil, fmt.Errorf("projection %s cannot have partitions: it derives keys from events, so a document may take in events of streams in different partitions", p.Name)
	}
	w.single = !w.derived && (w.named || len(w.filter().Categories) == 1)
	w.view = &view{name: p.Name, doc: p.Doc, indexes: p.Indexes, search: p.Search, roles: p.Roles, typ: reflect.TypeFor[V](), follower: p.Name, past: w.past, filter: w.filter(), touched: w.touched, derived: w.derived}
	return w, nil
}

func (p Projection[V]) register(rt *Runtime) error {
	w, err := p.at(rt)
	if err != nil {
		return err
	}
	if err := rt.addView(w.view); err != nil {
		return err
	}
	if p.Inline {
		if err := rt.addInline(w); err != nil {
			return fmt.Errorf("projection %s cannot be inline: %w", p.Name, err)
		}
		w.inline, w.single = true, false // the first event of a stream finds what its own append has written
	}
	return rt.addFollower(engine.Follower{
		Name: p.Name, Kind: "projection", Filter: w.filter(), Partitions: p.Partitions, Pure: true, Gather: p.gather, Inline: p.Inline,
		Version: p.Version, AskSwitch: rt.cfg.AskSwitch,
		New:     func(gen uint64) engine.Handler { return w.worker(gen) },
		Prepare: w.view.prepare,
		Colls:   func(gen uint64) []string { return []string{w.view.coll(gen)} },
		Aside:   w.aside,
	})
}

// projection is a Projection at work in a runtime.
type projection[V any] struct {
	rt       *Runtime
	view     *view
	handlers map[wire.Name][]Handler[V]
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

func (p *projection[V]) filter() store.Filter {
	categories, types := map[string]bool{}, map[string]bool{}
	for n := range p.handlers {
		categories[n.Category], types[n.Type] = true, true
	}
	return store.Filter{Categories: slices.Sorted(maps.Keys(categories)), Types: slices.Sorted(maps.Keys(types))}
}

// touch is one handler's business with one document.
type touch[V any] struct {
	Handler[V]
	key string
}

// touches says which documents a record concerns and how.
func (p *projection[V]) touches(rec store.Record, into []touch[V]) ([]touch[V], Meta, any, error) {
	into = into[:0]
	category := store.Category(rec.Stream)
	handlers := p.handlers[wire.Name{Category: category, Type: rec.Type}]
	if len(handlers) == 0 || rec.Version == 1 && !slices.ContainsFunc(handlers, func(h Handler[V]) bool { return !h.later }) {
		return into, Meta{}, nil, nil
	}
	e, err := p.rt.decode(rec)
	if err != nil {
		return into, Meta{}, nil, engine.Permanent(err)
	}
	var m Meta
	if slices.ContainsFunc(handlers, func(h Handler[V]) bool { return h.meta }) {
		if m, err = metaOf(rec); err != nil {
			return into, m, e, engine.Permanent(err)
		}
	}
	for _, h := range handlers {
		if h.keys != nil {
			for _, key := range h.keys(e) {
				into = append(into, touch[V]{h, key})
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
		into = append(into, touch[V]{h, key})
	}
	return into, m, e, nil
}

// touched are the keys of the documents that a record may concern.
func (p *projection[V]) touched(rec store.Record) ([]string, error) {
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
func (p *projection[V]) past(ctx context.Context, r Reader, key string) (iter.Seq2[store.Doc, error], error) {
	docs := map[string]*V{}
	var touches []touch[V]
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
				v = new(V)
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
func (p *projection[V]) pastRecords(ctx context.Context, r Reader, key string) iter.Seq2[store.Record, error] {
	f := p.filter()
	own := slices.DeleteFunc(slices.Clone(f.Categories), func(c string) bool { return c == compactionCategory })
	if key != "" && !p.derived && !p.named && len(own) == 1 {
		return readStream(ctx, r, own[0]+"/"+key, 0)
	}
	return readLog(ctx, r, f)
}

type recorded interface {
	typ() reflect.Type
	with(Meta, any) any
	unwrap() (Meta, any)
}

func (Recorded[E]) typ() reflect.Type      { return reflect.TypeFor[E]() }
func (Recorded[E]) with(m Meta, e any) any { return Recorded[E]{m, e.(E)} }
func (r Recorded[E]) unwrap() (Meta, any)  { return r.Meta, r.Event }

// eventType returns the type of events that a function of E handles, whether
// it wants their Meta, and how to make an E.
func eventType[E any]() (reflect.Type, bool, func(Meta, any) E) {
	if r, ok := any(*new(E)).(recorded); ok {
		return r.typ(), true, func(m Meta, e any) E { return r.with(m, e).(E) }
	}
	return reflect.TypeFor[E](), false, func(_ Meta, e any) E { return e.(E) }
}
