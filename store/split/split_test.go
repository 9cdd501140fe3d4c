package split_test

import (
	"path/filepath"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/split"
	"github.com/deed-dev/deed/store/sqlite"
	"github.com/deed-dev/deed/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return split.New(mem.New(), file(t, t.TempDir(), "views.db")) })
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
		return split.New(file(t, dir, "log.db"), file(t, dir, "views.db"))
	})
}

func file(t *testing.T, dir, name string) store.Store {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(dir, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestVolatile(t *testing.T) {
	lasting := file(t, t.TempDir(), "a.db")
	for _, c := range []struct {
		s    *split.Store
		want bool
	}{
		{split.New(lasting, lasting), false}, {split.New(mem.New(), lasting), true},
		{split.New(lasting, mem.New()), true}, {split.New(mem.New(), mem.New()), true},
	} {
		if got := store.VolatileReason(c.s); (got != "") != c.want {
			t.Errorf("volatile: %q, want %v", got, c.want)
		}
	}
}
