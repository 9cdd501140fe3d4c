package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

// publish brings events to their stream: in rows or as a whole where the stream
// takes that, else in waves.
func (t *target) publish(ctx context.Context, c *conn, events []delivery.Event) error {
	var is takes
	if len(events) > 1 {
		is = c.takenBy(ctx, t)
	}
	if is.rows {
		err := c.inRows(ctx, t, events)
		if !refused(err) {
			return err
		}
	}
	msgs, err := t.messages(c, events)
	if err != nil {
		return err
	}
	if is.wholes && !is.rows {
		err := c.whole(ctx, msgs)
		if !refused(err) {
			return err
		}
	}
	// Each for itself: what is to blame is found out, and the stream passes over
	// what it has already.
	for _, wave := range broker.Waves(events) {
		futures := make([]jetstream.PubAckFuture, len(wave))
		for i, at := range wave {
			if futures[i], err = c.js.PublishMsgAsync(msgs[at]); err != nil {
				return c.failed(ctx, err)
			}
		}
		for _, f := range futures {
			err = errors.Join(err, c.acknowledged(ctx, f))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused reports whether the server did not want something, and says why.
func refused(err error) bool {
	_, is := errors.AsType[*jetstream.APIError](err)
	return is
}

// acknowledged waits until a message is in its stream.
func (c *conn) acknowledged(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return c.failed(ctx, err)
	case <-ctx.Done():
		c.worn.Store(true)
		return c.failed(ctx, ctx.Err())
	case <-c.closed:
		return c.failed(ctx, natsgo.ErrConnectionClosed)
	}
}

// Headers of messages that are published as a whole.
const (
	headBatchID     = "Nats-Batch-Id"
	headBatchSeq    = "Nats-Batch-Sequence"
	headBatchCommit = "Nats-Batch-Commit"
)

// window is how many messages of a whole are sent before the server has to say
// that it has them: it drops what it has no room for.
const window = 250

// whole publishes messages so that all of them are in their stream, or none.
func (c *conn) whole(ctx context.Context, msgs []*natsgo.Msg) error {
	id := nuid.Next()
	for i, m := range msgs {
		part := &natsgo.Msg{Subject: m.Subject, Data: m.Data, Header: make(natsgo.Header, len(m.Header)+3)}
		for name, v := range m.Header {
			part.Header[name] = v
		}
		part.Header[headBatchID], part.Header[headBatchSeq] = []string{id}, []string{strconv.Itoa(i + 1)}
		last := i == len(msgs)-1
		if last {
			part.Header[headBatchCommit] = []string{"1"}
		}
		var err error
		if last || i == 0 || i%window == 0 {
			err = c.ask(ctx, part, last)
		} else {
			err = c.nc.PublishMsg(part)
		}
		if err != nil {
			return c.failed(ctx, err)
		}
	}
	return nil
}

// ask publishes a message of a whole, and waits for what the server says.
func (c *conn) ask(ctx context.Context, m *natsgo.Msg, last bool) error {
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return err
	}
	if len(answer.Data) == 0 && !last {
		return nil
	}
	var said struct {
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &said); err != nil || said.Error == nil && said.Stream == "" {
		return jetstream.ErrInvalidJSAck
	}
	if said.Error != nil {
		return said.Error
	}
	return nil
}

// failed says what an error means. It is one of this delivery, or one of the
// place.
func (c *conn) failed(ctx context.Context, err error) error {
	said, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case ok && said.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return engine.Permanent(err)
	case ok && said.Code == 503: // it is full, or has no leader
		return delivery.Busy{Err: err}
	case errors.Is(err, natsgo.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes the subject: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		if denied := c.denied.Swap(nil); denied != nil {
			return fmt.Errorf("the server said nothing to it, but: %w", *denied)
		}
		return errors.New("the server has not acknowledged it in time")
	}
	return err
}

// pattern is by which the stream is found that a target publishes to.
func (t *target) pattern() string {
	before, _, several := strings.Cut(t.Subject, "{")
	if !several {
		return t.Subject
	}
	return before[:strings.LastIndexByte(before, '.')+1] + ">"
}
