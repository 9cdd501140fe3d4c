package storetest

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed/store"
)

var (
	benchData = []byte(`{"text":"` + strings.Repeat("x", 259) + `"}`)
	benchMeta = []byte(`{"actor":"` + strings.Repeat("a", 112) + `"}`)
)

// BenchEvents returns n events with 394 bytes of data and metadata each.
func BenchEvents(n int) []store.Event {
	out := make([]store.Event, n)
	for i := range out {
		out[i] = store.Event{ID: newID(), Type: "done", Data: benchData, Meta: benchMeta}
	}
	return out
}

// Share lets workers do b.N things together. Each begins with what start
// returns for it.
func Share(b *testing.B, workers int, start func(worker int) func() error) {
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

// BenchAppends measures writers that append so many events at a time, each to
// streams of its own, of 20 appends.
func BenchAppends(b *testing.B, s store.Store, writers, events int) {
	b.Helper()
	BenchWrites(b, s, writers, func() []store.Write { return []store.Write{{Events: BenchEvents(events)}} })
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// BenchWrites lets writers append what writes returns. The first of it goes to
// streams that each writer has for itself, a new one after 20 appends.
func BenchWrites(b *testing.B, s store.Store, writers int, writes func() []store.Write) {
	b.Helper()
	Share(b, writers, func(w int) func() error {
		n, stream, version := 0, "", uint64(0)
		return func() error {
			if n%20 == 0 {
				stream, version = fmt.Sprintf("order/%d-%d", w, n), 0
			}
			n++
			ws := writes()
			ws[0].Stream, ws[0].Expect = stream, store.Exactly(version)
			out, err := s.Append(context.Background(), ws...)
			if err == nil {
				version = out[0].Version
			}
			return err
		}
	})
}

// Fill writes streams order/0, order/1, ... ten events at a time, so that the
// events of one stream lie scattered.
func Fill(b *testing.B, s store.Store, streams, events int) {
	b.Helper()
	for from := 0; from < events; from += 10 {
		for first := 0; first < streams; first += 100 {
			var writes []store.Write
			for i := first; i < min(first+100, streams); i++ {
				writes = append(writes, store.Write{Stream: fmt.Sprintf("order/%d", i), Expect: store.Exactly(uint64(from)), Events: BenchEvents(10)})
			}
			if _, err := s.Append(context.Background(), writes...); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchLoads measures readers that load streams of 100 events, of as many as
// were filled.
func BenchLoads(b *testing.B, s store.Store, readers, streams int) {
	b.Helper()
	const events = 100
	Share(b, readers, func(r int) func() error {
		n := r
		return func() error {
			n++
			return Count(events, s.Read(context.Background(), fmt.Sprintf("order/%d", n*7919%streams), store.Range{}))
		}
	})
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

// Count reports whether seq yields as many records as are wanted.
func Count(want int, seq iter.Seq2[store.Record, error]) error {
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
