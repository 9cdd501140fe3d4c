package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deed-dev/deed/internal/broker"
)

// A source is topics that a group consumes. All members of the group share their
// partitions.
type source struct {
	cluster
	Topics []string      `json:"topics"`
	Group  string        `json:"group"`
	AtOnce broker.AtOnce `json:"at_once,omitzero"` // so many records before the first is acknowledged; default 100

	// Session is after how long other members take over from one that is silent;
	// default 15s.
	Session string `json:"session,omitempty"`

	hosts *broker.Hosts
}

// NewSource returns the source that settings describe. It tries nothing.
func NewSource(hosts *broker.Hosts, settings json.RawMessage) (broker.Source, error) {
	s := &source{hosts: hosts}
	if err := broker.Read("kafka", settings, hosts, s); err != nil {
		return nil, err
	}
	_, err := s.TLS.Config()
	return s, err
}

// Complete implements broker.Settings.
func (s *source) Complete() error {
	if err := s.cluster.complete(); err != nil {
		return err
	}
	if len(s.Topics) == 0 || slices.ContainsFunc(s.Topics, func(t string) bool { return t == "" || t != fit(t) }) || s.Group == "" {
		return errors.New("has to have topics, a list of names, and group, the name of the consumer group")
	}
	if d, err := time.ParseDuration(s.Session); s.Session != "" && (err != nil || d < time.Second || d > 5*time.Minute) {
		return errors.New("session is a duration from 1s to 5m")
	}
	return s.AtOnce.Check()
}

// session is after how long a silent member is given up.
func (s *source) session() time.Duration {
	d, err := time.ParseDuration(s.Session)
	if err != nil {
		return 15 * time.Second
	}
	return d
}

// dialTime is how long the brokers have to answer.
const dialTime = 10 * time.Second

// Run implements broker.Source.
func (s *source) Run(ctx context.Context, take broker.Take) error {
	within, done := context.WithTimeout(ctx, dialTime)
	defer done()
	client, err := s.client(within, s.hosts, kgo.ConsumerGroup(s.Group), kgo.ConsumeTopics(s.Topics...), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(s.session()), kgo.RebalanceTimeout(2*s.session()), kgo.HeartbeatInterval(s.session()/5), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for {
		fetched := client.PollRecords(ctx, s.AtOnce.N())
		if err := errors.Join(ctx.Err(), fetched.Err0()); err != nil {
			return err
		}
		for _, e := range fetched.Errors() {
			return fmt.Errorf("%s, partition %d: %w", e.Topic, e.Partition, e.Err)
		}
		if err := settle(ctx, client, take, fetched.Records()); err != nil {
			return err
		}
		client.AllowRebalance()
	}
}

// settle has records taken, and says then that the group is past them. A record
// that can never be taken is passed over: Kafka has no other place for it.
func settle(ctx context.Context, client *kgo.Client, take broker.Take, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	messages := make([]broker.Message, len(records))
	for i, r := range records {
		messages[i] = messageOf(r)
	}
	if _, err := broker.TakeAll(ctx, take, messages); err != nil {
		return err
	}
	within, done := context.WithTimeout(ctx, dialTime)
	defer done()
	return client.CommitRecords(within, records...)
}

// messageOf is a record as others know it.
func messageOf(r *kgo.Record) broker.Message {
	h := http.Header{}
	for _, x := range r.Headers {
		if attribute, is := strings.CutPrefix(x.Key, "ce_"); is {
			broker.SetAttribute(h, attribute, string(x.Value))
		} else {
			h.Set(x.Key, string(x.Value))
		}
	}
	if len(r.Key) > 0 {
		h.Set("Record-Key", string(r.Key))
	}
	place := fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset)
	broker.Presume(h, place)
	return broker.Message{Header: h, Body: r.Value, Place: place}
}
