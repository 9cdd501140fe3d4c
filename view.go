package deed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A View is a set of documents V that event handlers write. (The documents of
// a [Projection] are a view too, which only the projection writes.)
type View[V any] struct {
	Name    string
	Doc     string   // one sentence for people
	Indexes []string // fields to filter and sort by, by their JSON names, for example "status" or "customer.city"
	Search  []string // fields whose text is searched for words, for example "name" or "items.name" of each in a list
	Roles   []string // who may read it, when access is checked; none = readers
}

// A Row is a document and its key.
type Row[V any] struct {
	Key   string
	Value V
}

// Get returns one document, or [ErrNotFound]. A View knows no past: r must
// see everything.
func (v View[V]) Get(ctx context.Context, r Reader, key string) (value V, err error) {
	err = viewOf[V](v.Name).get(ctx, r, key, &value)
	return value, err
}

// All yields every document in key order.
func (v View[V]) All(ctx context.Context, r Reader) iter.Seq2[Row[V], error] {
	return v.Find(ctx, r, store.Query{})
}

// Find yields the documents that satisfy q, in the order q asks for.
func (v View[V]) Find(ctx context.Context, r Reader, q store.Query) iter.Seq2[Row[V], error] {
	return rows[V](viewOf[V](v.Name).find(ctx, r, q))
}

// Count returns how many documents satisfy q, whatever its After and Limit.
func (v View[V]) Count(ctx context.Context, r Reader, q store.Query) (int, error) {
	return viewOf[V](v.Name).count(ctx, r, q)
}

// Put writes a document together with everything else the handler does for
// the event: all of it happens once, or not yet.
func (v View[V]) Put(tx *Tx, key string, value V) error { return viewOf[V](v.Name).put(tx, key, value) }

// Look returns a document as the handler sees it, its own writes included, or
// [ErrNotFound]. If another writer changes the document before the handler is
// done, the handler runs again.
func (v View[V]) Look(ctx context.Context, tx *Tx, key string) (value V, err error) {
	err = viewOf[V](v.Name).look(ctx, tx, key, &value)
	return value, err
}

// Delete removes a document; that it is not there is fine.
func (v View[V]) Delete(tx *Tx, key string) error { return viewOf[V](v.Name).delete(tx, key) }

func (v View[V]) order() int { return 1 }

func (v View[V]) register(rt *Runtime) error {
	return rt.addView(&view{name: v.Name, doc: v.Doc, indexes: v.Indexes, search: v.Search, roles: v.Roles, typ: reflect.TypeFor[V]()})
}

// A viewRef names a view to a runtime, and what its documents are.
type viewRef struct {
	name string
	typ  reflect.Type
}

func viewOf[V any](name string) viewRef { return viewRef{name, reflect.TypeFor[V]()} }

func (v viewRef) in(rt *Runtime) (*view, error) {
	view, ok := rt.views[v.name]
	if !ok || view.typ != v.typ {
		return nil, fmt.Errorf("%w: the runtime has no view %q of this type", ErrUnknown, v.name)
	}
	return view, nil
}

func (v viewRef) get(ctx context.Context, r Reader, key string, into any) error {
	view, err := v.in(r.runtime())
	if err != nil {
		return err
	}
	data, err := view.get(ctx, r, key)
	if err != nil {
		return err
	}
	return wire.Unmarshal(data, into)
}

func (v viewRef) find(ctx context.Context, r Reader, q store.Query) iter.Seq2[store.Doc, error] {
	view, err := v.in(r.runtime())
	if err != nil {
		return func(yield func(store.Doc, error) bool) { yield(store.Doc{}, err) }
	}
	return view.find(ctx, r, q)
}

func (v viewRef) count(ctx context.Context, r Reader, q store.Query) (int, error) {
	view, err := v.in(r.runtime())
	if err != nil {
		return 0, err
	}
	return view.count(ctx, r, q)
}

func (v viewRef) put(tx *Tx, key string, value any) error {
	view, err := v.in(tx.rt)
	if err != nil {
		return err
	}
	if err := store.CheckName("key", key); err != nil {
		return err
	}
	data, err := wire.MarshalDocument(value)
	if err != nil {
		return err
	}
	return tx.tx.Put(view.coll(0), key, data)
}

func (v viewRef) look(ctx context.Context, tx *Tx, key string, into any) error {
	view, err := v.in(tx.rt)
	if err != nil {
		return err
	}
	d, err := tx.tx.Get(ctx, view.coll(0), key)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	return wire.Unmarshal(d.Data, into)
}

func (v viewRef) delete(tx *Tx, key string) error {
	view, err := v.in(tx.rt)
	if err != nil {
		return err
	}
	return tx.tx.Delete(view.coll(0), key)
}

// view is a View or the documents of a Projection at work in a runtime.
type view struct {
	rt       *Runtime
	name     string
	doc      string
	indexes  []string
	search   []string // the fields whose text is searched
	roles    []string // who may read it; none = readers
	typ      reflect.Type
	follower string // the projection that writes it; "" = event handlers do
	folded   bool   // nobody keeps the documents: they are folded for whoever asks
	// past yields the documents as a reader of the past sees them, if the
	// view can tell. A key other than "" asks for one document only.
	past func(ctx context.Context, r Reader, key string) (iter.Seq2[store.Doc, error], error)

	// What tells of the changes of a projection's documents, see [ViewTail].
	filter   store.Filter                                      // of the records that may change some
	touched  func(rec store.Record) (keys []string, err error) // which ones a record may change
	concerns func(rec store.Record) bool                       // instead of touched: whether a record may change anything
	derived  bool                                              // that is not told by the stream's name
	gist     func(doc []byte) []byte                           // what has to change; nil = anything
}

func (rt *Runtime) addView(v *view) error {
	if err := checkName("view", v.name); err != nil {
		return err
	}
	if _, dup := rt.views[v.name]; dup {
		return fmt.Errorf("two views are named %q", v.name)
	}
	for _, f := range v.indexes {
		if err := store.CheckField(f); err != nil {
			return fmt.Errorf("view %s: %w", v.name, err)
		}
		if _, ok := wire.FieldType(v.typ, f); !ok {
			return fmt.Errorf("view %s: %v has no JSON field %q to index", v.name, v.typ, f)
		}
	}
	for _, f := range v.search {
		if err := store.CheckField(f); err != nil {
			return fmt.Errorf("view %s: %w", v.name, err)
		}
		if !wire.IsText(v.typ, f) {
			return fmt.Errorf("view %s: %v has no text %q to search in", v.name, v.typ, f)
		}
	}
	v.rt, rt.views[v.name] = rt, v
	return nil
}

// prepare makes the documents of a generation fast to find.
func (v *view) prepare(ctx context.Context, generation uint64) error {
	if err := store.EnsureIndexes(ctx, v.rt.store, v.coll(generation), v.indexes); err != nil {
		return err
	}
	return store.EnsureSearch(ctx, v.rt.store, v.coll(generation), v.search)
}

// coll is where the documents of a generation are.
func (v *view) coll(generation uint64) string {
	return "view/" + v.name + "/" + strconv.FormatUint(generation, 10)
}

// current is where the documents are that readers see now.
func (v *view) current(ctx context.Context, rt *Runtime) (string, error) {
	if v.follower == "" {
		return v.coll(0), nil
	}
	gen, err := rt.engine.Generation(ctx, v.follower)
	return v.coll(gen), err
}

func (v *view) get(ctx context.Context, r Reader, key string) ([]byte, error) {
	if v.folded || !r.limit().none() {
		docs, err := v.then(ctx, r, key)
		if err != nil {
			return nil, err
		}
		for d, err := range docs {
			if err != nil {
				return nil, err
			}
			if d.Key == key {
				return d.Data, nil
			}
		}
		return nil, ErrNotFound
	}
	if err := r.reads().document(ctx, v, key); err != nil {
		return nil, err
	}
	coll, err := v.current(ctx, r.runtime())
	if err != nil {
		return nil, err
	}
	d, err := r.runtime().store.Get(ctx, coll, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	return d.Data, err
}

func (v *view) find(ctx context.Context, r Reader, q store.Query) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		docs, err := v.docs(ctx, r, q)
		if err != nil {
			yield(store.Doc{}, err)
			return
		}
		docs(yield)
	}
}

func (v *view) docs(ctx context.Context, r Reader, q store.Query) (iter.Seq2[store.Doc, error], error) {
	q, err := v.asked(q)
	if err != nil {
		return nil, err
	}
	if v.folded || !r.limit().none() {
		docs, err := v.then(ctx, r, "")
		if err != nil {
			return nil, err
		}
		return store.Scan(docs, q), nil
	}
	noted, err := r.reads().selection(ctx, v, q)
	if err != nil {
		return nil, err
	}
	coll, err := v.current(ctx, r.runtime())
	if err != nil {
		return nil, err
	}
	if len(q.Where) == 0 && q.Sort == "" && !q.Desc && q.After == nil && q.Limit == 0 && q.Search == "" {
		return noted.of(r.runtime().store.List(ctx, coll, "", "")), nil
	}
	return noted.of(store.Find(ctx, r.runtime().store, coll, q)), nil
}

// count counts documents. Who notes what is read notes the documents, so they are
// read.
func (v *view) count(ctx context.Context, r Reader, q store.Query) (n int, err error) {
	q.Sort, q.After, q.Limit = "", nil, 0
	if v.folded || !r.limit().none() || r.reads() != nil {
		for _, err := range v.find(ctx, r, q) {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	}
	if q, err = v.asked(q); err != nil {
		return 0, err
	}
	coll, err := v.current(ctx, r.runtime())
	if err != nil {
		return 0, err
	}
	return store.Count(ctx, r.runtime().store, coll, q)
}

func (v *view) then(ctx context.Context, r Reader, key string) (iter.Seq2[store.Doc, error], error) {
	if v.past == nil {
		r.reads().noPast()
		return nil, Invalid{Detail: fmt.Sprintf("the view %s is written by event handlers and knows no past", v.name)}
	}
	return v.past(ctx, r, key)
}

// asked is q as a store is asked it.
func (v *view) asked(q store.Query) (store.Query, error) {
	if q.Text = nil; q.Search != "" {
		q.Text = v.search
	}
	if err := v.check(q); err != nil {
		return q, err
	}
	return v.timely(q)
}

// check refuses to filter or sort by what is not declared: it would read the
// whole view, which works in a test and not in a year.
func (v *view) check(q store.Query) error {
	fields := []string{}
	if q.Sort != "" {
		fields = append(fields, q.Sort)
	}
	for _, c := range q.Where {
		fields = append(fields, c.Field)
	}
	for _, f := range fields {
		if !slices.Contains(v.indexes, f) {
			return Invalid{Field: f, Detail: fmt.Sprintf("is not an index of the view %s, which has %v", v.name, v.indexes)}
		}
	}
	if q.Search != "" {
		if len(v.search) == 0 {
			return Invalid{Field: "search", Detail: fmt.Sprintf("is not for the view %s: it declares no text that is searched", v.name)}
		}
		if _, err := store.ParseSearch(q.Search); err != nil {
			return Invalid{Field: "search", Detail: strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": ")}
		}
	}
	if err := store.CheckQuery(q); err != nil {
		return Invalid{Detail: err.Error()}
	}
	return nil
}

// timely writes the times that q asks for as documents have them.
func (v *view) timely(q store.Query) (store.Query, error) {
	q.Where = slices.Clone(q.Where)
	for i, c := range q.Where {
		text, ok := c.Value.(string)
		t, known := wire.FieldType(v.typ, c.Field)
		if !ok || !known || t != reflect.TypeFor[time.Time]() {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return q, Invalid{Field: c.Field, Detail: "must be a time like 2026-01-31T14:00:00Z"}
		}
		q.Where[i].Value = wire.SortableTime(at)
	}
	return q, nil
}

func rows[V any](docs iter.Seq2[store.Doc, error]) iter.Seq2[Row[V], error] {
	return func(yield func(Row[V], error) bool) {
		for d, err := range docs {
			row := Row[V]{Key: d.Key}
			if err == nil {
				err = wire.Unmarshal(d.Data, &row.Value)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}
