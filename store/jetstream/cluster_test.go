package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// A cluster is some servers, and what the tests do with them.
type cluster struct{ *natstest.Cluster }

// startCluster starts servers that sync every write before they acknowledge.
// What is in the folder is there again.
func startCluster(t testing.TB, dir string, n int) cluster {
	t.Helper()
	return startClusterWith(t, dir, n, nil)
}

// startClusterWith lets a test change what the servers are told.
func startClusterWith(t testing.TB, dir string, n int, change func(name string, s *natstest.Settings)) cluster {
	t.Helper()
	return cluster{natstest.Start(t, dir, n, change)}
}

// open opens an installation. Many share a cluster, under different names.
func (c cluster) open(t testing.TB, name string) *jetstream.Store {
	t.Helper()
	s, err := jetstream.Open(c.URL("app"), &jetstream.Options{Name: name, Replicas: c.Size(), SyncAlways: true, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fresh opens an installation of a test's own, and drops it afterwards: an idle
// one costs its servers something all the time.
func (c cluster) fresh(t *testing.T) store.Store {
	t.Helper()
	name := nameOf(t)
	t.Cleanup(func() {
		if err := jetstream.Drop(context.Background(), c.URL("app"), &jetstream.Options{Name: name}); err != nil {
			t.Error(err)
		}
	})
	return c.open(t, name)
}

// system connects to the system account.
func (c cluster) system(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(c.URL("sys"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// nameOf makes the name of an installation from that of a test.
func nameOf(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, t.Name())
	return name[max(0, len(name)-60):]
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func all(ctx context.Context, t testing.TB, s store.Log, after store.Cursor, f store.Filter) (recs []store.Record) {
	t.Helper()
	for r, err := range s.ReadAll(ctx, after, f) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	return recs
}
