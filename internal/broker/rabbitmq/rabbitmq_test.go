package rabbitmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/brokertest"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/rabbittest"
)

// A rig is a server for all tests, which takes a while to start.
var rig struct {
	sync.Once
	*rabbittest.Server
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if rig.stop != nil {
		rig.stop()
	}
	os.Exit(code)
}

// start returns the server, and a channel to look into it.
func start(t *testing.T) (*rabbittest.Server, *amqp.Channel) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server of RabbitMQ")
	}
	rig.Do(func() { rig.Server, rig.stop, rig.err = rabbittest.Run("max_message_size = 65536") })
	if rig.err != nil {
		t.Fatalf("THE RABBITMQ TESTS CANNOT RUN HERE: %v\nThey need Debian's package rabbitmq-server.", rig.err)
	}
	c, err := amqp.Dial(rig.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return rig.Server, ch
}

// queue makes a queue, or empties it, that gets what an exchange has.
func queue(t *testing.T, ch *amqp.Channel, name, exchange, key string, args amqp.Table) {
	t.Helper()
	_, err := ch.QueueDeclare(name, true, false, false, false, args)
	if err == nil && exchange != "" {
		err = errors.Join(ch.ExchangeDeclare(exchange, "topic", true, false, false, false, nil), ch.QueueBind(name, key, exchange, false, nil))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stored takes out what a queue has.
func stored(t *testing.T, ch *amqp.Channel, name string) (all []amqp.Delivery) {
	t.Helper()
	for {
		m, ok, err := ch.Get(name, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, m)
	}
}

func place(t *testing.T, s *rabbittest.Server, more string) delivery.Target {
	t.Helper()
	return brokertest.Open(t, New(broker.NewHosts([]string{"127.0.0.1"})), `{"kind":"rabbitmq","url":"`+s.URL()+`"`+more+`}`)
}

// What is delivered is what the binding for AMQP says, in both modes, to an
// exchange and to a queue, in order for each key.
func TestDelivered(t *testing.T) {
	s, ch := start(t)
	queue(t, ch, "orders", "events", "order.#", nil)
	for _, to := range []string{`"exchange":"events"`, `"queue":"orders"`} {
		for _, format := range []string{"structured", "binary"} {
			target := place(t, s, `,"format":"`+format+`",`+to)
			events := brokertest.Events("orders", 8, 3)
			if err := errors.Join(target.Deliver(t.Context(), events[:1]), target.Deliver(t.Context(), events[1:])); err != nil {
				t.Fatal(err)
			}
			got := stored(t, ch, "orders")
			if len(got) != len(events) {
				t.Fatalf("%d messages for %d events", len(got), len(events))
			}
			seen := map[string]int{}
			for _, m := range got {
				i := slices.IndexFunc(events, func(e delivery.Event) bool { return e.ID == m.MessageId })
				if i < 0 || i < seen[events[i].PartitionKey] || m.DeliveryMode != amqp.Persistent || !m.Timestamp.Equal(events[i].Time.Truncate(time.Second)) {
					t.Fatalf("%+v after %v", m, seen)
				}
				seen[events[i].PartitionKey] = i
				if format == "structured" {
					var e ce.Event
					if err := e.UnmarshalJSON(m.Body); err != nil || m.ContentType != broker.ContentType {
						t.Fatalf("%s %s: %v", m.ContentType, m.Body, err)
					}
					brokertest.Same(t, e, events[i])
					continue
				}
				attributes := map[string]string{"datacontenttype": m.ContentType}
				for name, v := range m.Headers {
					attributes[strings.TrimPrefix(name, "cloudEvents:")] = fmt.Sprint(v)
				}
				brokertest.SameBinary(t, attributes, m.Body, events[i], func(v string) string { return v })
			}
		}
	}
}

// What cannot be routed is an error, and so is what is refused; what is too large
// is for good.
func TestFailures(t *testing.T) {
	s, ch := start(t)
	events := brokertest.Events("o", 4, 2)
	queue(t, ch, "some", "shop", "none", nil)
	if err := place(t, s, `,"exchange":"shop"`).Deliver(t.Context(), events); err == nil || !strings.Contains(err.Error(), "no queue gets") {
		t.Errorf("no route: %v", err)
	}
	if err := place(t, s, `,"queue":"missing"`).Deliver(t.Context(), events); err == nil || !strings.Contains(err.Error(), "no queue gets") {
		t.Errorf("no queue: %v", err)
	}
	if err := place(t, s, `,"exchange":"missing"`).Deliver(t.Context(), events); err == nil || !strings.Contains(err.Error(), "no exchange 'missing'") {
		t.Errorf("no exchange: %v", err)
	}
	queue(t, ch, "full", "", "", amqp.Table{"x-max-length": 2, "x-overflow": "reject-publish"})
	target := place(t, s, `,"queue":"full"`)
	if err := target.Deliver(t.Context(), events); err == nil || !strings.Contains(err.Error(), "has not taken") {
		t.Errorf("a full queue: %v", err)
	}
	for _, m := range stored(t, ch, "full") { // the second wave was not sent
		if m.MessageId == events[2].ID || m.MessageId == events[3].ID {
			t.Errorf("%s is there", m.MessageId)
		}
	}
	queue(t, ch, "fine", "", "", nil)
	target = place(t, s, `,"queue":"fine"`)
	large := slices.Clone(events[:1])
	large[0].Data = json.RawMessage(`"` + strings.Repeat("x", 70_000) + `"`)
	if err := target.Deliver(t.Context(), large); !engine.IsPermanent(err) {
		t.Errorf("too large: %v", err)
	}
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Errorf("after that: %v", err)
	}
	long := slices.Clone(events[:1])
	long[0].Subject = strings.Repeat("x", 300)
	if err := place(t, s, `,"exchange":"shop","routing_key":"{subject}"`).Deliver(t.Context(), long); !engine.IsPermanent(err) {
		t.Errorf("a long routing key: %v", err)
	}
	wrong := brokertest.Open(t, New(broker.NewHosts([]string{"127.0.0.1"})), fmt.Sprintf(`{"kind":"rabbitmq","url":"amqp://guest:wrong@127.0.0.1:%d","queue":"fine"}`, s.Port))
	if err := wrong.Deliver(t.Context(), events); !engine.IsAway(err) {
		t.Errorf("a wrong password: %v", err)
	}
}

// A server that takes nothing for want of memory is left alone, and one that was
// killed is connected to again; what it had confirmed is there.
func TestServerGoesAway(t *testing.T) {
	s, ch := start(t)
	queue(t, ch, "kept", "", "", nil)
	target := place(t, s, `,"timeout":"1s","queue":"kept"`)
	first, second := brokertest.Events("first", 20, 3), brokertest.Events("second", 20, 3)
	if err := target.Deliver(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := s.Control("set_vm_memory_high_watermark", "absolute", "1MB"); err != nil {
		t.Fatal(err)
	}
	var busy delivery.Busy
	if err := target.Deliver(t.Context(), second); !errors.As(err, &busy) {
		t.Errorf("it takes nothing: %v", err)
	}
	if err := s.Control("eval", "mnesia:sync_log()."); err != nil { // it writes down a little later that there is a queue
		t.Fatal(err)
	}
	s.Kill()
	begun := time.Now()
	err := target.Deliver(t.Context(), second)
	if err == nil || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	if err := target.Deliver(t.Context(), second); !engine.IsAway(err) {
		t.Errorf("no server: %v", err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := target.Deliver(t.Context(), second); err != nil {
		t.Errorf("the server is back: %v", err)
	}
	_, ch = start(t)
	ids := map[string]bool{}
	for _, m := range stored(t, ch, "kept") {
		ids[m.MessageId] = true
	}
	if len(ids) != 40 {
		t.Errorf("%d of 40 events are there", len(ids))
	}
}

func TestSettings(t *testing.T) {
	k := New(broker.NewHosts([]string{"*.internal"}))
	brokertest.BadSettings(t, k, map[string]string{
		`{"kind":"rabbitmq","queue":"a"}`:                                                       "no address",
		`{"kind":"rabbitmq","url":"http://a.internal","queue":"a"}`:                             "no address",
		`{"kind":"rabbitmq","url":"amqp://a.example","queue":"a"}`:                              "--broker-hosts",
		`{"kind":"rabbitmq","url":"amqp://a.internal"}`:                                         "one of exchange and queue",
		`{"kind":"rabbitmq","url":"amqp://a.internal","queue":"a","exchange":"b"}`:              "one of exchange and queue",
		`{"kind":"rabbitmq","url":"amqp://a.internal","queue":"a","routing_key":"b"}`:           "routing_key is for",
		`{"kind":"rabbitmq","url":"amqp://a.internal","exchange":"a","routing_key":"{colour}"}`: "{colour}",
		`{"kind":"rabbitmq","url":"amqp://a.internal","exchange":"a","tls":{}}`:                 "amqps",
		`{"kind":"rabbitmq","url":"amqp://a.internal","exchange":"a","subject":"x"}`:            "unknown field",
		`{"kind":"rabbitmq","url":"amqps://a.internal","queue":"a","tls":{"cert":"x"}}`:         "both, or none",
	})
	brokertest.Secrets(t, k, `{"kind":"rabbitmq","url":"amqps://ann:sesame@a.internal/shop","queue":"a"}`, "a.internal", "b.internal", "sesame")
	brokertest.Golden(t, k, `{"kind":"rabbitmq","url":"amqps://ann:sesame@a.internal/shop","exchange":"events","routing_key":"x.{type}","format":"binary","timeout":"5s","tls":{"server_name":"x.internal"}}`)
}
