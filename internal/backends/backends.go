// Package backends lets tests run on every backend that programs run on, each
// the real thing.
package backends

import (
	"context"
	"path/filepath"
	"strings"
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
	EachPlace(t, func(t *testing.T, place string) {
		test(t, func(tb testing.TB) store.Store {
			tb.Helper()
			s, err := Open(tb.Context(), place)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { s.Close() })
			return s
		})
	})
}

// EachPlace runs a test on every backend, given where that is: another process
// can open it, too.
func EachPlace(t *testing.T, test func(t *testing.T, place string)) {
	t.Helper()
	for name, at := range map[string]func(t *testing.T) string{"sqlite": inFile, "postgres": inSchema, "jetstream": inStreams} {
		t.Run(name, func(t *testing.T) { test(t, at(t)) })
	}
}

func inFile(t *testing.T) string    { return "sqlite:" + filepath.Join(t.TempDir(), "deed.db") }
func inSchema(t *testing.T) string  { return pgtest.Start(t).DSN("deed") }
func inStreams(t *testing.T) string { return natstest.Start(t, t.TempDir(), 1, nil).URL("app") }

// Open opens the store at a place.
func Open(ctx context.Context, place string) (store.Store, error) {
	if path, ok := strings.CutPrefix(place, "sqlite:"); ok {
		return sqlite.Open(path, nil)
	}
	if strings.HasPrefix(place, "nats:") {
		return jetstream.Open(place, &jetstream.Options{SyncAlways: true})
	}
	return postgres.Open(ctx, place, nil)
}
