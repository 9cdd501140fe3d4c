package sqlite_test

import (
	"context"
	"fmt"
	"iter"
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

// What a runtime asks of streams all the time: all of one, its end, and
// whether there is anything new.
func BenchmarkRead(b *testing.B) {
	const streams, events = 500, 20 // they fit into the cache
	s := openBench(b)
	storetest.Fill(b, s, streams, events)
	for _, bb := range []struct {
		name   string
		stream string
		r      store.Range
		want   int
	}{
		{"all", "order/%d", store.Range{}, events},
		{"last", "order/%d", store.Range{Backward: true, Limit: 1}, 1},
		{"new", "order/%d", store.Range{From: events}, 1},
		{"nothing-new", "order/%d", store.Range{From: events + 1}, 0},
		{"no-stream", "none/%d", store.Range{}, 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				if err := storetest.Count(bb.want, s.Read(context.Background(), fmt.Sprintf(bb.stream, n*7919%streams), bb.r)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadAll(b *testing.B) {
	const streams, events = 1000, 100
	s := openBench(b)
	storetest.Fill(b, s, streams, events)
	rare := storetest.BenchEvents(1)
	rare[0].Type = "rare"
	if _, err := s.Append(context.Background(), store.Write{Stream: "order/rare", Expect: store.None, Events: rare}); err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]store.Filter{
		"all": {}, "partition": {Partitions: 16, Partition: 3}, "type": {Types: []string{"done"}}, "rare": {Types: []string{"rare"}}, "none": {Types: []string{"never"}},
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

func BenchmarkDocs(b *testing.B) {
	const docs = 1000
	s := openBench(b)
	data := storetest.BenchEvents(1)[0].Data
	var changes []store.Change
	for i := range docs {
		changes = append(changes, store.Change{Coll: "view/orders/1", Key: fmt.Sprintf("o-%d", i), Data: data})
	}
	if err := s.Write(context.Background(), changes...); err != nil {
		b.Fatal(err)
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			if _, err := s.Get(context.Background(), "view/orders/1", changes[n*7919%docs].Key); err != nil {
				b.Fatal(err)
			}
		}
	})
	ctx := context.Background()
	for name, docs := range map[string]iter.Seq2[store.Doc, error]{
		"list": s.List(ctx, "view/orders/1", "", ""), "find": s.Find(ctx, "view/orders/1", store.Query{}),
		"page": s.Find(ctx, "view/orders/1", store.Query{Limit: 50}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range docs {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for i := range changes {
			changes[i].Rev = store.AnyRev
		}
		for b.Loop() {
			if err := s.Write(context.Background(), changes[:100]...); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func openBench(b *testing.B) *sqlite.Store {
	b.Helper()
	return open(b, filepath.Join(b.TempDir(), "deed.db"))
}
