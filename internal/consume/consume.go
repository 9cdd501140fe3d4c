// Package consume takes in messages that are at brokers: a [Consumer] says from
// where they come, what they look like, and to which reception they go.
package consume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/kafka"
	"github.com/deed-dev/deed/internal/broker/nats"
	"github.com/deed-dev/deed/internal/broker/rabbitmq"
	"github.com/deed-dev/deed/internal/inbound"
)

// A Consumer is where messages of others come from, and where they go.
type Consumer struct {
	Name      string          `json:"name"`
	Reception string          `json:"reception"`
	From      json.RawMessage `json:"from"` // where they are: settings of one of the kinds nats, rabbitmq and kafka
	inbound.Form
}

// kinds make sources of settings.
var kinds = map[string]func(*broker.Hosts, json.RawMessage) (broker.Source, error){
	"nats": nats.NewSource, "rabbitmq": rabbitmq.NewSource, "kafka": kafka.NewSource,
}

// Read reads a list of consumers.
func Read(data []byte) (list []Consumer, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return list, dec.Decode(&list)
}

// Consumers are some that are at work.
type Consumers struct {
	rt   *deed.Runtime
	log  *slog.Logger
	list []*consumer
}

// A consumer is one that is at work.
type consumer struct {
	Consumer
	kind   string
	source broker.Source
	rt     *deed.Runtime
	log    *slog.Logger
}

// New returns consumers of brokers at the hosts that may be connected to. It
// connects to none.
func New(rt *deed.Runtime, hosts *broker.Hosts, log *slog.Logger, list []Consumer) (*Consumers, error) {
	all := &Consumers{rt: rt, log: log}
	known := map[string]bool{}
	for _, c := range list {
		made, err := all.consumer(hosts, c)
		if err == nil && known[c.Name] {
			err = errors.New("is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("the consumer %q: %w", c.Name, err)
		}
		known[c.Name] = true
		all.list = append(all.list, made)
	}
	return all, nil
}

func (all *Consumers) consumer(hosts *broker.Hosts, c Consumer) (*consumer, error) {
	if c.Name == "" || len(c.Name) > 64 || strings.ContainsFunc(c.Name, func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.') }) {
		return nil, errors.New("name has lower-case letters, digits, hyphens and dots, at most 64")
	}
	if !slices.ContainsFunc(all.rt.Receptions(), func(r deed.ReceptionInfo) bool { return r.Name == c.Reception }) {
		return nil, fmt.Errorf("there is no reception %q", c.Reception)
	}
	if err := c.Form.Check(); err != nil {
		return nil, err
	}
	var named struct{ Kind string }
	if err := json.Unmarshal(c.From, &named); err != nil || kinds[named.Kind] == nil {
		return nil, fmt.Errorf("from is a JSON object with a kind, one of %s", strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	source, err := kinds[named.Kind](hosts, c.From)
	if err != nil {
		return nil, fmt.Errorf("from %w", err)
	}
	return &consumer{c, named.Kind, source, all.rt, all.log.With("consumer", c.Name)}, nil
}

// Run consumes until ctx ends.
func (all *Consumers) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, c := range all.list {
		group.Go(func() { c.run(ctx) })
	}
	group.Wait()
}

// run consumes, and begins anew after a while whenever the broker is away.
func (c *consumer) run(ctx context.Context) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := c.source.Run(ctx, func(ctx context.Context, messages []broker.Message) []error {
			failures = 0
			return c.take(ctx, messages)
		})
		if ctx.Err() == nil {
			c.log.Warn("the broker is away, or gives out nothing", "error", err)
			broker.Pause(ctx, failures)
		}
	}
}
