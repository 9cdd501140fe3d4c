package storetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	blind = rewriting(func(ws []store.Write) []store.Write { // does not look at expectations
		for i := range ws {
			ws[i].Expect = store.Any
		}
		return ws
	})
	forgiving = answering(func(w []store.Written, err error) ([]store.Written, error) { // says yes to everything
		return w, nil
	})
	forgetful = answering(func(w []store.Written, err error) ([]store.Written, error) { // does not know repeats
		if err == nil && w[0].Repeated {
			return nil, &store.ConflictError{Stream: "a/1"}
		}
		return w, err
	})
	piecemeal = breaking(func(b *broken) { // one stream after the other
		b.append = func(ctx context.Context, ws []store.Write) (out []store.Written, err error) {
			for _, w := range ws {
				one, err := b.Store.Append(ctx, w)
				if err != nil {
					return nil, err
				}
				out = append(out, one...)
			}
			return out, nil
		}
		b.write = func(ctx context.Context, cs []store.Change) error {
			for _, c := range cs {
				if err := b.Store.Write(ctx, c); err != nil {
					return err
				}
			}
			return nil
		}
	})
	selfish = breaking(func(b *broken) { // cannot be called while it is read
		var reading atomic.Int32
		once := func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				if reading.Add(1) > 1 {
					reading.Add(-1)
					yield(store.Record{}, store.ErrUnavailable)
					return
				}
				defer reading.Add(-1)
				seq(yield)
			}
		}
		b.seq = once
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			if reading.Load() > 0 {
				return nil, store.ErrUnavailable
			}
			return b.Store.Append(ctx, ws...)
		}
	})
	deaf = breaking(func(b *broken) { // does not notice that the caller has gone
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			return b.Store.Append(context.WithoutCancel(ctx), ws...)
		}
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			return b.Store.Read(context.WithoutCancel(ctx), name, r)
		}
	})
	sharing = func() store.Store { // hands out, and keeps, one copy of bytes
		b := &broken{Store: mem.New()}
		var mu sync.Mutex
		kept := map[store.ID][]byte{}
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, w := range ws {
				for _, e := range w.Events {
					kept[e.ID] = e.Data
				}
			}
			return b.Store.Append(ctx, ws...)
		}
		b.seq = func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range seq {
					mu.Lock()
					r.Data = kept[r.ID]
					mu.Unlock()
					if !yield(r, err) {
						return
					}
				}
			}
		}
		return b
	}
	careless = breaking(func(b *broken) { // does not look at revisions
		b.write = func(ctx context.Context, cs []store.Change) error {
			cs = slices.Clone(cs)
			for i := range cs {
				cs[i].Rev = store.AnyRev
			}
			return b.Store.Write(ctx, cs...)
		}
	})
	unable = breaking(func(b *broken) { b.wait = func() error { return store.ErrUnavailable } })
	short  = breaking(func(b *broken) { // stops before the end
		b.seq = func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] { return stopping(seq, 1000) }
		b.list = func(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
			return stopping(b.Store.List(ctx, coll, prefix, after), 1000)
		}
	})
	folding = breaking(func(b *broken) { // takes upper case for lower case
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			for i := range ws {
				ws[i].Stream = strings.ToLower(ws[i].Stream)
			}
			return b.Store.Append(ctx, ws...)
		}
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			return b.Store.Read(ctx, strings.ToLower(name), r)
		}
		b.write = func(ctx context.Context, cs []store.Change) error {
			for i := range cs {
				cs[i].Coll, cs[i].Key = strings.ToLower(cs[i].Coll), strings.ToLower(cs[i].Key)
			}
			return b.Store.Write(ctx, cs...)
		}
	})
)

var brokenFor = map[string]func() store.Store{
	"append/versions":               mapped(func(r *store.Record) { r.Version++ }),
	"append/positions-grow":         answering(func(w []store.Written, err error) ([]store.Written, error) { w[0].Position.Seq = 1; return w, err }),
	"append/written-is-where-it-is": answering(func(w []store.Written, err error) ([]store.Written, error) { w[0].Position.Seq--; return w, err }),
	"append/none-refuses-existing":  blind,
	"append/exact-refuses-other":    blind,
	"append/exists":                 blind,
	"append/any": rewriting(func(ws []store.Write) []store.Write {
		if ws[0].Expect == store.Any {
			ws[0].Expect = store.None
		}
		return ws
	}),
	"append/refused-consumes-nothing": breaking(func(b *broken) {
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			out, err := b.Store.Append(ctx, ws...)
			if err != nil {
				w := ws[0]
				w.Expect = store.Any
				b.Store.Append(ctx, w)
			}
			return out, err
		}
	}),
	"append/several-streams": rewriting(func(ws []store.Write) []store.Write { return ws[:1] }),
	"append/all-or-nothing":  piecemeal,
	"append/expectation-only": rewriting(func(ws []store.Write) []store.Write {
		return slices.DeleteFunc(ws, func(w store.Write) bool { return len(w.Events) == 0 })
	}),
	"append/order": rewriting(func(ws []store.Write) []store.Write {
		ws[0].Events = slices.Clone(ws[0].Events)
		slices.Reverse(ws[0].Events)
		return ws
	}),
	"append/invalid":          forgiving,
	"append/one-of-many-wins": blind,
	"append/crossing-streams": blind,
	"append/many-at-once":     mapped(func(r *store.Record) { r.Position.Seq = 1 }),
	"append/conflict-spares-neighbours": breaking(func(b *broken) {
		var n atomic.Int64
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			if ws[0].Stream != "hot/1" && n.Add(1)%8 == 0 {
				return nil, &store.ConflictError{Stream: "hot/1", Version: 1}
			}
			return b.Store.Append(ctx, ws...)
		}
	}),
	"append/keeps-its-own-bytes": sharing,
	"append/cancelled":           deaf,
	"append/time":                mapped(func(r *store.Record) { r.Time = r.Time.Add(-time.Duration(r.Position.Seq) * time.Second) }),
	"append/large":               mapped(func(r *store.Record) { r.Data = r.Data[:min(len(r.Data), 1000)] }),

	"repeat/same-again":         forgetful,
	"repeat/later":              forgetful,
	"repeat/several-streams":    forgetful,
	"repeat/at-once":            forgetful,
	"repeat/other-ids-conflict": forgiving,
	"repeat/longer-conflicts":   forgiving,
	"repeat/half-conflicts":     forgiving,

	"read/never-written": breaking(func(b *broken) {
		b.stream = func(context.Context, string, store.Range) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) { yield(store.Record{Version: 1}, nil) }
		}
	}),
	"read/as-written":    mapped(func(r *store.Record) { r.Data = bytes.ToValidUTF8(r.Data, []byte("?")) }),
	"read/streams-apart": folding,
	"read/from": breaking(func(b *broken) {
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			r.From = 0
			return b.Store.Read(ctx, name, r)
		}
	}),
	"read/backward": breaking(func(b *broken) {
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			r.Backward = false
			return b.Store.Read(ctx, name, r)
		}
	}),
	"read/long-streams": short,
	"read/again": breaking(func(b *broken) {
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			recs := collect(b.Store.Read(ctx, name, r), "read")
			return func(yield func(store.Record, error) bool) {
				for _, rec := range recs {
					if !yield(rec, nil) {
						return
					}
				}
			}
		}
	}),
	"read/loop-may-call": selfish,
	"read/own-bytes":     sharing,
	"read/cancelled":     deaf,

	"log/order": breaking(func(b *broken) {
		b.log = func(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
			recs := collect(b.Store.ReadAll(ctx, c, f), "read all")
			slices.SortStableFunc(recs, func(x, y store.Record) int { return strings.Compare(x.Stream, y.Stream) })
			return func(yield func(store.Record, error) bool) {
				for _, r := range recs {
					if !yield(r, nil) {
						return
					}
				}
			}
		}
	}),
	"log/same-as-streams": breaking(func(b *broken) {
		b.log = func(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range b.Store.ReadAll(ctx, c, f) {
					r.Meta = nil
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}),
	"log/cursor": breaking(func(b *broken) {
		b.log = func(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
			if c != store.Start {
				c = store.CursorAt(store.Position{Seq: c.Seq(0) + 1})
			}
			return b.Store.ReadAll(ctx, c, f)
		}
	}),
	"log/head": breaking(func(b *broken) { b.head = func(context.Context) (store.Cursor, error) { return store.Start, nil } }),
	"log/own-writes": breaking(func(b *broken) {
		b.head = func(ctx context.Context) (store.Cursor, error) {
			h, err := b.Store.Head(ctx)
			return store.CursorAt(store.Position{Seq: max(h.Seq(0), 1) - 1}), err
		}
	}),
	"log/categories": refiltering(func(f *store.Filter) { f.Categories = nil }),
	"log/types":      refiltering(func(f *store.Filter) { f.Types = nil }),
	"log/new-names": breaking(func(b *broken) {
		var known atomic.Bool
		b.log = func(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
			if len(f.Types) > 0 && known.Swap(true) {
				f.Types = []string{"unknown for ever"}
			}
			return b.Store.ReadAll(ctx, c, f)
		}
	}),
	"log/limit":      refiltering(func(f *store.Filter) { f.Limit = 0 }),
	"log/partitions": refiltering(func(f *store.Filter) { f.Partitions = 0 }),
	"log/long":       short,
	"log/nothing-behind": breaking(func(b *broken) {
		seen := map[uint64]bool{} // each fifth record shows at the second look, as if it had been committed late
		b.log = func(ctx context.Context, c store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range b.Store.ReadAll(ctx, c, f) {
					if n := r.Position.Seq; n%5 == 0 && !seen[n] {
						seen[n] = true
						continue
					}
					if !yield(r, err) {
						return
					}
				}
			}
		}
	}),
	"log/loop-may-call": selfish,

	"docs/put-and-get": breaking(func(b *broken) {
		b.get = func(ctx context.Context, coll, key string) (store.Doc, error) {
			d, err := b.Store.Get(ctx, coll, key)
			d.Rev = min(d.Rev, 1)
			return d, err
		}
	}),
	"docs/compare-and-swap": careless,
	"docs/one-of-many-wins": careless,
	"docs/delete": breaking(func(b *broken) {
		b.write = func(ctx context.Context, cs []store.Change) error {
			if cs[0].Data == nil {
				return nil
			}
			return b.Store.Write(ctx, cs...)
		}
	}),
	"docs/all-or-nothing":    piecemeal,
	"docs/collections-apart": folding,
	"docs/invalid": breaking(func(b *broken) {
		b.write = func(ctx context.Context, cs []store.Change) error {
			b.Store.Write(ctx, cs...)
			return nil
		}
	}),
	"docs/own-bytes": breaking(func(b *broken) {
		kept := map[string][]byte{}
		b.write = func(ctx context.Context, cs []store.Change) error {
			for _, c := range cs {
				kept[c.Key] = c.Data
			}
			return b.Store.Write(ctx, cs...)
		}
		b.get = func(ctx context.Context, coll, key string) (store.Doc, error) {
			d, err := b.Store.Get(ctx, coll, key)
			d.Data = kept[key]
			return d, err
		}
	}),
	"docs/list": breaking(func(b *broken) {
		b.list = func(ctx context.Context, coll, _, after string) iter.Seq2[store.Doc, error] {
			return b.Store.List(ctx, coll, "", after)
		}
	}),
	"docs/list-long": short,
	"docs/list-while-writing": breaking(func(b *broken) {
		b.list = func(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
			return func(yield func(store.Doc, error) bool) {
				for d, err := range b.Store.List(ctx, coll, prefix, after) {
					for range 2 {
						if !yield(d, err) {
							return
						}
					}
				}
			}
		}
	}),
	"docs/snapshot": breaking(func(b *broken) {
		b.look = func(look func(store.Reading) error) error { return look(b.Store) }
	}),
	"docs/drop": breaking(func(b *broken) { b.drop = func() error { return nil } }),

	"find/where":              misfinding(func(q *store.Query) { q.Where = nil }),
	"find/sort":               misfinding(func(q *store.Query) { q.Sort = "" }),
	"find/like-the-reference": misfinding(func(q *store.Query) { q.Desc = false }),
	"find/follows-changes": func() store.Store {
		f := &finder{broken: &broken{Store: mem.New()}}
		f.find = func(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
			q.Where = nil // the index never forgets
			return store.Scan(f.List(ctx, coll, "", ""), q)
		}
		return f
	},
	"find/count": func() store.Store { return &counter{&broken{Store: mem.New()}} },
	"find/invalid": func() store.Store {
		f := &finder{broken: &broken{Store: mem.New()}}
		f.find = func(ctx context.Context, coll string, _ store.Query) iter.Seq2[store.Doc, error] {
			return f.List(ctx, coll, "", "")
		}
		return f
	},

	"search/words":              misfinding(func(q *store.Query) { q.Search = strings.ReplaceAll(q.Search, `"`, "") }),
	"search/pages":              misfinding(func(q *store.Query) { q.Search = strings.ReplaceAll(q.Search, `"`, ""); q.Limit = 0 }),
	"search/like-the-reference": misfinding(func(q *store.Query) { q.Search = strings.ReplaceAll(q.Search, "*", "") }),
	"search/follows-changes": func() store.Store {
		f := &finder{broken: &broken{Store: mem.New()}}
		f.find = func(ctx context.Context, coll string, q store.Query) iter.Seq2[store.Doc, error] {
			q.Search = "" // the index never forgets
			return store.Scan(f.List(ctx, coll, "", ""), q)
		}
		return f
	},
	"search/invalid": misfinding(func(q *store.Query) { q.Text = searchFields }),

	"both/all-or-nothing": inHalves(func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, _ []store.Hold) ([]store.Written, error) {
		written, err := h.Append(ctx, ws...)
		if err != nil {
			return nil, err
		}
		return written, h.Write(ctx, cs...)
	}),
	"both/repeated": inHalves(func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, _ []store.Hold) ([]store.Written, error) {
		if err := h.Write(ctx, cs...); err != nil { // also if it is a repetition
			return nil, err
		}
		return h.Append(ctx, ws...)
	}),
	"both/held": inHalves(func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, _ []store.Hold) ([]store.Written, error) {
		return h.Store.AppendWith(ctx, ws, cs, nil)
	}),
	"both/races": inHalves(func(h *halves, ctx context.Context, ws []store.Write, cs []store.Change, _ []store.Hold) ([]store.Written, error) {
		for i := range cs {
			cs[i].Rev = store.AnyRev
		}
		written, err := h.Append(ctx, ws...)
		time.Sleep(time.Microsecond)
		return written, errors.Join(err, h.Write(ctx, cs[:len(cs)/2]...))
	}),

	"tables/all-or-nothing":            withTables("halves"),
	"tables/refused-spares-neighbours": withTables("neighbours"),
	"tables/drop":                      withTables("drop"),

	"import/as-they-are": importing(func(recs []store.Record) {
		for i := range recs {
			recs[i].Time = time.Now()
		}
	}, false),
	"import/then-append": importing(nil, true),

	"compact/whole-streams": breaking(func(b *broken) { // only says so
		b.compact = func(ctx context.Context, streams []store.Whole) (n []uint64, err error) {
			for _, w := range streams {
				n = append(n, uint64(len(stream(ctx, b.Store, w.Stream))))
			}
			return n, nil
		}
	}),
	"compact/begins-again": breaking(func(b *broken) { // remembers the ids of what it has given up
		seen := map[store.ID][]store.Written{}
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			first := ws[0].Events[0].ID
			if out, ok := seen[first]; ok {
				out[0].Repeated = true
				return out, nil
			}
			out, err := b.Store.Append(ctx, ws...)
			seen[first] = out
			return out, err
		}
	}),
	"compact/moved-on-stays": breaking(func(b *broken) { // looks at versions only
		b.compact = func(ctx context.Context, streams []store.Whole) ([]uint64, error) {
			streams = slices.Clone(streams)
			for i, w := range streams {
				if recs := stream(ctx, b.Store, w.Stream); len(recs) == 2 {
					streams[i].Last = recs[1].Position
				}
			}
			return b.Store.Compact(ctx, streams...)
		}
	}),
	"compact/others-unchanged": compacted(func(b *broken) { // closes the gaps
		b.seq = func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				for r, err := range seq {
					if r.Position.Seq--; !yield(r, err) {
						return
					}
				}
			}
		}
	}),
	"compact/cursors": compacted(func(b *broken) { // takes a gap for the end
		b.seq = func(seq iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				last := uint64(0)
				for r, err := range seq {
					if last > 0 && r.Position.Seq > last+1 || !yield(r, err) {
						return
					}
					last = r.Position.Seq
				}
			}
		}
	}),
	"compact/head-stays": breaking(func(b *broken) { // the head is the last record there is
		b.head = func(ctx context.Context) (store.Cursor, error) {
			at := store.Start
			for _, r := range all(ctx, b.Store, store.Start, store.Filter{}) {
				at = at.Advance(r.Position)
			}
			return at, nil
		}
	}),
	"compact/while-reading": breaking(func(b *broken) { // reads in pieces, and notices nothing
		b.stream = func(ctx context.Context, name string, r store.Range) iter.Seq2[store.Record, error] {
			if r.Backward {
				return b.Store.Read(ctx, name, r)
			}
			return func(yield func(store.Record, error) bool) {
				for r.From, r.Limit = 1, 1000; ; r.From += 1000 {
					recs := collect(b.Store.Read(ctx, name, r), "read")
					for _, rec := range recs {
						if !yield(rec, nil) {
							return
						}
					}
					if len(recs) < r.Limit {
						return
					}
				}
			}
		}
	}),
	"compact/while-appending": breaking(func(b *broken) { // looks first, and removes later
		b.compact = func(ctx context.Context, streams []store.Whole) ([]uint64, error) {
			time.Sleep(2 * time.Millisecond)
			streams = slices.Clone(streams)
			for i, w := range streams {
				streams[i] = whole(ctx, b.Store, w.Stream)
			}
			return b.Store.Compact(ctx, streams...)
		}
	}),
	"compact/many": breaking(func(b *broken) { // the first hundred will do
		b.compact = func(ctx context.Context, streams []store.Whole) ([]uint64, error) {
			n, err := b.Store.Compact(ctx, streams[:min(100, len(streams))]...)
			return append(n, make([]uint64, len(streams)-len(n))...), err
		}
	}),
	"compact/invalid": breaking(func(b *broken) { // takes anything
		b.compact = func(_ context.Context, streams []store.Whole) ([]uint64, error) {
			return make([]uint64, len(streams)), nil
		}
	}),

	"far/tail":               func() store.Store { return &far{&broken{Store: mem.New()}} },
	"far/tail-while-writing": func() store.Store { return &far{&broken{Store: mem.New()}} },
	"far/get-many":           func() store.Store { return &far{&broken{Store: mem.New()}} },

	"wait/wakes":                  unable,
	"wait/not-when-there-is-more": unable,
	"wait/ends":                   unable,
	"close/refuses":               breaking(func(b *broken) { b.close = func() error { return nil } }),
	"close/while-working": breaking(func(b *broken) {
		b.append = func(ctx context.Context, ws []store.Write) ([]store.Written, error) {
			out, err := b.Store.Append(ctx, ws...)
			if err != nil {
				err = errors.New("sql: database is closed")
			}
			return out, err
		}
	}),
}
