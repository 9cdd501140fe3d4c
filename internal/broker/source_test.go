package broker

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
)

// What cannot be stored now is tried again, with longer and longer pauses, and
// nothing else is; what is refused is not.
func TestTakeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls [][]string
		take := func(_ context.Context, messages []Message) []error {
			var places []string
			errs := make([]error, len(messages))
			for i, m := range messages {
				places = append(places, m.Place)
				switch {
				case m.Place == "refused":
					errs[i] = ErrRefused
				case m.Place == "late" && len(calls) < 3:
					errs[i] = errors.New("the store is away")
				}
			}
			calls = append(calls, places)
			return errs
		}
		begun := time.Now()
		refused, err := TakeAll(t.Context(), take, []Message{{Place: "fine"}, {Place: "refused"}, {Place: "late"}})
		if err != nil || !slices.Equal(refused, []bool{false, true, false}) || len(calls) != 4 || !slices.Equal(calls[3], []string{"late"}) {
			t.Errorf("%v %v %q", refused, err, calls)
		}
		if took := time.Since(begun); took < 400*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := TakeAll(ctx, func(_ context.Context, m []Message) []error { return make([]error, len(m)) }, []Message{{}}); err != nil {
			t.Error(err)
		}
		never := func(context.Context, []Message) []error { return []error{errors.New("never")} }
		if _, err := TakeAll(ctx, never, []Message{{}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestGather(t *testing.T) {
	c := make(chan int, 5)
	for i := range 5 {
		c <- i
	}
	if all, ok := Gather(t.Context(), c, 3); !ok || !slices.Equal(all, []int{0, 1, 2}) {
		t.Error(all, ok)
	}
	close(c)
	if all, ok := Gather(t.Context(), c, 3); !ok || !slices.Equal(all, []int{3, 4}) {
		t.Error(all, ok)
	}
	if _, ok := Gather(t.Context(), c, 3); ok {
		t.Error("it goes on")
	}
}

// A message that says nothing about itself is a CloudEvent as JSON.
func TestPresume(t *testing.T) {
	h := http.Header{}
	SetAttribute(h, "DataContentType", "text/plain")
	SetAttribute(h, "subject", "ö 1")
	Presume(h, "place")
	if h.Get("Content-Type") != "text/plain" || h.Get("Ce-Subject") != "%C3%B6%201" || h.Get("Message-Id") != "place" {
		t.Error(h)
	}
	h = http.Header{"Message-Id": {"7"}}
	Presume(h, "place")
	if h.Get("Content-Type") != ContentType || h.Get("Message-Id") != "7" {
		t.Error(h)
	}
}

// Hosts are those that are named, and no others.
func TestHosts(t *testing.T) {
	h := NewHosts([]string{"a.internal", "B.internal:4222", "*.kafka.internal"})
	for address, want := range map[string]bool{
		"a.internal:1": true, "A.INTERNAL:9": true, "b.internal:4222": true, "b.internal:4223": false, "x.kafka.internal:9092": true, "kafka.internal:9092": false,
		"xkafka.internal:1": false, "127.0.0.1:1": false, "a.internal": false, "[::1]:1": false, "a.internal.example:1": false,
	} {
		if err := h.Allow(address); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := NewHosts(nil).DialContext(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("nobody is named, and it connects")
	}
	if err := NewHosts([]string{"*"}).Allow("127.0.0.1:1"); err != nil {
		t.Error(err)
	}
}

// In a wave no two events share a key, and those of a key are in order.
func TestWaves(t *testing.T) {
	var events []delivery.Event
	for _, key := range []string{"a", "b", "a", "c", "a", "b"} {
		events = append(events, delivery.Event{PartitionKey: key})
	}
	got := Waves(events)
	if len(got) != 3 || !slices.Equal(got[0], []int{0, 1, 3}) || !slices.Equal(got[1], []int{2, 5}) || !slices.Equal(got[2], []int{4}) {
		t.Error(got)
	}
}

// A connection is made once for all who use it, made anew when it is broken, and
// closed when nobody has used it for a while.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines Lines[*fakeConn]
		var made []*fakeConn
		dial := func(context.Context) (*fakeConn, error) {
			time.Sleep(time.Second)
			c := &fakeConn{}
			made = append(made, c)
			return c, nil
		}
		use := func(c *fakeConn) error { time.Sleep(time.Minute); return nil }
		for range 5 {
			go lines.Use(t.Context(), "k", dial, use)
		}
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if len(made) != 1 || made[0].closed.Load() {
			t.Fatalf("%d connections for five users", len(made))
		}
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if !made[0].closed.Load() {
			t.Error("nobody has used it for a minute, and it is open")
		}
		lines.Use(t.Context(), "k", dial, func(c *fakeConn) error { c.broken.Store(true); return nil })
		lines.Use(t.Context(), "k", dial, func(c *fakeConn) error { return nil })
		if len(made) != 3 || !made[1].closed.Load() || made[2].closed.Load() {
			t.Errorf("%d connections", len(made))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !made[2].closed.Load() {
			t.Error("the last one is open")
		}
	})
}

type fakeConn struct{ broken, closed atomic.Bool }

func (c *fakeConn) Close()       { c.closed.Store(true) }
func (c *fakeConn) Broken() bool { return c.broken.Load() || c.closed.Load() }
