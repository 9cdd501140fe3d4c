package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
	"github.com/deed-dev/deed/store/storetest"
)

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "deed.db")) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return open(t, filepath.Join(dir, "deed.db")) })
}
