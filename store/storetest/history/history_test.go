package history

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	histories = flag.Uint64("histories", 200, "random histories to check")
	seed      = flag.Uint64("seed", 0, "check only the history of this seed")
)

// local is a system in this process. It does not lose what it has; instead it
// loses answers, and for a moment after a crash it is not there.
type local struct {
	*mem.Store
	appends atomic.Int64
	down    atomic.Int64 // calls that still fail
}

func (l *local) Log() store.Log { return l }

func (l *local) Crash() error { l.down.Store(40); return nil }

func (l *local) Append(ctx context.Context, ws ...store.Write) ([]store.Written, error) {
	if l.down.Add(-1) >= 0 {
		return nil, store.ErrUnavailable
	}
	out, err := l.Store.Append(ctx, ws...)
	if err == nil && l.appends.Add(1)%7 == 0 {
		return nil, store.ErrUnknown
	}
	return out, err
}

func TestHistoriesOfTheReference(t *testing.T) {
	first, n := uint64(time.Now().UnixNano()), *histories
	if *seed != 0 {
		first, n = *seed, 1
	}
	for s := first; s < first+n; s++ {
		if err := Check(t.Context(), &local{Store: mem.New()}, "h", s, Options{}); err != nil {
			t.Fatalf("%v\nagain: go test -run TestHistoriesOfTheReference ./store/storetest/history -seed %d", err, s)
		}
	}
}

// A faulty system is the reference with a defect.
type faulty struct {
	*mem.Store
	defect
	appends atomic.Int64
}

// A defect is what a faulty system does in its own way. What is nil is sound.
type defect struct {
	append func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error)
	log    func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error]
	read   func(f *faulty, ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error]
}

func (f *faulty) Log() store.Log { return f }
func (f *faulty) Crash() error   { return nil }

func (f *faulty) Append(ctx context.Context, ws ...store.Write) ([]store.Written, error) {
	if f.append == nil {
		return f.Store.Append(ctx, ws...)
	}
	return f.append(f, ctx, f.appends.Add(1), slices.Clone(ws))
}

func (f *faulty) ReadAll(ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
	if f.log == nil {
		return f.Store.ReadAll(ctx, c, filter)
	}
	return f.log(f, ctx, c, filter)
}

func (f *faulty) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	if f.read == nil {
		return f.Store.Read(ctx, stream, r)
	}
	return f.read(f, ctx, stream, r)
}

// anywhere drops the expectations of the writes to streams that match.
func anywhere(ws []store.Write, match func(store.Write) bool) []store.Write {
	for i := range ws {
		if match(ws[i]) {
			ws[i].Expect = store.Any
		}
	}
	return ws
}

func everyWrite(store.Write) bool { return true }

func ofClaim(w store.Write) bool { return w.Events[0].Type != typeDone }

var defects = map[string]defect{
	"acknowledges and loses": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%20 == 0 {
			return []store.Written{{Version: 1}, {Version: 1}}[:len(ws)], nil
		}
		return f.Store.Append(ctx, ws...)
	}},
	"does not look at versions": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%5 == 0 {
			ws = anywhere(ws, everyWrite)
		}
		return f.Store.Append(ctx, ws...)
	}},
	"lets two hold a claim": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		return f.Store.Append(ctx, anywhere(ws, ofClaim)...)
	}},
	"does twice what is asked twice": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%3 > 0 {
			return f.Store.Append(ctx, ws...)
		}
		if _, err := f.Store.Append(ctx, ws...); err != nil {
			return nil, err
		}
		return f.Store.Append(ctx, anywhere(ws, everyWrite)...)
	}},
	"writes half": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%5 == 0 && len(ws) == 2 {
			if _, err := f.Store.Append(ctx, ws[0]); err != nil {
				return nil, err
			}
			return nil, store.ErrUnknown
		}
		return f.Store.Append(ctx, ws...)
	}},
	"writes what it refuses": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		out, err := f.Store.Append(ctx, ws...)
		if n%10 == 0 && err == nil {
			return nil, store.ErrUnavailable
		}
		return out, err
	}},
	"refuses what it should write": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%10 == 0 {
			return nil, &store.ConflictError{Stream: ws[0].Stream, Version: 1000}
		}
		return f.Store.Append(ctx, ws...)
	}},
	"fails with an error of its own": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
		if n%10 == 0 {
			return nil, context.DeadlineExceeded
		}
		return f.Store.Append(ctx, ws...)
	}},
	"does nothing": {append: func(*faulty, context.Context, int64, []store.Write) ([]store.Written, error) {
		return nil, store.ErrUnknown
	}},
	"a follower misses one": {log: func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
		return func(yield func(store.Record, error) bool) {
			for r, err := range f.Store.ReadAll(ctx, c, filter) {
				if r.Position.Seq == 20 && c != store.Start {
					continue
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}},
	"followers see another order": {log: func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
		return func(yield func(store.Record, error) bool) {
			var kept *store.Record
			for r, err := range f.Store.ReadAll(ctx, c, filter) {
				if c != store.Start && kept == nil && r.Position.Seq%10 == 0 {
					kept = &r
					continue
				}
				if !yield(r, err) || kept != nil && !yield(*kept, nil) {
					return
				}
				kept = nil
			}
			if kept != nil {
				yield(*kept, nil)
			}
		}
	}},
	"a follower sees one again": {log: func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
		if c.Seq(0) > 1 {
			c = store.CursorAt(store.Position{Seq: c.Seq(0) - 1})
		}
		return f.Store.ReadAll(ctx, c, filter)
	}},
	"reads what was": {read: func(f *faulty, ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
		if r.Limit == 0 {
			r.Limit = 2
		}
		return f.Store.Read(ctx, stream, r)
	}},
}

// The checks must find defects, or they prove nothing.
func TestHistoriesFindDefects(t *testing.T) {
	for name, d := range defects {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(100) {
				f := &faulty{Store: mem.New(), defect: d}
				if err := Check(t.Context(), f, "h", seed, Options{Ops: 30}); err != nil {
					t.Logf("found in history %d: %v", seed, err)
					return
				}
			}
			t.Error("100 histories did not find it")
		})
	}
}

// A system that does not come back ends the history with its error.
func TestSystemThatDoesNotComeBack(t *testing.T) {
	gone := errors.New("the file is gone")
	err := Check(t.Context(), dying{mem.New(), gone}, "h", 1, Options{})
	if err != gone {
		t.Errorf("got %v, want %v", err, gone)
	}
}

type dying struct {
	*mem.Store
	err error
}

func (d dying) Log() store.Log { return d.Store }
func (d dying) Crash() error   { d.Store.Close(); return d.err }

func ExampleCheck() {
	err := Check(context.Background(), &local{Store: mem.New()}, "example", 1, Options{})
	fmt.Println(err)
	// Output: <nil>
}
