package engine

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/store"
)

var switchSeeds = flag.Uint64("switchseeds", 0, "so many more histories of switches over nodes")

// Everything that can be asked of a rebuild, and what is refused when.
func TestStepsOfARebuild(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 5, 100)
		r := run(t, s, slowly(2, 10*time.Millisecond))
		r.wait()
		ctx := t.Context()
		refused := func(when string, want map[string]error) {
			t.Helper()
			for what, err := range map[string]error{
				"switch": r.Switch(ctx, "ledger"), "cancel": r.CancelRebuild(ctx, "ledger"), "pause": r.HaltRebuild(ctx, "ledger", true),
				"roll back": r.RollBack(ctx, "ledger"), "discard": r.DiscardFormer(ctx, "ledger"),
			} {
				if !errors.Is(err, want[what]) {
					t.Errorf("%s: %s: %v, want %v", when, what, err, want[what])
				}
			}
		}
		refused("nothing", map[string]error{"switch": ErrNoRebuild, "cancel": ErrNoRebuild, "pause": ErrNoRebuild, "roll back": ErrNoFormer, "discard": ErrNoFormer})
		if _, err := r.Diff(ctx, "ledger", 1); !errors.Is(err, ErrNoRebuild) || !errors.Is(err, ErrNoFormer) {
			t.Error(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(r.Rebuild(ctx, "ledger", true))
		time.Sleep(2 * time.Second)
		st := r.rebuild()
		if p := st.Rebuild; p == nil || p.State != RebuildBuilding || p.Switch != "asked" || p.Left == nil || *p.Left < 1 || *p.Left > 5 || p.Behind < 250 || p.Behind > 350 {
			t.Errorf("%+v", p)
		}
		if err := r.RollBack(ctx, "ledger"); !errors.Is(err, ErrRebuilding) {
			t.Error(err)
		}
		must(r.HaltRebuild(ctx, "ledger", true))
		time.Sleep(time.Second)
		before := r.rebuild().Rebuild
		add(t, s, "a/1", 10)
		r.wait() // what readers see goes on
		time.Sleep(time.Hour)
		if after := r.rebuild().Rebuild; after.State != RebuildPaused || after.Cursor != before.Cursor || after.Left != nil {
			t.Errorf("%+v, %+v", before, after)
		}
		must(r.HaltRebuild(ctx, "ledger", false))
		time.Sleep(time.Minute)
		if p := r.rebuild().Rebuild; p.State != RebuildReady || p.Behind != 0 || r.generation() != 1 {
			t.Errorf("%+v", p)
		}
		r.differs("", 5)
		must(r.CancelRebuild(ctx, "ledger"))
		time.Sleep(time.Second)
		r.gone(2)
		refused("cancelled", map[string]error{"switch": ErrNoRebuild, "cancel": ErrNoRebuild, "pause": ErrNoRebuild, "roll back": ErrNoFormer, "discard": ErrNoFormer})

		must(r.Rebuild(ctx, "ledger", true))
		must(r.Switch(ctx, "ledger")) // ahead of time: it waits no more
		time.Sleep(time.Minute)
		if r.generation() != 3 {
			t.Error("not switched")
		}
		must(r.RollBack(ctx, "ledger"))
		time.Sleep(time.Minute)
		if st := r.rebuild(); st.Shown.Generation != 1 || st.Former == nil || st.Former.Generation != 3 || st.Rebuild != nil || st.Shown.Since == nil {
			t.Errorf("%+v", st)
		}
		must(r.RollBack(ctx, "ledger")) // forth again
		time.Sleep(time.Minute)
		if r.generation() != 3 {
			t.Error("not rolled forth")
		}
		r.same()
		r.goes(1)
	})
}

// A roll-back shows what is true now, not what was at the switch; and while it
// is under way it can be called off.
func TestRollBackIsCurrent(t *testing.T) {
	for _, parts := range []int{1, 3} {
		within(t, func(t *testing.T) {
			s := filled(t, 20, 20)
			r := run(t, s, parted(pure(nil), parts))
			r.wait()
			seen := 0
			look := func() {
				t.Helper()
				n := 0
				for _, versions := range r.book() {
					n += len(versions)
				}
				if n < seen {
					t.Fatalf("documents hold %d records, and %d before", n, seen)
				}
				seen = n
			}
			if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
				t.Fatal(err)
			}
			for i := range 400 {
				p := add(t, s, fmt.Sprintf("a/%d", i%25), 3)
				if i%50 == 49 {
					if err := r.RollBack(t.Context(), "ledger"); err != nil {
						t.Fatal(err)
					}
				}
				if i%100 == 49 { // too late, or not: both are fine
					if err := r.CancelRebuild(t.Context(), "ledger"); err != nil && !errors.Is(err, ErrNoRebuild) {
						t.Fatal(err)
					}
				}
				look()
				if i%10 == 0 {
					if err := r.WaitFor(t.Context(), "ledger", p); err != nil {
						t.Fatal(err)
					}
					look()
					if seen != 400+3*(i+1) {
						t.Fatalf("%d records, want %d", seen, 400+3*(i+1))
					}
				}
				time.Sleep(time.Millisecond)
			}
			r.wait()
			r.same()
			time.Sleep(time.Second)
			r.differs("", 25)
			gen := r.generation()
			if gen != 1 && gen != 2 {
				t.Error(gen)
			}
			r.goes(3 - gen)
		})
	}
}

// A switch is one write. Whatever the store makes of it, readers see one
// generation or the other, and never an older document than before.
func TestSwitchIsOneWrite(t *testing.T) {
	for seed := range uint64(20) {
		within(t, func(t *testing.T) {
			s := filled(t, 10, 10)
			rng := rand.New(rand.NewPCG(seed, 7))
			r := run(t, s, pure(nil))
			r.wait()
			dice := rand.New(rand.NewPCG(seed, 9))
			s.failWrites(func(_ int, changes []store.Change) (before, after error) {
				if changes[0].Coll != followerColl || dice.IntN(2) == 0 {
					return nil, nil
				}
				if dice.IntN(2) == 0 {
					return errDown, nil
				}
				return nil, fmt.Errorf("%w: on purpose", store.ErrUnknown)
			})
			_ = r.Rebuild(t.Context(), "ledger", seed%2 == 0)
			last := map[string]int{}
			for i := range 300 {
				add(t, s, fmt.Sprintf("a/%d", i%10), 1)
				switch rng.IntN(30) {
				case 0:
					_ = r.RollBack(t.Context(), "ledger")
				case 1:
					_ = r.Switch(t.Context(), "ledger")
				case 2:
					r.stop()
					r = run(t, s, pure(nil))
				case 3:
					_ = r.Rebuild(t.Context(), "ledger", rng.IntN(2) == 0)
				}
				for stream, versions := range r.book() {
					if len(versions) < last[stream] || !reflect.DeepEqual(versions, upTo(len(versions))) {
						t.Fatalf("seed %d: %s holds %v, and %d before", seed, stream, versions, last[stream])
					}
					last[stream] = len(versions)
				}
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
			}
			s.failWrites(nil)
			_ = r.Switch(t.Context(), "ledger")
			time.Sleep(time.Minute)
			r.wait()
			r.same()
		})
	}
}

// Several nodes share the partitions, and learn of a switch one after the other.
// None of them shows an older document than it did before; nor does one that only
// reads.
func TestSwitchOverNodes(t *testing.T) {
	switched, seeds := 0, []uint64{0, 14, 25} // of these some notice when a switch is not one write, or the former overtakes
	for seed := range *switchSeeds {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		within(t, func(t *testing.T) {
			s := filled(t, 10, 10)
			rng := rand.New(rand.NewPCG(seed, 8))
			f := parted(pure(nil), 3)
			nodes := []*rig{node(t, s, "a", f), node(t, s, "b", f)}
			e, err := New(Config{Store: s, Followers: []Follower{f}, Logger: quiet(), Node: "c"})
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, &rig{Engine: e, t: t, s: s}) // which does not run
			nodes[0].wait()
			last := make([]map[string]int, len(nodes))
			for n := range last {
				last[n] = map[string]int{}
			}
			gen := uint64(1)
			for range 800 {
				add(t, s, fmt.Sprintf("a/%d", rng.IntN(10)), 1+rng.IntN(3))
				switch r := nodes[rng.IntN(2)]; rng.IntN(200) {
				case 0:
					_ = r.RollBack(t.Context(), "ledger")
				case 1:
					_ = r.Switch(t.Context(), "ledger")
				case 2:
					_ = r.Rebuild(t.Context(), "ledger", rng.IntN(2) == 0)
				}
				for n, r := range nodes {
					for stream, versions := range r.book() {
						if len(versions) < last[n][stream] || !reflect.DeepEqual(versions, upTo(len(versions))) {
							t.Fatalf("seed %d, node %d: %s holds %v, and %d before", seed, n, stream, versions, last[n][stream])
						}
						last[n][stream] = len(versions)
					}
				}
				if now := nodes[0].generation(); now != gen {
					switched, gen = switched+1, now
				}
				time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
			}
			_ = nodes[0].Switch(t.Context(), "ledger")
			time.Sleep(time.Minute)
			for _, r := range nodes {
				r.same()
			}
			nodes[0].differs("", 10)
		})
	}
	if switched < 5 {
		t.Errorf("switched %d times only", switched)
	}
}

// Two generations are compared at one place in the log, also when neither is
// caught up, has dead letters, or has other partitions; what is missing is
// taken in in memory, and nothing is written.
func TestDiffAtOnePlace(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		r := run(t, s, counting(0))
		r.wait()
		r.stop()
		broken := counting(0) // as if somebody had changed the code and not the version
		broken.New = func(gen uint64) Handler {
			version := 0
			if gen > 1 {
				version = 2
			}
			return &tally{coll: ledgerColl(gen), version: version}
		}
		r = run(t, s, broken)
		if err := r.Rebuild(t.Context(), "ledger", true); err != nil {
			t.Fatal(err)
		}
		r.wait()
		synctest.Wait()
		if err := r.HaltRebuild(t.Context(), "ledger", true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		add(t, s, "a/7", 1)
		add(t, s, "a/20", 2)
		p := add(t, s, "a/27", 2)
		r.wait()
		wrote := s.wrote()
		d := r.differs("a/17 changed, a/27 changed, a/7 changed", 19)
		if got := fmt.Sprintf("%s %s %s %s", d.Samples[1].Before, d.Samples[1].After, d.Samples[2].Before, d.Samples[2].After); got != `{"n":2} {"n":4} {"n":6} {"n":12}` {
			t.Error(got)
		}
		if !d.Position.Covers(p) || s.wrote() != wrote {
			t.Errorf("at %s, %d writes", d.Position, s.wrote()-wrote)
		}
	})
}

// Documents that are there on one side only, and fields in another order.
func TestDiffOfRows(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(nil))
		r.wait()
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, d := range []struct {
			gen       uint64
			key, data string
		}{
			{1, "a", `{"x":1}`}, {2, "b", `{"x":1}`}, {1, "c", `{"x":1,"y":[2]}`}, {2, "c", `{"y": [2], "x":1}`},
			{1, "d", `{"x":1}`}, {2, "d", `{"x":1.0}`}, {1, "e", `9007199254740993`}, {2, "e", `9007199254740992`}, {2, "f", `1`}, {1, "z", `1`}, {2, "z", `1`},
		} {
			put(t, s, ledgerColl(d.gen), d.key, d.data)
		}
		d := r.differs("a gone, b added, d changed, e changed, f added", 2)
		if d.Gone != 1 || d.Added != 2 || d.Changed != 2 || d.Before.Generation != 1 || d.After.Generation != 2 {
			t.Errorf("%+v", d)
		}
		if d, err := r.Diff(t.Context(), "ledger", 2); err != nil || len(d.Samples) != 2 || d.Changed != 2 {
			t.Errorf("%+v, %v", d, err)
		}
		data, err := json.Marshal(d.Samples[0])
		if err != nil || string(data) != `{"key":"a","change":"gone","before":{"x":1}}` {
			t.Errorf("%s, %v", data, err)
		}
	})
}

// A store that cannot show one moment is compared while nothing moves.
func TestDiffWithoutSnapshots(t *testing.T) {
	within(t, func(t *testing.T) {
		s := filled(t, 20, 5)
		r := run(t, plain{s}, pure(nil))
		r.wait()
		if err := r.Rebuild(t.Context(), "ledger", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.differs("", 20)
	})
}

// A plain store has nothing but what every store must have.
type plain struct{ store.Store }
