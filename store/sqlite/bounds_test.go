package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// A check beside a process that writes looks at one moment: what was
// committed while it runs is not a problem.
func TestCheckBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	s := open(t, path)
	fill(t, s, 200, 20)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			for ctx.Err() == nil {
				s.Append(context.Background(), store.Write{Stream: fmt.Sprintf("late/%d", w), Expect: store.Any, Events: []store.Event{randomEvent()}})
			}
		})
	}
	defer writers.Wait()
	defer stop()
	for range 20 {
		report, err := sqlite.Check(t.Context(), path, nil)
		if err != nil || len(report.Problems) > 0 {
			t.Fatalf("a sound database that is in use: %v, %d problems, first %v", err, len(report.Problems), report.Problems[:min(1, len(report.Problems))])
		}
	}
}

// Reading holds a few chunks in memory, however large the events are.
func TestLargeEventsAreReadInSmallChunks(t *testing.T) {
	const n = 64
	s := open(t, filepath.Join(t.TempDir(), "deed.db"))
	large := []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
	for i := range n {
		e := randomEvent()
		e.Data = large
		if _, err := s.Append(t.Context(), store.Write{Stream: "large/1", Expect: store.Exactly(uint64(i)), Events: []store.Event{e}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(t.Context(), store.Change{Coll: "large", Key: fmt.Sprintf("%03d", i), Data: large}); err != nil {
			t.Fatal(err)
		}
	}
	for name, each := range map[string]func(func(size int)) error{
		"Read":     func(f func(int)) error { return sizes(s.Read(t.Context(), "large/1", store.Range{}), f) },
		"backward": func(f func(int)) error { return sizes(s.Read(t.Context(), "large/1", store.Range{Backward: true}), f) },
		"ReadAll":  func(f func(int)) error { return sizes(s.ReadAll(t.Context(), store.Start, store.Filter{}), f) },
		"List": func(f func(int)) error {
			for d, err := range s.List(t.Context(), "large", "", "") {
				if err != nil {
					return err
				}
				f(len(d.Data))
			}
			return nil
		},
		"Find": func(f func(int)) error {
			for d, err := range s.Find(t.Context(), "large", store.Query{}) {
				if err != nil {
					return err
				}
				f(len(d.Data))
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, most, seen := heap(), uint64(0), 0
			err := each(func(size int) {
				if seen++; size != len(large) {
					t.Errorf("item %d has %d bytes, want %d", seen, size, len(large))
				}
				if seen%8 == 1 {
					most = max(most, heap())
				}
			})
			if err != nil || seen != n {
				t.Errorf("%d of %d, %v", seen, n, err)
			}
			if grown := int64(most) - int64(before); grown > 32<<20 {
				t.Errorf("reading %d MiB keeps %d MiB in memory at once", n*2, grown>>20)
			}
		})
	}
}

func sizes(seq func(func(store.Record, error) bool), f func(int)) error {
	for r, err := range seq {
		if err != nil {
			return err
		}
		f(len(r.Data))
	}
	return nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
