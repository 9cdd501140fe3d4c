package deed

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// reads is what somebody has read through a [Reader]: enough to tell which
// records change it. Its methods do nothing if it is nil.
type reads struct {
	mu         sync.Mutex
	streams    map[string]bool
	logs       []store.Filter
	documents  map[documentKey]bool
	selections []*selection
	views      map[*view]string // where the documents of each view were when it was read first
	unsure     bool             // a view that was read lacks something, and nothing in the log is going to say when it has it
	age        time.Duration    // of the view that has fallen behind most
	pastless   bool             // a view that knows no past was to be read as it was once

	enter func(context.Context, *view) (freshness, error) // waits for a view that is about to be read for the first time
	turns map[*view]*sync.Mutex
}

// A freshness says what a view knows of what was recorded.
type freshness struct {
	age   time.Duration // of what it knows, if it has fallen behind
	whole bool          // it has all that it should have
}

type documentKey struct {
	view *view
	key  string
}

// A selection is the documents that a question to a view has given.
type selection struct {
	view *view
	q    store.Query // its conditions, and what it searches for

	mu   sync.Mutex
	keys map[string]bool
}

func newReads(enter func(context.Context, *view) (freshness, error)) *reads {
	return &reads{
		streams: map[string]bool{}, documents: map[documentKey]bool{}, views: map[*view]string{},
		enter: enter, turns: map[*view]*sync.Mutex{},
	}
}

// tracked is a reader of which it is noted what it reads.
type tracked struct {
	Reader
	noted *reads
}

func (t tracked) reads() *reads { return t.noted }

func (r *reads) stream(name string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[name] = true
}

// noPast notes that a view was to be read that knows no past.
func (r *reads) noPast() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pastless = true
}

func (r *reads) log(f store.Filter) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.logs, func(g store.Filter) bool {
		return slices.Equal(g.Categories, f.Categories) && slices.Equal(g.Types, f.Types)
	}) {
		r.logs = append(r.logs, f)
	}
}

// document notes a document that is about to be read.
func (r *reads) document(ctx context.Context, v *view, key string) error {
	if r == nil {
		return nil
	}
	if err := r.visit(ctx, v); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents[documentKey{v, key}] = true
	return nil
}

// selection notes a question that is about to be asked of a view.
func (r *reads) selection(ctx context.Context, v *view, q store.Query) (*selection, error) {
	if r == nil {
		return nil, nil
	}
	if err := r.visit(ctx, v); err != nil {
		return nil, err
	}
	s := &selection{view: v, q: store.Query{Where: q.Where, Search: q.Search, Text: q.Text}, keys: map[string]bool{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selections = append(r.selections, s)
	return s, nil
}

// of notes the documents that are given out.
func (s *selection) of(docs iter.Seq2[store.Doc, error]) iter.Seq2[store.Doc, error] {
	if s == nil {
		return docs
	}
	return func(yield func(store.Doc, error) bool) {
		for d, err := range docs {
			if err == nil {
				s.mu.Lock()
				s.keys[d.Key] = true
				s.mu.Unlock()
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

func (s *selection) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key]
}

// wants reports whether a document satisfies the question.
func (s *selection) wants(d store.Doc) bool {
	one := func(yield func(store.Doc, error) bool) { yield(d, nil) }
	for _, err := range store.Scan(one, s.q) {
		return err == nil
	}
	return false
}

// visit waits for a view, once.
func (r *reads) visit(ctx context.Context, v *view) error {
	r.mu.Lock()
	turn := r.turns[v]
	if turn == nil {
		turn = new(sync.Mutex)
		r.turns[v] = turn
	}
	r.mu.Unlock()
	turn.Lock()
	defer turn.Unlock()
	r.mu.Lock()
	_, visited := r.views[v]
	r.mu.Unlock()
	if visited {
		return nil
	}
	fresh, err := r.enter(ctx, v)
	if err != nil {
		return err
	}
	coll, err := v.current(ctx, v.rt)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.views[v], r.unsure, r.age = coll, r.unsure || !fresh.whole, max(r.age, fresh.age)
	return nil
}

// moved reports whether the documents of a view that was read are elsewhere by
// now: it was rebuilt.
func (r *reads) moved(ctx context.Context) (bool, error) {
	r.mu.Lock()
	views := maps.Clone(r.views)
	r.mu.Unlock()
	for v, coll := range views {
		now, err := v.current(ctx, v.rt)
		if err != nil || now != coll {
			return true, err
		}
	}
	return false, nil
}

// handled reports whether a view was read that event handlers write.
func (r *reads) handled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v := range r.views {
		if v.follower == "" {
			return true
		}
	}
	return false
}
