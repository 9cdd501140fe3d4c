package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/internal/delivery"
)

// What a message of a row does, as the server reads it at the end of the reply
// subject (ADR-50 of NATS): <inbox>.<row>.<flow>.<gap>.<place>.<operation>.$FI
const (
	rowStart  = ".0.$FI"
	rowAppend = ".1.$FI"
	rowCommit = ".2.$FI"

	// rowFlow: the server says after so many messages at the latest that it has
	// them, and goes no further once one is missing or refused.
	rowFlow = ".500.fail."
)

// rowLength is how many messages are a row: the server has room for 10,000 that
// it has not stored yet, of all who publish.
const rowLength = 500

// rows are the rows of messages that are on their way by a connection. The server
// says once for a row how much of it is there.
type rows struct {
	inbox string

	mu   sync.Mutex
	open map[string]chan []byte // by what the row is called
}

// listen has what the server says of rows sorted by row.
func (r *rows) listen(nc *natsgo.Conn) error {
	r.inbox, r.open = nc.NewInbox(), map[string]chan []byte{}
	_, err := nc.Subscribe(r.inbox+".>", func(m *natsgo.Msg) {
		if bytes.HasPrefix(m.Data, []byte(`{"type":`)) { // on the way, which the end tells too
			return
		}
		name, _, _ := strings.Cut(m.Subject[len(r.inbox)+1:], ".")
		r.mu.Lock()
		answer := r.open[name]
		r.mu.Unlock()
		select {
		case answer <- m.Data:
		default: // nobody waits for it any more
		}
	})
	return err
}

// begin returns a new row, and where it is said how it ended.
func (r *rows) begin() (name string, answer chan []byte) {
	name, answer = nuid.Next(), make(chan []byte, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[name] = answer
	return name, answer
}

func (r *rows) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, name)
}

// inRows publishes events in rows. That a row ended early is an error of the
// server: those before the one that was refused or lost are in the stream, and
// those after it are not.
func (c *conn) inRows(ctx context.Context, t *target, events []delivery.Event) error {
	for row := range slices.Chunk(events, rowLength) {
		if err := c.row(ctx, t, row); err != nil {
			return err
		}
	}
	return nil
}

// row publishes events as one row, and waits until all of it is in the stream.
func (c *conn) row(ctx context.Context, t *target, events []delivery.Event) error {
	name, answer := c.rows.begin()
	defer c.rows.end(name)
	before := c.rows.inbox + "." + name + rowFlow
	m := &natsgo.Msg{Header: natsgo.Header{}} // for one after the other, as the library keeps none
	for i := range events {
		operation := rowAppend
		switch i {
		case len(events) - 1:
			operation = rowCommit
		case 0:
			operation = rowStart
		}
		err := t.fill(m, &events[i])
		if err == nil {
			err = c.fits(m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", events[i].ID, err)
		}
		m.Reply = before + strconv.Itoa(i+1) + operation
		if err := c.nc.PublishMsg(m); err != nil {
			return c.failed(ctx, err)
		}
	}
	select {
	case said := <-answer:
		if err := all(said, len(events)); err != nil {
			return c.failed(ctx, err)
		}
		return nil
	case <-ctx.Done():
		return c.failed(ctx, ctx.Err())
	case <-c.closed:
		return c.failed(ctx, natsgo.ErrConnectionClosed)
	}
}

// all reads what the server says of a row in the end: that all of it is there, or
// why not.
func all(said []byte, want int) error {
	var ack struct {
		Stream string              `json:"stream"`
		Count  int                 `json:"count"`
		Error  *jetstream.APIError `json:"error"`
	}
	err := json.Unmarshal(said, &ack)
	switch {
	case err == nil && ack.Error != nil:
		return ack.Error
	case err != nil || ack.Stream == "":
		return jetstream.ErrInvalidJSAck
	case ack.Count < want:
		return &jetstream.APIError{Code: 503, Description: fmt.Sprintf("it has taken %d of %d messages", ack.Count, want)}
	}
	return nil
}
