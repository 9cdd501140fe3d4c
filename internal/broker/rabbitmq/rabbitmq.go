// Package rabbitmq delivers public events to exchanges and queues of RabbitMQ.
// What is delivered is in a queue: the server has confirmed it, and has not sent
// it back.
package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

// settings are what is stored of a target.
type settings struct {
	servers
	Exchange   string `json:"exchange,omitempty"` // where messages go; or
	Queue      string `json:"queue,omitempty"`    // the one queue they go to
	RoutingKey string `json:"routing_key,omitempty"`

	key template
}

// template is a routing key, made of attributes.
type template = broker.Template

// New returns the kind of targets that are at servers of RabbitMQ.
func New(hosts *broker.Hosts) delivery.Kind {
	lines := &broker.Lines[*conn]{}
	return &broker.Kind[*settings]{
		Name: "rabbitmq", Hosts: hosts,
		Empty: func() *settings { return &settings{} },
		Place: func(s *settings) (delivery.Target, error) { return open(s, hosts, lines) },
	}
}

// maxShort is how long the short texts of AMQP may be, in bytes.
const maxShort = 255

// Complete implements broker.Settings.
func (s *settings) Complete() error {
	if err := s.servers.complete(); err != nil {
		return err
	}
	if (s.Exchange == "") == (s.Queue == "") {
		return errors.New("has to have one of exchange and queue")
	}
	if s.Queue != "" && s.RoutingKey != "" {
		return errors.New("routing_key is for an exchange: a queue has none")
	}
	if len(s.Exchange) > maxShort || len(s.Queue) > maxShort {
		return fmt.Errorf("exchange and queue have up to %d bytes", maxShort)
	}
	text := s.RoutingKey
	if s.Exchange != "" && text == "" {
		text = "{type}"
	}
	var err error
	if s.key, err = broker.ParseTemplate(text); err != nil {
		return fmt.Errorf("routing_key %w", err)
	}
	return nil
}

// A target is an exchange or a queue.
type target struct {
	*settings
	hosts *broker.Hosts
	lines *broker.Lines[*conn]
	line  string // the key of the connection
}

func open(s *settings, hosts *broker.Hosts, lines *broker.Lines[*conn]) (*target, error) {
	if _, err := s.TLS.Config(); err != nil {
		return nil, err
	}
	line, err := json.Marshal([]any{s.URL, s.User, s.Password, s.TLS})
	return &target{s, hosts, lines, string(line)}, err
}

// Deliver implements delivery.Target.
func (t *target) Deliver(ctx context.Context, events []delivery.Event) error {
	msgs := make([]message, len(events))
	for i := range events {
		var err error
		if msgs[i], err = t.message(&events[i]); err != nil {
			return engine.Permanent(fmt.Errorf("%s: %w", events[i].ID, err))
		}
	}
	within, cancel := context.WithTimeout(ctx, t.Patience())
	defer cancel()
	dial := func(ctx context.Context) (*conn, error) { return t.dial(ctx, t.hosts) }
	return t.lines.Use(ctx, t.line, dial, func(c *conn) error {
		return c.publish(within, t.Exchange, msgs, broker.Waves(events))
	})
}

// A message is what an event becomes.
type message struct {
	key string // for the exchange
	amqp.Publishing
}

// message returns what an event becomes.
func (t *target) message(e *delivery.Event) (m message, err error) {
	m.key = t.Queue
	if t.Queue == "" {
		m.key = t.key.Of(e, func(v string) string { return v })
	}
	if len(m.key) > maxShort {
		return m, fmt.Errorf("its routing key has more than %d bytes", maxShort)
	}
	m.DeliveryMode, m.Timestamp = amqp.Persistent, e.Time
	if len(e.ID) <= maxShort {
		m.MessageId = e.ID
	}
	if t.Format != broker.Binary {
		m.ContentType = broker.ContentType
		m.Body, err = broker.Body(e)
		return m, err
	}
	m.ContentType, m.Body, m.Headers = e.ContentType, e.Data, amqp.Table{}
	for name, v := range e.All() {
		if name != "datacontenttype" {
			m.Headers["cloudEvents:"+name] = v
		}
	}
	return m, nil
}
