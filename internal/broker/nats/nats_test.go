package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/brokertest"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/natstest"
)

// start runs a server, and returns its address and a connection to look into it.
func start(t *testing.T, change func(string, *natstest.Settings)) (*natstest.Cluster, string, jetstream.JetStream) {
	t.Helper()
	c := natstest.Start(t, t.TempDir(), 1, func(name string, s *natstest.Settings) {
		s.SyncAlways = false
		if change != nil {
			change(name, s)
		}
	})
	nc, err := natsgo.Connect(c.URL("app"), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return c, fmt.Sprintf("nats://127.0.0.1:%d", c.Port(0)), js
}

func stream(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	if cfg.Name = "EVENTS"; cfg.Subjects == nil {
		cfg.Subjects = []string{"events.>"}
	}
	s, err := js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stored returns what a stream has.
func stored(t *testing.T, s jetstream.Stream) (all []*jetstream.RawStreamMsg) {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq > 0 && seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func place(t *testing.T, url, more string) delivery.Target {
	t.Helper()
	return brokertest.Open(t, New(broker.NewHosts([]string{"127.0.0.1"})), `{"kind":"nats","url":"`+url+`","subject":"events.{type}"`+more+`}`)
}

// ways are in which streams take messages.
var ways = []takes{{}, {wholes: true}, {rows: true}, {rows: true, wholes: true}}

// What is delivered is what the binding for NATS says, in both modes, and a
// repetition is passed over: one by one, in waves, as a whole, and in rows.
func TestDelivered(t *testing.T) {
	for _, way := range ways {
		_, url, js := start(t, nil)
		s := stream(t, js, jetstream.StreamConfig{AllowAtomicPublish: way.wholes, AllowBatchPublish: way.rows})
		for _, format := range []string{"structured", "binary"} {
			if err := s.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			target := place(t, url, `,"format":"`+format+`"`)
			events := brokertest.Events("orders "+format, 7, 3)
			for _, part := range [][]delivery.Event{events[:1], events[:5], events, events} {
				if err := target.Deliver(t.Context(), part); err != nil {
					t.Fatal(err)
				}
			}
			got := stored(t, s)
			if len(got) != len(events) {
				t.Fatalf("%s: %d messages for %d events", format, len(got), len(events))
			}
			for i, m := range got {
				if m.Subject != "events.order.placed.v2" || m.Header.Get("Nats-Msg-Id") != delivery.Escaped(events[i].ID) {
					t.Errorf("%s: %s %v", format, m.Subject, m.Header)
				}
				if format == "structured" {
					var e ce.Event
					if err := e.UnmarshalJSON(m.Data); err != nil || e.Validate() != nil || m.Header.Get("Content-Type") != broker.ContentType {
						t.Fatalf("%s: %v", m.Data, err)
					}
					brokertest.Same(t, e, events[i])
				} else {
					headers := map[string]string{}
					for name := range m.Header {
						if at, is := strings.CutPrefix(name, "ce-"); is {
							headers[at] = m.Header.Get(name)
						}
					}
					brokertest.SameBinary(t, headers, m.Data, events[i], delivery.Escaped)
				}
			}
		}
	}
}

// What is too large is refused for good, and nothing beside it is sent before it
// is found out which it is.
func TestTooLarge(t *testing.T) {
	for _, way := range ways {
		_, url, js := start(t, func(_ string, s *natstest.Settings) { s.MaxPayload = 64 << 10 })
		s := stream(t, js, jetstream.StreamConfig{MaxMsgSize: 10 << 10, AllowAtomicPublish: way.wholes, AllowBatchPublish: way.rows})
		target := place(t, url, "")
		for _, size := range []int{20 << 10, 100 << 10} { // for the stream, and for the server
			events := brokertest.Events("o", 2, 1)
			events[0].Data = json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
			if err := target.Deliver(t.Context(), events[:1]); !engine.IsPermanent(err) {
				t.Errorf("%d bytes: %v", size, err)
			}
			if err := target.Deliver(t.Context(), events); !engine.IsPermanent(err) {
				t.Errorf("%d bytes among others: %v", size, err)
			}
			if err := target.Deliver(t.Context(), events[1:]); err != nil {
				t.Errorf("after %d bytes: %v", size, err)
			}
		}
		if got := stored(t, s); len(got) != 1 {
			t.Errorf("%d messages", len(got))
		}
	}
}

// When one of a key is refused, none of those after it is there.
func TestNothingOvertakes(t *testing.T) {
	for _, way := range ways {
		_, url, js := start(t, nil)
		s := stream(t, js, jetstream.StreamConfig{MaxMsgSize: 10 << 10, AllowAtomicPublish: way.wholes, AllowBatchPublish: way.rows})
		target := place(t, url, "")
		events := brokertest.Events("o", 9, 3)
		events[3].Data = json.RawMessage(`"` + strings.Repeat("x", 20<<10) + `"`) // the second of the first key
		if err := target.Deliver(t.Context(), events); err == nil {
			t.Fatal("it was taken")
		}
		for _, m := range stored(t, s) {
			if m.Header.Get("Nats-Msg-Id") == delivery.Escaped(events[6].ID) {
				t.Error("the third of a key is there, and the second is not")
			}
		}
	}
}

// More than a row is several, and several publishers do not get into each other's
// way.
func TestManyRows(t *testing.T) {
	_, url, js := start(t, nil)
	s := stream(t, js, jetstream.StreamConfig{AllowBatchPublish: true})
	target := place(t, url, "")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			events := brokertest.Events(fmt.Sprint("o", i), 2*rowLength+1, 7)
			for range 2 {
				if err := target.Deliver(t.Context(), events); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, last := stored(t, s), map[string]int{}
	if len(got) != 4*(2*rowLength+1) {
		t.Errorf("%d messages", len(got))
	}
	for _, m := range got {
		id := m.Header.Get("Nats-Msg-Id")
		key, version, _ := strings.Cut(id, ":")
		n, err := strconv.Atoi(version)
		if err != nil || n <= last[key] {
			t.Fatalf("%s after %d: %v", id, last[key], err)
		}
		last[key] = n
	}
}

// The server is killed again and again while events come to it. What is delivered
// is there, and of each key in order.
func TestServerIsKilled(t *testing.T) {
	for _, way := range ways {
		c, url, js := start(t, nil)
		stream(t, js, jetstream.StreamConfig{AllowAtomicPublish: way.wholes, AllowBatchPublish: way.rows})
		target := place(t, url, `,"timeout":"2s"`)
		var killing sync.WaitGroup
		killing.Go(func() {
			for range 3 {
				time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
				c.KillNode(0)
				if err := c.Run(0); err != nil {
					t.Error(err)
				}
			}
		})
		events := brokertest.Events("o", 6000, 50)
		tries := 0
		for part := range slices.Chunk(events, 600) {
			for end := time.Now().Add(time.Minute); ; tries++ {
				err := target.Deliver(t.Context(), part)
				if err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		killing.Wait()
		s, err := js.Stream(t.Context(), "EVENTS")
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			s, err = js.Stream(t.Context(), "EVENTS")
		}
		if err != nil {
			t.Fatal(err)
		}
		last, there := map[string]int{}, map[string]bool{}
		for _, m := range stored(t, s) {
			id := m.Header.Get("Nats-Msg-Id")
			key, version, _ := strings.Cut(id, ":")
			n, err := strconv.Atoi(version)
			if err != nil || n > last[key]+1 {
				t.Fatalf("%s after %d: %v", id, last[key], err)
			}
			last[key], there[id] = n, true
		}
		if len(there) != len(events) {
			t.Errorf("%+v: %d of %d events are there", way, len(there), len(events))
		}
		t.Logf("%+v: %d deliveries were tried again", way, tries)
	}
}

// Errors say what to do: whether to wait for the place, or whether it is the event.
func TestFailures(t *testing.T) {
	c, url, js := start(t, func(_ string, s *natstest.Settings) { s.Denied = "events.>" })
	events := brokertest.Events("o", 1, 1)
	as := func(user, more string) error {
		return place(t, url, `,"timeout":"1s","user":"`+user+`","password":"`+user+`"`+more).Deliver(t.Context(), events)
	}
	if err := as("app", ""); err == nil || !strings.Contains(err.Error(), "no stream takes the subject") {
		t.Errorf("no stream: %v", err)
	}
	s := stream(t, js, jetstream.StreamConfig{MaxMsgs: 1, Discard: jetstream.DiscardNew})
	if err := as("nobody", ""); !engine.IsAway(err) || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("a wrong password: %v", err)
	}
	if err := as("mute", ""); err == nil || !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("no permission: %v", err)
	}
	if err := as("app", `,"stream":"OTHER"`); err == nil || !strings.Contains(err.Error(), "stream") {
		t.Errorf("another stream: %v", err)
	}
	if err := as("app", ""); err != nil {
		t.Error(err)
	}
	events = brokertest.Events("o", 2, 1)[1:]
	var busy delivery.Busy
	if err := as("app", ""); !errors.As(err, &busy) {
		t.Errorf("a full stream: %v", err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	target := place(t, url, `,"user":"app","password":"app"`)
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
	c.StopNode(0)
	start := time.Now()
	err := target.Deliver(t.Context(), events)
	for errors.Is(err, natsgo.ErrConnectionClosed) { // it had begun
		err = target.Deliver(t.Context(), events)
	}
	if !engine.IsAway(err) || time.Since(start) > 10*time.Second {
		t.Errorf("no server, after %v: %v", time.Since(start), err)
	}
	c.StartNode(t, 0)
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Errorf("the server is back: %v", err)
	}
}

// A server that is gone in the middle of deliveries fails them, and nothing hangs.
func TestServerGoesAway(t *testing.T) {
	c, url, js := start(t, nil)
	s := stream(t, js, jetstream.StreamConfig{})
	target := place(t, url, "")
	done := make(chan error)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for n := 0; ; n++ {
			if err := target.Deliver(ctx, brokertest.Events(fmt.Sprint("o", n), 100, 10)); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	c.StopNode(0)
	if err := <-done; ctx.Err() != nil {
		t.Errorf("it hung: %v", err)
	}
	c.StartNode(t, 0)
	events := brokertest.Events("last", 1, 1)
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.Msgs == 0 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestSettings(t *testing.T) {
	k := New(broker.NewHosts([]string{"127.0.0.1", "*.internal"}))
	brokertest.BadSettings(t, k, map[string]string{
		`{"kind":"nats","subject":"a"}`:                                                  "no address",
		`{"kind":"nats","url":"http://a.internal","subject":"a"}`:                        "no address",
		`{"kind":"nats","url":"nats://a.example","subject":"a"}`:                         "--broker-hosts",
		`{"kind":"nats","url":"nats://a.internal,nats://b.example","subject":"a"}`:       "b.example",
		`{"kind":"nats","url":"nats://a.internal"}`:                                      "subject is",
		`{"kind":"nats","url":"nats://a.internal","subject":"a.>"}`:                      "subject is",
		`{"kind":"nats","url":"nats://a.internal","subject":"$JS.API.x"}`:                "subject is",
		`{"kind":"nats","url":"nats://a.internal","subject":"a.{colour}"}`:               "{colour}",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","format":"xml"}`:         "format is",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","timeout":"1h"}`:         "timeout is",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","topic":"b"}`:            "unknown field",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","token":"x","user":"y"}`: "several of",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","tls":{"ca":"x"}}`:       "tls.ca",
		`{"kind":"nats","url":"nats://a.internal","subject":"a","token":"***"}`:          "token is hidden",
	})
	brokertest.Secrets(t, k, `{"kind":"nats","url":"nats://ann:sesame@a.internal","subject":"a"}`, "a.internal", "b.internal", "sesame")
	brokertest.Secrets(t, k, `{"kind":"nats","url":"tls://a.internal:4333","subject":"a","token":"sesame"}`, "a.internal", "b.internal", "sesame")
	brokertest.Golden(t, k, `{"kind":"nats","url":"nats://ann:sesame@a.internal,tls://b.internal:4333","subject":"events.{type}","stream":"EVENTS","format":"binary","timeout":"5s","tls":{"server_name":"x.internal"}}`)
}

func TestFit(t *testing.T) {
	for v, want := range map[string]string{
		"order.placed.v1": "order.placed.v1", "order/o 1": "order/o_1", "": "_", "a..b": "a._.b", ".a": "_.a", "a.": "a._", "*.>": "_._", "ä": "ä",
	} {
		if got := fit(v); got != want {
			t.Errorf("%q is %q, want %q", v, got, want)
		}
	}
}
