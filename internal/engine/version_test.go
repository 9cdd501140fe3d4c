package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
)

// counting is a follower whose documents are how many records a stream has,
// and of which version of the definition they are. From version 2 on, streams
// whose name ends with a 7 count twice.
func counting(version int) Follower {
	f := pure(nil)
	f.Version = version
	f.New = func(gen uint64) Handler {
		return &tally{coll: ledgerColl(gen), version: version, docs: map[string]count{}}
	}
	return f
}

type count struct {
	N int `json:"n"`
}

type tally struct {
	coll    string
	version int
	docs    map[string]count
}

func (c *tally) Keys(rec store.Record) []string { return []string{rec.Stream} }

func (c *tally) Handle(ctx context.Context, tx *Tx, rec store.Record) error {
	var n count
	d, err := tx.Get(ctx, c.coll, rec.Stream)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if d.Data != nil {
		if err := json.Unmarshal(d.Data, &n); err != nil {
			return err
		}
	}
	if n.N++; c.version >= 2 && rec.Stream[len(rec.Stream)-1] == '7' {
		n.N++
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return tx.Put(c.coll, rec.Stream, data)
}

func (c *tally) Flush(context.Context, *Tx) error { return nil }
func (c *tally) Reset()                           {}

// counts fails unless the documents of a generation are those of a version.
func (r *rig) counts(gen uint64, version int) {
	r.t.Helper()
	want := map[string]int{}
	for rec, err := range r.s.ReadAll(context.Background(), store.Start, store.Filter{Categories: []string{"a"}}) {
		if err != nil {
			r.t.Fatal(err)
		}
		if want[rec.Stream]++; version >= 2 && rec.Stream[len(rec.Stream)-1] == '7' {
			want[rec.Stream]++
		}
	}
	n := 0
	for d, err := range r.s.List(context.Background(), ledgerColl(gen), "", "") {
		if w := fmt.Sprintf(`{"n":%d}`, want[d.Key]); err != nil || string(d.Data) != w {
			r.t.Errorf("generation %d, %s: %s, want %s (%v)", gen, d.Key, d.Data, w, err)
		}
		n++
	}
	if n != len(want) {
		r.t.Errorf("generation %d has %d documents, want %d", gen, n, len(want))
	}
}

func (r *rig) rebuild() Rebuild {
	r.t.Helper()
	st, err := r.Rebuilding(r.t.Context(), "ledger")
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// node starts an engine that shares its store.
func node(t *testing.T, s store.Store, name string, f Follower) *rig {
	t.Helper()
	return start(t, Config{Store: s, Followers: []Follower{f}, Logger: quiet(), Node: name})
}

// filled is a store with streams a/0 to a/n-1 of so many records.
func filled(t *testing.T, streams, records int) *shelf {
	s := newShelf()
	for i := range streams {
		add(t, s, fmt.Sprintf("a/%d", i), records)
	}
	return s
}

// A program of another version builds its documents by itself; readers see the
// old ones, which are left as they are, until these are overtaken.
func TestVersionRebuildsByItself(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		r := run(t, s, counting(0))
		r.wait()
		r.stop()
		add(t, s, "a/3", 1)
		r = run(t, s, counting(2))
		r.wait()
		synctest.Wait()
		st := r.rebuild()
		if st.Shown.Generation != 2 || st.Shown.Version != 2 || !st.Shown.Moves || st.Former == nil || st.Former.Generation != 1 || st.Former.Version != 0 || st.Former.Moves {
			t.Errorf("%+v %+v", st, st.Former)
		}
		r.counts(2, 2)
		// Nobody here can go on with the former documents.
		if err := r.RollBack(t.Context(), "ledger"); !errors.Is(err, ErrOtherVersion) {
			t.Error(err)
		}
		// What differs is told as of where they stand.
		add(t, s, "a/17", 2)
		add(t, s, "a/100", 1)
		r.wait()
		r.differs("a/17 changed, a/7 changed", 18)
		r.stop()

		// The old program takes them up.
		r = run(t, s, counting(0))
		add(t, s, "a/17", 2)
		r.wait()
		synctest.Wait()
		if st := r.rebuild(); st.Shown.Generation != 1 || st.Former == nil || st.Former.Generation != 2 {
			t.Errorf("%+v", st)
		}
		r.counts(1, 0)
		r.stop()

		// And the new one its own.
		r = run(t, s, counting(2))
		r.wait()
		synctest.Wait()
		if st := r.rebuild(); st.Shown.Generation != 2 {
			t.Errorf("%+v", st)
		}
		r.counts(2, 2)
		r.stop()

		r = run(t, s, counting(3))
		r.wait()
		time.Sleep(time.Second)
		if st := r.rebuild(); st.Shown.Generation != 3 || st.Former.Generation != 2 {
			t.Errorf("%+v", st)
		}
		r.gone(1)
	})
}

// A program that is run for the first time has nothing to rebuild; one whose
// documents were made before there were versions has.
func TestVersionOfFreshDocuments(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 3, 3)
		r := run(t, s, counting(4))
		r.wait()
		if st := r.rebuild(); st.Shown.Generation != 1 || st.Shown.Version != 4 || st.Former != nil {
			t.Errorf("%+v", st)
		}
		r.counts(1, 4)
	})
}

// differs fails unless the diff has these samples and so many that are the same.
func (r *rig) differs(want string, same uint64) Diff {
	r.t.Helper()
	d, err := r.Diff(r.t.Context(), "ledger", 1000)
	if err != nil {
		r.t.Error(err)
		return d
	}
	got := ""
	for i, x := range d.Samples {
		if i > 0 {
			got += ", "
		}
		got += x.Key + " " + x.Change
	}
	if got != want || d.Same != same || d.Changed+d.Added+d.Gone != uint64(len(d.Samples)) {
		r.t.Errorf("%s, %d the same; want %s, %d the same (%+v)", got, d.Same, want, same, d)
	}
	return d
}

// One that waits to be asked waits where the old documents are, which nobody
// moves; then the new ones are asked for.
func TestVersionWaitsToBeAsked(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		r := run(t, s, counting(1))
		r.wait()
		r.stop()
		add(t, s, "a/7", 1)
		add(t, s, "a/30", 1)
		f := counting(2)
		f.AskSwitch = true
		r = run(t, s, f)
		time.Sleep(10 * time.Second)
		st := r.rebuild()
		if st.Shown.Generation != 1 || st.Rebuild == nil || st.Rebuild.State != RebuildReady || st.Rebuild.Cursor != st.Shown.Cursor || st.Shown.Behind != 2 {
			t.Errorf("%+v %+v", st, st.Rebuild)
		}
		d := r.differs("a/17 changed, a/7 changed", 18)
		if got := fmt.Sprintf("%s %s", d.Samples[1].Before, d.Samples[1].After); got != `{"n":5} {"n":10}` {
			t.Error(got)
		}
		if err := r.Switch(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		r.wait()
		r.counts(2, 2)
		r.differs("a/17 changed, a/7 changed", 18)
	})
}

// A version that was cancelled is not begun again by itself, also not by the
// next start; a person can.
func TestVersionCancelled(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		r := run(t, s, counting(1))
		r.wait()
		r.stop()
		f := counting(2)
		f.AskSwitch = true
		r = run(t, s, f)
		time.Sleep(time.Second)
		if err := r.CancelRebuild(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r = run(t, s, f)
		p := add(t, s, "a/1", 1)
		time.Sleep(10 * time.Second)
		if st := r.rebuild(); st.Rebuild != nil || st.Shown.Generation != 1 || st.Shown.Moves {
			t.Errorf("%+v", st)
		}
		if st := r.status(); st.State != StateOtherVersion || st.Behind != 1 {
			t.Errorf("%+v", st)
		}
		if err := r.WaitFor(t.Context(), "ledger", p); !errors.Is(err, ErrOtherVersion) {
			t.Error(err)
		}
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		r.wait()
		r.counts(3, 2)
	})
}

// While programs are replaced node by node, the old ones go on with the
// documents that readers see, and with the former ones.
func TestVersionsOnSeveralNodes(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		old := node(t, s, "old", counting(1))
		old.wait()
		f := counting(2)
		f.AskSwitch = true
		fresh := node(t, s, "new", f)
		for range 50 {
			add(t, s, "a/7", 1)
			add(t, s, "a/8", 1)
			time.Sleep(100 * time.Millisecond)
		}
		fresh.wait()
		time.Sleep(time.Second)
		for _, r := range []*rig{old, fresh} {
			if st := r.rebuild(); st.Shown.Generation != 1 || !st.Shown.Moves || st.Rebuild == nil || st.Rebuild.State != RebuildReady {
				t.Errorf("%+v %+v", st, st.Rebuild)
			}
		}
		fresh.counts(1, 1)
		fresh.differs("a/17 changed, a/7 changed", 18)
		old.stop()
		old = node(t, s, "old again", counting(1)) // which does not begin a rebuild of its own
		time.Sleep(time.Minute)
		add(t, s, "a/9", 1)
		if err := old.Switch(t.Context(), "ledger"); err != nil { // which the other does
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		add(t, s, "a/7", 1)
		time.Sleep(10 * time.Second)
		for _, r := range []*rig{old, fresh} {
			r.wait()
			if st := r.rebuild(); st.Shown.Generation != 2 || st.Former == nil || !st.Former.Moves || st.Former.Behind != 0 || st.Rebuild != nil {
				t.Errorf("%+v %+v", st, st.Former)
			}
		}
		fresh.counts(2, 2)
		fresh.counts(1, 1)
		if err := fresh.RollBack(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		for _, r := range []*rig{old, fresh} {
			if st := r.rebuild(); st.Shown.Generation != 1 || st.Former == nil || st.Former.Generation != 2 {
				t.Errorf("%+v", st)
			}
		}
		// What was rolled back is not begun again.
		fresh.stop()
		fresh = node(t, s, "new again", f)
		time.Sleep(time.Minute)
		if st := fresh.rebuild(); st.Shown.Generation != 1 || st.Rebuild != nil {
			t.Errorf("%+v", st)
		}
		add(t, s, "a/7", 1)
		old.wait()
		old.counts(1, 1)
	})
}
