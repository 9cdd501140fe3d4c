package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
)

var (
	// errMoved reports that an expected sequence is not the one there is.
	// Nothing was written.
	errMoved = errors.New("jetstream: somebody else has written")
	// errLost reports that there was no answer: nobody knows what happened.
	errLost = errors.New("jetstream: the answer was lost")
)

// How much of a batch is sent before the server must have taken it in: it
// drops what it has no room for.
const (
	windowMsgs  = 256
	windowBytes = 8 << 20
)

// publish writes all messages, or none, and returns the sequence of the last.
// Any error but errLost means that nothing was written.
func (s *Store) publish(ctx context.Context, msgs []*nats.Msg) (uint64, error) {
	patience := attemptTime + time.Duration(len(msgs))*time.Millisecond
	for _, m := range msgs {
		patience += time.Duration(len(m.Data)>>10) * time.Millisecond
	}
	if len(msgs) == 1 {
		return s.ask(ctx, msgs[0], patience)
	}
	id := nuid.Next()
	sent, size := 0, 0
	for i, m := range msgs {
		m.Header[headBatchID] = []string{id}
		m.Header[headBatchSeq] = []string{strconv.Itoa(i + 1)}
		sent, size = sent+1, size+len(m.Data)
		switch {
		case i == len(msgs)-1:
			m.Header[headBatchCommit] = []string{"1"}
			return s.ask(ctx, m, patience)
		case sent == windowMsgs || size >= windowBytes:
			sent, size = 0, 0
			if _, err := s.ask(ctx, m, patience); err != nil {
				return 0, beforeCommit(err)
			}
		default:
			if err := s.nc.PublishMsg(m); err != nil {
				return 0, beforeCommit(s.failed(ctx, err))
			}
		}
	}
	return 0, nil
}

// beforeCommit says what an error means in the middle of a batch: a batch
// that is not committed is never written.
func beforeCommit(err error) error {
	if errors.Is(err, errLost) {
		return fmt.Errorf("%w: in the middle of a batch: %s", errTransient, quote(err))
	}
	return err
}

// ask publishes a message and waits for the answer, but not for ever.
func (s *Store) ask(ctx context.Context, m *nats.Msg, patience time.Duration) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", errTransient, err)
	}
	within, cancel := s.line.attempt(ctx, patience)
	defer cancel()
	answer, err := s.nc.RequestMsgWithContext(within, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded):
		return 0, fmt.Errorf("%w: %w", errTransient, err) // it was not even sent
	case errors.Is(err, nats.ErrMaxPayload):
		return 0, fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errLost, err)
	case len(answer.Data) == 0: // in the middle of a batch
		return 0, nil
	}
	var ack struct {
		Seq uint64 `json:"seq"`
	}
	err = decodeAnswer(answer.Data, &ack)
	switch {
	case is(err, codeWrongLast, codeWrongLastToo):
		return 0, errMoved
	case is(err, codeIncomplete, codeTooMany, codeTooManyBatches):
		return 0, fmt.Errorf("%w: %w", errTransient, err)
	case is(err, codeBatchTooLarge): // a server that did not say so when it was asked
		return 0, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	case err != nil && !errors.Is(err, errTransient):
		return 0, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return ack.Seq, err
}
