package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/broker"
)

// A source is a consumer of a stream. All who name the same one share its messages.
type source struct {
	servers
	Stream   string        `json:"stream"`
	Consumer string        `json:"consumer"`          // durable; it is made if it is not there
	Subject  string        `json:"subject,omitempty"` // of one that is made: only messages with this subject, for example payments.>
	AtOnce   broker.AtOnce `json:"at_once,omitzero"`  // so many messages before the first is acknowledged; default 100

	hosts *broker.Hosts
}

// ackWait is after which the server gives a message out again that nobody has
// acknowledged.
const ackWait = time.Minute

// NewSource returns the source that settings describe. It tries nothing.
func NewSource(hosts *broker.Hosts, settings json.RawMessage) (broker.Source, error) {
	s := &source{hosts: hosts}
	if err := broker.Read("nats", settings, hosts, s); err != nil {
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
	if s.Stream == "" || s.Consumer == "" || !isName(s.Stream) || !isName(s.Consumer) {
		return errors.New("stream and consumer are their names: the consumer is made if it is not there")
	}
	return s.AtOnce.Check()
}

// Run implements broker.Source.
func (s *source) Run(ctx context.Context, take broker.Take) error {
	c, err := s.dial(ctx, s.hosts)
	if err != nil {
		return err
	}
	defer c.Close()
	consumer, err := s.consumer(ctx, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := s.AtOnce.N()
	arriving := make(chan jetstream.Msg, n)
	running, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case arriving <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(n), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if !errors.Is(err, jetstream.ErrNoHeartbeat) { // the connection looks after itself
			cancel(err)
		}
	}))
	if err != nil {
		return err
	}
	defer running.Stop()
	go func() {
		select {
		case <-c.closed:
			cancel(errors.New("the server has closed the connection"))
		case <-ctx.Done():
		}
	}()
	for failures := 0; ; {
		batch, ok := broker.Gather(ctx, arriving, n)
		if !ok {
			return context.Cause(ctx)
		}
		if !settle(ctx, take, batch, failures) {
			failures = 0
		} else if failures++; ctx.Err() == nil {
			broker.Pause(ctx, failures)
		}
	}
}

// consumer returns the consumer, which is made if it is not there.
func (s *source) consumer(ctx context.Context, c *conn) (jetstream.Consumer, error) {
	consumer, err := c.js.Consumer(ctx, s.Stream, s.Consumer)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return consumer, err
	}
	return c.js.CreateConsumer(ctx, s.Stream, jetstream.ConsumerConfig{
		Durable: s.Consumer, FilterSubject: s.Subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: 10 * s.AtOnce.N(),
	})
}

// settle has messages taken, and tells the server what came of each. Those that
// could not be stored are given out again after a while, and it reports whether
// there are such. An acknowledgement that is lost is a repetition, which is known.
func settle(ctx context.Context, take broker.Take, batch []jetstream.Msg, failures int) (again bool) {
	messages := make([]broker.Message, len(batch))
	for i, m := range batch {
		messages[i] = messageOf(m)
	}
	for i, err := range take(ctx, messages) {
		switch {
		case err == nil:
			batch[i].Ack()
		case errors.Is(err, broker.ErrRefused):
			batch[i].TermWithReason(err.Error())
		default:
			again = true
			batch[i].NakWithDelay(min(time.Duration(failures+1)*time.Second, ackWait))
		}
	}
	return again
}

// messageOf is a message as others know it.
func messageOf(m jetstream.Msg) broker.Message {
	h := http.Header{}
	for name, values := range m.Headers() {
		lower := strings.ToLower(name)
		for _, v := range values {
			switch lower {
			case "ce-datacontenttype":
				h.Set("Content-Type", v)
			case "nats-msg-id":
				h.Set("Message-Id", v)
			default:
				h.Add(name, v)
			}
		}
	}
	place := ""
	if at, err := m.Metadata(); err == nil {
		place = fmt.Sprintf("%s/%d", at.Stream, at.Sequence.Stream)
	}
	h.Set("Nats-Subject", m.Subject())
	broker.Presume(h, place)
	return broker.Message{Header: h, Body: m.Data(), Place: place}
}
