package consume

import (
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
)

// unreadable is the type of a message that is none: no reception knows it, so it
// is a dead letter, with what it is and why it cannot be read.
const unreadable = "deed.unreadable"

// take stores messages, all in one append if that can be.
func (c *consumer) take(ctx context.Context, messages []broker.Message) []error {
	ctx = deed.With(ctx, deed.Call{Actor: c.Name, Source: c.kind})
	errs := make([]error, len(messages))
	var all []deed.InboundMessage
	for i := range messages {
		all = append(all, c.read(&messages[i])...)
	}
	_, err := c.rt.Accept(ctx, c.Reception, all...)
	if err == nil {
		return errs
	}
	_, odd := errors.AsType[deed.Invalid](err)
	if !odd {
		c.log.Error("messages cannot be stored now: the broker keeps them", "messages", len(messages), "error", err)
	}
	for i := range errs {
		if errs[i] = err; odd {
			errs[i] = c.takeOne(ctx, &messages[i])
		}
	}
	return errs
}

// takeOne stores one message: what it says, or that it says nothing.
func (c *consumer) takeOne(ctx context.Context, m *broker.Message) error {
	_, err := c.rt.Accept(ctx, c.Reception, c.read(m)...)
	if _, odd := errors.AsType[deed.Invalid](err); !odd {
		return err
	}
	_, again := c.rt.Accept(ctx, c.Reception, c.unreadable(m, err))
	if _, odd := errors.AsType[deed.Invalid](again); odd {
		c.log.Error("a message can never be stored, and is left to the broker", "place", m.Place, "bytes", len(m.Body), "error", err)
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	return again
}

// read returns the messages that one of a broker is.
func (c *consumer) read(m *broker.Message) []deed.InboundMessage {
	all, err := c.Form.Read(c.address(), m.Header, m.Body)
	if err != nil {
		return []deed.InboundMessage{c.unreadable(m, err)}
	}
	return all
}

// unreadable is what is stored of a message that cannot be read.
func (c *consumer) unreadable(m *broker.Message, why error) deed.InboundMessage {
	c.log.Warn("a message cannot be read", "place", m.Place, "error", why)
	return deed.InboundMessage{
		ID: m.Place, Source: c.address(), Type: unreadable, ContentType: "application/octet-stream", Attributes: map[string]string{"reason": why.Error()}, Data: m.Body,
	}
}

// address is the source of what says none.
func (c *consumer) address() string { return "/receptions/" + c.Reception + "/consumers/" + c.Name }
