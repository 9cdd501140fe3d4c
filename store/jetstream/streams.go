package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
)

// tombTTL is how long JetStream keeps the message that says that a document
// is deleted. It must be longer than any write can be under way.
const tombTTL = "10m"

// makeStreams makes the streams that are missing, and checks those there are.
func (s *Store) makeStreams(ctx context.Context) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
	}
	for _, want := range []jetstream.StreamConfig{s.logConfig(), s.docsConfig()} {
		err := s.try(ctx, func(ctx context.Context) error {
			have, err := js.Stream(ctx, want.Name)
			if err == nil {
				return compare(want, have.CachedInfo().Config)
			}
			if errors.Is(err, jetstream.ErrStreamNotFound) && s.opts.MustExist {
				return fmt.Errorf("%w: jetstream: there is no installation %q: the stream %s is not there", store.ErrUnavailable, s.subjects.name, want.Name)
			}
			if _, err = js.CreateStream(ctx, want); err != nil {
				return fmt.Errorf("%w: making the stream %s: %w", errTransient, want.Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// logConfig is the stream of records: nothing is ever taken away from it.
func (s *Store) logConfig() jetstream.StreamConfig {
	c := s.config(s.subjects.log(), s.subjects.inLog(everything))
	c.Description = "deed: the log. Nothing may be deleted from it."
	c.DenyDelete, c.DenyPurge = true, true
	return c
}

// docsConfig is the stream of documents: it keeps the last message of each.
func (s *Store) docsConfig() jetstream.StreamConfig {
	c := s.config(s.subjects.docs(), s.subjects.inDocs(everything))
	c.Description = "deed: documents."
	c.MaxMsgsPerSubject = 1
	c.AllowMsgTTL = true
	return c
}

func (s *Store) config(name, subject string) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: name, Subjects: []string{subject}, Replicas: s.opts.Replicas,
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1,
		Duplicates:  time.Second, // not used: repeated appends are found in the log
		AllowDirect: true, AllowAtomicPublish: true,
	}
	if len(s.opts.Tags) > 0 {
		c.Placement = &jetstream.Placement{Tags: s.opts.Tags}
	}
	return c
}

// compare says in which way a stream that is there could lose something.
func compare(want, have jetstream.StreamConfig) error {
	var wrong []string
	need := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	need(len(have.Subjects) == 1 && have.Subjects[0] == want.Subjects[0], "subjects are not "+want.Subjects[0])
	need(have.Storage == jetstream.FileStorage, "storage is not file")
	need(have.Retention == want.Retention, "retention is not limits")
	need(have.Discard == want.Discard, "discard is not new")
	need(have.MaxAge == 0, "messages have an age")
	need(have.MaxMsgsPerSubject == want.MaxMsgsPerSubject, "messages per subject are not "+strconv.FormatInt(want.MaxMsgsPerSubject, 10))
	need(have.DenyDelete == want.DenyDelete && have.DenyPurge == want.DenyPurge, "deleting is not denied as it should be")
	need(have.AllowMsgTTL == want.AllowMsgTTL, "message TTL is not as it should be")
	need(have.AllowAtomicPublish, "atomic publishing is not allowed")
	need(have.AllowDirect, "direct gets are not allowed")
	need(have.Mirror == nil && len(have.Sources) == 0, "it has messages of other streams")
	need(have.SubjectTransform == nil, "subjects are transformed")
	need(!have.NoAck, "it does not acknowledge")
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: jetstream: the stream %s was changed or is not deed's: %s", store.ErrUnavailable, want.Name, strings.Join(wrong, ", "))
}

// limits are those of the servers.
type limits struct {
	batch   int // messages in an atomic batch
	payload int // bytes of a message
}

// What a store promises to take: an event, or an append, with everything that
// goes with it.
const (
	fullBatch   = 2 * store.MaxEvents      // events, and streams that are only looked at
	fullPayload = 2*store.MaxData + 16<<10 // data, meta, headers
)

// probe finds out the limits of the servers. A message that claims to be the
// last of a batch nobody has begun changes nothing: the server either says
// that the batch is too large, or that it is incomplete.
func (s *Store) probe(ctx context.Context) error {
	s.limits = limits{batch: fullBatch, payload: int(s.nc.MaxPayload())}
	err := s.try(ctx, func(ctx context.Context) error {
		m := nats.NewMsg(s.subjects.check())
		m.Header.Set(headBatchID, nuid.Next())
		m.Header.Set(headBatchSeq, strconv.Itoa(fullBatch))
		answer, err := s.nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			return s.failed(ctx, err)
		}
		return decodeAnswer(answer.Data, &json.RawMessage{})
	})
	switch {
	case is(err, codeIncomplete):
	case is(err, codeBatchTooLarge):
		text := err.Error()
		if _, err := fmt.Sscanf(text[strings.LastIndexByte(text, ':')+1:], "%d", &s.limits.batch); err != nil {
			s.limits.batch = defaultBatch
		}
	case err == nil:
		return fmt.Errorf("%w: jetstream: a server before version 2.12: there are no atomic batches", store.ErrUnavailable)
	default:
		return err
	}
	if !s.opts.Limited && (s.limits.batch < fullBatch || s.limits.payload < fullPayload) {
		return fmt.Errorf("%w: jetstream: the servers take %d messages in a batch and %d bytes in a message: set max_payload: %d and jetstream { limits { batch { max_msgs: %d } } }, or accept less (Options.Limited)",
			store.ErrUnavailable, s.limits.batch, s.limits.payload, fullPayload, fullBatch)
	}
	return nil
}

// defaultBatch is the limit of a server that was told nothing.
const defaultBatch = 1000
