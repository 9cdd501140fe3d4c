package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

const (
	dialTime  = 10 * time.Second
	heartbeat = 10 * time.Second
	// writeTime is how long a server may take to read: one that is short of
	// memory stops.
	writeTime = 30 * time.Second
	// maxWave is how many messages may be on their way on a channel.
	maxWave = 1000
)

// A conn is a connection to a server, with channels that are used by one
// delivery at a time.
type conn struct {
	amqp    *amqp.Connection
	blocked atomic.Pointer[string] // why the server takes nothing now

	mu   sync.Mutex
	idle []*channel
}

// A channel is one on which messages are confirmed.
type channel struct {
	*amqp.Channel
	returned chan amqp.Return
	closed   chan *amqp.Error
}

// A patient connection fails when the other side does not read.
type patient struct{ net.Conn }

// Write implements io.Writer.
func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// dial connects to the first of the servers that answers.
func (s *servers) dial(ctx context.Context, hosts *broker.Hosts) (*conn, error) {
	secured, err := s.TLS.Config()
	if err != nil {
		return nil, err
	}
	var errs []error
	for address := range strings.SplitSeq(s.URL, ",") {
		c, err := s.dialOne(ctx, address, hosts, secured)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s *servers) dialOne(ctx context.Context, address string, hosts *broker.Hosts, secured *tls.Config) (*conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if s.User != "" {
		u.User = url.UserPassword(s.User, s.Password)
	}
	raw, err := amqp.DialConfig(u.String(), amqp.Config{
		Heartbeat: heartbeat, TLSClientConfig: secured, Properties: amqp.Table{"connection_name": "deed"},
		Dial: func(network, address string) (net.Conn, error) {
			c, err := hosts.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			end, _ := ctx.Deadline()
			return patient{c}, c.SetDeadline(end) // for the handshakes, the library's own are without end
		},
	})
	if err != nil {
		return nil, err
	}
	c := &conn{amqp: raw}
	go c.watch(raw.NotifyBlocked(make(chan amqp.Blocking, 1)))
	return c, nil
}

// watch notes whether the server takes messages, until the connection ends.
func (c *conn) watch(blockings <-chan amqp.Blocking) {
	for b := range blockings {
		if b.Active {
			c.blocked.Store(&b.Reason)
		} else {
			c.blocked.Store(nil)
		}
	}
}

// Close implements broker.Conn.
func (c *conn) Close() { c.amqp.CloseDeadline(time.Now().Add(time.Second)) } // it may be broken

// Broken implements broker.Conn.
func (c *conn) Broken() bool { return c.amqp.IsClosed() }

// take returns a channel for one delivery.
func (c *conn) take() (*channel, error) {
	c.mu.Lock()
	for n := len(c.idle); n > 0; n = len(c.idle) {
		ch := c.idle[n-1]
		if c.idle = c.idle[:n-1]; !ch.IsClosed() {
			c.mu.Unlock()
			return ch, nil
		}
	}
	c.mu.Unlock()
	raw, err := c.amqp.Channel()
	if err != nil {
		return nil, err
	}
	ch := &channel{raw, raw.NotifyReturn(make(chan amqp.Return, maxWave)), raw.NotifyClose(make(chan *amqp.Error, 1))}
	return ch, raw.Confirm(false)
}

// give makes a channel free, on which nothing is on its way.
func (c *conn) give(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, ch)
}

// publish brings messages to an exchange, in waves.
func (c *conn) publish(ctx context.Context, exchange string, msgs []message, waves [][]int) error {
	if why := c.blocked.Load(); why != nil {
		return delivery.Busy{Err: fmt.Errorf("the server takes no messages: %s", *why)}
	}
	ch, err := c.take()
	if err != nil {
		return err
	}
	for _, wave := range waves {
		if err := ch.wave(ctx, exchange, msgs, wave); err != nil {
			go ch.Close() // what is on its way on it must not be taken for something else; it waits for the server
			if why := c.blocked.Load(); why != nil {
				return delivery.Busy{Err: fmt.Errorf("the server takes no messages: %s", *why)}
			}
			return err
		}
	}
	c.give(ch)
	return nil
}

// wave publishes messages that may be on their way at once, and waits until all
// of them are confirmed. What could not be routed comes back before that.
func (ch *channel) wave(ctx context.Context, exchange string, msgs []message, wave []int) error {
	confirms := make([]*amqp.DeferredConfirmation, len(wave))
	for i, at := range wave {
		var err error
		if confirms[i], err = ch.PublishWithDeferredConfirm(exchange, msgs[at].key, true, false, msgs[at].Publishing); err != nil {
			return ch.failed(err)
		}
	}
	for i, confirm := range confirms {
		select {
		case <-confirm.Done():
		case <-ctx.Done():
			return ch.failed(ctx.Err())
		}
		if !confirm.Acked() {
			return ch.failed(fmt.Errorf("the server has not taken %s", msgs[wave[i]].MessageId))
		}
	}
	select {
	case r := <-ch.returned:
		return fmt.Errorf("no queue gets %s, with the routing key %q: %s", r.MessageId, r.RoutingKey, r.ReplyText)
	default:
		return nil
	}
}

// failed says what an error means: the server may have said why it closed the
// channel. The library says that it is closed a moment before it says why.
func (ch *channel) failed(err error) error {
	var moment time.Duration
	if ch.IsClosed() {
		moment = time.Second
	}
	select {
	case said := <-ch.closed:
		if said != nil {
			err = said
		}
	case <-time.After(moment):
	}
	said, ok := errors.AsType[*amqp.Error](err)
	switch {
	case ok && said.Code == amqp.PreconditionFailed && strings.Contains(said.Reason, "message size"):
		return engine.Permanent(err)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("the server has not confirmed it in time")
	}
	return err
}
