package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/rabbittest"
)

// startBrokers runs brokers, and notes what arrives at each as its consumers get it.
func (g *ground) startBrokers(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs a server of RabbitMQ")
	}
	servers := natstest.Start(t, t.TempDir(), 1, func(_ string, s *natstest.Settings) { s.SyncAlways = false })
	g.NATS = fmt.Sprintf("nats://127.0.0.1:%d", servers.Port(0))
	g.RabbitMQ = rabbittest.Start(t).URL()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "ticks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	g.Kafka = cluster.ListenAddrs()
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); all.Wait() })
	for name, follow := range map[string]func(context.Context, func(id string)) error{"nats": g.followNATS, "rabbitmq": g.followRabbitMQ, "kafka": g.followKafka} {
		all.Go(func() {
			err := follow(ctx, func(id string) {
				if err := g.arrived(name).add(id); err != nil {
					t.Error(err)
				}
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func (g *ground) followNATS(ctx context.Context, arrives func(string)) error {
	nc, err := natsgo.Connect(g.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// So short a window lets repetitions be seen.
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "TICKS", Subjects: []string{"ticks.*"}, Duplicates: 100 * time.Millisecond, AllowBatchPublish: true})
	if err != nil {
		return err
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	iter, err := c.Messages()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, iter.Stop)()
	for {
		m, err := iter.Next()
		if err != nil {
			return err
		}
		arrives(m.Headers().Get("ce-id"))
	}
}

func (g *ground) followRabbitMQ(ctx context.Context, arrives func(string)) error {
	c, err := amqp.Dial(g.RabbitMQ)
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare("ticks", true, false, false, false, nil); err != nil {
		return err
	}
	msgs, err := ch.ConsumeWithContext(ctx, "ticks", "", true, true, false, false, nil)
	if err != nil {
		return err
	}
	for m := range msgs {
		var e struct{ ID string }
		if err := json.Unmarshal(m.Body, &e); err != nil {
			return err
		}
		arrives(e.ID)
	}
	return errors.New("the server hung up")
}

func (g *ground) followKafka(ctx context.Context, arrives func(string)) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(g.Kafka...), kgo.ConsumeTopics("ticks"))
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		fetched := c.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			return err
		}
		for _, r := range fetched.Records() {
			var e struct{ ID string }
			if err := json.Unmarshal(r.Value, &e); err != nil {
				return err
			}
			arrives(e.ID)
		}
	}
}
