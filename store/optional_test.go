package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// plain hides what a store can do beyond what it must.
type plain struct{ store.Store }

func TestWaitWithoutWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := store.Wait(t.Context(), plain{mem.New()}, store.Start, time.Minute); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it waited %v, want the poll", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := store.Wait(ctx, plain{mem.New()}, store.Start, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

// A Waiter that misses a record is not waited for beyond the poll.
func TestWaitLooksForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := store.Wait(t.Context(), mem.New(), store.Start, time.Minute); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it waited %v, want the poll", d)
		}
	})
}

func TestDropCollWithoutDropper(t *testing.T) {
	s := plain{mem.New()}
	for _, c := range []store.Change{{Coll: "v", Key: "a"}, {Coll: "v", Key: "b"}, {Coll: "w", Key: "a"}} {
		c.Data = []byte(`{}`)
		if err := s.Write(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.DropColl(t.Context(), s, "v"); err != nil {
		t.Fatal(err)
	}
	for coll, want := range map[string][]string{"v": nil, "w": {"a"}} {
		var got []string
		for d := range s.List(t.Context(), coll, "", "") {
			got = append(got, d.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", coll, got, want)
		}
	}
}

func TestDropCollPassesErrorsOn(t *testing.T) {
	s := plain{mem.New()}
	s.Close()
	if err := store.DropColl(t.Context(), s, "v"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestVolatileReason(t *testing.T) {
	if store.VolatileReason(mem.New()) == "" {
		t.Error("memory is said to last")
	}
	if r := store.VolatileReason(plain{mem.New()}); r != "" {
		t.Errorf("a store that says nothing is volatile: %s", r)
	}
}
