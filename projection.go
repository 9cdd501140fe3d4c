package deed

import (
	"context"
	"iter"
	"reflect"
	"time"

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
	handler handler
	_       [0]*V // a handler of other documents is another type
}

// handler is a Handler whose documents are pointers to some V.
type handler struct {
	event reflect.Type
	key   func(Meta, any) string // nil = the entity's id
	keys  func(any) []string     // of many documents, which are dropped; nil = it is about one
	apply func(any, Meta, any)   // nil = drop the document
	meta  bool                   // key or apply look at the Meta
	later bool                   // only if there is a document, which the first event of a stream never finds
}

// on is what a handler makes of a document; one that is dropped is as new.
func (h handler) on(doc any, m Meta, e any) {
	if h.apply == nil {
		reflect.ValueOf(doc).Elem().SetZero()
		return
	}
	h.apply(doc, m, e)
}

// On handles events of type E. If E is a [Recorded], the handler also learns
// when and by whom the event was recorded.
func On[V, E any](f func(*V, E)) Handler[V] {
	typ, wants, unwrap := eventType[E]()
	return Handler[V]{handler: handler{event: typ, meta: wants, apply: func(doc any, m Meta, e any) { f(doc.(*V), unwrap(m, e)) }}}
}

// OnBy is like [On] for the document whose key is derived from the event. An
// event whose key is "" is left out.
func OnBy[V, E any](key func(E) string, f func(*V, E)) Handler[V] {
	h := On(f)
	_, _, unwrap := eventType[E]()
	h.handler.key = func(m Meta, e any) string { return key(unwrap(m, e)) }
	return h
}

// Drop removes the document of the entity an E happens to. The argument is
// only there to name the type: Drop[Statement](Closed{}).
func Drop[V, E any](E) Handler[V] { return Handler[V]{handler: handler{event: reflect.TypeFor[E]()}} }

// DropBy removes the document whose key is derived from the event.
func DropBy[V, E any](key func(E) string) Handler[V] {
	typ, wants, unwrap := eventType[E]()
	return Handler[V]{handler: handler{event: typ, meta: wants, key: func(m Meta, e any) string { return key(unwrap(m, e)) }}}
}

// Get returns one document, or [ErrNotFound].
func (p Projection[V]) Get(ctx context.Context, r Reader, key string) (value V, err error) {
	err = viewOf[V](p.Name).get(ctx, r, key, &value)
	return value, err
}

// All yields every document in key order.
func (p Projection[V]) All(ctx context.Context, r Reader) iter.Seq2[Row[V], error] {
	return p.Find(ctx, r, store.Query{})
}

// Find yields the documents that satisfy q, in the order q asks for. Only
// declared indexes can be asked for.
func (p Projection[V]) Find(ctx context.Context, r Reader, q store.Query) iter.Seq2[Row[V], error] {
	return rows[V](viewOf[V](p.Name).find(ctx, r, q))
}

// Count returns how many documents satisfy q, whatever its After and Limit.
func (p Projection[V]) Count(ctx context.Context, r Reader, q store.Query) (int, error) {
	return viewOf[V](p.Name).count(ctx, r, q)
}

// View is the view that holds the projection's documents.
func (p Projection[V]) View() View[V] {
	return View[V]{Name: p.Name, Doc: p.Doc, Indexes: p.Indexes, Search: p.Search, Roles: p.Roles}
}

// Fold is the document after the given events of one entity, as a test would
// like to know. An event that has circumstances is given as a [Recorded].
func (p Projection[V]) Fold(events ...any) (v V) {
	p.plain().fold(&v, events)
	return v
}

func (p Projection[V]) order() int { return 2 }

func (p Projection[V]) register(rt *Runtime) error { return p.plain().register(rt) }

func (p Projection[V]) plain() plainProjection {
	on := make([]handler, len(p.On))
	for i, h := range p.On {
		on[i] = h.handler
	}
	return plainProjection{
		name: p.Name, doc: p.Doc, indexes: p.Indexes, search: p.Search, on: on, partitions: p.Partitions, roles: p.Roles,
		inline: p.Inline, version: p.Version, keyOf: p.keyOf, gather: p.gather,
		typ: reflect.TypeFor[V](), zero: func() any { return new(V) },
	}
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
