package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
)

// What is read at once.
const (
	chunk      = 512
	chunkBytes = 1 << 20

	// There is room for so many messages that wait to be taken in. The client makes it
	// for each request, 64 Ki if nobody says how much: 512 KiB to read one message.
	answers = 2 * chunk
)

// A batch is the answer to a direct get.
type batch struct {
	msgs []message
	more bool   // the replica has more of what was asked for
	upTo uint64 // how far the replica is; only if last messages were asked for
}

// direct asks any replica of a stream for messages. The replica may be behind
// the leader: it answers with less then, but never leaves anything out in
// between. Who asks must know how far there is something to be had.
func (s *Store) direct(ctx context.Context, stream string, r getRequest) (b batch, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return b, err
	}
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return b, s.failed(ctx, err)
	}
	defer sub.Unsubscribe()
	if err := sub.SetPendingLimits(-1, -1); err != nil { // the request is bounded
		return b, s.failed(ctx, err)
	}
	if err := s.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return b, s.failed(ctx, err)
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return b, s.failed(ctx, err)
		}
		if m.Header.Get("Status") != "" && len(m.Data) == 0 {
			return b, b.end(m)
		}
		if err := b.add(m); err != nil {
			return b, err
		}
	}
}

// add takes a message in. Each says which one came before it: one that was
// lost on the way shows.
func (b *batch) add(m *nats.Msg) error {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: jetstream: a message without a sequence", store.ErrUnavailable)
	}
	before := uint64(0)
	if n := len(b.msgs); n > 0 {
		before = b.msgs[n-1].seq
	}
	if m.Header.Get("Nats-Last-Sequence") != strconv.FormatUint(before, 10) {
		return fmt.Errorf("%w: a message was lost on the way", errTransient)
	}
	b.msgs = append(b.msgs, message{subject: m.Header.Get("Nats-Subject"), seq: seq, header: m.Header, data: m.Data})
	return nil
}

// end reads the message that ends a batch.
func (b *batch) end(m *nats.Msg) error {
	switch status := m.Header.Get("Status"); status {
	case "204":
		before := uint64(0)
		if n := len(b.msgs); n > 0 {
			before = b.msgs[n-1].seq
		}
		if m.Header.Get("Nats-Last-Sequence") != strconv.FormatUint(before, 10) {
			return fmt.Errorf("%w: a message was lost on the way", errTransient)
		}
		pending := m.Header.Get("Nats-Num-Pending")
		b.more = pending != "0" && pending != ""
		b.upTo, _ = strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64)
		return nil
	case "404":
		return nil
	case "503":
		return fmt.Errorf("%w: no replica answers", errTransient)
	default:
		return fmt.Errorf("%w: jetstream: %s %s", store.ErrUnavailable, status, m.Header.Get("Description"))
	}
}
