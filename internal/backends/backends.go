// Package backends lets tests run on every backend that programs run on, each
// the real thing.
package backends

import (
	"path/filepath"
	"testing"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

// Each runs a test on every backend. Opening gives a store that is empty at
// first, and the same one when it is opened again.
func Each(t *testing.T, test func(t *testing.T, open func(testing.TB) store.Store)) {
	t.Helper()
	for name, at := range map[string]func(t *testing.T) func(testing.TB) store.Store{
		"sqlite": inFile, "postgres": inSchema, "jetstream": inStreams,
	} {
		t.Run(name, func(t *testing.T) { test(t, at(t)) })
	}
}

func inFile(t *testing.T) func(testing.TB) store.Store {
	path := filepath.Join(t.TempDir(), "deed.db")
	return func(tb testing.TB) store.Store {
		tb.Helper()
		s, err := sqlite.Open(path, nil)
		return opened(tb, s, err)
	}
}

func inSchema(t *testing.T) func(testing.TB) store.Store {
	dsn := pgtest.Start(t).DSN("deed")
	return func(tb testing.TB) store.Store {
		tb.Helper()
		s, err := postgres.Open(tb.Context(), dsn, nil)
		return opened(tb, s, err)
	}
}

func inStreams(t *testing.T) func(testing.TB) store.Store {
	url := natstest.Start(t, t.TempDir(), 1, nil).URL("app")
	return func(tb testing.TB) store.Store {
		tb.Helper()
		s, err := jetstream.Open(url, &jetstream.Options{SyncAlways: true})
		return opened(tb, s, err)
	}
}

func opened(tb testing.TB, s store.Store, err error) store.Store {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}
