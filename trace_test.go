package deed_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// The trace of a command is recorded with its events, at once or later, and with
// what handlers and processes make of them; public events have it.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		var rt *deed.Runtime
		follow := deed.EventHandler{Name: "follow", On: []deed.Reaction{deed.Handle(func(ctx context.Context, _ *deed.Tx, e deed.Recorded[Lit]) error {
			if e.ID != "first" {
				return nil
			}
			_, err := lamps().Execute(ctx, rt, "second", Light{Colour: "blue"})
			return err
		})}}
		type state struct{}
		process := deed.Process[state]{Name: "light-more", On: []deed.ProcessReaction[state]{
			deed.StartBy(func(e deed.Recorded[Lit]) string { return e.ID }, func(_ *state, e deed.Recorded[Lit]) []deed.Action {
				if e.ID != "second" {
					return []deed.Action{deed.Done()}
				}
				return []deed.Action{deed.Send(lamps(), "third", Light{Colour: "white"}), deed.Done()}
			}),
		}}
		s := mem.New()
		rt = deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{lamps(), follow, process, deed.Publication{
			Topic: "lamps", Events: []deed.Publishing{deed.Publish("lamp.lit.v1", func(e deed.Recorded[Lit]) string { return e.ID })},
		}}})
		ctx := deed.With(t.Context(), deed.Call{ID: "k", Async: true, Trace: trace})
		if _, err := lamps().Execute(ctx, rt, "first", Light{Colour: "red"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := lamps().Execute(t.Context(), rt, "other", Light{Colour: "red"}); err != nil {
			t.Fatal(err)
		}
		page, err := rt.ReadTopic(t.Context(), "lamps", store.Start, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, e := range page.Events {
			got[e.Aggregate] = e.TraceParent
		}
		if len(got) != 4 || got["first"] != trace || got["second"] != trace || got["third"] != trace || got["other"] != "" {
			t.Errorf("%v", got)
		}
		for rec, err := range s.Read(t.Context(), "lamp/first", store.Range{}) {
			if want := `{"command":"k","correlation":"k","trace":"` + trace + `"}`; err != nil || !strings.Contains(string(rec.Meta), want) {
				t.Errorf("%s, %v", rec.Meta, err)
			}
		}
	})
}
