package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// counter is about the cheapest handler there is.
type counter struct{ n uint64 }

func (h *counter) Keys(rec store.Record) []string                        { return []string{rec.Stream} }
func (h *counter) Handle(_ context.Context, _ *Tx, _ store.Record) error { h.n++; return nil }
func (h *counter) Reset()                                                {}
func (h *counter) Flush(_ context.Context, tx *Tx) error {
	return tx.Put("count", "all", fmt.Append(nil, h.n))
}

const benchEvents = 1_000_000

func benchStore(b *testing.B) store.Store {
	s := mem.New()
	for i := range benchEvents / 1000 {
		add(b, s, fmt.Sprintf("a/%d", i%100), 1000)
	}
	return s
}

// BenchmarkCatchUp reports what a follower needs for each of a million small
// events, beside what reading them takes without one.
func BenchmarkCatchUp(b *testing.B) {
	s := benchStore(b)
	b.Run("reading only", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for _, err := range s.ReadAll(b.Context(), store.Start, store.Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEvents, "ns/event")
	})
	for _, parts := range []int{1, 2} {
		b.Run(fmt.Sprintf("%d partitions", parts), func(b *testing.B) {
			run := 0
			for b.Loop() {
				run++
				f := Follower{Name: fmt.Sprintf("count-%d-%d-%d", parts, b.N, run), Pure: true, Partitions: parts, New: func(uint64) Handler { return &counter{} }}
				catchUp(b, s, f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEvents, "ns/event")
		})
	}
}

func catchUp(b *testing.B, s store.Store, f Follower) {
	e, err := New(Config{Store: s, Followers: []Follower{f}, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	if err := e.WaitFor(ctx, f.Name, store.Position{Seq: benchEvents}); err != nil {
		b.Fatal(err)
	}
	cancel()
	<-ended
}
