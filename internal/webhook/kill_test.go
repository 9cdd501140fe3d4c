package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/broker/kafka"
	"github.com/deed-dev/deed/internal/broker/nats"
	"github.com/deed-dev/deed/internal/broker/rabbitmq"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/sinks"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var killRounds = flag.Int("kills", 1, "how often a process is killed at each place between an append and a delivery")

// programEnv makes this test binary the program that is killed: its value is
// where it works, the place and how often it is passed.
const programEnv = "DEED_WEBHOOK_PROGRAM"

// A ground is where the program works.
type ground struct {
	Dir      string // of the database, and of what has arrived
	Receiver string // of webhooks
	NATS     string
	RabbitMQ string
	Kafka    []string
}

func TestMain(m *testing.M) {
	if args := os.Getenv(programEnv); args != "" {
		a := strings.SplitN(args, "|", 3)
		n, err := strconv.Atoi(a[1])
		var g ground
		if err = errors.Join(err, json.Unmarshal([]byte(a[2]), &g)); err == nil {
			err = program(context.Background(), g, &killer{place: a[0], left: int64(n)}, nil)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// places are where the program is killed.
var places = []string{"appended", "delivering", "under way", "delivered", "noting", "noted", "locked", "done", "completed"}

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

// deadly is a store that is passed on the way from an append to a delivery.
type deadly struct {
	*sqlite.Store
	k *killer
}

func (d deadly) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	w, err := d.Store.Append(ctx, writes...)
	d.k.at("appended")
	return w, err
}

func (d deadly) Write(ctx context.Context, changes ...store.Change) error {
	notes := slices.ContainsFunc(changes, func(c store.Change) bool { return c.Coll == "$cursor" && strings.HasPrefix(c.Key, "ticks.") })
	if notes {
		d.k.at("noting")
	}
	err := d.Store.Write(ctx, changes...)
	if notes {
		d.k.at("noted")
	}
	return err
}

// passing is a target that is passed before and after a delivery.
type passing struct {
	delivery.Target
	k *killer
}

func (p passing) Deliver(ctx context.Context, events []delivery.Event) error {
	p.k.at("delivering")
	onItsWay := time.AfterFunc(300*time.Microsecond, func() { p.k.at("under way") })
	err := p.Target.Deliver(ctx, events)
	onItsWay.Stop()
	p.k.at("delivered")
	return err
}

// watched is a kind whose targets are passed.
type watched struct {
	delivery.Kind
	k *killer
}

func (w watched) Open(name string, stored json.RawMessage) (delivery.Target, error) {
	t, err := w.Kind.Open(name, stored)
	return passing{t, w.k}, err
}

// A file has the ids of what has arrived at a subscriber.
type file string

// arrived is what has arrived at a subscriber.
func (g ground) arrived(name string) file { return file(filepath.Join(g.Dir, "ticks."+name)) }

func (f file) add(ids ...string) error {
	w, err := os.OpenFile(string(f), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.Join(ids, "\n")+"\n")
	return errors.Join(err, w.Close())
}

func (f file) ids() []string {
	data, _ := os.ReadFile(string(f)) // none yet
	return strings.Fields(string(data))
}

type (
	clock struct{ N int }
	tick  struct{ N int }
	wind  struct{ N int }
)

func (e tick) Apply(c *clock) { c.N = e.N }
func (c wind) Decide(clock) ([]deed.Event[clock], error) {
	return []deed.Event[clock]{tick(c)}, nil
}

var clocks = deed.Aggregate[clock]{
	Name: "clock", Events: map[string]deed.Event[clock]{"tick": tick{}}, Commands: map[string]deed.Command[clock]{"wind": wind{}},
}

// subscribers are of five kinds.
func (g ground) subscribers() []deed.Subscription {
	hook := func(more string) json.RawMessage {
		return json.RawMessage(`{"kind":"webhook","url":"` + g.Receiver + `/` + more + `}`)
	}
	return []deed.Subscription{
		{Name: "single", Target: hook(`single"`)},
		{Name: "batches", Batch: 10, Parallel: 2, Target: hook(`batches","format":"eventgrid"`)},
		{Name: "loose", Unordered: true, Parallel: 16, Target: hook(`loose","format":"binary","signing":"ed25519"`)},
		{Name: "nats", Batch: 10, Target: json.RawMessage(`{"kind":"nats","url":"` + g.NATS + `","subject":"ticks.{aggregate}","format":"binary"}`)},
		{Name: "rabbitmq", Batch: 3, Target: json.RawMessage(`{"kind":"rabbitmq","url":"` + g.RabbitMQ + `","queue":"ticks"}`)},
		{Name: "kafka", Batch: 10, Target: json.RawMessage(`{"kind":"kafka","brokers":["` + strings.Join(g.Kafka, `","`) + `"],"topic":"ticks"}`)},
		{Name: "queue", Target: json.RawMessage(`{"kind":"queue","ordered":true,"lock":"1s","max_deliveries":1000}`)},
	}
}

// program records ticks and delivers them, until it is killed or, without a
// killer, until everything is delivered that the log has.
func program(ctx context.Context, g ground, k *killer, done func(context.Context, *deed.Runtime)) error {
	s, err := sqlite.Open(filepath.Join(g.Dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	brokers := broker.NewHosts([]string{"127.0.0.1"})
	rt, err := deed.New(deadly{s, k}, deed.Config{
		Domains: []deed.Domain{{Name: "clocks", Parts: []deed.Part{clocks, deed.Publication{
			Topic: "ticks", Events: []deed.Publishing{deed.Publish("tick.v1", func(e tick) tick { return e })},
		}}}},
		Targets: map[string]deed.TargetKind{
			"webhook": watched{New(sinks.NewHosts([]string{"127.0.0.1"}, false), "deed.example"), k},
			"nats":    watched{nats.New(brokers), k}, "rabbitmq": watched{rabbitmq.New(brokers), k}, "kafka": watched{kafka.New(brokers), k},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { rt.Run(ctx) })
	for _, sub := range g.subscribers() {
		if sub.Topic = "ticks"; sub.Name != "queue" {
			sub.Retry = slices.Repeat([]string{"100ms"}, 50)
		}
		if _, err := rt.Subscriptions().Get(ctx, "ticks", sub.Name); err == nil {
			continue
		}
		if _, _, err := rt.Subscriptions().Put(ctx, sub, "beginning"); err != nil {
			return err
		}
	}
	all.Go(func() { consume(ctx, rt, g.arrived("queue"), k) })
	if done != nil {
		done(ctx, rt)
		return nil
	}
	for i := range 60 {
		if _, err := clocks.Execute(ctx, rt, fmt.Sprint("c", i%7), wind{i}); err != nil {
			return err
		}
	}
	<-ctx.Done() // the parent ends what the killer has not
	return nil
}

// consume works on the queue: it notes each message in a file, and completes it.
func consume(ctx context.Context, rt *deed.Runtime, f file, k *killer) {
	for ctx.Err() == nil {
		q, err := rt.Queue(ctx, "ticks", "queue")
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		got, err := q.Lock(ctx, "c", 5, 0, time.Second)
		k.at("locked")
		for _, m := range got {
			if f.add(m.Event.ID) != nil {
				continue
			}
			k.at("done")
			if err = q.Complete(ctx, m.Token); err == nil {
				k.at("completed")
			}
		}
		if err != nil && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// A process is killed at every place between an append and a delivery, with
// subscribers of five kinds: webhooks, a queue, and three brokers. Every event reaches each of them at least once, repetitions
// have the same id, the order of each key is kept, and who passes over
// repetitions has exactly what was recorded.
func TestKilledBetweenAppendAndDelivery(t *testing.T) {
	g := ground{Dir: t.TempDir()}
	g.startBrokers(t)
	noted := g // the receiver is there before its address is
	g.Receiver = receiver(t, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		var ids []string
		switch name {
		case "single":
			var e delivery.Event
			json.NewDecoder(r.Body).Decode(&e)
			ids = []string{e.ID}
		case "batches":
			var events []gridEvent
			json.NewDecoder(r.Body).Decode(&events)
			for _, e := range events {
				ids = append(ids, e.ID)
			}
		case "loose":
			ids = []string{r.Header.Get("Ce-Id")}
		}
		if err := noted.arrived(name).add(ids...); err != nil {
			w.WriteHeader(500)
		}
	})
	where, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for round := range *killRounds {
		for i, place := range places {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d|%s", programEnv, place, 1+(round*7+i)%13, where))
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
			err := cmd.Wait()
			if late.Stop() {
				kills++
			}
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%s: %v", place, err)
			}
		}
	}
	want := map[string]int{} // ticks of each clock
	err = program(t.Context(), g, nil, func(ctx context.Context, rt *deed.Runtime) {
		n := 0
		for rec, err := range rt.Store().ReadAll(ctx, store.Start, store.Filter{Categories: []string{"clock"}}) {
			if err != nil {
				t.Fatal(err)
			}
			want[rec.Stream]++
			n++
		}
		settled := func() bool {
			for _, s := range g.subscribers() {
				have := map[string]bool{}
				for _, id := range g.arrived(s.Name).ids() {
					have[id] = true
				}
				st, err := rt.Subscriptions().Get(ctx, "ticks", s.Name)
				if err != nil || len(have) < n || st.Behind > 0 || st.Retrying+st.Waiting+st.Dead > 0 {
					return false
				}
			}
			return true
		}
		for end := time.Now().Add(2 * time.Minute); !settled(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				all, err := rt.Subscriptions().List(ctx, "")
				t.Fatalf("not everything is delivered: %+v, %v", all, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.subscribers() {
		ids := g.arrived(s.Name).ids()
		last, repeated := map[string]int{}, 0
		seen := map[string]bool{}
		for _, id := range ids {
			stream, text, _ := strings.Cut(id, ":")
			v, err := strconv.Atoi(text)
			if err != nil || v > want[stream] {
				t.Errorf("%s: %s was never recorded", s.Name, id)
			}
			if seen[id] {
				repeated++
				continue
			}
			if seen[id] = true; !s.Unordered && v != last[stream]+1 {
				t.Errorf("%s: %s came after version %d", s.Name, id, last[stream])
			}
			last[stream] = v
		}
		total := 0
		for _, n := range want {
			total += n
		}
		if len(seen) != total {
			t.Errorf("%s: %d of %d events", s.Name, len(seen), total)
		}
		t.Logf("%-8s %d events, %d deliveries, %d repeated", s.Name, total, len(ids), repeated)
	}
	t.Logf("%d kills at %d places", kills, len(places))
	if kills < *killRounds*len(places)*9/10 {
		t.Errorf("only %d of %d rounds were killed at their place", kills, *killRounds*len(places))
	}
}
