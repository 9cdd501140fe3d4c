package jetstream_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// The figures of the store mean something only beside those of JetStream
// itself, taken in the same minute: the raw benchmarks let writers share
// atomic batches of messages of the same size, without expectations,
// versions, checksums and verdicts.
//
//	go test -run '^$' -bench . -benchtime 2s ./store/jetstream

func BenchmarkRaw64(b *testing.B)             { rawBatches(b, 1, 64) }
func BenchmarkRaw64Replicas3(b *testing.B)    { rawBatches(b, 3, 64) }
func BenchmarkAppend1(b *testing.B)           { appends(b, 1, 1, 1) }
func BenchmarkAppend64(b *testing.B)          { appends(b, 1, 64, 1) }
func BenchmarkAppend64Events10(b *testing.B)  { appends(b, 1, 64, 10) }
func BenchmarkAppend1Replicas3(b *testing.B)  { appends(b, 3, 1, 1) }
func BenchmarkAppend64Replicas3(b *testing.B) { appends(b, 3, 64, 1) }

// rawBatches is group commit without a store.
func rawBatches(b *testing.B, nodes, writers int) {
	c := startCluster(b, b.TempDir(), nodes)
	c.open(b, "raw").Close() // makes the stream
	nc, err := nats.Connect(c.URL("app"))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	queue := make(chan chan error, 1024)
	go func() {
		for first := range queue {
			waiting := []chan error{first}
			for n := -1; len(queue) > n; { // as the store does
				n = len(queue)
				runtime.Gosched()
			}
			for len(queue) > 0 && len(waiting) < 1000 {
				waiting = append(waiting, <-queue)
			}
			err := rawBatch(nc, len(waiting))
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

func rawBatch(nc *nats.Conn, n int) error {
	id := nuid.Next()
	for i := range n {
		m := nats.NewMsg("raw.log.order." + id + strconv.Itoa(i))
		m.Data = make([]byte, 470)
		if n == 1 { // needs no batch
			_, err := nc.RequestMsg(m, nats.DefaultTimeout*5)
			return err
		}
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < n-1 {
			if err := nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		answer, err := nc.RequestMsg(m, nats.DefaultTimeout*5)
		if err != nil {
			return err
		}
		if strings.Contains(string(answer.Data), "error") {
			return fmt.Errorf("%s", answer.Data)
		}
	}
	return nil
}

// appends has each writer move to a new stream after 20 appends.
func appends(b *testing.B, nodes, writers, events int) {
	s := startCluster(b, b.TempDir(), nodes).open(b, "bench")
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

func BenchmarkLoad100(b *testing.B) {
	const streams, events = 100, 100
	s := startCluster(b, b.TempDir(), 1).open(b, "bench")
	fill(b, s, streams, events)
	share(b, 4, func(r int) func() error {
		n := r
		return func() error {
			n++
			return count(events, s.Read(context.Background(), fmt.Sprintf("order/%d", n*7919%streams), store.Range{}))
		}
	})
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkReadAll(b *testing.B) {
	const streams, events = 100, 200
	s := startCluster(b, b.TempDir(), 1).open(b, "bench")
	fill(b, s, streams, events)
	for b.Loop() {
		if err := count(streams*events, s.ReadAll(context.Background(), store.Start, store.Filter{})); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*streams*events)/b.Elapsed().Seconds(), "events/s")
}

// fill writes streams ten events at a time, so that the events of one stream
// lie scattered.
func fill(b *testing.B, s *jetstream.Store, streams, events int) {
	b.Helper()
	for from := 0; from < events; from += 10 {
		var writes []store.Write
		for i := range streams {
			writes = append(writes, store.Write{Stream: fmt.Sprintf("order/%d", i), Expect: store.Exactly(uint64(from)), Events: benchEvents(10)})
		}
		if _, err := s.Append(context.Background(), writes...); err != nil {
			b.Fatal(err)
		}
	}
}

// share lets workers do b.N things together.
func share(b *testing.B, workers int, start func(worker int) func() error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
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
