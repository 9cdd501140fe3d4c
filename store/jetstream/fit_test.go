package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// The store is durable only if it is known that the servers sync.
func TestVolatile(t *testing.T) {
	always := startCluster(t, t.TempDir(), 1)
	now := startClusterWith(t, t.TempDir(), 1, func(_ string, s *natstest.Settings) { s.SyncAlways = false })
	for name, c := range map[string]struct {
		cluster cluster
		opts    jetstream.Options
		system  bool
		says    string
	}{
		"unknown":  {always, jetstream.Options{}, false, "nobody has said"},
		"promised": {always, jetstream.Options{SyncAlways: true}, false, ""},
		"seen":     {always, jetstream.Options{}, true, ""},
		"refuted":  {now, jetstream.Options{}, true, "n0 does not sync"},
	} {
		if c.system {
			c.opts.System = c.cluster.system(t)
		}
		s, err := jetstream.Open(c.cluster.URL("app"), &c.opts)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := store.VolatileReason(s); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", name, got)
		}
		s.Close()
	}
	if s, err := jetstream.Open(now.URL("app"), &jetstream.Options{SyncAlways: true, System: now.system(t)}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a promise that is not true was believed: %v, %v", s, err)
	}
}

func TestVolatileOfThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c := startClusterWith(t, t.TempDir(), 3, func(name string, s *natstest.Settings) { s.SyncAlways = name != "n2" })
	s, err := jetstream.Open(c.URL("app"), &jetstream.Options{Replicas: 3, System: c.system(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Volatile(); !strings.Contains(got, "n2 does not sync") {
		t.Errorf("one of three does not sync, and the store says %q", got)
	}
}

// Servers that take less than a store promises are refused, unless the
// operator accepts that.
func TestLimits(t *testing.T) {
	c := startClusterWith(t, t.TempDir(), 1, func(_ string, s *natstest.Settings) { s.MaxPayload, s.MaxBatch = 1<<20, 0 })
	if s, err := jetstream.Open(c.URL("app"), nil); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "max_msgs: 20000") {
		t.Errorf("got %v, %v", s, err)
	}
	s, err := jetstream.Open(c.URL("app"), &jetstream.Options{Limited: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := bounded(t)
	events := func(n, size int) store.Write {
		w := store.Write{Stream: "a/" + fmt.Sprint(n), Expect: store.None}
		for i := range n {
			w.Events = append(w.Events, store.Event{ID: idOf(n, uint64(i)), Type: "x", Data: make([]byte, size)})
		}
		return w
	}
	for _, w := range []store.Write{events(1000, 10), events(1, 1<<20-8<<10)} {
		if _, err := s.Append(ctx, w); err != nil {
			t.Errorf("%d events: %v", len(w.Events), err)
		}
	}
	for _, w := range []store.Write{events(1001, 10), events(1, 1<<20)} {
		if _, err := s.Append(ctx, w); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%d events: %v", len(w.Events), err)
		}
	}
	if err := s.Write(ctx, store.Change{Coll: "v", Key: "k", Data: make([]byte, 1<<20)}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a large document: %v", err)
	}
}

// The largest append there may be fits, and no two streams are mixed up in it.
func TestLargestAppend(t *testing.T) {
	s, ctx := startCluster(t, t.TempDir(), 1).open(t, "large"), bounded(t)
	e := store.Event{ID: idOf(0, 0), Type: strings.Repeat("ö", store.MaxName/2), Data: make([]byte, store.MaxData), Meta: make([]byte, store.MaxData)}
	long := strings.Repeat("ü", store.MaxName/2)
	if _, err := s.Append(ctx, store.Write{Stream: long, Expect: store.None, Events: []store.Event{e}}); err != nil {
		t.Error(err)
	}
	if err := s.Write(ctx, store.Change{Coll: long, Key: long, Data: make([]byte, store.MaxData)}); err != nil {
		t.Error(err)
	}
	var writes []store.Write
	for i := range 3000 {
		w := store.Write{Stream: fmt.Sprintf("b/%d", i), Expect: store.None}
		if i%3 > 0 {
			w.Events = []store.Event{{ID: idOf(1, uint64(i)), Type: "x"}}
		}
		writes = append(writes, w)
	}
	if _, err := s.Append(ctx, writes...); err != nil {
		t.Fatal(err)
	}
	recs := all(ctx, t, s, store.Start, store.Filter{Categories: []string{"b"}})
	if len(recs) != 2000 {
		t.Errorf("%d records, want 2000", len(recs))
	}
	inOrder(t, recs)
}

// Somebody else's stream, or ours after it was changed, is not used.
func TestForeignStream(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	nc, err := nats.Connect(c.URL("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(bounded(t), natsjs.StreamConfig{Name: "deed-log", Subjects: []string{"deed.log.>"}, Storage: natsjs.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if s, err := jetstream.Use(nc, nil); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "storage is not file") {
		t.Errorf("got %v, %v", s, err)
	}
}

// A reader that is far behind has JetStream look for its categories; it sees
// what one sees who reads everything.
func TestFarBehind(t *testing.T) {
	s, ctx := startCluster(t, t.TempDir(), 1).open(t, "far"), bounded(t)
	for i := range 60 {
		var writes []store.Write
		for j := range 60 {
			stream := []string{"a/%d", "b/%d", "c", "d/%d"}[(i+j)%4]
			if strings.Contains(stream, "%") {
				stream = fmt.Sprintf(stream, j)
			} else if j > 3 {
				continue
			}
			writes = append(writes, store.Write{Stream: stream, Expect: store.Any, Events: []store.Event{{ID: idOf(i, uint64(j)), Type: []string{"x", "y"}[j%2]}}})
		}
		if _, err := s.Append(ctx, writes...); err != nil {
			t.Fatal(err)
		}
	}
	everything := all(ctx, t, s, store.Start, store.Filter{})
	for _, f := range []store.Filter{
		{Categories: []string{"a"}}, {Categories: []string{"c"}}, {Categories: []string{"none"}}, {Categories: []string{"b", "a", "b"}},
		{Categories: []string{"a", "b", "c", "d"}}, {Categories: []string{"a", "c"}, Types: []string{"y"}},
		{Categories: []string{"a", "b"}, Partitions: 3, Partition: 1}, {Categories: []string{"d"}, Limit: 700},
	} {
		var want []store.ID
		for _, r := range everything {
			if selected(f, r) && (f.Limit == 0 || len(want) < f.Limit) {
				want = append(want, r.ID)
			}
		}
		var got []store.ID
		for _, r := range all(ctx, t, s, store.Start, f) {
			got = append(got, r.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v: %d records, want %d", f, len(got), len(want))
		}
	}
}

func selected(f store.Filter, r store.Record) bool {
	in := func(list []string, s string) bool {
		for _, l := range list {
			if l == s {
				return true
			}
		}
		return len(list) == 0
	}
	return in(f.Categories, store.Category(r.Stream)) && in(f.Types, r.Type) &&
		(f.Partitions <= 1 || store.PartitionOf(r.Stream, f.Partitions) == f.Partition)
}
