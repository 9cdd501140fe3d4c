package engine

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// stuck is a follower whose handler waits to be let go.
func stuck() (Follower, func()) {
	gate := make(chan struct{})
	return pure(func(h *ledger) {
		h.fail = func(store.Record) error { <-gate; return nil }
	}), func() { close(gate) }
}

func TestLag(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		f, letGo := stuck()
		r := run(t, s, f)
		add(t, s, "b/1", 2)
		time.Sleep(time.Second)
		if st := r.status(); st.LagSeconds != 0 || st.Behind != 0 || st.Head != "2" || st.Cursor != "2" || st.State != StateRunning {
			t.Errorf("nothing to do: %+v", st)
		}
		add(t, s, "a/1", 3)
		time.Sleep(30 * time.Second)
		st := r.status()
		if st.LagSeconds < 30 || st.LagSeconds > 30.1 || st.Behind != 3 || st.Head != "5" || st.Cursor != "2" {
			t.Errorf("stuck for 30 s: %+v", st)
		}
		if age := time.Since(*st.Heartbeat); age < 29*time.Second || age > 31*time.Second {
			t.Errorf("heartbeat of one stuck for 30 s is %v old", age)
		}
		letGo()
		r.wait()
		time.Sleep(5 * time.Second)
		st = r.status()
		if st.LagSeconds != 0 || st.Behind != 0 || st.Cursor != "5" || st.Handled != 3 {
			t.Errorf("caught up: %+v", st)
		}
		if age := time.Since(*st.Heartbeat); age > time.Second {
			t.Errorf("heartbeat of an idle one is %v old", age)
		}
	})
}

// How much a paused follower misses is what somebody wants to know.
func TestLagWhilePaused(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		add(t, s, "a/1", 2)
		r.wait()
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		add(t, s, "b/1", 1)
		time.Sleep(time.Minute)
		if st := r.status(); st.State != StatePaused || st.LagSeconds != 0 || st.Cursor != "2" || st.Head != "3" || st.Behind != 1 {
			t.Errorf("misses nothing it wants: %+v", st)
		}
		add(t, s, "a/1", 1)
		time.Sleep(time.Minute)
		add(t, s, "a/1", 5)
		time.Sleep(time.Minute)
		check := func(when string, least float64) {
			t.Helper()
			if st := r.status(); st.State != StatePaused || st.LagSeconds < least || st.LagSeconds > least+2 || st.Behind != 7 || st.Head != "9" {
				t.Errorf("%s: %+v", when, st)
			}
		}
		check("two minutes", 120)
		r.stop()
		r = run(t, s, pure(nil))
		time.Sleep(time.Second)
		check("after a restart", 121)
		if err := r.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		r.wait()
		if st := r.status(); st.LagSeconds != 0 || st.Behind != 0 {
			t.Errorf("resumed: %+v", st)
		}
	})
}

// A worker that cannot read does not pretend to be up to date.
func TestLagWhileTheStoreIsDown(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		var down atomic.Bool
		s.write = func(int, []store.Change) (before, after error) {
			if down.Load() {
				return errDown, nil
			}
			return nil, nil
		}
		r := run(t, s, pure(nil))
		add(t, s, "a/1", 1)
		r.wait()
		down.Store(true)
		add(t, s, "a/1", 1)
		time.Sleep(time.Minute)
		if st := r.status(); st.LagSeconds < 60 || st.Behind != 1 || st.State != StateTrouble {
			t.Errorf("%+v", st)
		}
	})
}

func TestRate(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		for range 20 {
			add(t, s, "a/1", 50)
			time.Sleep(500 * time.Millisecond)
		}
		if st := r.status(); st.Rate < 80 || st.Rate > 120 {
			t.Errorf("rate %v, want about 100", st.Rate)
		}
		for range 60 {
			time.Sleep(time.Second)
			r.status()
		}
		if st := r.status(); st.Rate != 0 || st.Handled != 1000 {
			t.Errorf("idle: rate %v, handled %d", st.Rate, st.Handled)
		}
	})
}

func TestStatusOfPartitions(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		fill(t, s, 100)
		r := run(t, s, parted(pure(nil), 4))
		r.wait()
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st := r.status(); st.Cursor != head || st.Partitions != 4 || st.Handled != head.Seq(0) {
			t.Errorf("%+v, head %s", st, head)
		}
	})
}

func TestStatusBeforeRun(t *testing.T) {
	e, err := New(Config{Store: newShelf(), Followers: []Follower{pure(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	st := e.Status()[0]
	if st.State != StateStopped || st.Cursor != store.Start || e.Cursor("ledger") != store.Start || e.Cursor("nobody") != store.Start {
		t.Errorf("%+v", st)
	}
	data, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"ledger","kind":"projection","state":"stopped","partitions":1,"cursor":"","head":"","behind":0,"lag_seconds":0,"rate":0,"handled":0,"retrying":0,"waiting":0,"dead":0}`
	if string(data) != want {
		t.Errorf("%s\nwant %s", data, want)
	}
}
