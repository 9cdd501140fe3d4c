package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
)

// inQueue runs f in simulated time, with a queue of shipments.
func inQueue(t *testing.T, settings string, f func(d *depot, q deed.Queue)) {
	inDepot(t, func(d *depot) {
		d.put("work", "", func(s *deed.Subscription) { s.Target = json.RawMessage(`{"kind":"queue"` + settings + `}`) })
		q, err := d.rt.Queue(d.t.Context(), "freight", "work")
		d.must(err)
		f(d, q)
	})
}

// lock locks what can be had now.
func (d *depot) lock(q deed.Queue, limit int) []deed.Message {
	d.t.Helper()
	got, err := q.Lock(d.t.Context(), "c", limit, 0, 0)
	d.must(err)
	return got
}

func idsOf(messages []deed.Message) (out []string) {
	for _, m := range messages {
		out = append(out, m.Event.ID)
	}
	return out
}

// What waits in a queue would be lost to another kind of place.
func TestQueueStaysOne(t *testing.T) {
	inQueue(t, "", func(d *depot, _ deed.Queue) {
		for _, target := range []string{`{"kind":"box"}`, `{"kind":"queue","ordered":true}`} {
			_, _, err := d.rt.Subscriptions().Put(d.t.Context(), deed.Subscription{Topic: "freight", Name: "work", Target: json.RawMessage(target)}, "")
			if queue := strings.Contains(target, "queue"); queue != (err == nil) {
				d.t.Errorf("%s: %v", target, err)
			}
		}
	})
}

// A message is one consumer's until it is completed, abandoned or time is up;
// what a former consumer says then counts for nothing.
func TestQueue(t *testing.T) {
	inQueue(t, `,"lock":"10s"`, func(d *depot, q deed.Queue) {
		ctx := d.t.Context()
		d.ship("a", "b", "c")
		time.Sleep(time.Second)
		first := d.lock(q, 2)
		second := d.lock(q, 2)
		if len(first) != 2 || len(second) != 1 || len(d.lock(q, 1)) != 0 {
			t.Fatal(idsOf(first), idsOf(second))
		}
		d.must(q.Complete(ctx, first[0].Token))
		if err := q.Complete(ctx, first[0].Token); !errors.Is(err, deed.ErrLockLost) {
			t.Errorf("completed twice: %v", err)
		}
		d.must(q.Abandon(ctx, first[1].Token, time.Minute, "not today"))
		if _, err := q.Renew(ctx, first[1].Token, 0); !errors.Is(err, deed.ErrLockLost) {
			t.Errorf("renewed what was abandoned: %v", err)
		}
		time.Sleep(8 * time.Second)
		until, err := q.Renew(ctx, second[0].Token, 0)
		if err != nil || time.Until(until) != 10*time.Second {
			t.Errorf("%v, %v", time.Until(until), err)
		}
		time.Sleep(8 * time.Second)
		if got := d.lock(q, 5); len(got) != 0 {
			t.Errorf("%q are locked twice", idsOf(got))
		}
		time.Sleep(3 * time.Second) // time is up
		again := d.lock(q, 5)
		if len(again) != 1 || again[0].Event.ID != "crate/c:1" || again[0].Deliveries != 2 {
			t.Fatalf("%+v", again)
		}
		if err := q.Complete(ctx, second[0].Token); !errors.Is(err, deed.ErrLockLost) {
			t.Errorf("completed by a former consumer: %v", err)
		}
		d.must(q.Complete(ctx, again[0].Token))
		time.Sleep(time.Minute)
		back := d.lock(q, 5)
		if len(back) != 1 || back[0].Event.ID != "crate/b:1" || back[0].Reason != "not today" {
			t.Fatalf("%+v", back)
		}
		if err := q.Complete(ctx, "nonsense"); err == nil {
			t.Error("completed with a token that is none")
		}
		// the queue begins anew: what was given out before is good for nothing
		_, err = d.subs.Reset(ctx, "freight", "work", "beginning", false)
		d.must(err)
		time.Sleep(time.Second)
		anew, err := d.rt.Queue(ctx, "freight", "work")
		d.must(err)
		if got := d.lock(anew, 5); len(got) != 3 || got[1].ID != back[0].ID {
			t.Fatalf("%+v", got)
		}
		if err := anew.Complete(ctx, first[1].Token); !errors.Is(err, deed.ErrLockLost) {
			t.Errorf("completed with a token of before: %v", err)
		}
	})
}

// A consumer that waits gets a message when there is one.
func TestQueueWaits(t *testing.T) {
	inQueue(t, "", func(d *depot, q deed.Queue) {
		var got []deed.Message
		var after time.Duration
		var all sync.WaitGroup
		all.Go(func() {
			start := time.Now()
			var err error
			if got, err = q.Lock(d.t.Context(), "c", 1, 0, 30*time.Second); err != nil {
				t.Error(err)
			}
			after = time.Since(start)
		})
		time.Sleep(5 * time.Second)
		d.ship("a")
		all.Wait()
		if len(got) != 1 || after < 5*time.Second || after > 6*time.Second {
			t.Errorf("%q after %v", idsOf(got), after)
		}
		if got, err := q.Lock(d.t.Context(), "c", 1, 0, time.Second); err != nil || len(got) != 0 {
			t.Errorf("%q, %v", idsOf(got), err)
		}
	})
}

// What is given out too often, or given up, is a dead letter, which can be
// redriven or discarded. In an ordered queue its key waits.
func TestQueueDeadLetters(t *testing.T) {
	inQueue(t, `,"lock":"1s","max_deliveries":2,"ordered":true`, func(d *depot, q deed.Queue) {
		ctx := d.t.Context()
		d.ship("a", "a", "b")
		time.Sleep(time.Second)
		got := d.lock(q, 5)
		if ids := idsOf(got); !slices.Equal(ids, []string{"crate/a:1", "crate/b:1"}) {
			t.Fatalf("%q", ids)
		}
		d.must(q.DeadLetter(ctx, got[1].Token, "no such place"))
		time.Sleep(2 * time.Second)
		if got := d.lock(q, 5); len(got) != 1 || got[0].Event.ID != "crate/a:1" {
			t.Fatalf("%q", idsOf(got))
		}
		time.Sleep(2 * time.Second)
		if got := d.lock(q, 5); len(got) != 0 {
			t.Errorf("%q", idsOf(got))
		}
		if got := d.lock(q, 5); len(got) != 0 { // behind a dead letter
			t.Errorf("%q", idsOf(got))
		}
		dead, err := q.Messages(ctx, true, "", 10)
		if err != nil || len(dead) != 2 || dead[0].Event.ID != "crate/a:1" || dead[1].Reason != "no such place" {
			t.Fatalf("%+v, %v", dead, err)
		}
		if s := d.status("work"); s.Dead != 2 {
			t.Errorf("%+v", s)
		}
		d.must(q.Redrive(ctx, dead[0].ID))
		if err := q.Discard(ctx, dead[1].ID, ""); err == nil {
			t.Error("discarded without a reason")
		}
		d.must(q.Discard(ctx, dead[1].ID, "known"))
		if err := q.Redrive(ctx, dead[1].ID); !errors.Is(err, deed.ErrNoDeadLetter) {
			t.Errorf("%v", err)
		}
		for _, want := range []string{"crate/a:1", "crate/a:2"} {
			got := d.lock(q, 5)
			if len(got) != 1 || got[0].Event.ID != want {
				t.Fatalf("%q, want %s", idsOf(got), want)
			}
			d.must(q.Complete(ctx, got[0].Token))
		}
	})
}

// Many consumers at once, of which some stop in the middle: every message is
// done, none is completed twice, and with order none overtakes another of its key.
func TestQueueConsumers(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		inQueue(t, fmt.Sprintf(`,"lock":"5s","max_deliveries":100,"ordered":%v`, ordered), func(d *depot, q deed.Queue) {
			const n, keys = 120, 12
			for i := range n {
				d.ship(fmt.Sprint("k", i%keys))
			}
			var mu sync.Mutex
			done := map[string]int{}
			var order []string
			ctx, stop := context.WithCancel(d.t.Context())
			var all sync.WaitGroup
			for c := range 8 {
				all.Go(func() {
					for ctx.Err() == nil {
						got, err := q.Lock(ctx, fmt.Sprint(c), 3, 0, time.Second)
						if err != nil && ctx.Err() == nil {
							t.Error(err)
						}
						for _, m := range got {
							time.Sleep(10 * time.Millisecond)
							if rand.IntN(5) == 0 { // it dies
								continue
							}
							if err := q.Complete(ctx, m.Token); err == nil {
								mu.Lock()
								done[m.Event.ID]++
								order = append(order, m.Event.ID)
								mu.Unlock()
							}
						}
					}
				})
			}
			for range 600 {
				time.Sleep(time.Second)
				mu.Lock()
				ready := len(done) == n
				mu.Unlock()
				if ready {
					break
				}
			}
			stop()
			all.Wait()
			synctest.Wait()
			if len(done) != n || len(order) != n {
				t.Errorf("%d done, %d times", len(done), len(order))
			}
			if last := map[string]int{}; ordered {
				for _, id := range order {
					var key string
					var v int
					key = id[:len(id)-len(id[slices.Index([]byte(id), ':'):])]
					fmt.Sscan(id[len(key)+1:], &v)
					if v != last[key]+1 {
						t.Errorf("%s was done after version %d", id, last[key])
					}
					last[key] = v
				}
			}
		})
	}
}
