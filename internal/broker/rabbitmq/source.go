package rabbitmq

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/deed-dev/deed/internal/broker"
)

// A source is a queue. All who consume from it share its messages.
type source struct {
	servers
	Queue  string        `json:"queue"`
	AtOnce broker.AtOnce `json:"at_once,omitzero"` // so many messages before the first is acknowledged; default 100

	hosts *broker.Hosts
}

// NewSource returns the source that settings describe. It tries nothing.
func NewSource(hosts *broker.Hosts, settings json.RawMessage) (broker.Source, error) {
	s := &source{hosts: hosts}
	if err := broker.Read("rabbitmq", settings, hosts, s); err != nil {
		return nil, err
	}
	_, err := s.TLS.Config()
	return s, err
}

// Complete implements broker.Settings.
func (s *source) Complete() error {
	if err := s.servers.complete(); err != nil {
		return err
	}
	if s.Queue == "" || len(s.Queue) > maxShort {
		return fmt.Errorf("queue is a name of up to %d bytes", maxShort)
	}
	return s.AtOnce.Check()
}

// Run implements broker.Source.
func (s *source) Run(ctx context.Context, take broker.Take) error {
	within, done := context.WithTimeout(ctx, dialTime)
	defer done()
	c, err := s.dial(within, s.hosts)
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.amqp.Channel()
	if err != nil {
		return err
	}
	n := s.AtOnce.N()
	if err := ch.Qos(n, 0, false); err != nil {
		return err
	}
	arriving, err := ch.Consume(s.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	go func() {
		select {
		case why := <-closed:
			if why == nil {
				why = amqp.ErrClosed
			}
			cancel(why)
		case <-ctx.Done():
		}
	}()
	for {
		batch, ok := broker.Gather(ctx, arriving, n)
		if !ok {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			return errors.New("the server gives out nothing more from the queue: it may be deleted")
		}
		if err := settle(ctx, take, batch); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// settle has messages taken, and tells the server. What can never be taken goes
// where the queue sends what is rejected.
func settle(ctx context.Context, take broker.Take, batch []amqp.Delivery) error {
	messages := make([]broker.Message, len(batch))
	for i := range batch {
		messages[i] = messageOf(&batch[i])
	}
	refused, err := broker.TakeAll(ctx, take, messages)
	if err != nil {
		return err // the server gives them out again
	}
	for i := range batch {
		if refused[i] {
			err = batch[i].Reject(false)
		} else {
			err = batch[i].Ack(false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// messageOf is a message as others know it. It has no place of its own: one
// without an id is known by what it says.
func messageOf(m *amqp.Delivery) broker.Message {
	h := http.Header{}
	for name, v := range m.Headers {
		attribute, is := strings.CutPrefix(name, "cloudEvents:")
		if !is {
			attribute, is = strings.CutPrefix(name, "cloudEvents_")
		}
		if is {
			broker.SetAttribute(h, attribute, text(v))
		} else {
			h.Set(name, text(v))
		}
	}
	for name, v := range map[string]string{
		"Content-Type": m.ContentType, "Content-Encoding": m.ContentEncoding, "Message-Id": m.MessageId, "Message-Type": m.Type, "Correlation-Id": m.CorrelationId,
		"App-Id": m.AppId, "Routing-Key": m.RoutingKey,
	} {
		if v != "" {
			h.Set(name, v)
		}
	}
	broker.Presume(h, "")
	sum := sha256.Sum256(m.Body)
	return broker.Message{Header: h, Body: m.Body, Place: "sha256:" + hex.EncodeToString(sum[:])}
}
