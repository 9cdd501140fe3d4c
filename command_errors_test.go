package deed_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// settled waits until the views have read everything.
func (p *trip) settled() {
	p.Helper()
	head, err := p.store.Head(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	if err := p.rt.WaitFor(p.Context(), deed.Receipt{Position: string(head)}); err != nil {
		p.Fatal(err)
	}
}

// errors are the documents of the view "command-errors".
func (p *trip) errors(where ...store.Cond) []deed.CommandError {
	p.Helper()
	p.settled()
	rows, err := p.rt.Documents(p.Context(), p.rt, "command-errors", store.Query{Where: where})
	if err != nil {
		p.Fatal(err)
	}
	var out []deed.CommandError
	for _, row := range rows {
		var e deed.CommandError
		unmarshal(p.T, row.Value, &e)
		if e.ID != row.Key {
			p.Errorf("%s has the key %s", e.ID, row.Key)
		}
		out = append(out, e)
	}
	return out
}

// one is the only error record there is, in short.
func (p *trip) one() string {
	p.Helper()
	all := p.errors()
	if len(all) != 1 {
		p.Fatalf("%d error records: %+v", len(all), all)
	}
	e := all[0]
	if e.Actor != "ann" || e.Command != "transfer.make" || e.Time.IsZero() || e.Correlation != "k" {
		p.Errorf("%+v", e)
	}
	return fmt.Sprintf("%s %s %s/%d times %d, %v %s", e.State, e.Code, e.Step, e.Attempts, e.Times, e.Resolved, e.Resolution)
}

func TestCommandErrors(t *testing.T) {
	transient := errors.New("the line is dead")
	ab := move{From: "a", To: []string{"b", "c"}, N: 10}
	onTrip(t, "none", func(p *trip) {
		p.fail["take"], p.times["take"] = transient, 2
		p.wait(p.submit("k", ab))
		p.want("records", len(p.errors()), 0)
	})
	onTrip(t, "rejected", func(p *trip) {
		p.wait(p.submit("k", move{From: "a", To: []string{"b", "c"}, N: 51}))
		var seen []string
		for _, e := range p.errors() {
			seen = append(seen, e.Command)
		}
		p.want("the command and the one its step asked", seen, []string{"vault.take", "transfer.make"})
		p.want("of the command", len(p.errors(store.Cond{Field: "command", Op: "=", Value: "transfer.make"})), 1)
	})
	onTrip(t, "rejected late, undone", func(p *trip) {
		p.fail["announce"] = errTooFew
		p.wait(p.submit("k", ab))
		p.want("record", p.one(), "rejected too_few announce/1 times 1, false ")
	})
	onTrip(t, "fails, is resumed", func(p *trip) {
		p.fail["announce"], p.times["announce"] = transient, 6
		p.wait(p.submit("k", ab))
		p.want("failed", p.one(), "failed failed announce/3 times 1, false ")
		p.want("resume", p.rt.Commands().Resume(p.Context(), "k"), nil)
		for len(p.errors()) != 1 || p.errors()[0].Times < 2 {
			time.Sleep(time.Second)
		}
		p.want("failed again", p.one(), "failed failed announce/3 times 2, false ")
		p.want("resume", p.rt.Commands().Resume(p.Context(), "k"), nil)
		p.want("state", p.wait("k").State, deed.CommandCompleted)
		p.want("record", p.one(), "failed failed announce/3 times 2, true completed")
		p.want("unresolved", len(p.errors(store.Cond{Field: "resolved", Op: "=", Value: false})), 0)
	})
	onTrip(t, "fails, is cancelled", func(p *trip) {
		p.fail["announce"] = transient
		p.wait(p.submit("k", ab))
		p.want("cancel", p.rt.Commands().Cancel(p.Context(), "k", ""), nil)
		for p.wait("k").State == deed.CommandFailed {
			time.Sleep(time.Second)
		}
		p.want("record", p.one(), "failed failed announce/3 times 1, true cancelled")
	})
	onTrip(t, "invalid, corrected", func(p *trip) {
		p.wait(p.submit("k", move{From: "a", To: []string{"b", "x"}, N: 10}))
		p.want("record", p.one(), "invalid invalid /0 times 1, false ")
		p.want("findings", p.errors()[0].Findings, []deed.Finding{{Field: "to.1", Text: "there is no vault x", Fatal: true}})
		p.want("correct", p.rt.Commands().Correct(p.Context(), "k", []byte(`{"from":"a","to":["b","y"],"n":1}`)), nil)
		for p.errors()[0].Times < 2 {
			time.Sleep(time.Second)
		}
		p.want("invalid again", p.one(), "invalid invalid /0 times 2, false ")
		p.want("correct", p.rt.Commands().Correct(p.Context(), "k", []byte(`{"from":"a","to":["b","c"],"n":1}`)), nil)
		for p.wait("k").State == deed.CommandInvalid {
			time.Sleep(time.Second)
		}
		p.want("record", p.one(), "invalid invalid /0 times 2, true completed")
	})
	onTrip(t, "of one entity, then and now, folded anew", func(p *trip) {
		ctx := deed.With(p.Context(), deed.Call{ID: "k", Actor: "ann"})
		_, err := vaults.Execute(ctx, p.rt, "a", take{500})
		p.want("error", err != nil, true)
		kept := fmt.Sprint(p.errors())
		p.want("rebuild", p.rt.Followers().Rebuild(p.Context(), "command-errors"), nil)
		time.Sleep(time.Minute)
		p.want("folded anew", fmt.Sprint(p.errors()), kept)
		head, _ := p.store.Head(p.Context())
		rows, err := p.rt.Documents(p.Context(), p.rt.AtPosition(head), "command-errors", store.Query{})
		p.want("then", fmt.Sprint(len(rows), err), "1 <nil>")
	})
}

// What the poison log says is a view too.
func TestPoisonView(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{jars(deed.Rules{Quota: deed.Quota{Limit: 1}})}})
	for _, call := range []deed.Call{{Actor: "ann"}, {Actor: "ann", Source: "http", ID: "k"}, {Actor: "bob", Restricted: true, Roles: []string{"guest"}}} {
		_, err := rt.Dispatch(deed.With(t.Context(), call), "jar", "j", "drop", []byte(`{"N":1}`))
		if err != nil != (call.Actor == "bob" || call.ID == "k") {
			t.Errorf("%s: %v", call.Actor, err)
		}
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.WaitForView(t.Context(), "poison", head); err != nil {
		t.Fatal(err)
	}
	rows, err := rt.Documents(t.Context(), rt, "poison", store.Query{Sort: "at"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range rows {
		var d struct {
			ID, Command, Stream, Code, Reason, Actor, Source string
			Roles                                            []string
			At                                               time.Time
		}
		if err := json.Unmarshal(row.Value, &d); err != nil || d.Reason == "" || d.At.IsZero() || d.ID == "" {
			t.Errorf("%s: %v", row.Value, err)
		}
		got = append(got, fmt.Sprint(d.Command, d.Stream, d.Code, d.Actor, d.Source, d.Roles))
	}
	want := []string{"jar.dropjar/jquota_exceededannhttp[]", "jar.dropjar/jforbiddenbob[guest]"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
}
