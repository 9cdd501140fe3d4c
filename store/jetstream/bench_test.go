package jetstream_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest"
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
	storetest.Share(b, writers, func(int) func() error {
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

func appends(b *testing.B, nodes, writers, events int) {
	storetest.BenchAppends(b, startCluster(b, b.TempDir(), nodes).open(b, "bench"), writers, events)
}

func BenchmarkLoad100(b *testing.B) {
	const streams = 100
	s := startCluster(b, b.TempDir(), 1).open(b, "bench")
	storetest.Fill(b, s, streams, 100)
	storetest.BenchLoads(b, s, 4, streams)
}

func BenchmarkReadAll(b *testing.B) {
	const streams, events = 100, 200
	s := startCluster(b, b.TempDir(), 1).open(b, "bench")
	storetest.Fill(b, s, streams, events)
	for b.Loop() {
		if err := storetest.Count(streams*events, s.ReadAll(context.Background(), store.Start, store.Filter{})); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*streams*events)/b.Elapsed().Seconds(), "events/s")
}
