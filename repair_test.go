package deed_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// An instance of a version that the program does not have can be looked at and
// closed. When the version is there again, it goes on.
func TestInstanceOfAVersionThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stageSagas(t, &outside{})
		defer func() { p.stop() }()
		p.fill("a", 900)
		for _, id := range []string{"left", "goes-on"} {
			if _, err := p.saga.Start(t.Context(), p.rt, id, haul{From: "a", To: "b", N: 100}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		p.stop()
		newer := p.saga
		newer.Version = 1
		p.begin(vaults, newer)
		all := p.rt.Instances()
		i, err := all.Get(t.Context(), "saga", "haul", "left")
		if err != nil || i.Step != "approve" || i.Definition != 0 {
			t.Errorf("%+v, %v", i, err)
		}
		_, err = all.Cancel(t.Context(), "saga", "haul", "left", "")
		if !errors.Is(err, deed.ErrVersionGone) || !strings.Contains(err.Error(), "version 0 of haul") {
			t.Errorf("cancelled: %v", err)
		}
		if i, err := all.Close(t.Context(), "saga", "haul", "left", "paid by hand"); err != nil || i.State != deed.InstanceClosed || len(i.Tasks) > 0 {
			t.Errorf("closed: %+v, %v", i, err)
		}
		if _, err := all.Undo(t.Context(), "saga", "haul", "left", ""); !errors.Is(err, deed.ErrVersionGone) {
			t.Errorf("undone after it was closed: %v", err)
		}
		p.stop()
		newer.Former = []deed.Saga[haul]{p.saga}
		p.begin(vaults, newer)
		i, err = p.rt.Instances().Get(t.Context(), "saga", "haul", "goes-on")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.rt.Tasks().Decide(t.Context(), i.Tasks["approve"], "approve", "", nil); err != nil {
			t.Error(err)
		}
		p.expect("goes-on", "completed, take done, bless done, seal done, approve done, pay done")
	})
}

// Who may do what: begin and cancel is for the roles of the definition, repair
// for operators, everything for administrators.
func TestWhoRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &outside{}
		p := &sagas{T: t, s: mem.New(), out: out, saga: hauls(out)}
		p.saga.Roles = []string{"carrier"}
		p.begin(vaults, p.saga)
		defer p.stop()
		p.fill("a", 100_000)
		all := p.rt.Instances()
		for role, may := range map[string]string{
			"carrier": "start cancel", "operator": "cancel undo retry skip close", "admin": "start cancel undo retry skip close", "reader": "", "": "",
		} {
			ctx := deed.With(t.Context(), deed.Call{Actor: "ann", Restricted: true, Roles: []string{role}})
			for verb, do := range map[string]func(id string) error{
				"start": func(id string) error {
					_, err := all.Start(ctx, "haul", id+"-mine", []byte(`{"from":"a","to":"b","n":1}`))
					return err
				},
				"cancel": func(id string) error { _, err := all.Cancel(ctx, "saga", "haul", id, ""); return err },
				"undo":   func(id string) error { _, err := all.Undo(ctx, "saga", "haul", id, ""); return err },
				"retry":  func(id string) error { _, err := all.Retry(ctx, "saga", "haul", id, ""); return err },
				"skip":   func(id string) error { _, err := all.Skip(ctx, "saga", "haul", id, "approve", "so"); return err },
				"close":  func(id string) error { _, err := all.Close(ctx, "saga", "haul", id, "so"); return err },
			} {
				id := "s-" + verb + role
				if _, err := p.saga.Start(t.Context(), p.rt, id, haul{From: "a", To: "b", N: 100}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				err := do(id)
				forbidden := errors.As(err, &deed.Forbidden{})
				if can := strings.Contains(may, verb); can == forbidden || can && err != nil {
					t.Errorf("%q asks to %s: %v", role, verb, err)
				}
			}
		}
	})
}

// Each domain's things are told apart, and a saga says what it waits for.
func TestDescribe(t *testing.T) {
	haulage := deed.Domain{Name: "haulage", Doc: "Moves coins.", Parts: []deed.Part{hauls(&outside{})}}
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "vaults", Parts: []deed.Part{vaults}}, haulage}})
	if err != nil {
		t.Fatal(err)
	}
	info := rt.Describe()
	if len(info.Domains) != 2 || info.Domains[1] != (deed.DomainInfo{Name: "haulage", Doc: "Moves coins."}) {
		t.Errorf("domains: %+v", info.Domains)
	}
	if a := info.Aggregates[0]; a.Domain != "vaults" {
		t.Errorf("%+v", a)
	}
	if m := info.Machines[0]; m.Domain != "haulage" || m.Steps[0].Name != "take" || !m.Steps[0].Undo || !m.Steps[2].Beside {
		t.Errorf("%+v", m)
	}
}
