package nats

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var speed = flag.Int("speed", 0, "so many events for a late subscriber, to see how fast it catches up")

// known is for how long the server knows the ids of messages. They are in its
// memory: with a window of a minute, they are what it works on most.
const known = 5 * time.Second

type (
	clock struct{ N int }
	tick  struct{ N int }
)

func (e tick) Apply(c *clock) { c.N = e.N }

// TestSpeed tells how fast a late subscriber catches up (-speed 1000000): with
// streams that take turns in the log, and with streams of which 500 events stand
// together, which a stream of JetStream has to take as a whole to be fast. Machines
// differ: the measure is what the client does alone, with messages that stand ready.
func TestSpeed(t *testing.T) {
	if *speed == 0 {
		t.Skip("by -speed only")
	}
	var client float64
	t.Run("the client alone", func(t *testing.T) { client = alone(t) })
	for _, c := range []struct {
		name   string
		run    int // so many events of a stream are recorded together
		stream jetstream.StreamConfig
	}{
		{"taking turns", 1, jetstream.StreamConfig{}},
		{"taking turns, as a whole", 1, jetstream.StreamConfig{AllowAtomicPublish: true}},
		{"in runs, as a whole", 500, jetstream.StreamConfig{AllowAtomicPublish: true}},
		{"taking turns, in rows", 1, jetstream.StreamConfig{AllowBatchPublish: true}},
		{"in runs, in rows", 500, jetstream.StreamConfig{AllowBatchPublish: true}},
		{"taking turns, in rows, stored later", 1, jetstream.StreamConfig{AllowBatchPublish: true, PersistMode: jetstream.AsyncPersistMode}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, url, js := start(t, nil)
			c.stream.Duplicates = known
			s := stream(t, js, c.stream)
			rt := late(t, c.run)
			begun, worked := time.Now(), cpuTime(t)
			_, _, err := rt.Subscriptions().Put(t.Context(), deed.Subscription{
				Topic: "ticks", Name: "late", Batch: 1000, Parallel: 8, Target: json.RawMessage(`{"kind":"nats","url":"` + url + `","subject":"events.{type}"}`),
			}, "beginning")
			if err != nil {
				t.Fatal(err)
			}
			for {
				info, err := s.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if info.State.Msgs >= uint64(*speed) {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			took := time.Since(begun)
			rate := float64(*speed) / took.Seconds()
			t.Logf("%d events in %v: %.0f a second, %.2f of the client alone; %.1f µs of CPU for each, without the server's",
				*speed, took, rate, rate/client, float64((cpuTime(t)-worked).Microseconds())/float64(*speed))
		})
	}
}

// alone is how many messages a second the client publishes, each acknowledged, and
// many on their way at once.
func alone(t *testing.T) float64 {
	_, url, js := start(t, nil)
	stream(t, js, jetstream.StreamConfig{Duplicates: known})
	nc, err := natsgo.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(8000)); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"specversion":"1.0","id":"30303030-3030-3030-3030-303030303031","source":"/deed/clocks","type":"tick.v1","subject":"clock/c1",` +
		`"time":"2026-01-01T00:00:00.000000Z","partitionkey":"clock/c1","sequence":"00000000000000000001","datacontenttype":"application/json","data":{"N":1}}`)
	begun := time.Now()
	for n := range *speed {
		m := &natsgo.Msg{Subject: "events.tick.v1", Data: body, Header: natsgo.Header{jetstream.MsgIDHeader: {fmt.Sprintf("%036d", n)}}}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	took := time.Since(begun)
	rate := float64(*speed) / took.Seconds()
	t.Logf("%d messages in %v: %.0f a second", *speed, took, rate)
	return rate
}

// cpuTime is how long this process has worked.
func cpuTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// late returns a program with a log of so many events, which runs.
func late(t *testing.T, run int) *deed.Runtime {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < *speed; {
		var writes []store.Write
		for n := 0; n < 500; n += run {
			w := store.Write{Stream: fmt.Sprintf("clock/c%d", i/run%1000), Expect: store.Any}
			for range run {
				id := store.ID{}
				copy(id[:], fmt.Sprintf("%016d", i))
				w.Events = append(w.Events, store.Event{ID: id, Type: "tick", Data: fmt.Appendf(nil, `{"N":%d}`, i)})
				i++
			}
			writes = append(writes, w)
		}
		if _, err := s.Append(t.Context(), writes...); err != nil {
			t.Fatal(err)
		}
	}
	rt, err := deed.New(s, deed.Config{
		Domains: []deed.Domain{{Name: "clocks", Parts: []deed.Part{
			deed.Aggregate[clock]{Name: "clock", Events: map[string]deed.Event[clock]{"tick": tick{}}},
			deed.Publication{Topic: "ticks", Events: []deed.Publishing{deed.Publish("tick.v1", func(e tick) tick { return e })}},
		}}},
		Targets: map[string]deed.TargetKind{"nats": New(broker.NewHosts([]string{"127.0.0.1"}))},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); rt.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
	return rt
}
