package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/engine"
)

// Timing and bounds of a client.
const (
	// linger lets the records of a delivery be together before the first is sent.
	linger = 2 * time.Millisecond
	// grace is for how long a client may still find out what came of records
	// when their time is up.
	grace = 2 * time.Second
	// newsEvery is how often a client asks at most what topics there are.
	newsEvery = 500 * time.Millisecond
	// maxPending is how many records may be on their way: all that 64 deliveries
	// of 1000 events have.
	maxPending = 64_000
)

// A conn is a client of brokers. It is an idempotent producer that waits for all
// replicas in sync: a broker takes the records of a partition in their order and
// once, and when one fails, all behind it fail.
type conn struct {
	client *kgo.Client
	closed atomic.Bool
}

// dial makes a client that produces.
func (t *target) dial(ctx context.Context, hosts *broker.Hosts) (*conn, error) {
	client, err := t.client(ctx, hosts,
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBytes+1000), kgo.MaxBufferedRecords(maxPending),
		kgo.UnknownTopicRetries(1), kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return nil, err
	}
	return &conn{client: client}, nil
}

// Close implements broker.Conn.
func (c *conn) Close() {
	if !c.closed.Swap(true) {
		c.client.Close()
	}
}

// Broken implements broker.Conn.
func (c *conn) Broken() bool { return c.closed.Load() }

// publish brings records to their topics. Those of a delivery are sent together,
// and if that is too much for a broker, one by one.
func (c *conn) publish(ctx context.Context, records []*kgo.Record) error {
	err := c.produce(ctx, records)
	if !errors.Is(err, kerr.MessageTooLarge) || len(records) == 1 {
		return c.failed(ctx, err)
	}
	for _, r := range records {
		one := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
		if err := c.produce(ctx, []*kgo.Record{one}); err != nil {
			return c.failed(ctx, err)
		}
	}
	return nil
}

// produce waits for records as long as there is time. A client may not know then
// what came of them: it is given up, so that nothing of it comes late.
func (c *conn) produce(ctx context.Context, records []*kgo.Record) error {
	done := make(chan error, 1)
	go func() { done <- c.client.ProduceSync(ctx, records...).FirstErr() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		c.Close()
		return <-done
	}
}

// failed says what an error means. A client whose brokers do not answer is given
// up: the next delivery finds out whether they are back.
func (c *conn) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge):
		return engine.Permanent(err)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("there is no such topic: %w", err)
	case !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return err
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if c.client.Ping(within) != nil {
		c.Close()
	}
	return fmt.Errorf("the brokers have not confirmed it in time: %w", err)
}
