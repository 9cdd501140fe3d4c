package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

func parted(f Follower, n int) Follower {
	f.Partitions = n
	return f
}

// fill appends to many streams, so that each partition has some.
func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	for i := range n {
		add(t, s, fmt.Sprintf("a/%d", i%23), 1+i%3)
	}
}

func TestPartitionsChange(t *testing.T) {
	for kind, follower := range map[string]func(func(*ledger)) Follower{"pure": pure, "effectful": effectful} {
		t.Run(kind, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				for _, parts := range []int{1, 4, 4, 3, 7, 1, 2} {
					fill(t, s, 100)
					r := run(t, s, parted(follower(nil), parts))
					r.wait()
					r.same()
					if st := r.status(); st.Partitions != parts {
						t.Errorf("%+v", st)
					}
					r.stop()
				}
			})
		})
	}
}

// The number changes again and again while partitions are far apart, so that
// each has handled what others have not.
func TestPartitionsChangeFarApart(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		parts := 0
		pasts := 0
		for _, next := range []int{4, 3, 5, 2, 4, 1, 3} {
			fill(t, s, 200)
			parts = next
			// All but one of the streams are slow: partitions come apart.
			r := run(t, s, parted(pure(func(h *ledger) {
				h.fail = func(rec store.Record) error {
					if store.PartitionOf(rec.Stream, parts) != 0 {
						time.Sleep(20 * time.Millisecond)
					}
					return nil
				}
			}), parts))
			time.Sleep(400 * time.Millisecond)
			r.stop()
			saved, err := loadCheckpoints(t.Context(), s, "ledger", 1)
			if err != nil {
				t.Fatal(err)
			}
			pasts = max(pasts, len(saved.pasts))
			for stream, versions := range book(t, s, 1) {
				if !slices.Equal(versions, upTo(len(versions))) {
					t.Fatalf("with %d partitions: %s has %v", parts, stream, versions)
				}
			}
		}
		if pasts < 2 {
			t.Errorf("there were never two earlier numbers to remember, but %d", pasts)
		}
		r := run(t, s, parted(pure(nil), 2))
		r.wait()
		r.same()
		add(t, s, "a/1", 1)
		add(t, s, "a/2", 1)
		add(t, s, "a/3", 1)
		r.wait()
		saved, err := loadCheckpoints(t.Context(), s, "ledger", 1)
		if err != nil || len(saved.pasts) > 0 {
			t.Errorf("what was skipped is over, and still remembered: %+v, %v", saved.pasts, err)
		}
	})
}

// Dead letters stay with the partition their stream is in now.
func TestPartitionsChangeWithDeadLetters(t *testing.T) {
	within(t, func(t *testing.T) {
		s, m := newShelf(), badly()
		for i := range 9 {
			m.dislike(fmt.Sprintf("a/%d@2", i))
			add(t, s, fmt.Sprintf("a/%d", i), 3)
		}
		f := pure(func(h *ledger) { h.fail = m.fail })
		r := run(t, s, parted(f, 2))
		r.wait()
		r.stop()
		r = run(t, s, parted(f, 5))
		for i := range 9 {
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		r.wait()
		if got := strings.Count(r.parked(), "waiting"); got != 18 {
			t.Errorf("%d wait: %s", got, r.parked())
		}
		m.relent()
		for i := range 9 {
			ls, _, err := r.DeadLetters(t.Context(), "", "", 1)
			if err != nil || len(ls) != 1 {
				t.Fatal(i, err)
			}
			if n, err := r.Redrive(t.Context(), ls[0].ID); n != 3 || err != nil {
				t.Errorf("%s: %d, %v", ls[0].ID, n, err)
			}
		}
		r.same()
	})
}

func TestLeast(t *testing.T) {
	for _, c := range []struct {
		cursors []store.Cursor
		want    store.Cursor
	}{
		{nil, ""},
		{[]store.Cursor{"7"}, "7"},
		{[]store.Cursor{"7", "3", "9"}, "3"},
		{[]store.Cursor{"7", ""}, ""},
		{[]store.Cursor{"", "7"}, ""},
		{[]store.Cursor{"7,1:5,2:8", "4,1:9"}, "4,1:5"},
	} {
		if got := least(c.cursors); got != c.want {
			t.Errorf("least of %q: %q, want %q", c.cursors, got, c.want)
		}
	}
}

// Checkpoints that make no sense stop the follower, with an error that names
// them; nothing is guessed.
func TestDamagedCheckpoints(t *testing.T) {
	for name, c := range map[string]struct{ key, data string }{
		"not json":         {"ledger/1/0-of-1", "{"},
		"bad key":          {"ledger/1/x", "{}"},
		"no such":          {"ledger/1/3-of-2", "{}"},
		"beside":           {"ledger/1/1-of-2", "{}"},
		"past without end": {"ledger/1/0-of-1", `{"cursor":"1","past":[{"partitions":3,"cursors":["1"]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := newShelf()
				changes := []store.Change{{Coll: cursorColl, Key: c.key, Data: []byte(c.data)}}
				if name == "beside" {
					changes = append(changes, store.Change{Coll: cursorColl, Key: "ledger/1/0-of-1", Data: []byte("{}")})
				}
				if err := s.Write(t.Context(), changes...); err != nil {
					t.Fatal(err)
				}
				add(t, s, "a/1", 1)
				r := run(t, s, pure(nil))
				time.Sleep(time.Minute)
				if st := r.status(); st.State != StateTrouble || !strings.Contains(st.LastError, "corrupt: checkpoint") {
					t.Errorf("%+v", st)
				}
				r.expect("a/1")
			})
		})
	}
}

func TestDamagedLetterAndIntent(t *testing.T) {
	for _, c := range []struct{ coll, key string }{
		{deadColl("ledger"), deadKey(1, store.Position{Seq: 1})},
		{followerColl, "ledger"},
	} {
		within(t, func(t *testing.T) {
			s := newShelf()
			data, err := json.Marshal("what")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Write(t.Context(), store.Change{Coll: c.coll, Key: c.key, Data: data}); err != nil {
				t.Fatal(err)
			}
			r := run(t, s, pure(nil))
			time.Sleep(time.Minute)
			if st := r.status(); st.State != StateTrouble || !strings.Contains(st.LastError, "corrupt") {
				t.Errorf("%s: %+v", c.coll, st)
			}
		})
	}
}
