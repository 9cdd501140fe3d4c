package webhook

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/sinks"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	hell  = flag.Bool("hell", false, "compare how fast a receiver is served with nine from hell beside it, and alone")
	speed = flag.Int("speed", 0, "so many events for a late subscriber, to see how fast it catches up")
)

// A bell is a program whose ticks are delivered to a receiver on this machine.
type bell struct {
	t    *testing.T
	rt   *deed.Runtime
	url  string
	mu   sync.Mutex
	lags []time.Duration // of each event that came to /good
	n    atomic.Int64    // events that came to /batches
}

func newBell(t *testing.T, serve http.HandlerFunc) *bell {
	b := &bell{t: t}
	b.url = receiver(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			var e delivery.Event
			if json.NewDecoder(r.Body).Decode(&e) == nil {
				b.mu.Lock()
				b.lags = append(b.lags, time.Since(e.Time))
				b.mu.Unlock()
			}
		case "/batches":
			var events []json.RawMessage
			if json.NewDecoder(r.Body).Decode(&events) == nil {
				b.n.Add(int64(len(events)))
			}
		default:
			serve(w, r)
		}
	})
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.rt, err = deed.New(s, deed.Config{
		Domains: []deed.Domain{{Name: "clocks", Parts: []deed.Part{clocks, deed.Publication{
			Topic: "ticks", Events: []deed.Publishing{deed.Publish("tick.v1", func(e tick) tick { return e })},
		}}}},
		Targets: map[string]deed.TargetKind{"webhook": New(sinks.NewHosts([]string{"127.0.0.1"}, false), "deed.example")},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.rt.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
	return b
}

func (b *bell) subscribe(name, start string, batch int) {
	b.t.Helper()
	_, _, err := b.rt.Subscriptions().Put(b.t.Context(), deed.Subscription{
		Topic: "ticks", Name: name, Batch: batch, Target: json.RawMessage(`{"kind":"webhook","timeout":"2s","url":"` + b.url + "/" + name + `"}`),
	}, start)
	if err != nil {
		b.t.Fatal(err)
	}
}

// ring records so many ticks, at a pace, and returns how late they came to the
// good receiver: in the middle, of a hundred the ninety-ninth, at most.
func (b *bell) ring(n int, every time.Duration) (p50, p99, most time.Duration) {
	b.t.Helper()
	b.mu.Lock()
	b.lags = nil
	b.mu.Unlock()
	for i := range n {
		if _, err := clocks.Execute(b.t.Context(), b.rt, fmt.Sprint("c", i%100), wind{i}); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(every)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		lags := slices.Clone(b.lags)
		b.mu.Unlock()
		if len(lags) >= n {
			slices.Sort(lags)
			return lags[n/2], lags[n*99/100], lags[len(lags)-1]
		}
		if time.Now().After(end) {
			b.t.Fatalf("%d of %d came", len(lags), n)
		}
	}
}

// Receivers from hell do not hold up the one next door, and cost no memory.
func TestHellNextDoor(t *testing.T) {
	b := newBell(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs", "/hangs-too":
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		case "/floods":
			block := make([]byte, 64<<10)
			for range 10 << 30 / len(block) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		case "/busy":
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		case "/gone":
			w.WriteHeader(410)
		case "/redirects":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		case "/closes":
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				conn.Close()
			}
		default:
			w.WriteHeader(500)
		}
	})
	n, every := 60, 2*time.Millisecond
	if *hell {
		n = 5000 // ten seconds, at most 500 a second
	}
	b.subscribe("good", "", 0)
	b.ring(20, every) // to warm up
	p50, p99, most := b.ring(n, every)
	t.Logf("alone: p50 %v, p99 %v, at most %v", p50, p99, most)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, name := range []string{"fails", "fails-too", "hangs", "hangs-too", "floods", "busy", "gone", "redirects", "closes"} {
		b.subscribe(name, "", 0)
	}
	p50, p99With, most := b.ring(n, every)
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) >> 20
	t.Logf("beside nine from hell: p50 %v, p99 %v, at most %v; the heap has grown by %d MiB", p50, p99With, most, grown)
	if grown > 64 {
		t.Errorf("the heap has grown by %d MiB", grown)
	}
	if most > 20*time.Second {
		t.Errorf("an event came after %v", most)
	}
	if *hell && p99With > 2*max(p99, 5*time.Millisecond) {
		t.Errorf("p99 was %v, and is %v beside receivers from hell", p99, p99With)
	}
}

// TestSpeed tells how fast a late subscriber catches up (-speed 1000000).
func TestSpeed(t *testing.T) {
	if *speed == 0 {
		t.Skip("by -speed only")
	}
	b := newBell(t, nil)
	for i := 0; i < *speed; {
		w := store.Write{Stream: fmt.Sprintf("clock/c%d", i%1000), Expect: store.Any}
		for range 500 {
			id := store.ID{}
			copy(id[:], fmt.Sprintf("%016d", i))
			w.Events = append(w.Events, store.Event{ID: id, Type: "tick", Data: fmt.Appendf(nil, `{"N":%d}`, i)})
			i++
		}
		if _, err := b.rt.Store().Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	b.subscribe("batches", "beginning", 500)
	for b.n.Load() < int64(*speed) {
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(start)
	t.Logf("%d events in %v: %.0f a second", *speed, took, float64(*speed)/took.Seconds())
}
