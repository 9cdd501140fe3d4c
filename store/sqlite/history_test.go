package sqlite_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/deed-dev/deed/store/sqlite"
	"github.com/deed-dev/deed/store/storetest/history"
)

var (
	histories = flag.Int("histories", 200, "random histories to check")
	seed      = flag.Uint64("seed", 0, "check only the history of this seed")
)

// Eight clients work on four hot streams while the process that has the
// database is killed at random moments.
func TestRandomHistories(t *testing.T) {
	seeds := make([]uint64, *histories)
	start := uint64(time.Now().UnixNano())
	for i := range seeds {
		seeds[i] = start + uint64(i)
	}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	path := filepath.Join(t.TempDir(), "deed.db")
	c := startChild(t, path)
	for i, s := range seeds {
		if err := history.Check(t.Context(), c, fmt.Sprintf("h%d", i), s, history.Options{}); err != nil {
			t.Fatalf("%v\nagain: go test -run TestRandomHistories ./store/sqlite -seed %d", err, s)
		}
	}
	c.kill()
	report, err := sqlite.Check(t.Context(), path, nil)
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("the file after %d kills: %v, %v", len(seeds), report.Problems, err)
	}
	t.Logf("%d histories, %d events", len(seeds), report.Events)
}
