package deed_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
)

// errand is the state of a saga that begins another one.
type errand struct {
	Child string `json:"child"`
	Fail  bool   `json:"fail"`
}

func (e errand) Validate() error {
	if e.Child == "nobody" {
		return deed.Invalid{Field: "child", Detail: "is nobody"}
	}
	return nil
}

// nested is a saga that begins another one, which does and undoes something
// outside, and then takes a coin.
func nested(o *outside) (parent, child deed.Saga[errand]) {
	child = deed.Saga[errand]{Name: "child", Steps: []deed.SagaStep[errand]{
		{
			Name: "call", Do: func(context.Context, *deed.Work, *errand) error { return o.call("call", "") },
			UndoDo: func(ctx context.Context, _ *deed.Work, _ *errand) error {
				select {
				case <-time.After(30 * time.Second):
				case <-ctx.Done():
				}
				return o.call("uncall", "")
			},
		},
		{Name: "ask", When: func(_ string, e errand) bool { return e.Fail }, Ask: func(string, errand) deed.Question { return deed.Question{Text: "well?"} }},
	}}
	parent = deed.Saga[errand]{Name: "parent", Steps: []deed.SagaStep[errand]{
		{Name: "child", Begin: func(_ string, e errand) deed.Action { return child.Begin(e.Child, errand{Child: e.Child}) }},
		{Name: "take", Send: func(string, errand) []deed.Sending { return []deed.Sending{takeFrom("a", 1)} }},
	}}
	return parent, child
}

// A saga that another one has begun is undone with it, however long that takes,
// and belongs to its flow.
func TestNestedSagaIsUndone(t *testing.T) {
	o := &outside{}
	parent, child := nested(o)
	tell(t, func(p *tale) {
		ctx := deed.With(p.Context(), deed.Call{Actor: "ann", Correlation: "flow"})
		_, err := parent.Start(ctx, p.rt, "s", errand{Child: "c"})
		p.ok(err)
		_, got := p.saga("parent", "s")
		p.expect(got, "undone too_few, child undone, take refused")
		i, got := p.saga("child", "c")
		p.expect(got, "undone cancelled, call undone, ask skipped")
		if i.Actor != "ann" || i.Correlation != "flow" || i.Parent != "$saga/parent/s" {
			p.Errorf("the child is of %q in flow %q, begun by %s", i.Actor, i.Correlation, i.Parent)
		}
		p.expect(o.done(), "call, uncall")
		if n := p.count("$saga/parent/s", ""); n > 4 {
			p.Errorf("the parent has %d records", n)
		}
	}, vaults, parent, child)
}

// What a saga begins must be its own: one that somebody else has begun, or that
// cannot be begun, refuses the step.
func TestNestedSagaIsItsOwn(t *testing.T) {
	parent, child := nested(&outside{})
	for _, c := range []struct{ child, want string }{
		{"taken", "exists"}, {"nobody", "invalid"}, {"a/b", "invalid"}, {"", "invalid"},
	} {
		tell(t, func(p *tale) {
			_, err := child.Start(p.Context(), p.rt, "taken", errand{Child: "taken"})
			p.ok(err)
			_, err = parent.Start(p.Context(), p.rt, "s", errand{Child: c.child})
			if c.child == "nobody" {
				if !errors.As(err, &deed.Invalid{}) {
					p.Errorf("an invalid state is stored: %v", err)
				}
				return
			}
			p.ok(err)
			i, got := p.saga("parent", "s")
			p.expect(got, "undone "+c.want+", child refused")
			if i.Reason == "" {
				p.Error("nobody knows why")
			}
		}, vaults, parent, child)
	}
}

// A nested saga that was closed by hand cannot be undone by itself: its parent
// says so, and goes on when somebody has seen to it.
func TestNestedSagaIsClosed(t *testing.T) {
	down := errors.New("out of order")
	o := &outside{always: map[string]error{"uncall": down}}
	parent, child := nested(o)
	parent.Steps[1] = deed.SagaStep[errand]{Name: "ask", Ask: func(string, errand) deed.Question { return deed.Question{Text: "well?"} }}
	tell(t, func(p *tale) {
		all := p.rt.Instances()
		for _, id := range []string{"before", "meanwhile"} {
			_, err := parent.Start(p.Context(), p.rt, id, errand{Child: id})
			p.ok(err)
		}
		time.Sleep(time.Second)
		// Its child is over, so it can only be closed while it is being undone.
		_, err := all.Undo(p.Context(), "saga", "child", "before", "it was wrong")
		p.ok(err)
		_, got := p.saga("child", "before")
		p.expect(got, "stuck stuck, call undoing, ask skipped")
		_, err = all.Close(p.Context(), "saga", "child", "before", "called them")
		p.ok(err)
		for _, id := range []string{"before", "meanwhile"} {
			_, err := all.Cancel(p.Context(), "saga", "parent", id, "changed my mind")
			p.ok(err)
		}
		i, got := p.saga("parent", "before")
		p.expect(got, "stuck stuck, child undoing, ask refused")
		if !strings.Contains(i.Reason, "closed by hand") {
			p.Error(i.Reason)
		}
		_, err = all.Retry(p.Context(), "saga", "parent", "before", "perhaps now")
		p.ok(err)
		_, got = p.saga("parent", "before")
		p.expect(got, "stuck stuck, child undoing, ask refused")
		_, err = all.Skip(p.Context(), "saga", "parent", "before", "child", "they know")
		p.ok(err)
		_, got = p.saga("parent", "before")
		p.expect(got, "undone cancelled, child undone, ask refused")

		p.saga("child", "meanwhile")
		_, err = all.Close(p.Context(), "saga", "child", "meanwhile", "called them")
		p.ok(err)
		_, got = p.saga("parent", "meanwhile")
		p.expect(got, "undone cancelled, child undone, ask refused")
	}, vaults, parent, child)
}
