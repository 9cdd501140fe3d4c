package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A shelf is a store that can be told to fail.
type shelf struct {
	*mem.Store
	mu     sync.Mutex
	writes int
	write  func(n int, changes []store.Change) (before, after error) // n counts from 1
	get    func(coll, key string) error
	read   func(store.Record) error
	head   func() error
}

func newShelf() *shelf { return &shelf{Store: mem.New()} }

func (s *shelf) Write(ctx context.Context, changes ...store.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	var before, after error
	if s.write != nil {
		before, after = s.write(s.writes, changes)
	}
	if before != nil {
		return before
	}
	if err := s.Store.Write(ctx, changes...); err != nil {
		return err
	}
	return after
}

func (s *shelf) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	if s.get != nil {
		if err := s.get(coll, key); err != nil {
			return store.Doc{}, err
		}
	}
	return s.Store.Get(ctx, coll, key)
}

func (s *shelf) Head(ctx context.Context) (store.Cursor, error) {
	if s.head != nil {
		if err := s.head(); err != nil {
			return store.Start, err
		}
	}
	return s.Store.Head(ctx)
}

func (s *shelf) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for rec, err := range s.Store.ReadAll(ctx, after, f) {
			if err == nil && s.read != nil {
				err = s.read(rec)
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// failWrites has f decide about each write from now on.
func (s *shelf) failWrites(f func(n int, changes []store.Change) (before, after error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write = f
}

func (s *shelf) wrote() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

var errDown = fmt.Errorf("%w: on purpose", store.ErrUnavailable)

// A ledger writes down, for each stream, the versions it has taken in. So its
// documents show what was left out, taken in twice, or out of order.
type ledger struct {
	coll  string
	fail  func(store.Record) error // may panic
	flush func(stream string, versions []uint64) error
	keys  func(store.Record) []string
	// direct writes each record through the Tx at once; otherwise documents
	// are kept, over batches too, and written by Flush.
	direct bool
	docs   map[string][]uint64
	dirty  []string
}

func (h *ledger) Keys(rec store.Record) []string {
	if h.keys != nil {
		return h.keys(rec)
	}
	return []string{rec.Stream}
}

func (h *ledger) Handle(ctx context.Context, tx *Tx, rec store.Record) error {
	versions, held := h.docs[rec.Stream]
	if !held {
		d, err := tx.Get(ctx, h.coll, rec.Stream)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if d.Data != nil {
			if err := json.Unmarshal(d.Data, &versions); err != nil {
				return err
			}
		}
	}
	versions = append(slices.Clone(versions), rec.Version)
	if h.direct {
		if err := h.put(tx, rec.Stream, versions); err != nil {
			return err
		}
	} else {
		if h.docs == nil {
			h.docs = map[string][]uint64{}
		}
		h.docs[rec.Stream] = versions
		if !slices.Contains(h.dirty, rec.Stream) {
			h.dirty = append(h.dirty, rec.Stream)
		}
	}
	if h.fail != nil { // after the change, which must then be taken back
		return h.fail(rec)
	}
	return nil
}

func (h *ledger) put(tx *Tx, stream string, versions []uint64) error {
	data, err := json.Marshal(versions)
	if err != nil {
		return err
	}
	return tx.Put(h.coll, stream, data)
}

func (h *ledger) Flush(_ context.Context, tx *Tx) error {
	for _, stream := range h.dirty {
		if h.flush != nil {
			if err := h.flush(stream, h.docs[stream]); err != nil {
				return err
			}
		}
		if err := h.put(tx, stream, h.docs[stream]); err != nil {
			return err
		}
	}
	h.dirty = h.dirty[:0]
	return nil
}

func (h *ledger) Reset() { h.docs, h.dirty = nil, nil }

func ledgerColl(gen uint64) string { return fmt.Sprintf("ledger/%d", gen) }

// pure is a follower that keeps a ledger.
func pure(change func(*ledger)) Follower {
	return Follower{
		Name: "ledger", Kind: "projection", Pure: true,
		Filter: store.Filter{Categories: []string{"a"}},
		Colls:  func(gen uint64) []string { return []string{ledgerColl(gen)} },
		New: func(gen uint64) Handler {
			h := &ledger{coll: ledgerColl(gen)}
			if change != nil {
				change(h)
			}
			return h
		},
	}
}

// effectful is a follower that keeps a ledger and is not Pure.
func effectful(change func(*ledger)) Follower {
	f := pure(func(h *ledger) {
		h.direct = true
		if change != nil {
			change(h)
		}
	})
	f.Kind, f.Pure, f.Colls = "handler", false, nil
	return f
}

// A rig is an engine at work on a store.
type rig struct {
	*Engine
	t    *testing.T
	s    store.Store
	stop func() // ends Run and waits until it has
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// run starts an engine. It runs until the test ends, or stop is called.
func run(t *testing.T, s store.Store, followers ...Follower) *rig {
	t.Helper()
	return start(t, Config{Store: s, Followers: followers, Logger: quiet()})
}

func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	r := &rig{Engine: e, t: t, s: cfg.Store, stop: func() { cancel(); <-ended }}
	t.Cleanup(r.stop)
	return r
}

// within runs a test in a bubble of its own, with a clock of its own.
func within(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

var eventIDs struct {
	sync.Mutex
	n uint64
}

// add appends n events to a stream and returns the position of the last.
func add(t testing.TB, s store.Store, stream string, n int) store.Position {
	t.Helper()
	w := store.Write{Stream: stream, Expect: store.Any}
	eventIDs.Lock()
	for range n {
		eventIDs.n++
		id := store.ID{}
		copy(id[:], fmt.Sprintf("%016d", eventIDs.n))
		w.Events = append(w.Events, store.Event{ID: id, Type: "added", Data: []byte(`{"by":1}`), Meta: []byte(`{"actor":"ann"}`)})
	}
	eventIDs.Unlock()
	written, err := s.Append(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return written[0].Position
}

// wait waits until the ledger has taken in everything there is.
func (r *rig) wait() {
	r.t.Helper()
	head, err := r.s.Head(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Hour)
	defer cancel()
	for _, p := range head.Positions() {
		if err := r.WaitAll(ctx, p); err != nil {
			r.t.Fatal(err)
		}
	}
}

// status is the status of the only follower.
func (r *rig) status() Status { return r.Status()[0] }

// parked are the dead letters as "stream@version state", in order.
func (r *rig) parked() string {
	r.t.Helper()
	ls, _, err := r.DeadLetters(r.t.Context(), "", "", 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, l := range ls {
		out = append(out, fmt.Sprintf("%s@%d %s", l.Stream, l.Version, l.State))
	}
	return strings.Join(out, ", ")
}

// book is what the ledger's documents of the present generation say.
func (r *rig) book() map[string][]uint64 {
	r.t.Helper()
	gen, err := r.Generation(r.t.Context(), "ledger")
	if err != nil {
		r.t.Fatal(err)
	}
	return book(r.t, r.s, gen)
}

func book(t *testing.T, s store.Store, gen uint64) map[string][]uint64 {
	t.Helper()
	out := map[string][]uint64{}
	for d, err := range s.List(context.Background(), ledgerColl(gen), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		var versions []uint64
		if err := json.Unmarshal(d.Data, &versions); err != nil {
			t.Fatal(err)
		}
		out[d.Key] = versions
	}
	return out
}

// expect fails unless a stream's document holds exactly the versions.
func (r *rig) expect(stream string, versions ...uint64) {
	r.t.Helper()
	if got := r.book()[stream]; !slices.Equal(got, versions) {
		r.t.Errorf("document of %s: %v, want %v", stream, got, versions)
	}
}

// upTo is 1, 2, ... n.
func upTo(n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i) + 1
	}
	return out
}

// same fails unless the ledger equals a clean fold of the log.
func (r *rig) same() {
	r.t.Helper()
	want := map[string]int{}
	for rec, err := range r.s.ReadAll(context.Background(), store.Start, store.Filter{Categories: []string{"a"}}) {
		if err != nil {
			r.t.Fatal(err)
		}
		want[rec.Stream]++
	}
	got := r.book()
	if len(got) != len(want) {
		r.t.Errorf("%d documents, want %d", len(got), len(want))
	}
	for stream, n := range want {
		if !slices.Equal(got[stream], upTo(n)) {
			r.t.Errorf("document of %s: %v, want 1 to %d", stream, got[stream], n)
		}
	}
}

// at calls f for the record at stream@version, and lets others pass.
func at(stream string, version uint64, f func() error) func(store.Record) error {
	return func(rec store.Record) error {
		if rec.Stream == stream && rec.Version == version {
			return f()
		}
		return nil
	}
}
