package deed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// A parcel knows why it came back.
type parcel struct{ Why string }

type (
	parcelSent struct{ To string }
	parcelBack struct{ Why string }

	sendParcel struct{ To string }
	takeBack   struct{ why deed.Reason }
)

func (parcelSent) Apply(p *parcel)   { p.Why = "" }
func (e parcelBack) Apply(p *parcel) { p.Why = e.Why }

func (c sendParcel) Decide(parcel) ([]deed.Event[parcel], error) {
	return []deed.Event[parcel]{parcelSent(c)}, nil
}

func (c takeBack) Stamp(s deed.Stamp) deed.Command[parcel] { return takeBack{s.Why} }

func (c takeBack) Decide(parcel) ([]deed.Event[parcel], error) {
	return []deed.Event[parcel]{parcelBack{c.why.Code + ": " + c.why.Text}}, nil
}

var parcels = deed.Aggregate[parcel]{
	Name:     "parcel",
	Events:   map[string]deed.Event[parcel]{"sent": parcelSent{}, "back": parcelBack{}},
	Commands: map[string]deed.Command[parcel]{"send": sendParcel{}},
	Internal: map[string]deed.Command[parcel]{"take-back": takeBack{}},
}

// What undoes something learns why, in sagas and processes, also when undoing
// got stuck meanwhile and the program was started again.
func TestUndoKnowsWhy(t *testing.T) {
	var blocked bool
	var why deed.Reason
	post := deed.Saga[struct{}]{Name: "post", Steps: []deed.SagaStep[struct{}]{
		{
			Name: "send",
			Send: func(id string, _ struct{}) []deed.Sending {
				return []deed.Sending{deed.Send(parcels, id, sendParcel{})}
			},
			Undo: func(id string, _ struct{}) []deed.Sending { return []deed.Sending{deed.Send(parcels, id, takeBack{})} },
		},
		{
			Name: "stamp", Retry: deed.Retry{Attempts: 1},
			Do: func(context.Context, *deed.Work, *struct{}) error { return nil },
			UndoDo: func(_ context.Context, w *deed.Work, _ *struct{}) error {
				why = w.Why
				if blocked {
					return errors.New("the window is shut")
				}
				return nil
			},
		},
		{Name: "weigh", Send: func(string, struct{}) []deed.Sending { return []deed.Sending{deed.Send(vaults, "a", take{5})} }},
	}}
	courier := deed.Process[struct{}]{Name: "courier", On: []deed.ProcessReaction[struct{}]{
		deed.StartBy(func(e deed.Recorded[parcelSent]) string {
			if e.Event.To == "" {
				return ""
			}
			return e.ID
		}, func(_ *struct{}, e deed.Recorded[parcelSent]) []deed.Action {
			return []deed.Action{
				deed.Send(parcels, e.ID, sendParcel{}).Undo(deed.Send(parcels, e.ID, takeBack{})),
				deed.Send(vaults, "b", drop{1}).Undo(deed.Send(vaults, "b", take{2})), // cannot be undone: there is one
				deed.Send(vaults, "a", take{5}),
			}
		}),
	}}
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		domain := deed.Domain{Name: "test", Parts: []deed.Part{vaults, parcels, post, courier}}
		rt, stop := runSlowly(t, s, domain)
		defer func() { stop() }()
		stands := func(kind, name, id string) string {
			t.Helper()
			i, err := rt.Instances().Wait(t.Context(), kind, name, id)
			if err != nil {
				t.Fatal(err)
			}
			p, _, err := parcels.Load(t.Context(), rt, id)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s, %s | %s | %s", i.State, i.Code, i.Cause, p.Why)
		}
		want := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %s, wanted %s", what, got, want)
			}
		}
		start := func(id string) {
			if _, err := post.Start(t.Context(), rt, id, struct{}{}); err != nil {
				t.Fatal(err)
			}
		}
		const few = "vault/a: there are not that many coins"
		start("p1")
		want("saga", stands("saga", "post", "p1"), "undone, too_few | "+few+" | too_few: "+few)
		want("outside", fmt.Sprint(why.Code), "too_few")
		blocked = true
		start("p2")
		want("saga", stands("saga", "post", "p2"), "stuck, stuck | "+few+" | ")
		if _, err := parcels.Execute(t.Context(), rt, "p3", sendParcel{"x"}); err != nil {
			t.Fatal(err)
		}
		want("process", stands("process", "courier", "p3"), "stuck, stuck | "+few+" | ")

		stop()
		rt, stop = runSlowly(t, s, domain)
		blocked = false
		if _, err := rt.Instances().Retry(t.Context(), "saga", "post", "p2", "it is open again"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want("saga", stands("saga", "post", "p2"), "undone, too_few | "+few+" | too_few: "+few)
		if _, err := rt.Instances().Skip(t.Context(), "process", "courier", "p3", "", "that one coin"); err != nil {
			t.Fatal(err)
		}
		want("process", stands("process", "courier", "p3"), "undone, too_few | "+few+" | too_few: "+few)
	})
}

// Internal commands have names and no door outside.
func TestInternalCommands(t *testing.T) {
	rt, stop := runOn(t, mem.New(), deed.Domain{Name: "test", Parts: []deed.Part{parcels}})
	defer stop()
	if _, err := rt.Dispatch(t.Context(), "parcel", "p", "take-back", nil); !errors.Is(err, deed.ErrUnknown) {
		t.Errorf("asked from outside: %v", err)
	}
	if _, err := parcels.Execute(t.Context(), rt, "p", takeBack{}); err != nil {
		t.Errorf("asked from inside: %v", err)
	}
	if a := rt.Describe().Aggregates[0]; fmt.Sprint(a.Commands, a.Internal) != "[send] [take-back]" {
		t.Errorf("described as %v and %v", a.Commands, a.Internal)
	}
	twice := parcels
	twice.Internal = map[string]deed.Command[parcel]{"send": takeBack{}}
	if _, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{twice}}}}); err == nil {
		t.Error("one name for two commands is taken")
	}
}
