package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
)

// A program with a new version of a projection rebuilds its view when it starts,
// on every store; what differs is known before it is shown; and the old program
// has its documents back.
func TestVersionOnEachStore(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := open(t)
		r := rebuildRun{Events: *rebuildEvents}
		if err := r.fillPurses(s); err != nil {
			t.Fatal(err)
		}
		program := func(def deed.Projection[balance], do func(rt *deed.Runtime)) {
			t.Helper()
			rt, err := deed.New(s, deed.Config{
				Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{purses, def}}}, AskSwitch: def.Version == 2, Poll: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- rt.Run(ctx) }()
			defer func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			do(rt)
		}
		become := func(rt *deed.Runtime, what string, so func(deed.Rebuild) bool) {
			t.Helper()
			for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				st, err := rt.Rebuilds().Status(t.Context(), "balances")
				if err != nil {
					t.Fatal(err)
				}
				if so(st) {
					return
				}
				if time.Since(begun) > 2*time.Minute+time.Duration(r.Events)*time.Millisecond {
					t.Fatalf("not %s: %+v %+v", what, st, st.Rebuild)
				}
			}
		}
		program(balances(false, 1, 0), func(rt *deed.Runtime) {
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := rt.WaitForView(t.Context(), "balances", head); err != nil {
				t.Fatal(err)
			}
		})
		begun := time.Now()
		program(balances(true, 2, 0), func(rt *deed.Runtime) {
			become(rt, "ready", func(st deed.Rebuild) bool { return st.Rebuild != nil && st.Rebuild.State == "ready" })
			t.Logf("%.0f events a second", float64(r.Events)/time.Since(begun).Seconds())
			x := &rebuildTrial{rebuildRun: r, rt: rt, def: balances(true, 2, 0)}
			err := x.differs(t.Context())
			for try := 0; errors.Is(err, deed.ErrNotCaughtUp) && try < 50; try++ { // a checkpoint may move once more
				time.Sleep(100 * time.Millisecond)
				err = x.differs(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := rt.Rebuilds().Switch(deed.With(t.Context(), deed.Call{Actor: "ann"}), "balances"); err != nil {
				t.Fatal(err)
			}
			become(rt, "switched", func(st deed.Rebuild) bool { return st.Shown.Generation == 2 })
			if b, err := x.def.Get(t.Context(), rt, "000000"); err != nil || !b.gift() {
				t.Errorf("%+v, %v", b, err)
			}
			if err := rt.Rebuilds().RollBack(t.Context(), "balances"); !errors.Is(err, deed.ErrOtherVersion) {
				t.Error(err)
			}
			if err := rt.Rebuilds().Cancel(t.Context(), "balances"); !errors.Is(err, deed.ErrNoRebuild) {
				t.Error(err)
			}
		})
		program(balances(false, 1, 0), func(rt *deed.Runtime) {
			become(rt, "back", func(st deed.Rebuild) bool { return st.Shown.Generation == 1 && st.Former != nil && !st.Former.Moves })
			if b, err := balances(false, 1, 0).Get(t.Context(), rt, "000000"); err != nil || b.gift() {
				t.Errorf("%+v, %v", b, err)
			}
			if err := rt.Rebuilds().Discard(t.Context(), "balances"); err != nil {
				t.Error(err)
			}
		})
		var audited []string
		for rec, err := range s.Read(t.Context(), "$audit/followers", store.Range{}) {
			var meta struct{ Actor, Source string }
			if err := errors.Join(err, json.Unmarshal(rec.Meta, &meta)); err != nil {
				t.Fatal(err)
			}
			audited = append(audited, rec.Type+" "+meta.Actor+meta.Source)
		}
		// What ann did may be told after what the runtime made of it.
		if i := slices.Index(audited, "rebuild-switched ann"); i == 2 {
			audited[1], audited[2] = audited[2], audited[1]
		}
		want := "projection-rebuilt runtime, rebuild-switched ann, projection-switched runtime, former-taken-up runtime, projection-switched runtime, former-discarded "
		if got := strings.Join(audited, ", "); got != want {
			t.Errorf("audited: %s\nwant %s", got, want)
		}
	})
}
