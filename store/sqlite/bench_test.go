package sqlite_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// The figures of the store mean something only beside those of the disk below
// it, taken in the same minute: the raw benchmarks append the same number of
// bytes to a growing file and sync it. With many writers, those who wait share
// a sync, as they do in the store.
//
//	go test -run '^$' -bench . -benchtime 2s ./store/sqlite

const rawEvent = 470 // bytes on the disk of an event of about 395 bytes

func BenchmarkRawSingle(b *testing.B)        { rawAppends(b, 1, 1) }
func BenchmarkRawGroup64(b *testing.B)       { rawAppends(b, 64, 1) }
func BenchmarkAppend1(b *testing.B)          { appends(b, 1, 1) }
func BenchmarkAppend64(b *testing.B)         { appends(b, 64, 1) }
func BenchmarkAppend64Events10(b *testing.B) { appends(b, 64, 10) }

// rawAppends is group commit without a database.
func rawAppends(b *testing.B, writers, events int) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	queue := make(chan chan error, 1024)
	go func() {
		for first := range queue {
			waiting := []chan error{first}
			for more := true; more; {
				select {
				case w, ok := <-queue:
					if more = ok; ok {
						waiting = append(waiting, w)
					}
				default:
					more = false
				}
			}
			_, err := f.Write(make([]byte, rawEvent*events*len(waiting)))
			if err == nil {
				err = syscall.Fdatasync(int(f.Fd()))
			}
			for _, w := range waiting {
				w <- err
			}
		}
	}()
	share(b, writers, func(int) func() error {
		done := make(chan error, 1)
		return func() error {
			queue <- done
			return <-done
		}
	})
	close(queue)
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// appends has each writer move to a new stream after 20 appends.
func appends(b *testing.B, writers, events int) {
	s := openBench(b)
	share(b, writers, func(w int) func() error {
		n, stream, version := 0, "", uint64(0)
		return func() error {
			if n%20 == 0 {
				stream, version = fmt.Sprintf("order/%d-%d", w, n), 0
			}
			n++
			out, err := s.Append(context.Background(), store.Write{Stream: stream, Expect: store.Exactly(version), Events: benchEvents(events)})
			if err == nil {
				version = out[0].Version
			}
			return err
		}
	})
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// Command ids are in the order of time unless clients make their own.
func BenchmarkCommand64(b *testing.B) {
	commands(b, func() uuid.UUID { return uuid.Must(uuid.NewV7()) })
}
func BenchmarkCommand64RandomIDs(b *testing.B) { commands(b, uuid.New) }

// commands appends what a command does: an event to a stream that is in use,
// and the record of the command as a stream of its own.
func commands(b *testing.B, newID func() uuid.UUID) {
	s := openBench(b)
	share(b, 64, func(w int) func() error {
		n, stream, version := 0, "", uint64(0)
		return func() error {
			if n%20 == 0 {
				stream, version = fmt.Sprintf("order/%d-%d", w, n), 0
			}
			n++
			out, err := s.Append(context.Background(),
				store.Write{Stream: stream, Expect: store.Exactly(version), Events: benchEvents(1)},
				store.Write{Stream: "$command/" + newID().String(), Expect: store.None, Events: benchEvents(1)})
			if err == nil {
				version = out[0].Version
			}
			return err
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

func BenchmarkLoad100(b *testing.B) {
	const streams, events = 500, 100
	s := openBench(b)
	fillInterleaved(b, s, streams, events)
	for _, readers := range []int{1, 4} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			share(b, readers, func(r int) func() error {
				n := r
				return func() error {
					n++
					return count(events, func(yield func(store.Record, error) bool) {
						s.Read(context.Background(), fmt.Sprintf("order/%d", n*7919%streams), store.Range{})(yield)
					})
				}
			})
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkReadAll(b *testing.B) {
	const streams, events = 1000, 100
	s := openBench(b)
	fillInterleaved(b, s, streams, events)
	for name, f := range map[string]store.Filter{
		"all": {}, "partition": {Partitions: 16, Partition: 3}, "type": {Types: []string{"done"}}, "none": {Types: []string{"never"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range s.ReadAll(context.Background(), store.Start, f) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*streams*events)/b.Elapsed().Seconds(), "scanned/s")
		})
	}
}

func openBench(b *testing.B) *sqlite.Store {
	b.Helper()
	return open(b, filepath.Join(b.TempDir(), "deed.db"))
}

// share lets workers do b.N things together.
func share(b *testing.B, workers int, start func(worker int) func() error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for w := range workers {
		all.Go(func() {
			for do := start(w); next.Add(1) <= int64(b.N); {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}

var (
	benchData = []byte(`{"text":"` + strings.Repeat("x", 259) + `"}`)
	benchMeta = []byte(`{"actor":"` + strings.Repeat("a", 112) + `"}`)
)

func benchEvents(n int) []store.Event {
	out := make([]store.Event, n)
	for i := range out {
		out[i] = store.Event{Type: "done", Data: benchData, Meta: benchMeta}
		rand.Read(out[i].ID[:])
	}
	return out
}

// fillInterleaved writes streams ten events at a time, so that the events of
// one stream lie scattered in the file.
func fillInterleaved(b *testing.B, s *sqlite.Store, streams, events int) {
	b.Helper()
	for from := 0; from < events; from += 10 {
		for first := 0; first < streams; first += 100 {
			var writes []store.Write
			for i := first; i < min(first+100, streams); i++ {
				writes = append(writes, store.Write{Stream: fmt.Sprintf("order/%d", i), Expect: store.Exactly(uint64(from)), Events: benchEvents(10)})
			}
			if _, err := s.Append(context.Background(), writes...); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func count(want int, seq func(func(store.Record, error) bool)) error {
	n := 0
	for _, err := range seq {
		if err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("%d events, want %d", n, want)
	}
	return nil
}
