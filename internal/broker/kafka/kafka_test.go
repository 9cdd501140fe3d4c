package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/brokertest"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/natstest"
)

// start runs a cluster that speaks the protocol of Kafka, with a topic of some
// partitions.
func start(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(3, "events")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// stored reads n records of all topics.
func stored(t *testing.T, c *kfake.Cluster, n int, opts ...kgo.Opt) (all []*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(".*"), kgo.ConsumeRegex())...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for len(all) < n {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		fetched := client.PollFetches(ctx)
		cancel()
		if err := fetched.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(all), n, err)
		}
		all = append(all, fetched.Records()...)
	}
	return all
}

func place(t *testing.T, c *kfake.Cluster, more string) delivery.Target {
	t.Helper()
	brokers, err := json.Marshal(c.ListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	return brokertest.Open(t, New(broker.NewHosts([]string{"127.0.0.1"})), `{"kind":"kafka","brokers":`+string(brokers)+more+`}`)
}

// inOrder checks that those of a key are in one partition and in order, and
// returns how many different ones there are.
func inOrder(t *testing.T, records []*kgo.Record) int {
	t.Helper()
	slices.SortStableFunc(records, func(a, b *kgo.Record) int { return int(a.Offset - b.Offset) })
	last, where, seen := map[string]string{}, map[string]int32{}, map[string]bool{}
	for _, r := range records {
		var e delivery.Event
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != e.PartitionKey {
			t.Errorf("the key is %s", r.Key)
		}
		if p, there := where[e.PartitionKey]; there && p != r.Partition {
			t.Errorf("%s is in two partitions", r.Key)
		}
		if where[e.PartitionKey] = r.Partition; seen[e.ID] {
			continue
		}
		if seen[e.ID] = true; e.Sequence <= last[e.PartitionKey] {
			t.Errorf("%s comes after %s", e.ID, last[e.PartitionKey])
		}
		last[e.PartitionKey] = e.Sequence
	}
	return len(seen)
}

// What is delivered is what the binding for Kafka says, in both modes.
func TestDelivered(t *testing.T) {
	for _, format := range []string{"structured", "binary"} {
		c := start(t)
		events := brokertest.Events("orders", 40, 5)
		target := place(t, c, `,"topic":"events","format":"`+format+`"`)
		for part := range slices.Chunk(events, 15) {
			if err := target.Deliver(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
		got := stored(t, c, len(events))
		if format == "structured" && inOrder(t, got) != len(events) {
			t.Errorf("%d records", len(got))
		}
		for _, r := range got {
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[strings.TrimPrefix(h.Key, "ce_")] = string(h.Value)
			}
			if format == "structured" {
				var e ce.Event
				if err := e.UnmarshalJSON(r.Value); err != nil || headers["content-type"] != broker.ContentType {
					t.Fatalf("%s %v: %v", r.Value, headers, err)
				}
				i := slices.IndexFunc(events, func(w delivery.Event) bool { return w.ID == e.ID() })
				brokertest.Same(t, e, events[i])
				continue
			}
			headers["datacontenttype"] = headers["content-type"]
			delete(headers, "content-type")
			i := slices.IndexFunc(events, func(w delivery.Event) bool { return w.ID == headers["id"] })
			brokertest.SameBinary(t, headers, r.Value, events[i], func(v string) string { return v })
		}
	}
}

// Whatever brokers answer, of a key nothing overtakes what failed.
func TestNothingOvertakes(t *testing.T) {
	c := start(t, kfake.SeedTopics(1, "events"))
	var n atomic.Int64
	for range 12 { // each second request is refused, for a while or for good
		c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			i := n.Add(1)
			if i%2 == 0 {
				return nil, nil, false
			}
			p := req.(*kmsg.ProduceRequest)
			res := p.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range p.Topics {
				out := kmsg.NewProduceResponseTopic()
				out.Topic, out.TopicID = topic.Topic, topic.TopicID
				for _, part := range topic.Partitions {
					failed := kmsg.NewProduceResponseTopicPartition()
					failed.Partition = part.Partition
					failed.ErrorCode = []int16{kerr.NotLeaderForPartition.Code, kerr.InvalidRecord.Code, kerr.NotEnoughReplicas.Code, kerr.TopicAuthorizationFailed.Code}[i/2%4]
					out.Partitions = append(out.Partitions, failed)
				}
				res.Topics = append(res.Topics, out)
			}
			return res, nil, true
		})
	}
	target := place(t, c, `,"topic":"events"`)
	events := brokertest.Events("o", 200, 3)
	failures := 0
	for part := range slices.Chunk(events, 20) {
		for target.Deliver(t.Context(), part) != nil {
			if failures++; failures > 20 {
				t.Fatal("it goes on")
			}
		}
	}
	if failures == 0 {
		t.Error("nothing failed")
	}
	if n := inOrder(t, stored(t, c, len(events))); n != len(events) {
		t.Errorf("%d of %d events", n, len(events))
	}
}

// What is too large is refused for good; what is only too much is sent in parts.
func TestTooLarge(t *testing.T) {
	c := start(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000"}))
	target := place(t, c, `,"topic":"events"`)
	for _, size := range []int{30_000, 2_000_000} {
		events := brokertest.Events("o", 1, 1)
		events[0].Data = json.RawMessage(`"` + random(size) + `"`)
		if err := target.Deliver(t.Context(), events); !engine.IsPermanent(err) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	events := brokertest.Events("o", 10, 1)
	for i := range events {
		events[i].Data = json.RawMessage(`"` + random(5000) + `"`)
	}
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
	if n := inOrder(t, stored(t, c, len(events))); n != len(events) {
		t.Errorf("%d of %d events", n, len(events))
	}
}

// random is a text that cannot be compressed to much less.
func random(n int) string {
	var b strings.Builder
	for i := uint64(1); b.Len() < n; i++ {
		fmt.Fprintf(&b, "%016x", i*0x9e3779b97f4a7c15)
	}
	return b.String()[:n]
}

// Errors say whether to wait for the place.
func TestFailures(t *testing.T) {
	c := start(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "ann", "sesame"), kfake.Superuser("PLAIN", "bob", "sesame"))
	events := brokertest.Events("o", 3, 1)
	ann := `,"user":"ann","mechanism":"scram-sha-256","password":"`
	if err := place(t, c, ann+`sesame","topic":"missing.{type}"`).Deliver(t.Context(), events); err == nil || engine.IsAway(err) || !strings.Contains(err.Error(), "no such topic") {
		t.Errorf("no topic: %v", err)
	}
	if err := place(t, c, ann+`wrong","topic":"events"`).Deliver(t.Context(), events); !engine.IsAway(err) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := place(t, c, ann+`sesame","topic":"events"`).Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
	if err := place(t, c, `,"user":"bob","password":"sesame","topic":"events"`).Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
}

// Brokers that are gone are away, also in the middle of deliveries; when they are
// back, what they had confirmed is there.
func TestBrokersGoAway(t *testing.T) {
	dir, ports := t.TempDir(), natstest.FreePorts(t, 1)
	run := func() *kfake.Cluster {
		return start(t, kfake.NumBrokers(1), kfake.Ports(ports...), kfake.DataDir(dir))
	}
	c := run()
	target := place(t, c, `,"topic":"events","timeout":"2s"`)
	var confirmed atomic.Int64
	done := make(chan error)
	go func() {
		for i := 0; ; i++ {
			if err := target.Deliver(t.Context(), brokertest.Events(fmt.Sprint("o", i), 20, 4)); err != nil {
				done <- err
				return
			}
			confirmed.Add(20)
		}
	}()
	time.Sleep(100 * time.Millisecond)
	c.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it is delivered to nobody")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
	events := brokertest.Events("last", 4, 1)
	if err := target.Deliver(t.Context(), events); !engine.IsAway(err) {
		t.Errorf("no broker: %v", err)
	}
	c = run()
	if err := target.Deliver(t.Context(), events); err != nil {
		t.Error(err)
	}
	if n := inOrder(t, stored(t, c, int(confirmed.Load())+4)); n < int(confirmed.Load())+4 {
		t.Errorf("%d of %d events", n, confirmed.Load()+4)
	}
}

func TestSettings(t *testing.T) {
	k := New(broker.NewHosts([]string{"*.internal"}))
	brokertest.BadSettings(t, k, map[string]string{
		`{"kind":"kafka","topic":"a"}`:                                                            "brokers is",
		`{"kind":"kafka","brokers":["kafka://a.internal:9092"],"topic":"a"}`:                      "no HOST:PORT",
		`{"kind":"kafka","brokers":["a.internal","b.example:9092"],"topic":"a"}`:                  "--broker-hosts",
		`{"kind":"kafka","brokers":["a.internal"]}`:                                               "topic is",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"a b"}`:                                 "topic is",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"{colour}"}`:                            "{colour}",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"a","mechanism":"plain"}`:               "needs a user",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"a","user":"u","mechanism":"kerberos"}`: "mechanism is",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"a","url":"x"}`:                         "unknown field",
		`{"kind":"kafka","brokers":["a.internal"],"topic":"a","password":"x"}`:                    "needs user",
	})
	brokertest.Secrets(t, k, `{"kind":"kafka","brokers":["a.internal:9093"],"topic":"a","user":"ann","password":"sesame","tls":{}}`, "a.internal", "b.internal", "sesame")
	brokertest.Golden(t, k, `{"kind":"kafka","brokers":["a.internal","b.internal:9093"],"topic":"events","user":"ann","password":"sesame","mechanism":"scram-sha-512","format":"binary","timeout":"5s","tls":{"server_name":"x.internal"}}`)
}
