package consume

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/store/mem"
)

// What is wrong with a list of consumers is said before any of them is at work.
func TestBadConsumers(t *testing.T) {
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{coins}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	hosts := broker.NewHosts([]string{"*.internal"})
	for text, want := range map[string]string{
		`{}`:                      "cannot unmarshal",
		`[{"name":"a","x":1}]`:    "unknown field",
		`[{"reception":"coins"}]`: "name has",
		`[{"name":"a","reception":"stamps","from":{"kind":"nats"}}]`:                                                                                                                                            `no reception "stamps"`,
		`[{"name":"a","reception":"coins","from":{"kind":"carrier-pigeon"}}]`:                                                                                                                                   "kind, one of kafka, nats, rabbitmq",
		`[{"name":"a","reception":"coins","format":"xml","from":{"kind":"nats"}}]`:                                                                                                                              "format",
		`[{"name":"a","reception":"coins","from":{"kind":"nats","url":"nats://a.internal"}}]`:                                                                                                                   "stream and consumer",
		`[{"name":"a","reception":"coins","from":{"kind":"nats","url":"nats://a.example","stream":"S","consumer":"c"}}]`:                                                                                        "--broker-hosts",
		`[{"name":"a","reception":"coins","from":{"kind":"nats","url":"nats://a.internal","stream":"S","consumer":"c","at_once":5000}}]`:                                                                        "at_once",
		`[{"name":"a","reception":"coins","from":{"kind":"rabbitmq","url":"amqp://a.internal"}}]`:                                                                                                               "queue is",
		`[{"name":"a","reception":"coins","from":{"kind":"kafka","brokers":["a.internal"],"topics":["t"]}}]`:                                                                                                    "group",
		`[{"name":"a","reception":"coins","from":{"kind":"kafka","brokers":["a.internal"],"topics":["t"],"group":"g","session":"1ms"}}]`:                                                                        "session",
		`[{"name":"a","reception":"coins","from":{"kind":"rabbitmq","url":"amqp://a.internal","queue":"q"}},{"name":"a","reception":"coins","from":{"kind":"rabbitmq","url":"amqp://a.internal","queue":"q"}}]`: "twice",
	} {
		list, err := Read([]byte(text))
		if err == nil {
			_, err = New(rt, hosts, slog.New(slog.DiscardHandler), list)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
