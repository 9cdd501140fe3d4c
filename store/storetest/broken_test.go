package storetest

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A broken store is the reference with one thing wrong.
type broken struct {
	*mem.Store
	append func(context.Context, []store.Write) ([]store.Written, error)
	seq    func(iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] // of both ways to read
	stream func(context.Context, string, store.Range) iter.Seq2[store.Record, error]
	log    func(context.Context, store.Cursor, store.Filter) iter.Seq2[store.Record, error]
	head   func(context.Context) (store.Cursor, error)
	write  func(context.Context, []store.Change) error
	get    func(context.Context, string, string) (store.Doc, error)
	list   func(context.Context, string, string, string) iter.Seq2[store.Doc, error]
	drop   func() error
	look   func(func(store.Reading) error) error
	wait   func() error
	close  func() error

	compact func(context.Context, []store.Whole) ([]uint64, error)
}

func (b *broken) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	if b.compact != nil {
		return b.compact(ctx, streams)
	}
	return b.Store.Compact(ctx, streams...)
}

func (b *broken) Append(ctx context.Context, ws ...store.Write) ([]store.Written, error) {
	if b.append != nil {
		return b.append(ctx, ws)
	}
	return b.Store.Append(ctx, ws...)
}

func (b *broken) Read(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
	seq := b.Store.Read(ctx, name, r)
	if b.stream != nil {
		seq = b.stream(ctx, name, r)
	}
	if b.seq != nil {
		seq = b.seq(seq)
	}
	return seq
}

func (b *broken) ReadAll(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	seq := b.Store.ReadAll(ctx, c, f)
	if b.log != nil {
		seq = b.log(ctx, c, f)
	}
	if b.seq != nil {
		seq = b.seq(seq)
	}
	return seq
}

func (b *broken) Head(ctx context.Context) (store.Cursor, error) {
	if b.head != nil {
		return b.head(ctx)
	}
	return b.Store.Head(ctx)
}

func (b *broken) Write(ctx context.Context, cs ...store.Change) error {
	if b.write != nil {
		return b.write(ctx, cs)
	}
	return b.Store.Write(ctx, cs...)
}

func (b *broken) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	if b.get != nil {
		return b.get(ctx, coll, key)
	}
	return b.Store.Get(ctx, coll, key)
}

func (b *broken) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	if b.list != nil {
		return b.list(ctx, coll, prefix, after)
	}
	return b.Store.List(ctx, coll, prefix, after)
}

func (b *broken) DropColl(ctx context.Context, coll string) error {
	if b.drop != nil {
		return b.drop()
	}
	return b.Store.DropColl(ctx, coll)
}

func (b *broken) Snapshot(ctx context.Context, look func(store.Reading) error) error {
	if b.look != nil {
		return b.look(look)
	}
	return b.Store.Snapshot(ctx, look)
}

func (b *broken) Wait(ctx context.Context, c store.Cursor) error {
	if b.wait != nil {
		return b.wait()
	}
	return b.Store.Wait(ctx, c)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Store.Close()
}

// halves is a broken store that appends and changes documents one after the other.
type halves struct {
	*broken
	append func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, holds []store.Hold) ([]store.Written, error)
}

func (h *halves) AppendWith(ctx context.Context, ws []store.Write, cs []store.Change, holds []store.Hold) ([]store.Written, error) {
	return h.append(h, ctx, ws, cs, holds)
}

func inHalves(how func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, holds []store.Hold) ([]store.Written, error)) func() store.Store {
	return func() store.Store { return &halves{&broken{Store: mem.New()}, how} }
}

// counter is a broken store that counts whatever the conditions.
type counter struct{ *broken }

func (c *counter) Count(ctx context.Context, coll string, _ store.Query) (int, error) {
	n := 0
	for range c.List(ctx, coll, "", "") {
		n++
	}
	return n, nil
}

// finder is a broken store with an index that is wrong.
type finder struct {
	*broken
	find func(context.Context, string, store.Query) iter.Seq2[store.Doc, error]
}

func (f *finder) EnsureIndexes(context.Context, string, []string) error { return nil }
func (f *finder) Find(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
	return f.find(ctx, coll, q)
}

func breaking(how func(*broken)) func() store.Store {
	return func() store.Store {
		b := &broken{Store: mem.New()}
		how(b)
		return b
	}
}

// compacted breaks a store as soon as it has given something up.
func compacted(how func(*broken)) func() store.Store {
	return breaking(func(b *broken) {
		b.compact = func(ctx context.Context, streams []store.Whole) ([]uint64, error) {
			if len(streams) > 0 {
				how(b)
			}
			return b.Store.Compact(ctx, streams...)
		}
	})
}

func misfinding(how func(q *store.Query)) func() store.Store {
	return func() store.Store {
		f := &finder{broken: &broken{Store: mem.New()}}
		f.find = func(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
			how(&q)
			return store.Scan(f.List(ctx, coll, "", ""), q)
		}
		return f
	}
}

func mapped(f func(*store.Record)) func() store.Store {
	return breaking(func(b *broken) {
		b.seq = func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range seq {
					f(&r)
					if !yield(r, err) {
						return
					}
				}
			}
		}
	})
}

func rewriting(f func([]store.Write) []store.Write) func() store.Store {
	return breaking(func(b *broken) {
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			changed := f(slices.Clone(ws))
			if len(changed) == 0 {
				return make([]store.Written, len(ws)), nil
			}
			out, err := b.Store.Append(ctx, changed...)
			for len(out) > 0 && len(out) < len(ws) {
				out = append(out, store.Written{})
			}
			return out, err
		}
	})
}

func answering(f func([]store.Written, error) ([]store.Written, error)) func() store.Store {
	return breaking(func(b *broken) {
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			out, err := b.Store.Append(ctx, ws...)
			if out == nil {
				out = make([]store.Written, max(len(ws), 1))
			}
			return f(out, err)
		}
	})
}

func refiltering(f func(*store.Filter)) func() store.Store {
	return breaking(func(b *broken) {
		b.log = func(ctx context.Context, c store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
			f(&filter)
			return b.Store.ReadAll(ctx, c, filter)
		}
	})
}

func stopping[T any](seq iter.Seq2[T, error], n int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			if n--; n < 0 || !yield(v, err) {
				return
			}
		}
	}
}

// far is a store that asks for the head too late, and reads documents from a
// replica that is behind.
type far struct{ *broken }

func (s *far) Tail(ctx context.Context, after store.Cursor, f store.Filter) (store.Cursor, iter.Seq2[store.Record, error], error) {
	recs := all(ctx, s.broken.Store, after, f)
	if len(recs) > 2 {
		recs = recs[:len(recs)-1]
	}
	head, err := s.Head(ctx)
	return head, func(yield func(store.Record, error) bool) {
		for _, r := range recs {
			if !yield(r, nil) {
				return
			}
		}
	}, err
}

func (s *far) GetMany(ctx context.Context, coll string, keys []string) (map[string]store.Doc, error) {
	docs, err := store.GetMany(ctx, s.broken.Store, coll, keys)
	for k, d := range docs {
		if d.Rev > 1 {
			d.Rev--
			docs[k] = d
		}
	}
	return docs, err
}

// importer is a store that imports wrongly.
type importer struct {
	*broken
	change func([]store.Record)
	past   bool // its clock knows nothing of what was imported
}

func importing(change func([]store.Record), past bool) func() store.Store {
	return func() store.Store { return &importer{&broken{Store: mem.New()}, change, past} }
}

func (s *importer) Import(ctx context.Context, recs []store.Record) error {
	recs = slices.Clone(recs)
	if s.change != nil {
		s.change(recs)
	}
	return store.Import(ctx, s.broken.Store, recs)
}

func (s *importer) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	out, err := s.broken.Append(ctx, writes...)
	if s.past {
		for i := range out {
			out[i].Time = out[i].Time.Add(-time.Hour)
		}
	}
	return out, err
}
