// Package kafka delivers public events to topics of Kafka. What is delivered is
// on all replicas that are in sync.
package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

// settings are what is stored of a target.
type settings struct {
	cluster
	Topic string `json:"topic"` // for example events or events.{type}

	topic broker.Template
}

// New returns the kind of targets that are topics of Kafka.
func New(hosts *broker.Hosts) delivery.Kind {
	lines := &broker.Lines[*conn]{}
	return &broker.Kind[*settings]{
		Name: "kafka", Hosts: hosts,
		Empty: func() *settings { return &settings{} },
		Place: func(s *settings) (delivery.Target, error) { return open(s, hosts, lines) },
	}
}

// Complete implements broker.Settings.
func (s *settings) Complete() error {
	if err := s.cluster.complete(); err != nil {
		return err
	}
	var err error
	if s.topic, err = broker.ParseTemplate(s.Topic); err != nil {
		return fmt.Errorf("topic %w", err)
	}
	if sample := s.topic.Of(&delivery.Event{}, fit); sample != fit(sample) || strings.Trim(sample, ".") == "" {
		return fmt.Errorf("topic is a name of up to %d letters, digits, dots, _ and -, for example events.{type}", maxTopic)
	}
	return nil
}

// maxTopic is how long the name of a topic may be.
const maxTopic = 249

// fit makes a value fit for the name of a topic: what must not be there is _ instead.
func fit(v string) string {
	v = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, v)
	return v[:min(len(v), maxTopic)]
}

// A target is a topic, or several.
type target struct {
	*settings
	hosts *broker.Hosts
	lines *broker.Lines[*conn]
	key   string // of the connection
}

func open(s *settings, hosts *broker.Hosts, lines *broker.Lines[*conn]) (*target, error) {
	if _, err := s.TLS.Config(); err != nil {
		return nil, err
	}
	key, err := json.Marshal([]any{s.Brokers, s.User, s.Password, s.Mechanism, s.TLS})
	return &target{s, hosts, lines, string(key)}, err
}

// Deliver implements delivery.Target.
func (t *target) Deliver(ctx context.Context, events []delivery.Event) error {
	records := make([]*kgo.Record, len(events))
	for i := range events {
		r, err := t.record(&events[i])
		if err == nil && sizeOf(r) > maxBytes {
			err = fmt.Errorf("it has %d bytes, more than the %d that a client of Kafka sends", sizeOf(r), maxBytes)
		}
		if err != nil { // nothing is sent, and it is found out which it is
			return engine.Permanent(fmt.Errorf("%s: %w", events[i].ID, err))
		}
		records[i] = r
	}
	within, cancel := context.WithTimeout(ctx, t.Patience())
	defer cancel()
	dial := func(ctx context.Context) (*conn, error) { return t.dial(ctx, t.hosts) }
	return t.lines.Use(ctx, t.key, dial, func(c *conn) error { return c.publish(within, records) })
}

// record is what an event becomes. Those with the same key are in one partition
// of the topic, in their order.
func (t *target) record(e *delivery.Event) (*kgo.Record, error) {
	r := &kgo.Record{Topic: fit(t.topic.Of(e, fit)), Key: []byte(e.PartitionKey), Timestamp: e.Time}
	if t.Format == broker.Binary {
		r.Value = e.Data
		for name, v := range e.All() {
			if name == "datacontenttype" {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "content-type", Value: []byte(v)})
			} else {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(v)})
			}
		}
		return r, nil
	}
	r.Headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte(broker.ContentType)}}
	var err error
	r.Value, err = broker.Body(e)
	return r, err
}

// maxBytes is how large a record may be: what brokers take, if nobody has told
// them otherwise, less what is around it.
const maxBytes = 1_000_000

func sizeOf(r *kgo.Record) int {
	n := 100 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}
