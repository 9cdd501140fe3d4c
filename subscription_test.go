package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A shelf of boxes is a kind of target: each box takes in what comes, unless it
// is told otherwise.
type boxes struct {
	mu  sync.Mutex
	all map[string]*box
}

type box struct {
	mu   sync.Mutex
	got  []deed.CloudEvent
	lag  time.Duration // the longest between when an event was recorded and when it came
	slow time.Duration // what one delivery takes
	fail func(deed.CloudEvent) error
}

func (b *boxes) Prepare(_ context.Context, _ string, settings, former json.RawMessage) (json.RawMessage, map[string]string, error) {
	if strings.Contains(string(settings), "bad") {
		return nil, nil, errors.New("this box is bad")
	}
	return settings, map[string]string{"secret": "hush"}, nil
}

func (b *boxes) Shown(stored json.RawMessage) json.RawMessage { return stored }

func (b *boxes) Open(name string, _ json.RawMessage) (deed.Target, error) { return b.of(name), nil }

func (b *boxes) of(name string) *box {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[string]*box{}
	}
	if b.all[name] == nil {
		b.all[name] = &box{}
	}
	return b.all[name]
}

func (b *box) Deliver(_ context.Context, events []deed.CloudEvent) error {
	b.mu.Lock()
	slow := b.slow
	b.mu.Unlock()
	time.Sleep(slow)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		if b.fail != nil {
			if err := b.fail(e); err != nil {
				return err
			}
		}
		b.got = append(b.got, e)
		b.lag = max(b.lag, time.Since(e.Time))
	}
	return nil
}

func (b *box) failing(f func(deed.CloudEvent) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = f
}

func (b *box) ids() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.got {
		out = append(out, e.ID)
	}
	return out
}

// inOrder reports whether each stream's events came in their order.
func (b *box) inOrder() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := map[string]string{}
	for _, e := range b.got {
		if e.Sequence < last[e.Subject] {
			return false
		}
		last[e.Subject] = e.Sequence
	}
	return true
}

// A depot is a program with crates, boxes for what is public, and a store.
type depot struct {
	t     *testing.T
	rt    *deed.Runtime
	boxes *boxes
	subs  deed.Subscriptions
}

// inDepot runs f in simulated time.
func inDepot(t *testing.T, f func(d *depot)) {
	synctest.Test(t, func(t *testing.T) {
		d, end := newDepot(t, mem.New(), "")
		defer end()
		f(d)
	})
}

func newDepot(t *testing.T, s store.Store, node string) (*depot, func()) {
	t.Helper()
	d := &depot{t: t, boxes: &boxes{}}
	var err error
	d.rt, err = deed.New(s, deed.Config{
		Domains: []deed.Domain{crates(crateTopic())}, Targets: map[string]deed.TargetKind{"box": d.boxes}, Node: node,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var end sync.WaitGroup
	end.Go(func() { d.rt.Run(ctx) })
	d.subs = d.rt.Subscriptions()
	return d, func() { cancel(); end.Wait() }
}

func (d *depot) ship(ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		if _, err := crateAggregate().Execute(d.t.Context(), d.rt, id, ship{"Cork"}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// put makes a subscription of the box of that name.
func (d *depot) put(name, start string, change func(*deed.Subscription)) deed.SubscriptionStatus {
	d.t.Helper()
	sub := deed.Subscription{Topic: "freight", Name: name, Target: json.RawMessage(`{"kind":"box"}`), Types: []string{"crate.shipped.v1"}}
	if change != nil {
		change(&sub)
	}
	s, once, err := d.subs.Put(d.t.Context(), sub, start)
	if err != nil || once["secret"] != "hush" && !strings.Contains(string(sub.Target), "queue") {
		d.t.Fatal(s, once, err)
	}
	return s
}

func (d *depot) got(name string, want ...string) {
	d.t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
	got := d.boxes.of("freight/" + name).ids() // of different keys in any order
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.t.Errorf("%s got %q, want %q", name, got, want)
	}
}

func (d *depot) status(name string) deed.SubscriptionStatus {
	d.t.Helper()
	s, err := d.subs.Get(d.t.Context(), "freight", name)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *depot) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// Subscriptions begin where they are told, while the program runs, and get what
// they want.
func TestSubscriptionsBegin(t *testing.T) {
	inDepot(t, func(d *depot) {
		d.ship("a")
		head, err := d.rt.Store().Head(d.t.Context())
		d.must(err)
		time.Sleep(time.Hour)
		at := time.Now()
		d.ship("b")
		d.put("all", "beginning", nil)
		d.put("new", "", nil)
		d.put("since", "time:"+at.Format(time.RFC3339), nil)
		d.put("after", "cursor:"+string(head), nil)
		d.put("both", "beginning", func(s *deed.Subscription) { s.Types, s.Batch = nil, 10 })
		d.put("b-only", "beginning", func(s *deed.Subscription) {
			s.Filters = []deed.EventFilter{{Exact: map[string]string{"aggregate": "b"}}}
		})
		d.ship("c")
		d.got("all", "crate/a:1", "crate/b:1", "crate/c:1")
		d.got("new", "crate/c:1")
		d.got("since", "crate/b:1", "crate/c:1")
		d.got("after", "crate/b:1", "crate/c:1")
		d.got("b-only", "crate/b:1")
		if n := len(d.boxes.of("freight/both").ids()); n != 6 {
			t.Errorf("%d", n)
		}
		if s := d.status("all"); s.State != "running" || s.Behind != 0 || s.Dead != 0 {
			t.Errorf("%+v", s)
		}
		all, err := d.subs.List(d.t.Context(), "freight")
		if err != nil || len(all) != 6 || all[0].Name != "after" {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestBadSubscriptions(t *testing.T) {
	inDepot(t, func(d *depot) {
		d.put("there", "", nil)
		for want, c := range map[string]struct {
			change func(*deed.Subscription)
			start  string
		}{
			`topic "none"`:              {func(s *deed.Subscription) { s.Topic = "none" }, ""},
			"lower-case":                {func(s *deed.Subscription) { s.Name = "A b" }, ""},
			"not published on freight":  {func(s *deed.Subscription) { s.Types = []string{"x"} }, ""},
			"names the attribute":       {func(s *deed.Subscription) { s.Filters = []deed.EventFilter{{Exact: map[string]string{"x": "y"}}} }, ""},
			"needs exactly one of":      {func(s *deed.Subscription) { s.Filters = []deed.EventFilter{{}} }, ""},
			"parallel must be":          {func(s *deed.Subscription) { s.Parallel = 65 }, ""},
			"list of up to 100":         {func(s *deed.Subscription) { s.Retry = []string{"soon"} }, ""},
			"this program has box, que": {func(s *deed.Subscription) { s.Target = json.RawMessage(`{"kind":"pigeon"}`) }, ""},
			"with a kind":               {func(s *deed.Subscription) { s.Target = nil }, ""},
			"this box is bad":           {func(s *deed.Subscription) { s.Target = json.RawMessage(`{"kind":"box","bad":1}`) }, ""},
			`start is "beginning"`:      {nil, "later"},
			"beyond the end":            {nil, "cursor:99"},
			"is for a new subscription": {func(s *deed.Subscription) { s.Name = "there" }, "now"},
			"target.lock":               {func(s *deed.Subscription) { s.Target = json.RawMessage(`{"kind":"queue","lock":"1ms"}`) }, ""},
		} {
			sub := deed.Subscription{Topic: "freight", Name: "new", Target: json.RawMessage(`{"kind":"box"}`)}
			if c.change != nil {
				c.change(&sub)
			}
			_, _, err := d.subs.Put(d.t.Context(), sub, c.start)
			_, bad := errors.AsType[deed.Invalid](err)
			if (!bad && !errors.Is(err, deed.ErrUnknown)) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if _, err := d.subs.Get(d.t.Context(), "freight", "new"); !errors.Is(err, deed.ErrNoSubscription) {
			t.Errorf("%v", err)
		}
	})
}

// A subscription is paused, goes on where it was, is changed while it runs, and
// begins elsewhere after a preview.
func TestSubscriptionsAreLookedAfter(t *testing.T) {
	inDepot(t, func(d *depot) {
		ctx := deed.With(d.t.Context(), deed.Call{Actor: "ann"})
		began := time.Now().UTC().Format(time.RFC3339)
		d.put("box", "", nil)
		d.ship("a")
		d.got("box", "crate/a:1")
		d.must(d.subs.Pause(ctx, "freight", "box"))
		d.ship("b")
		d.got("box", "crate/a:1")
		if s := d.status("box"); s.State != "paused" || s.Behind == 0 {
			t.Errorf("%+v", s)
		}
		d.must(d.subs.Resume(ctx, "freight", "box"))
		d.got("box", "crate/a:1", "crate/b:1")

		d.put("box", "", func(s *deed.Subscription) { s.Types = []string{"crate.shipped.v2"} })
		d.ship("c")
		d.got("box", "crate/a:1", "crate/b:1", "crate/c:1:2")

		preview, err := d.subs.Reset(ctx, "freight", "box", "beginning", true)
		if err != nil || preview.Events != 3 || preview.First != "crate/a:1:2" || preview.Passed != 0 {
			t.Errorf("%+v, %v", preview, err)
		}
		d.must(d.subs.Pause(ctx, "freight", "box"))
		d.ship("x", "y")
		if preview, err = d.subs.Reset(ctx, "freight", "box", "now", true); err != nil || preview.Events != 0 || preview.Passed != 2 {
			t.Errorf("%+v, %v", preview, err)
		}
		_, err = d.subs.Reset(ctx, "freight", "box", "now", false)
		d.must(err)
		d.must(d.subs.Resume(ctx, "freight", "box"))
		if preview, err = d.subs.Reset(ctx, "freight", "box", "time:"+began, true); err != nil || preview.Events != 5 {
			t.Errorf("%+v, %v", preview, err)
		}
		d.got("box", "crate/a:1", "crate/b:1", "crate/c:1:2")
		before := d.status("box").Follower
		_, err = d.subs.Reset(ctx, "freight", "box", "beginning", false)
		d.must(err)
		d.got("box", "crate/a:1", "crate/b:1", "crate/c:1:2", "crate/a:1:2", "crate/b:1:2", "crate/c:1:2", "crate/x:1:2", "crate/y:1:2")
		time.Sleep(10 * time.Second) // what was before is removed
		synctest.Wait()
		for _, coll := range []string{"$cursor", "$attempt", "$follower"} {
			for doc, err := range d.rt.Store().List(ctx, coll, before, "") {
				t.Errorf("%s of %s is left, %v", doc.Key, coll, err)
			}
		}
		d.must(d.subs.Delete(ctx, "freight", "box"))
		d.ship("d")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(d.boxes.of("freight/box").ids()); n != 8 {
			t.Errorf("%d delivered", n)
		}
		for _, coll := range []string{"$cursor", "$attempt", "$follower", "$subscription"} {
			for doc, err := range d.rt.Store().List(ctx, coll, "freight", "") {
				t.Errorf("%s of %s is left, %v", doc.Key, coll, err)
			}
		}
		d.put("box", "", nil)
		had := d.boxes.of("freight/box").ids()
		d.ship("e")
		d.got("box", append(had, "crate/e:1")...)
		var acts []string
		for rec, err := range d.rt.Store().Read(ctx, "$audit/subscriptions", store.Range{}) {
			d.must(err)
			acts = append(acts, rec.Type)
		}
		if want := "subscription-made subscription-paused subscription-resumed subscription-changed subscription-paused subscription-reset subscription-resumed subscription-reset subscription-deleted subscription-made"; strings.Join(acts, " ") != want {
			t.Errorf("%q", acts)
		}
	})
}

// A place that wants nothing more disables its subscription, until somebody
// resumes it: then nothing is missing.
func TestDisabledSubscription(t *testing.T) {
	inDepot(t, func(d *depot) {
		d.put("box", "", nil)
		d.boxes.of("freight/box").failing(func(deed.CloudEvent) error { return delivery.Gone{Err: errors.New("410")} })
		d.ship("a", "b")
		d.got("box")
		if s := d.status("box"); s.State != "disabled" || s.Reason != "410" {
			t.Errorf("%+v", s)
		}
		d.boxes.of("freight/box").failing(nil)
		d.got("box")
		d.must(d.subs.Resume(d.t.Context(), "freight", "box"))
		time.Sleep(2 * time.Minute)
		if ids := d.boxes.of("freight/box").ids(); len(ids) != 2 || d.status("box").State != "running" {
			t.Errorf("%q %+v", ids, d.status("box"))
		}
	})
}

// Dead letters of a subscription are like those of any follower, and are
// redriven together.
func TestDeadLettersOfSubscriptions(t *testing.T) {
	inDepot(t, func(d *depot) {
		s := d.put("box", "", func(s *deed.Subscription) { s.Retry = []string{"1s"} })
		d.boxes.of("freight/box").failing(func(e deed.CloudEvent) error {
			if e.Aggregate == "bad" {
				return errors.New("no")
			}
			return nil
		})
		d.ship("bad", "a", "bad", "b")
		d.got("box", "crate/a:1", "crate/b:1")
		letters, _, err := d.rt.Followers().DeadLetters(d.t.Context(), s.Follower, "", 0)
		if err != nil || len(letters) != 2 || letters[0].State != "dead" || letters[0].Attempts != 2 || letters[1].State != "waiting" {
			t.Errorf("%+v, %v", letters, err)
		}
		d.boxes.of("freight/box").failing(nil)
		if n, err := d.subs.Redrive(d.t.Context(), "freight", "box"); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		d.got("box", "crate/a:1", "crate/b:1", "crate/bad:1", "crate/bad:2")
		if !d.boxes.of("freight/box").inOrder() {
			t.Errorf("%q", d.boxes.of("freight/box").ids())
		}
		if attempts, err := d.subs.Attempts(d.t.Context(), "freight", "box"); err != nil || len(attempts) < 3 {
			t.Errorf("%+v, %v", attempts, err)
		}
		if a, err := d.subs.Test(d.t.Context(), "freight", "box"); err != nil || a.Error != "" || !strings.HasPrefix(a.Event, "test:") {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// While a place is away, its subscription says how much is to be delivered.
func TestBehindWhileAway(t *testing.T) {
	inDepot(t, func(d *depot) {
		d.put("box", "", func(s *deed.Subscription) { s.Retry = slices.Repeat([]string{"1s"}, 20) })
		d.boxes.of("freight/box").failing(func(deed.CloudEvent) error { return errors.New("no answer") })
		d.ship("a", "b", "c", "d", "e", "f", "g", "h")
		time.Sleep(time.Minute)
		before := d.status("box")
		d.ship("i", "j")
		time.Sleep(3 * time.Second)
		if s := d.status("box"); s.State != "blocked" || s.Behind <= before.Behind || s.LagSeconds == 0 {
			t.Errorf("%+v, and before %+v", s, before)
		}
	})
}

// shut are boxes that this program may not connect to.
type shut struct{ *boxes }

func (shut) Open(string, json.RawMessage) (deed.Target, error) {
	return nil, errors.New("not from here")
}

// A program that may not connect to a place shows the dead letters that are there
// all the same, and says what a reset would forget.
func TestDeadLettersOfAForbiddenPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		d, end := newDepot(t, s, "")
		d.put("box", "", func(s *deed.Subscription) { s.Retry = []string{"1s"} })
		d.boxes.of("freight/box").failing(func(deed.CloudEvent) error { return errors.New("no") })
		d.ship("bad", "bad")
		time.Sleep(time.Minute)
		end()
		run := func(kind deed.TargetKind) func() {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{crates(crateTopic())}, Targets: map[string]deed.TargetKind{"box": kind}, Logger: slog.New(slog.DiscardHandler)})
			d.must(err)
			d.rt, d.subs = rt, rt.Subscriptions()
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { defer close(ended); rt.Run(ctx) }()
			time.Sleep(time.Second)
			return func() { cancel(); <-ended }
		}
		end = run(shut{d.boxes})
		letters, _, err := d.rt.DeadLetters().List(t.Context(), deed.LetterFilter{Subscription: "freight/box"}, "", 0)
		d.must(err)
		counts, err := d.rt.DeadLetters().Counts(t.Context())
		d.must(err)
		reset, err := d.subs.Reset(t.Context(), "freight", "box", "now", true)
		d.must(err)
		now := d.status("box")
		if len(letters) != 2 || !slices.ContainsFunc(counts, func(c deed.LetterCount) bool { return c.Name == "freight/box" && c.Dead == 1 && c.Waiting == 1 }) || reset.Letters != 2 ||
			now.State != "stopped" || now.LastError != "not from here" || now.Dead != 1 {
			t.Errorf("%d letters, %+v, a reset would forget %d; %+v", len(letters), counts, reset.Letters, now)
		}
		if l, err := d.rt.DeadLetters().Get(t.Context(), letters[0].ID); err != nil || l.Blocks != 1 {
			t.Errorf("%+v, %v", l, err)
		}
		end()
		d.boxes.of("freight/box").failing(nil)
		end = run(d.boxes)
		defer end()
		if n, err := d.subs.Redrive(t.Context(), "freight", "box"); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// One of a thousand keys fails for one subscriber: the others get theirs in less
// than two seconds, and so do all other subscribers. A redrive delivers what was
// parked once, in order.
func TestPoisonedKey(t *testing.T) {
	inDepot(t, func(d *depot) {
		for _, name := range []string{"hurt", "well", "batches"} {
			d.put(name, "", func(s *deed.Subscription) {
				s.Retry = []string{"1s", "1s"}
				if name == "batches" {
					s.Batch = 20
				}
			})
			d.boxes.of("freight/" + name).slow = time.Millisecond
		}
		hurt := d.boxes.of("freight/hurt")
		hurt.failing(func(e deed.CloudEvent) error {
			if e.Aggregate == "k-7" {
				return errors.New("no")
			}
			return nil
		})
		const keys, each = 1000, 3
		for range each {
			for i := range keys {
				d.ship(fmt.Sprint("k-", i))
				time.Sleep(2 * time.Millisecond) // 500 a second
			}
		}
		time.Sleep(10 * time.Second)
		for name, want := range map[string]int{"hurt": keys*each - each, "well": keys * each, "batches": keys * each} {
			b := d.boxes.of("freight/" + name)
			if n := len(b.ids()); n != want || !b.inOrder() || b.lag > 2*time.Second {
				t.Errorf("%s: %d delivered, want %d; the slowest after %v", name, n, want, b.lag)
			}
			t.Logf("%s: the slowest event came after %v", name, b.lag)
		}
		if s := d.status("hurt"); s.Dead != 1 || s.Waiting != each-1 {
			t.Errorf("%+v", s)
		}
		hurt.failing(nil)
		if n, err := d.subs.Redrive(d.t.Context(), "freight", "hurt"); n != each || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		all := hurt.ids()
		if want := []string{"crate/k-7:1", "crate/k-7:2", "crate/k-7:3"}; !slices.Equal(all[len(all)-each:], want) || len(all) != keys*each {
			t.Errorf("%q", all[len(all)-each:])
		}
	})
}

// A commonStore is one that several programs use.
type commonStore struct{ *mem.Store }

func (commonStore) Shared() bool { return true }

// Nodes share subscriptions: each is delivered by one of them, a change reaches
// all, and what a node leaves another takes over.
func TestSubscriptionsOnNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := commonStore{mem.New()}
		one, endOne := newDepot(t, s, "one")
		two, endTwo := newDepot(t, s, "two")
		defer endTwo()
		for i := range 6 {
			one.put(fmt.Sprintf("box-%d", i), "", nil)
		}
		time.Sleep(30 * time.Second)
		count := func(want int) (ones, twos int) {
			t.Helper()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			for i := range 6 {
				a, b := len(one.boxes.of(fmt.Sprintf("freight/box-%d", i)).ids()), len(two.boxes.of(fmt.Sprintf("freight/box-%d", i)).ids())
				if a+b != want {
					t.Errorf("box %d: %d and %d, want %d", i, a, b, want)
				}
				ones, twos = ones+a, twos+b
			}
			return ones, twos
		}
		one.ship("a", "b")
		if ones, twos := count(2); ones == 0 || twos == 0 {
			t.Errorf("%d and %d", ones, twos)
		}
		two.must(two.subs.Pause(t.Context(), "freight", "box-1"))
		time.Sleep(10 * time.Second)
		one.ship("c")
		time.Sleep(10 * time.Second)
		if st := one.status("box-1"); st.State != "paused" {
			t.Errorf("%+v", st)
		}
		one.must(one.subs.Resume(t.Context(), "freight", "box-1"))
		count(3)
		endOne()
		two.ship("d")
		count(4)
	})
}
