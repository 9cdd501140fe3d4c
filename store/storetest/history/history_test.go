package history

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// local is a system in this process. It does not crash; instead it loses
// answers.
type local struct {
	store.Log
	n     atomic.Int64
	every int64 // so many appends lose an answer; 0 = never
}

type system struct{ log store.Log }

func (s system) Log() store.Log { return s.log }
func (s system) Crash() error   { return nil }

func (l *local) Append(ctx context.Context, ws ...store.Write) ([]store.Written, error) {
	out, err := l.Log.Append(ctx, ws...)
	if err == nil && l.every > 0 && l.n.Add(1)%l.every == 0 {
		return nil, store.ErrUnknown
	}
	return out, err
}

func TestHistoriesOfTheReference(t *testing.T) {
	for seed := range uint64(100) {
		log := &local{Log: mem.New(), every: 7}
		if err := Check(t.Context(), system{log}, "h", seed, Options{}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// faulty is a reference with a defect.
type faulty struct {
	*mem.Store
	n      atomic.Int64
	append func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error)
	log    func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error]
	read   func(f *faulty, ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error]
}

func (f *faulty) Append(ctx context.Context, ws ...store.Write) ([]store.Written, error) {
	if f.append == nil {
		return f.Store.Append(ctx, ws...)
	}
	return f.append(f, ctx, f.n.Add(1), ws)
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

// The checks must find defects, or they prove nothing.
func TestHistoriesFindDefects(t *testing.T) {
	defects := map[string]*faulty{
		"acknowledges and loses": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
			if n%20 == 0 {
				return []store.Written{{Version: 1}, {Version: 1}}[:len(ws)], nil
			}
			return f.Store.Append(ctx, ws...)
		}},
		"does not look at versions": {append: func(f *faulty, ctx context.Context, n int64, ws []store.Write) ([]store.Written, error) {
			if n%5 == 0 {
				for i := range ws {
					ws[i].Expect = store.Any
				}
			}
			return f.Store.Append(ctx, ws...)
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
		"follower skips": {log: func(f *faulty, ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
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
		"stale reads": {read: func(f *faulty, ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
			if r.Limit == 0 {
				r.Limit = 2
			}
			return f.Store.Read(ctx, stream, r)
		}},
	}
	for name, defect := range defects {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				f := &faulty{Store: mem.New(), append: defect.append, log: defect.log, read: defect.read}
				if err := Check(t.Context(), system{f}, "h", seed, Options{Ops: 30}); err != nil {
					t.Logf("found at seed %d: %v", seed, err)
					return
				}
			}
			t.Error("50 histories did not find it")
		})
	}
}

func ExampleCheck() {
	err := Check(context.Background(), system{mem.New()}, "example", 1, Options{})
	fmt.Println(err)
	// Output: <nil>
}
