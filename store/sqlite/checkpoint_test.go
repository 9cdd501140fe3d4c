package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// The WAL is moved into the file while writers never pause, so it stays small;
// and nothing is left of it when the store is closed.
func TestWALStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	s, err := sqlite.Open(path, &sqlite.Options{Relaxed: true}) // what is tested is not the disk
	if err != nil {
		t.Fatal(err)
	}
	const writers, appends = 8, 2000
	data := make([]byte, 4000)
	for i := range data {
		data[i] = 'x'
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range uint64(appends) {
				e := randomEvent()
				e.Data = fmt.Appendf(nil, `{"text":%q}`, data)
				if _, err := s.Append(t.Context(), store.Write{Stream: fmt.Sprintf("big/%d", w), Expect: store.Exactly(n), Events: []store.Event{e}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	wal, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if written := int64(writers * appends * len(data)); wal.Size() > written/2 {
		t.Errorf("the WAL has %d MiB after %d MiB were written", wal.Size()>>20, written>>20)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the closed store left a WAL: %v", err)
	}
}
