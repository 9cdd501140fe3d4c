package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// A program that begins a rebuild, switches, rolls back and discards dies before
// or after any of its writes. The next one goes on, and nothing is lost, seen
// half, or left behind.
func TestRebuildDiesAnywhere(t *testing.T) {
	for _, before := range []bool{true, false} {
		died := 0
		for at := 1; ; at++ {
			var over bool
			within(t, func(t *testing.T) { over = dieAt(t, at, before) })
			if over {
				break
			}
			died++
		}
		if died < 10 {
			t.Errorf("it died at %d writes only", died)
		}
	}
}

// dieAt has every write from a given one on fail, before or after it is done,
// and then starts another program. It reports whether there was no such write.
func dieAt(t *testing.T, at int, before bool) (over bool) {
	s := filled(t, 10, 5)
	r := run(t, s, parted(pure(nil), 2))
	r.wait()
	from := s.wrote()
	var dead atomic.Bool
	s.failWrites(func(n int, _ []store.Change) (error, error) {
		if n-from >= at {
			dead.Store(true)
		}
		switch {
		case !dead.Load():
			return nil, nil
		case n-from == at && !before:
			return nil, errDown
		}
		return errDown, nil
	})
	steps := []func(*rig) error{
		func(r *rig) error { return r.Rebuild(t.Context(), "ledger", true) },
		func(r *rig) error { return r.Switch(t.Context(), "ledger") },
		func(r *rig) error { return r.RollBack(t.Context(), "ledger") },
		func(r *rig) error { return r.DiscardFormer(t.Context(), "ledger") },
	}
	seen := map[string]int{}
	look := func() {
		for stream, versions := range r.book() {
			if len(versions) < seen[stream] {
				t.Errorf("dead at write %d: %s holds %v, and %d before", at, stream, versions, seen[stream])
			}
			seen[stream] = len(versions)
		}
		if len(seen) < 10 {
			t.Errorf("dead at write %d: %d documents", at, len(seen))
		}
	}
	for step := 0; step < len(steps); {
		add(t, s, fmt.Sprintf("a/%d", step), 3)
		err := steps[step](r)
		time.Sleep(5 * time.Second)
		look()
		if dead.Load() {
			r.stop()
			s.failWrites(nil)
			dead.Store(false)
			over = true
			r = run(t, s, parted(pure(nil), 2))
			time.Sleep(5 * time.Second)
			look()
		}
		if errors.Is(err, store.ErrUnavailable) {
			// Nobody knows whether it was done: a person looks, and asks again if not.
			if st := r.rebuild(); step == 0 && st.Rebuild == nil || step == 1 && st.Shown.Generation == 1 || step == 2 && st.Shown.Generation == 2 || step == 3 && st.Former != nil {
				continue
			}
		} else if err != nil {
			t.Fatalf("dead at write %d, step %d: %v", at, step, err)
		}
		step++
	}
	r.wait()
	r.same()
	if st := r.rebuild(); st.Shown.Generation != 1 || st.Former != nil || st.Rebuild != nil {
		t.Errorf("dead at write %d: %+v", at, st)
	}
	time.Sleep(time.Minute)
	r.gone(2)
	return !over
}
