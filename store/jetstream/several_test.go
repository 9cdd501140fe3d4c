package jetstream_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// Two processes with one installation, whose clocks are an hour apart.
func openTwo(t *testing.T) [2]*jetstream.Store {
	c := startCluster(t, t.TempDir(), 1)
	late := func() time.Time { return time.Now().Add(-time.Hour) }
	b, err := jetstream.Open(c.URL("app"), &jetstream.Options{Name: "two", SyncAlways: true, Now: late})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return [2]*jetstream.Store{c.open(t, "two"), b}
}

// Time never goes back along the log, whatever the clocks say, and nobody
// loses anything to the other.
func TestTwoWriters(t *testing.T) {
	stores, ctx := openTwo(t), bounded(t)
	const writers, each = 8, 40
	var all8 sync.WaitGroup
	for w := range writers {
		all8.Go(func() {
			for i := range uint64(each) {
				write := store.Write{Stream: fmt.Sprintf("a/%d", w), Expect: store.Exactly(i), Events: []store.Event{{ID: idOf(w, i), Type: "x"}}}
				shared := store.Write{Stream: "shared", Expect: store.Any, Events: []store.Event{{ID: idOf(w+writers, i), Type: "x"}}}
				if _, err := stores[(w+int(i))%2].Append(ctx, write, shared); err != nil {
					t.Errorf("writer %d, append %d: %v", w, i, err)
					return
				}
			}
		})
	}
	all8.Wait()
	recs := all(ctx, t, stores[0], store.Start, store.Filter{})
	if len(recs) != 2*writers*each {
		t.Errorf("%d records, want %d", len(recs), 2*writers*each)
	}
	inOrder(t, recs)
}

// An append without events holds for all its streams at one moment.
func TestDemandOfSeveralStreams(t *testing.T) {
	stores, ctx := openTwo(t), bounded(t)
	for i, name := range []string{"a/1", "b/1"} {
		if _, err := stores[i].Append(ctx, store.Write{Stream: name, Expect: store.None, Events: []store.Event{{ID: idOf(i, 0), Type: "x"}}}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := stores[0].Append(ctx, store.Write{Stream: "a/1", Expect: store.Exists}, store.Write{Stream: "b/1", Expect: store.Exactly(1)}, store.Write{Stream: "c/1"})
	if err != nil || out[0].Version != 1 || out[1].Version != 1 || out[2].Version != 0 {
		t.Errorf("got %v, %v", out, err)
	}
	_, err = stores[1].Append(ctx, store.Write{Stream: "a/1", Expect: store.Exists}, store.Write{Stream: "b/1", Expect: store.None})
	if c, ok := errors.AsType[*store.ConflictError](err); !ok || c.Stream != "b/1" || c.Version != 1 {
		t.Errorf("got %v, want a conflict on b/1", err)
	}
}

// A follower in one process is woken by an append in the other.
func TestWakesOthers(t *testing.T) {
	stores, ctx := openTwo(t), bounded(t)
	for i := range uint64(5) {
		h, err := stores[1].Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		woke := make(chan error, 1)
		go func() { woke <- stores[1].Wait(ctx, h) }()
		if _, err := stores[0].Append(ctx, store.Write{Stream: "a/1", Expect: store.Exactly(i), Events: []store.Event{{ID: idOf(0, i), Type: "x"}}}); err != nil {
			t.Fatal(err)
		}
		if err := <-woke; err != nil {
			t.Error(err)
		}
	}
}

// A pair of stores is one log.
type pair struct {
	stores [2]*jetstream.Store
	calls  atomic.Int64
}

func (p *pair) Log() store.Log { return p.stores[p.calls.Add(1)%2] }
func (p *pair) Crash() error   { return nil }

// Documents that two processes change at once are changed one after the other.
func TestTwoWritersOfDocs(t *testing.T) {
	stores, ctx := openTwo(t), bounded(t)
	const writers, each = 8, 20
	var all8 sync.WaitGroup
	var done atomic.Int64
	for w := range writers {
		all8.Go(func() {
			for n := 0; n < each; {
				d, err := stores[w%2].Get(ctx, "v", "count")
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
					return
				}
				rev := store.Change{Coll: "v", Key: "count", Rev: d.Rev, Data: fmt.Appendf(nil, "%d", d.Rev+1)}
				own := store.Change{Coll: "v", Key: fmt.Sprintf("own-%d", w), Rev: store.AnyRev, Data: []byte("{}")}
				err = stores[(w+1)%2].Write(ctx, own, rev)
				if _, conflict := errors.AsType[*store.ConflictError](err); err != nil && !conflict {
					t.Error(err)
					return
				} else if !conflict {
					done.Add(1)
					n++
				}
			}
		})
	}
	all8.Wait()
	if d, err := stores[0].Get(ctx, "v", "count"); err != nil || d.Rev != writers*each || string(d.Data) != fmt.Sprint(writers*each) {
		t.Errorf("after %d changes: %d %s, %v", done.Load(), d.Rev, d.Data, err)
	}
	for w := range writers {
		if d, err := stores[1].Get(ctx, "v", fmt.Sprintf("own-%d", w)); err != nil || d.Rev != each {
			t.Errorf("own document %d: revision %d, %v: a change that was refused has happened", w, d.Rev, err)
		}
	}
}

// Many documents are found whatever stands before them: the last document that
// a process has written may be old, and larger than what is read at once.
func TestGetManyBehindALargeDocument(t *testing.T) {
	stores, ctx := openTwo(t), bounded(t)
	large := store.Change{Coll: "v", Key: "large", Data: make([]byte, 3<<20)}
	if err := stores[0].Write(ctx, large); err != nil {
		t.Fatal(err)
	}
	var names []string
	var changes []store.Change
	for i := range 400 {
		names = append(names, fmt.Sprintf("k%d", i))
		changes = append(changes, store.Change{Coll: "v", Key: names[i], Data: make([]byte, 8<<10)})
	}
	if err := stores[1].Write(ctx, changes...); err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		if docs, err := s.GetMany(ctx, "v", names); err != nil || len(docs) != len(names) {
			t.Errorf("process %d: %d documents of %d, %v", i, len(docs), len(names), err)
		}
	}
	if err := stores[0].Write(ctx, store.Change{Coll: "v", Key: names[0], Rev: 1}); err != nil {
		t.Fatal(err)
	}
	if docs, err := stores[0].GetMany(ctx, "v", names); err != nil || len(docs) != len(names)-1 {
		t.Errorf("after one is deleted: %d documents, %v", len(docs), err)
	}
}
