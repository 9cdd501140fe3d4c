package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/deed-dev/deed/store"
)

var readClauses = []Clause{
	clause("read/never-written", "a first command loads a stream that is not there", func(ctx context.Context, s store.Store) {
		equal(len(stream(ctx, s, "a/none")), 0, "records")
	}),
	clause("read/as-written", "an event that comes back changed is a lie", func(ctx context.Context, s store.Store) {
		events := []store.Event{
			ev("x", `{"text":"zwölf 中 \u0000 🙂","n":9007199254740993}`),
			{ID: newID(), Type: "plain", Data: []byte{}, Meta: nil},
			{ID: newID(), Type: "ünïcode", Data: []byte("not json\x00\xff"), Meta: []byte("{}")},
		}
		must(ctx, s, write("a/zwölf 12", store.None, events...))
		recs := stream(ctx, s, "a/zwölf 12")
		equal(len(recs), 3, "records")
		for i, r := range recs {
			equal(r.ID, events[i].ID, "id")
			equal(r.Type, events[i].Type, "type")
			equal(string(r.Data), string(events[i].Data), "data")
			equal(string(r.Meta), string(events[i].Meta), "meta")
			equal(r.Stream, "a/zwölf 12", "stream")
			equal(r.Version, uint64(i+1), "version")
		}
	}),
	clause("read/streams-apart", "an entity must not see another's events", func(ctx context.Context, s store.Store) {
		for _, name := range []string{"a/1", "a/10", "A/1", "a/1 ", "b/1"} {
			must(ctx, s, write(name, store.None, ev("x", `"`+name+`"`)))
		}
		for _, name := range []string{"a/1", "a/10", "A/1", "a/1 ", "b/1"} {
			recs := stream(ctx, s, name)
			equal(len(recs), 1, "events of %q", name)
			equal(string(recs[0].Data), `"`+name+`"`, "data of %q", name)
		}
	}),
	clause("read/from", "a cached state reads only what is new", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(10)...))
		for _, c := range []struct {
			r    store.Range
			want []uint64
		}{
			{store.Range{From: 1}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
			{store.Range{From: 8}, []uint64{8, 9, 10}},
			{store.Range{From: 11}, []uint64{}},
			{store.Range{From: 1 << 63}, []uint64{}},
			{store.Range{From: 3, Limit: 2}, []uint64{3, 4}},
			{store.Range{Limit: 3}, []uint64{1, 2, 3}},
		} {
			got := versions(collect(s.Read(ctx, "a/1", c.r), "read"))
			equalSlices(got, c.want, "%+v", c.r)
		}
	}),
	clause("read/backward", "the last event says who holds a claim", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(5)...))
		for _, c := range []struct {
			r    store.Range
			want []uint64
		}{
			{store.Range{Backward: true}, []uint64{5, 4, 3, 2, 1}},
			{store.Range{Backward: true, Limit: 1}, []uint64{5}},
			{store.Range{Backward: true, From: 3}, []uint64{3, 2, 1}},
			{store.Range{Backward: true, From: 99, Limit: 2}, []uint64{5, 4}},
		} {
			got := versions(collect(s.Read(ctx, "a/1", c.r), "read"))
			equalSlices(got, c.want, "%+v", c.r)
		}
	}),
	clause("read/long-streams", "what is read in pieces must be whole", func(ctx context.Context, s store.Store) {
		for i := range uint64(3) {
			must(ctx, s, write("a/1", store.Exactly(i*700), evs(700)...))
		}
		got := versions(stream(ctx, s, "a/1"))
		back := versions(collect(s.Read(ctx, "a/1", store.Range{Backward: true}), "read backward"))
		slices.Reverse(back)
		equal(len(got), 2100, "events")
		equalSlices(got, back, "backward is forward reversed")
		for i, v := range got {
			equal(v, uint64(i+1), "version %d", i)
		}
	}),
	clause("read/again", "a sequence can be ranged over twice, and sees what came between", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(1)...))
		seq := s.Read(ctx, "a/1", store.Range{})
		equal(len(collect(seq, "read")), 1, "events")
		must(ctx, s, write("a/1", store.Exactly(1), evs(1)...))
		equal(len(collect(seq, "read")), 2, "events the second time")
	}),
	clause("read/loop-may-call", "a handler reads and writes while it reads", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(20)...))
		n := 0
		for r, err := range s.Read(ctx, "a/1", store.Range{}) {
			check(err, "read")
			for range 10 { // more than any pool of connections has
				for _, err := range s.ReadAll(ctx, store.Start, store.Filter{Limit: 1}) {
					check(err, "read all within read")
				}
			}
			must(ctx, s, write(fmt.Sprintf("b/%d", r.Version), store.None, evs(1)...))
			n++
		}
		equal(n, 20, "events")
	}),
	clause("read/own-bytes", "a reader that changes what it got must not change what others get", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, ev("x", `{"a":1}`)))
		for range 2 {
			r := stream(ctx, s, "a/1")[0]
			equal(string(r.Data), `{"a":1}`, "data")
			copy(r.Data, "broken!")
			r = all(ctx, s, store.Start, store.Filter{})[0]
			equal(string(r.Data), `{"a":1}`, "data")
			copy(r.Data, "broken!")
		}
	}),
	clause("read/cancelled", "a caller that gives up must not be told that the stream ends here", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(3)...))
		gone, cancel := context.WithCancel(ctx)
		cancel()
		for name, seq := range map[string]func(func(store.Record, error) bool){
			"read": s.Read(gone, "a/1", store.Range{}), "read all": s.ReadAll(gone, store.Start, store.Filter{}),
		} {
			var last error
			for _, last = range seq {
			}
			if last == nil {
				fail("%s with a cancelled context ended without an error", name)
			}
		}
	}),
}

var logClauses = []Clause{
	clause("log/order", "views are folds of the log in its order", func(ctx context.Context, s store.Store) {
		var want []string
		for i := range 30 {
			name := fmt.Sprintf("a/%d", i%4)
			w := must(ctx, s, write(name, store.Any, evs(1)...))
			want = append(want, fmt.Sprintf("%s@%d", name, w[0].Version))
		}
		recs := all(ctx, s, store.Start, store.Filter{})
		equalSlices(places(recs), want, "log")
		for i := 1; i < len(recs); i++ {
			if recs[i].Position.Shard == recs[i-1].Position.Shard && recs[i].Position.Seq <= recs[i-1].Position.Seq {
				fail("position %v after %v", recs[i].Position, recs[i-1].Position)
			}
		}
	}),
	clause("log/same-as-streams", "a record is one thing, however it is found", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, ev("x", `{"n":1}`), ev("y", `{"n":2}`)), write("b/1", store.None, ev("z")))
		byPlace := map[string]store.Record{}
		for _, r := range all(ctx, s, store.Start, store.Filter{}) {
			byPlace[fmt.Sprintf("%s@%d", r.Stream, r.Version)] = r
		}
		for _, name := range []string{"a/1", "b/1"} {
			for _, r := range stream(ctx, s, name) {
				l := byPlace[fmt.Sprintf("%s@%d", r.Stream, r.Version)]
				equal(l.ID, r.ID, "id")
				equal(l.Type, r.Type, "type")
				equal(l.Position, r.Position, "position")
				equal(string(l.Data), string(r.Data), "data")
				equal(string(l.Meta), string(r.Meta), "meta")
				equal(l.Time.Equal(r.Time), true, "time")
			}
		}
	}),
	clause("log/cursor", "a follower goes on exactly where it was", func(ctx context.Context, s store.Store) {
		for i := range 25 {
			must(ctx, s, write(fmt.Sprintf("a/%d", i%3), store.Any, evs(1)...))
		}
		want := places(all(ctx, s, store.Start, store.Filter{}))
		var got []string
		cursor := store.Start
		for {
			recs := all(ctx, s, cursor, store.Filter{Limit: 4})
			if len(recs) == 0 {
				break
			}
			for _, r := range recs {
				cursor = cursor.Advance(r.Position)
			}
			got = append(got, places(recs)...)
		}
		equalSlices(got, want, "the log read four at a time")
	}),
	clause("log/head", "a follower that has read everything must be able to say so", func(ctx context.Context, s store.Store) {
		equal(head(ctx, s), store.Start, "head of an empty log")
		must(ctx, s, write("a/1", store.None, evs(3)...))
		h := head(ctx, s)
		equal(len(all(ctx, s, h, store.Filter{})), 0, "records after the head")
		for _, r := range all(ctx, s, store.Start, store.Filter{}) {
			equal(h.Covers(r.Position), true, "the head covers %v", r.Position)
		}
		must(ctx, s, write("a/1", store.Exactly(3), evs(1)...))
		equal(len(all(ctx, s, h, store.Filter{})), 1, "records after the old head")
	}),
	clause("log/own-writes", "a reader must see what was acknowledged", func(ctx context.Context, s store.Store) {
		for i := range uint64(50) {
			w := must(ctx, s, write("a/1", store.Exactly(i), evs(1)...))
			equal(head(ctx, s).Covers(w[0].Position), true, "the head covers what was just written")
			equal(uint64(len(all(ctx, s, store.Start, store.Filter{}))), i+1, "records")
		}
	}),
	clause("log/categories", "a follower pays only for what it follows", func(ctx context.Context, s store.Store) {
		mixed(ctx, s)
		for _, c := range []struct {
			f    store.Filter
			want []string
		}{
			{store.Filter{Categories: []string{"a"}}, []string{"a/1@1", "a/1@2", "a/2@1"}},
			{store.Filter{Categories: []string{"a", "$c"}}, []string{"a/1@1", "a/1@2", "$c/x@1", "a/2@1"}},
			{store.Filter{Categories: []string{"none"}}, []string{}},
			{store.Filter{Categories: []string{"ab"}}, []string{"ab/1@1"}},
		} {
			equalSlices(places(all(ctx, s, store.Start, c.f)), c.want, "%+v", c.f)
		}
	}),
	clause("log/types", "a follower pays only for what it handles", func(ctx context.Context, s store.Store) {
		mixed(ctx, s)
		for _, c := range []struct {
			f    store.Filter
			want []string
		}{
			{store.Filter{Types: []string{"y"}}, []string{"a/1@2", "b/1@1"}},
			{store.Filter{Types: []string{"x", "y"}, Categories: []string{"a"}}, []string{"a/1@1", "a/1@2", "a/2@1"}},
			{store.Filter{Types: []string{"y"}, Categories: []string{"b"}}, []string{"b/1@1"}},
			{store.Filter{Types: []string{"y"}, Categories: []string{"ab"}}, []string{}},
		} {
			equalSlices(places(all(ctx, s, store.Start, c.f)), c.want, "%+v", c.f)
		}
	}),
	clause("log/new-names", "a filter must see the first event of a new type", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, ev("x")))
		f := store.Filter{Categories: []string{"late"}, Types: []string{"later"}}
		equal(len(all(ctx, s, store.Start, f)), 0, "records")
		must(ctx, s, write("late/1", store.None, ev("later")))
		equal(len(all(ctx, s, store.Start, f)), 1, "records")
	}),
	clause("log/limit", "a batch has a size", func(ctx context.Context, s store.Store) {
		mixed(ctx, s)
		for limit := 1; limit <= 6; limit++ {
			equal(len(all(ctx, s, store.Start, store.Filter{Limit: limit})), limit, "records with limit %d", limit)
		}
		equalSlices(places(all(ctx, s, store.Start, store.Filter{Categories: []string{"b"}, Limit: 1})), []string{"b/1@1"}, "limit counts what is selected")
	}),
	clause("log/partitions", "parallel workers must share all streams, and none twice", func(ctx context.Context, s store.Store) {
		for i := range 60 {
			must(ctx, s, write(fmt.Sprintf("a/%d", i%20), store.Any, evs(1)...))
		}
		whole := places(all(ctx, s, store.Start, store.Filter{}))
		var got []string
		for p := range 4 {
			part := all(ctx, s, store.Start, store.Filter{Partition: p, Partitions: 4})
			for _, r := range part {
				equal(store.PartitionOf(r.Stream, 4), p, "partition of %s", r.Stream)
			}
			equalSlices(places(all(ctx, s, store.Start, store.Filter{Partition: p, Partitions: 4, Limit: 3})), places(part)[:min(3, len(part))], "limit within a partition")
			got = append(got, places(part)...)
		}
		slices.Sort(got)
		slices.Sort(whole)
		equalSlices(got, whole, "the partitions together")
	}),
	clause("log/long", "what is read in pieces must be whole", func(ctx context.Context, s store.Store) {
		for i := range 60 {
			must(ctx, s, write(fmt.Sprintf("a/%d", i%30), store.Any, evs(60)...))
		}
		recs := all(ctx, s, store.Start, store.Filter{})
		equal(len(recs), 3600, "records")
		wantContiguous(recs)
		part := all(ctx, s, store.Start, store.Filter{Partition: 1, Partitions: 3, Limit: 100})
		rest := all(ctx, s, store.Start.Advance(part[len(part)-1].Position), store.Filter{Partition: 1, Partitions: 3})
		equal(len(part)+len(rest), len(all(ctx, s, store.Start, store.Filter{Partition: 1, Partitions: 3})), "records of a partition")
	}),
	clause("log/nothing-behind", "what appears behind a follower's cursor is lost for ever", func(ctx context.Context, s store.Store) {
		const writers, each = 8, 30
		var all sync.WaitGroup
		errs := make([]error, writers)
		for w := range writers {
			all.Go(func() {
				for i := range each {
					if _, err := s.Append(ctx, write(fmt.Sprintf("a/%d", w), store.Exactly(uint64(i)), evs(1)...)); err != nil {
						errs[w] = err
						return
					}
				}
			})
		}
		ended := make(chan struct{})
		go func() { all.Wait(); close(ended) }()
		var seen []store.Record
		cursor := store.Start
		for last := false; ; {
			h := head(ctx, s)
			n := 0
			for r, err := range s.ReadAll(ctx, cursor, store.Filter{}) {
				check(err, "read all")
				seen = append(seen, r)
				cursor = cursor.Advance(r.Position)
				n++
			}
			cursor = cursor.Join(h) // everything up to the head was read
			if last {
				break
			}
			select {
			case <-ended:
				last = true
			default:
			}
		}
		for _, err := range errs {
			check(err, "append")
		}
		equal(len(seen), writers*each, "records a follower saw")
		wantContiguous(seen)
	}),
	clause("log/loop-may-call", "a follower writes while it reads", func(ctx context.Context, s store.Store) {
		must(ctx, s, write("a/1", store.None, evs(20)...))
		n := 0
		for r, err := range s.ReadAll(ctx, store.Start, store.Filter{Categories: []string{"a"}}) {
			check(err, "read all")
			must(ctx, s, write(fmt.Sprintf("b/%d", r.Version), store.None, evs(1)...))
			put(ctx, s, "c", fmt.Sprint(r.Version), "{}")
			n++
		}
		equal(n, 20, "events")
	}),
}

// mixed writes a/1@1 x, a/1@2 y, b/1@1 y, $c/x@1 x, ab/1@1 x, a/2@1 x.
func mixed(ctx context.Context, s store.Store) {
	must(ctx, s, write("a/1", store.None, ev("x"), ev("y")))
	must(ctx, s, write("b/1", store.None, ev("y")))
	must(ctx, s, write("$c/x", store.None, ev("x")))
	must(ctx, s, write("ab/1", store.None, ev("x")))
	must(ctx, s, write("a/2", store.None, ev("x")))
}

// wantContiguous demands that each stream's versions come as 1, 2, 3.
func wantContiguous(recs []store.Record) {
	next := map[string]uint64{}
	for _, r := range recs {
		next[r.Stream]++
		equal(r.Version, next[r.Stream], "version of %s", r.Stream)
	}
}
