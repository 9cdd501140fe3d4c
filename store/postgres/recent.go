package postgres

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// Bounds of what is kept of the end of the log.
const (
	recentEvents = 8192
	recentBytes  = 8 << 20
)

// freshly is for how long what is kept counts without asking the server whether
// the log still ends so: a hint tells, and so does the next append, but a server
// may have been replaced by one that lacks the end.
const freshly = 100 * time.Millisecond

// recent is the end of the log as far as this process has appended it and nobody
// else in between. Followers read it from here: the server need not be asked for
// what it was only just told.
type recent struct {
	mu    sync.RWMutex
	recs  []store.Record // their positions have no gaps
	bytes int
	at    headRow   // after the last of them
	sure  time.Time // when the log was known to end there
}

// add takes in events that were appended: right after those there are, or after
// others. The head is what that made of it.
func (r *recent) add(recs []store.Record, head headRow, follow bool) {
	recs = owned(recs)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !follow {
		r.recs, r.bytes = nil, 0
	}
	r.recs, r.bytes, r.at, r.sure = append(r.recs, recs...), r.bytes+size(recs), head, time.Now()
	if len(r.recs) > 2*recentEvents || r.bytes > 2*recentBytes { // seldom, for it copies
		n := max(len(r.recs)-recentEvents, 0)
		for r.bytes -= size(r.recs[:n]); r.bytes > recentBytes; n++ {
			r.bytes -= size(r.recs[n : n+1])
		}
		r.recs = slices.Clone(r.recs[n:])
	}
}

func (r *recent) forget() { r.add(nil, headRow{}, false) }

// confirm notes what the head was when it was asked for. If it is another one than
// is known, what is known is not renewed: others have appended or given something
// up, or the server is another one.
func (r *recent) confirm(head headRow, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if head == r.at {
		r.sure = asked
	}
}

// after returns the events after a position that satisfy f, and the last
// position; false if that is not known here, or if others are known to have
// appended up to a later one.
func (r *recent) after(pos, known uint64, f store.Filter) (recs []store.Record, end uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.recs) == 0 {
		return nil, 0, false
	}
	first := r.recs[0].Position.Seq
	end = first + uint64(len(r.recs)) - 1
	if pos+1 < first || pos > end || end < known || time.Since(r.sure) > freshly {
		return nil, 0, false
	}
	for i := pos + 1 - first; i < uint64(len(r.recs)) && (f.Limit == 0 || len(recs) < f.Limit); i++ {
		if satisfies(&r.recs[i], f) {
			recs = append(recs, r.recs[i])
		}
	}
	return owned(recs), end, true
}

func satisfies(rec *store.Record, f store.Filter) bool {
	return (len(f.Types) == 0 || slices.Contains(f.Types, rec.Type)) &&
		(len(f.Categories) == 0 || slices.Contains(f.Categories, store.Category(rec.Stream))) &&
		(f.Partitions <= 1 || store.PartitionOf(rec.Stream, f.Partitions) == f.Partition)
}

func size(recs []store.Record) (n int) {
	for i := range recs {
		n += len(recs[i].Data) + len(recs[i].Meta)
	}
	return n
}

// owned gives records bytes of their own: what a caller appended, and what a
// reader was given, are theirs.
func owned(recs []store.Record) []store.Record {
	block := make([]byte, 0, size(recs))
	cut := func(b []byte) []byte {
		at := len(block)
		block = append(block, b...)
		return block[at:len(block):len(block)]
	}
	for i := range recs {
		recs[i].Data, recs[i].Meta = cut(recs[i].Data), cut(recs[i].Meta)
	}
	return recs
}

// Tail implements [store.Tailer].
func (s *Store) Tail(ctx context.Context, after store.Cursor, f store.Filter) (store.Cursor, iter.Seq2[store.Record, error], error) {
	if err := s.usable(ctx); err != nil {
		return store.Start, nil, err
	}
	if recs, end, ok := s.recent.after(after.Seq(0), s.head.Load(), f); ok {
		return store.CursorAt(store.Position{Seq: end}), func(yield func(store.Record, error) bool) { yieldAll(recs, nil, yield) }, nil
	}
	end, err := s.headNow(ctx)
	if err != nil {
		return store.Start, nil, err
	}
	return store.CursorAt(store.Position{Seq: end}), s.readFrom(ctx, scan{after: after.Seq(0), end: end, ended: true, filter: f}), nil
}
