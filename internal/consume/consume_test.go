package consume

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/rabbittest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var killRounds = flag.Int("kills", 1, "how often a process is killed at each place between a broker and a command")

// programEnv makes this test binary the program that is killed: its value is the
// place, how often it is passed, and the ground.
const programEnv = "DEED_CONSUME_PROGRAM"

func TestMain(m *testing.M) {
	if args := os.Getenv(programEnv); args != "" {
		a := strings.SplitN(args, "|", 3)
		n, err := strconv.Atoi(a[1])
		var g ground
		if err = errors.Join(err, json.Unmarshal([]byte(a[2]), &g)); err == nil {
			err = g.program(context.Background(), &killer{place: a[0], left: int64(n)}, nil)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A killer kills its process when it passes a place for the nth time.
type killer struct {
	place string
	left  int64
}

func (k *killer) at(place string) {
	if k != nil && k.place == place && atomic.AddInt64(&k.left, -1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// places are where the program is killed: what a broker has given out is stored
// after the first and before the second, and acknowledged before the third.
var places = []string{"given out", "stored", "acknowledged", "done"}

// watched is a source that is passed, and whose messages cannot be stored at first.
type watched struct {
	broker.Source
	k    *killer
	away *atomic.Int64 // so many times more
}

func (w watched) Run(ctx context.Context, take broker.Take) error {
	taken := false
	return w.Source.Run(ctx, func(ctx context.Context, messages []broker.Message) []error {
		if taken {
			w.k.at("acknowledged")
		}
		w.k.at("given out")
		if w.away.Add(-1) >= 0 {
			return slices.Repeat([]error{store.ErrUnavailable}, len(messages))
		}
		errs := take(ctx, messages)
		w.k.at("stored")
		taken = true
		return errs
	})
}

// deadly is a store that is passed when commands are recorded.
type deadly struct {
	*sqlite.Store
	k *killer
}

func (d deadly) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	w, err := d.Store.Append(ctx, writes...)
	if strings.HasPrefix(writes[0].Stream, "jar/") {
		d.k.at("done")
	}
	return w, err
}

type (
	jar  struct{ Coins int }
	coin struct{ N int }
	drop struct{ N int }
)

func (e coin) Apply(j *jar)                          { j.Coins++ }
func (c drop) Decide(jar) ([]deed.Event[jar], error) { return []deed.Event[jar]{coin(c)}, nil }

var jars = deed.Aggregate[jar]{
	Name: "jar", Events: map[string]deed.Event[jar]{"coin": coin{}}, Commands: map[string]deed.Command[jar]{"drop": drop{}},
}

// found is what messages say.
type found struct {
	Jar string `json:"jar"`
	N   int    `json:"n"`
}

// coins puts a coin into a jar for each message.
var coins = deed.Domain{Name: "coins", Parts: []deed.Part{jars, deed.Reception{
	Name: "coins", Messages: []deed.Receiving{
		deed.Receive("coin.found.v1", func(_ context.Context, m deed.Received[found]) ([]deed.Sending, error) {
			return []deed.Sending{deed.Send(jars, m.Data.Jar, drop{m.Data.N})}, nil
		}),
	},
}}}

// A ground is where the program works.
type ground struct {
	Dir      string
	NATS     string
	RabbitMQ string
	Kafka    []string
}

// start runs brokers.
func start(t *testing.T) *ground {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server of RabbitMQ")
	}
	servers := natstest.Start(t, t.TempDir(), 1, func(_ string, s *natstest.Settings) { s.SyncAlways = false })
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "coins"), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &ground{Dir: t.TempDir(), NATS: fmt.Sprintf("nats://127.0.0.1:%d", servers.Port(0)), RabbitMQ: rabbittest.Start(t).URL(), Kafka: cluster.ListenAddrs()}
}

// consumers are one of each kind: CloudEvents in both modes, and plain JSON.
func (g *ground) consumers() []Consumer {
	brokers, _ := json.Marshal(g.Kafka) // a list of texts
	list, err := Read([]byte(`[
		{"name":"nats","reception":"coins","from":{"kind":"nats","url":"` + g.NATS + `","stream":"COINS","consumer":"deed","at_once":7}},
		{"name":"rabbitmq","reception":"coins","from":{"kind":"rabbitmq","url":"` + g.RabbitMQ + `","queue":"coins","at_once":7}},
		{"name":"kafka","reception":"coins","format":"json","type":"text:coin.found.v1","from":{"kind":"kafka","brokers":` + string(brokers) + `,"topics":["coins"],"group":"deed","at_once":7,"session":"2s"}}
	]`))
	if err != nil {
		panic(err)
	}
	return list
}

// program consumes, until it is killed or, without a killer, until done returns.
func (g *ground) program(ctx context.Context, k *killer, done func(*deed.Runtime)) error {
	s, err := sqlite.Open(filepath.Join(g.Dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	rt, err := deed.New(deadly{s, k}, deed.Config{Domains: []deed.Domain{coins}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	all, err := New(rt, broker.NewHosts([]string{"127.0.0.1"}), slog.New(slog.DiscardHandler), g.consumers())
	if err != nil {
		return err
	}
	for _, c := range all.list {
		away := &atomic.Int64{}
		away.Store(2)
		c.source = watched{c.source, k, away}
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { rt.Run(ctx) })
	group.Go(func() { all.Run(ctx) })
	if done != nil {
		done(rt)
		return nil
	}
	<-ctx.Done()
	return nil
}

// A sender sends to all brokers.
type sender struct {
	t     *testing.T
	js    jetstream.JetStream
	amqp  *amqp.Channel
	kafka *kgo.Client
}

func (g *ground) sender(t *testing.T) *sender {
	t.Helper()
	s := &sender{t: t}
	nc, err := natsgo.Connect(g.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if s.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	coins, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "COINS", Subjects: []string{"coins"}})
	if err == nil { // one that is made is given out again after a minute
		_, err = coins.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "deed", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second})
	}
	if err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.Dial(g.RabbitMQ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if s.amqp, err = conn.Channel(); err != nil {
		t.Fatal(err)
	}
	_, err = s.amqp.QueueDeclare("rejected", true, false, false, false, nil)
	if err == nil {
		_, err = s.amqp.QueueDeclare("coins", true, false, false, false, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "rejected"})
	}
	if err == nil {
		err = s.amqp.Confirm(false)
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(g.Kafka...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kafka.Close)
	return s
}

func (s *sender) nats(h natsgo.Header, body string) {
	s.t.Helper()
	if _, err := s.js.PublishMsg(s.t.Context(), &natsgo.Msg{Subject: "coins", Header: h, Data: []byte(body)}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sender) rabbit(p amqp.Publishing) {
	s.t.Helper()
	c, err := s.amqp.PublishWithDeferredConfirm("", "coins", true, false, p)
	if err != nil || !c.Wait() {
		s.t.Fatal(err)
	}
}

func (s *sender) record(body string, headers ...kgo.RecordHeader) {
	s.t.Helper()
	if err := s.kafka.ProduceSync(s.t.Context(), &kgo.Record{Topic: "coins", Value: []byte(body), Headers: headers}).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// all sends a message about the nth coin to each broker: as a CloudEvent as JSON, as
// one whose attributes are headers, and as plain JSON.
func (s *sender) all(n int) {
	s.t.Helper()
	s.nats(nil, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/nats","type":"coin.found.v1","data":{"jar":"nats","n":%d}}`, n, n))
	s.rabbit(amqp.Publishing{ContentType: "application/json", Body: fmt.Appendf(nil, `{"jar":"rabbitmq","n":%d}`, n), DeliveryMode: amqp.Persistent, Headers: amqp.Table{
		"cloudEvents:specversion": "1.0", "cloudEvents:id": strconv.Itoa(n), "cloudEvents:source": "/rabbitmq", "cloudEvents:type": "coin.found.v1", "cloudEvents:time": time.Now(),
	}})
	s.record(fmt.Sprintf(`{"jar":"kafka","n":%d}`, n))
}

// forgotten waits until Kafka has given up the programs that were killed, as it does
// with a member that is silent. kfake never gives up one that dies while it waits for
// another to be given up, so no program may begin before.
func (s *sender) forgotten() {
	s.t.Helper()
	ask := kmsg.NewPtrDescribeGroupsRequest()
	ask.Groups = []string{"deed"}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		answer, err := ask.RequestWith(s.t.Context(), s.kafka)
		if err != nil {
			s.t.Fatal(err)
		}
		if members := answer.Groups[0].Members; len(members) == 0 {
			return
		} else if time.Now().After(end) {
			s.t.Fatalf("%d members are not given up", len(members))
		}
	}
}

// odd sends what can be taken by nobody, and what was sent before.
func (s *sender) odd() {
	s.t.Helper()
	s.all(1)
	s.nats(nil, "tea")
	s.rabbit(amqp.Publishing{Body: []byte("tea")})
	s.rabbit(amqp.Publishing{Body: make([]byte, 2<<20), ContentType: "text/plain"})
	s.record("tea")
}

// oddities waits until what is odd is a dead letter, or where the broker puts what
// is rejected.
func oddities(t *testing.T, rt *deed.Runtime, s *sender) {
	t.Helper()
	letters := map[string]string{}
	rejected := false
	for end := time.Now().Add(time.Minute); len(letters) < 3 || !rejected; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("dead letters: %v; rejected: %v", letters, rejected)
		}
		for rec, err := range rt.Store().ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"$message"}, Types: []string{"received"}}) {
			if err != nil {
				t.Fatal(err)
			}
			if text := string(rec.Data); strings.Contains(text, "dGVh") || strings.Contains(text, `"tea"`) { // as it is, or in base64
				letters[rec.Stream] = text
			}
		}
		if !rejected {
			m, ok, err := s.amqp.Get("rejected", true)
			if err != nil {
				t.Fatal(err)
			}
			rejected = ok && len(m.Body) == 2<<20
		}
	}
}

// loads returns how many coins each jar has.
func loads(t *testing.T, rt *deed.Runtime) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, name := range []string{"nats", "rabbitmq", "kafka"} {
		j, _, err := jars.Load(t.Context(), rt, name)
		if err != nil && !errors.Is(err, deed.ErrNotFound) {
			t.Fatal(err)
		}
		out[name] = j.Coins
	}
	return out
}

// A process is killed at every place between a broker and a command: what a broker
// gives out is done once.
func TestKilledBetweenBrokerAndCommand(t *testing.T) {
	g := start(t)
	send := g.sender(t)
	where, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for round := range *killRounds {
		for i, place := range places {
			for range 15 {
				n++
				send.all(n)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d|%s", programEnv, place, 1+(round+i)%3, where))
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(time.Minute, func() { t.Errorf("%s is not passed", place); cmd.Process.Kill() })
			err := cmd.Wait()
			late.Stop()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%s: %v", place, err)
			}
			send.forgotten()
		}
	}
	err = g.program(t.Context(), nil, func(rt *deed.Runtime) {
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			got := loads(t, rt)
			if got["nats"] >= n && got["rabbitmq"] >= n && got["kafka"] >= n {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%v of %d coins", got, n)
			}
		}
		send.odd()
		oddities(t, rt, send)
		for name, have := range loads(t, rt) {
			if name == "kafka" {
				have-- // a record has no id but its place, so the repetition is another one
			}
			if have != n {
				t.Errorf("%s: %d coins, and there were %d messages", name, have, n)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages of each broker, %d kills", n, *killRounds*len(places))
}
