package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
	"github.com/deed-dev/deed/store/storetest"
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
func BenchmarkAppend1(b *testing.B)          { storetest.BenchAppends(b, openBench(b), 1, 1) }
func BenchmarkAppend64(b *testing.B)         { storetest.BenchAppends(b, openBench(b), 64, 1) }
func BenchmarkAppend64Events10(b *testing.B) { storetest.BenchAppends(b, openBench(b), 64, 10) }

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
	storetest.Share(b, writers, func(int) func() error {
		done := make(chan error, 1)
		return func() error {
			queue <- done
			return <-done
		}
	})
	close(queue)
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
	storetest.BenchWrites(b, openBench(b), 64, func() []store.Write {
		return []store.Write{
			{Events: storetest.BenchEvents(1)},
			{Stream: "$command/" + newID().String(), Expect: store.None, Events: storetest.BenchEvents(1)},
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

func BenchmarkLoad100(b *testing.B) {
	const streams = 500
	s := openBench(b)
	storetest.Fill(b, s, streams, 100)
	for _, readers := range []int{1, 4} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) { storetest.BenchLoads(b, s, readers, streams) })
	}
}

func BenchmarkReadAll(b *testing.B) {
	const streams, events = 1000, 100
	s := openBench(b)
	storetest.Fill(b, s, streams, events)
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
