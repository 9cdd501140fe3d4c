// Package mem keeps everything in memory. It is the reference backend: what
// it does is what the contract means, written as plainly as possible.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Store is a [store.Store] in memory. It runs no goroutines, so it works
// inside testing/synctest.
type Store struct {
	Now func() time.Time // the clock; set it before first use. Default: time.Now

	mu      sync.RWMutex
	closed  bool
	log     []store.Record   // the record at position n is n-1; one that was given up has no stream
	streams map[string][]int // indexes into log
	docs    map[string]map[string]store.Doc
	last    time.Time     // of the log
	grown   chan struct{} // closed and replaced on append
}

// New returns an empty store.
func New() *Store {
	return &Store{Now: time.Now, streams: map[string][]int{}, docs: map[string]map[string]store.Doc{}, grown: make(chan struct{})}
}

// Volatile says that nothing outlives the process.
func (s *Store) Volatile() string { return "kept in memory: everything is lost when the process ends" }

// Close makes every later call fail.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.grown)
	}
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	return ctx.Err()
}

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	return s.AppendWith(ctx, writes, nil, nil)
}

// AppendWith implements [store.Atomic].
func (s *Store) AppendWith(ctx context.Context, writes []store.Write, changes []store.Change, holds []store.Hold) ([]store.Written, error) {
	if err := store.CheckWith(writes, changes, holds); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if written, ok := s.repeated(writes); ok {
		return written, nil
	}
	for _, w := range writes {
		if v := s.version(w.Stream); !w.Expect.Met(v) {
			return nil, &store.ConflictError{Stream: w.Stream, Expect: w.Expect, Version: v}
		}
	}
	if err := s.expected(changes, holds); err != nil {
		return nil, err
	}
	for _, c := range changes {
		s.change(c)
	}
	now := s.tick()
	written := make([]store.Written, len(writes))
	for i, w := range writes {
		written[i].Version = s.version(w.Stream)
		for _, e := range w.Events {
			written[i] = s.record(w.Stream, e, now)
		}
	}
	if len(s.log) > 0 {
		close(s.grown)
		s.grown = make(chan struct{})
	}
	return written, nil
}

// tick is the time of the next records: by the clock, but never backwards.
func (s *Store) tick() time.Time {
	if now := s.Now().UTC().Truncate(time.Microsecond); now.After(s.last) {
		s.last = now
	}
	return s.last
}

func (s *Store) version(stream string) uint64 { return uint64(len(s.streams[stream])) }

func (s *Store) record(stream string, e store.Event, now time.Time) store.Written {
	r := store.Record{
		ID: e.ID, Stream: stream, Version: s.version(stream) + 1, Position: store.Position{Seq: uint64(len(s.log)) + 1},
		Type: e.Type, Time: now, Data: bytes.Clone(e.Data), Meta: bytes.Clone(e.Meta),
	}
	s.streams[stream] = append(s.streams[stream], len(s.log))
	s.log = append(s.log, r)
	return store.Written{Version: r.Version, Position: r.Position, Time: now}
}

// repeated reports whether exactly these writes have happened before.
func (s *Store) repeated(writes []store.Write) ([]store.Written, bool) {
	written, events := make([]store.Written, len(writes)), 0
	for i, w := range writes {
		if w.Expect < 0 || s.version(w.Stream) < uint64(w.Expect)+uint64(len(w.Events)) {
			return nil, false
		}
		from := int(w.Expect)
		if len(w.Events) == 0 && s.version(w.Stream) != uint64(from) {
			return nil, false
		}
		written[i] = store.Written{Version: uint64(from), Repeated: true}
		for j, e := range w.Events {
			r := s.log[s.streams[w.Stream][from+j]]
			if r.ID != e.ID {
				return nil, false
			}
			written[i] = store.Written{Version: r.Version, Position: r.Position, Time: r.Time, Repeated: true}
		}
		events += len(w.Events)
	}
	return written, events > 0
}

// Read implements [store.Log].
func (s *Store) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		s.mu.RLock()
		err := s.usable(ctx)
		places, log := s.streams[stream], s.log
		s.mu.RUnlock()
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for _, i := range selected(places, r) {
			if err := ctx.Err(); err != nil {
				yield(store.Record{}, err)
				return
			}
			if !yield(handOut(log[i]), nil) {
				return
			}
		}
	}
}

// selected returns the places of the versions that r selects, in its order.
func selected(places []int, r store.Range) []int {
	n := uint64(len(places))
	if r.Backward {
		if r.From > 0 {
			n = min(n, r.From)
		}
		places = slices.Clone(places[:n])
		slices.Reverse(places)
	} else if r.From > 0 {
		places = places[min(n, r.From-1):]
	}
	if r.Limit > 0 {
		places = places[:min(len(places), r.Limit)]
	}
	return places
}

// handOut returns a record whose bytes the caller may keep and change.
func handOut(r store.Record) store.Record {
	r.Data, r.Meta = bytes.Clone(r.Data), bytes.Clone(r.Meta)
	return r
}

// ReadAll implements [store.Log].
func (s *Store) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		s.mu.RLock()
		err := s.usable(ctx)
		log := s.log
		s.mu.RUnlock()
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		n := 0
		for _, r := range log[min(uint64(len(log)), after.Seq(0)):] {
			if r.Stream == "" || !selects(f, r) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(store.Record{}, err)
				return
			}
			if !yield(handOut(r), nil) {
				return
			}
			if n++; n == f.Limit {
				return
			}
		}
	}
}

func selects(f store.Filter, r store.Record) bool {
	return (len(f.Categories) == 0 || slices.Contains(f.Categories, store.Category(r.Stream))) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, r.Type)) &&
		(f.Partitions <= 1 || store.PartitionOf(r.Stream, f.Partitions) == f.Partition)
}

// Head implements [store.Log].
func (s *Store) Head(ctx context.Context) (store.Cursor, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Start, err
	}
	return store.CursorAt(store.Position{Seq: uint64(len(s.log))}), nil
}

// Wait implements [store.Waiter].
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	s.mu.RLock()
	err := s.usable(ctx)
	n, grown := uint64(len(s.log)), s.grown
	s.mu.RUnlock()
	if err != nil || n > after.Seq(0) {
		return err
	}
	select {
	case <-grown:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get implements [store.Docs].
func (s *Store) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Doc{}, err
	}
	d, ok := s.docs[coll][key]
	if !ok {
		return store.Doc{Key: key}, fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
	}
	d.Data = bytes.Clone(d.Data)
	return d, nil
}

// Write implements [store.Docs].
func (s *Store) Write(ctx context.Context, changes ...store.Change) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := s.expected(changes, nil); err != nil {
		return err
	}
	for _, c := range changes {
		s.change(c)
	}
	return nil
}

// expected reports whether documents are at the revisions they should be at.
func (s *Store) expected(changes []store.Change, holds []store.Hold) error {
	for _, h := range holds {
		changes = append(changes[:len(changes):len(changes)], store.Change{Coll: h.Coll, Key: h.Key, Rev: h.Rev})
	}
	for _, c := range changes {
		if rev := s.docs[c.Coll][c.Key].Rev; c.Rev != store.AnyRev && c.Rev != rev {
			return &store.ConflictError{Coll: c.Coll, Key: c.Key, Version: rev}
		}
	}
	return nil
}

func (s *Store) change(c store.Change) {
	if c.Data == nil {
		delete(s.docs[c.Coll], c.Key)
		return
	}
	if s.docs[c.Coll] == nil {
		s.docs[c.Coll] = map[string]store.Doc{}
	}
	s.docs[c.Coll][c.Key] = store.Doc{Key: c.Key, Rev: s.docs[c.Coll][c.Key].Rev + 1, Data: bytes.Clone(c.Data)}
}

// List implements [store.Docs].
func (s *Store) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		s.mu.RLock()
		err := s.usable(ctx)
		docs := maps.Clone(s.docs[coll])
		s.mu.RUnlock()
		if err != nil {
			yield(store.Doc{}, err)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(docs)) {
			if k <= after || !strings.HasPrefix(k, prefix) {
				continue
			}
			d := docs[k]
			d.Data = bytes.Clone(d.Data)
			if err := ctx.Err(); err != nil {
				yield(store.Doc{}, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// Snapshot implements [store.Snapshotter].
func (s *Store) Snapshot(ctx context.Context, look func(store.Reading) error) error {
	s.mu.RLock()
	err := s.usable(ctx)
	then := &Store{docs: make(map[string]map[string]store.Doc, len(s.docs))}
	for coll, docs := range s.docs {
		then.docs[coll] = maps.Clone(docs)
	}
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	return look(then)
}

// DropColl implements [store.Dropper].
func (s *Store) DropColl(ctx context.Context, coll string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	delete(s.docs, coll)
	return nil
}
