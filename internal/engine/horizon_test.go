package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// horizon is how far all have come, and who keeps it there.
func (r *rig) horizon() string {
	r.t.Helper()
	h, err := r.Horizon(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", h.Cursor, h.Follower, h.Letter))
}

func (r *rig) wantHorizon(want string) {
	r.t.Helper()
	if got := r.horizon(); got != want {
		r.t.Errorf("the horizon is %q, want %q", got, want)
	}
}

func put(t *testing.T, s store.Store, coll, key, data string) {
	t.Helper()
	if err := s.Write(t.Context(), store.Change{Coll: coll, Key: key, Rev: store.AnyRev, Data: []byte(data)}); err != nil {
		t.Fatal(err)
	}
}

// The horizon is before what anybody has still to handle: a follower that is
// behind, paused, or has never run; a dead letter; a generation that is being
// built; a follower of another program.
func TestHorizon(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 5)
		m := badly()
		f := pure(func(h *ledger) { h.fail = m.fail })
		e, err := New(Config{Store: s, Followers: []Follower{f}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		if h, err := e.Horizon(t.Context()); err != nil || h.Cursor != store.Start || h.Follower != "ledger" {
			t.Errorf("of a follower that has never run: %+v, %v", h, err)
		}
		r := run(t, s, f)
		r.wait()
		time.Sleep(2 * time.Second) // cursors without effect are saved now and then
		r.wantHorizon("5")
		add(t, s, "b/1", 2) // nothing to the ledger
		time.Sleep(2 * time.Second)
		r.wantHorizon("7")

		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		add(t, s, "a/1", 3)
		r.wantHorizon("7 ledger")
		m.dislike("a/1@7")
		if err := r.Resume(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		add(t, s, "a/2", 1)
		r.wait()
		r.wantHorizon("8 ledger ledger.9") // and the one behind it waits
		m.relent()
		if _, err := r.RedriveAll(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		r.wantHorizon("11")

		put(t, s, cursorColl, "other/3/1-of-2", `{"cursor":"6"}`)
		r.wantHorizon("6 other")
		put(t, s, deadColl("other"), deadKey(2, store.Position{Seq: 4}), `{"id":"other.4"}`) // of a generation that is over
		r.wantHorizon("6 other")
		put(t, s, deadColl("other"), deadKey(3, store.Position{Seq: 3}), `{"id":"other.3"}`)
		r.wantHorizon("2 other other.3")
	})
}

// A rebuild begins at the beginning.
func TestHorizonOfARebuild(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 5)
		f := pure(func(h *ledger) {
			if h.coll != ledgerColl(1) {
				h.fail = func(store.Record) error { return errDown }
			}
		})
		r := run(t, s, f)
		r.wait()
		r.wantHorizon("5")
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.wantHorizon("ledger")
	})
}

// What is kept of a follower that nobody has any more can be removed, all of it
// and nothing else; not of one that somebody has.
func TestForget(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		add(t, s, "a/1", 5)
		r := run(t, s, pure(nil))
		r.wait()
		other := pure(func(h *ledger) { h.fail = badly("a/1@3").fail })
		other.Name = "other"
		gone := run(t, s, other)
		gone.wait()
		if err := gone.Rebuild(t.Context(), "other", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		gone.stop()
		put(t, s, cursorColl, "others/1/0-of-1", `{"cursor":"5"}`)
		for _, gen := range []uint64{1, 2} {
			put(t, s, fmt.Sprintf("docs/%d", gen), "k", "{}")
		}
		colls := func(gen uint64) []string { return []string{fmt.Sprintf("docs/%d", gen)} }
		if _, err := r.Forget(t.Context(), "ledger", colls); !errors.Is(err, ErrFollowerInUse) {
			t.Errorf("forgetting one that runs: %v", err)
		}
		if _, err := r.Forget(t.Context(), "nobody", colls); !errors.Is(err, ErrUnknownFollower) {
			t.Errorf("forgetting one that nobody knows: %v", err)
		}
		if n, err := r.Forget(t.Context(), "other", colls); n != 6 || err != nil { // the former documents have theirs
			t.Errorf("%d letters, %v", n, err)
		}
		for coll, want := range map[string]int{cursorColl: 2, followerColl: 0, deadColl("other"): 0, "docs/1": 0, "docs/2": 0} {
			n := 0
			for range s.List(t.Context(), coll, "", "") {
				n++
			}
			if n != want {
				t.Errorf("%s has %d documents, want %d", coll, n, want)
			}
		}
		if _, err := r.Forget(t.Context(), "other", colls); !errors.Is(err, ErrUnknownFollower) {
			t.Errorf("forgetting it twice: %v", err)
		}
	})
}
