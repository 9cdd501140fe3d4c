package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
)

// Codes of errors of the JetStream API.
const (
	codeWrongLast      = 10071 // an expected sequence is not the one there is
	codeWrongLastToo   = 10164
	codeNoMessage      = 10037
	codeIncomplete     = 10176 // a batch was dropped before its commit
	codeTooManyBatches = 10210
	codeTooMany        = 10167
	codeBatchTooLarge  = 10199
	codeNotLeader      = 10009
	codeNoStream       = 10059 // also while a server starts
	codeNoJetStream    = 10039
)

// errTransient reports that nothing happened, and that trying again soon may
// go better: there is no leader, or a replica is behind.
var errTransient = errors.New("jetstream: try again")

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// An apiError is an error of the JetStream API.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("jetstream: %s (%d)", e.Description, e.ErrCode)
}

// is reports whether an error is one of the API with one of the codes.
func is(err error, codes ...int) bool {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if e.ErrCode == c {
			return true
		}
	}
	return false
}

// usable reports why a call must not even begin.
func (s *Store) usable(ctx context.Context) error {
	if s.closed() {
		return errClosed
	}
	return ctx.Err()
}

// try calls f until it returns something other than a transient error. A
// leader that was lost is replaced within seconds.
func (s *Store) try(ctx context.Context, f func(context.Context) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, maxPause) {
		attempt, stop := s.line.attempt(within, attemptTime)
		err := f(attempt)
		late := attempt.Err() != nil
		stop()
		if err == nil || !late && !errors.Is(err, errTransient) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-within.Done():
			return s.gaveUp(ctx, err)
		}
	}
}

// gaveUp is the error after trying for long enough.
func (s *Store) gaveUp(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.closed():
		return errClosed
	}
	return fmt.Errorf("%w: jetstream: %s: no answer within %v: %s", store.ErrUnavailable, s.subjects.name, s.opts.Timeout, quote(err))
}

// Bounds of trying again.
const (
	attemptTime = time.Second
	maxPause    = 100 * time.Millisecond
)

// call asks the JetStream API something that changes nothing.
func (s *Store) call(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := s.nc.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return s.failed(ctx, err)
	}
	return decodeAnswer(m.Data, answer)
}

// decodeAnswer reads an answer of the API: an error, or what was asked for.
func decodeAnswer(data []byte, answer any) error {
	var a struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return fmt.Errorf("%w: an answer that is not JSON: %w", store.ErrUnavailable, err)
	}
	if a.Error == nil {
		return json.Unmarshal(data, answer)
	}
	if a.Error.Code == 503 || is(a.Error, codeNotLeader, codeNoStream, codeNoJetStream) {
		return fmt.Errorf("%w: %w", errTransient, a.Error)
	}
	return a.Error
}

// unexpected is an error of the API that no question of ours should meet.
func unexpected(err error) error {
	if e, ok := errors.AsType[*apiError](err); ok && !errors.Is(err, errTransient) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, e)
	}
	return err
}

// failed says what an error of the connection means for a question.
func (s *Store) failed(ctx context.Context, err error) error {
	switch {
	case s.closed():
		return errClosed
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
	case ctx.Err() != nil, errors.Is(err, nats.ErrMaxPayload):
		return err
	}
	return fmt.Errorf("%w: %w", errTransient, err)
}

// A getRequest asks for messages. Its fields are those of JetStream.
type getRequest struct {
	Seq       uint64   `json:"seq,omitempty"`
	Last      string   `json:"last_by_subj,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// everything is the subject of all messages.
const everything = ">"

// leaderGet asks the leader of a stream for one message; seq 0 means that
// there is none. Only the leader is sure to have what was acknowledged.
func (s *Store) leaderGet(ctx context.Context, stream string, r getRequest) (m message, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		var a struct {
			Message struct {
				Subject string `json:"subject"`
				Seq     uint64 `json:"seq"`
				Header  []byte `json:"hdrs"`
				Data    []byte `json:"data"`
			} `json:"message"`
		}
		err := s.call(ctx, "STREAM.MSG.GET."+stream, r, &a)
		if is(err, codeNoMessage) {
			m, err = message{}, nil
			return nil
		}
		if err != nil {
			return unexpected(err)
		}
		m = message{subject: a.Message.Subject, seq: a.Message.Seq, data: a.Message.Data}
		if len(a.Message.Header) > 0 {
			if m.header, err = nats.DecodeHeadersMsg(a.Message.Header); err != nil {
				return fmt.Errorf("%w: jetstream: %s: message %d: %w", store.ErrCorrupt, stream, m.seq, err)
			}
		}
		return nil
	})
	return m, err
}
