package deed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The domain of the simulations: coins move between purses, by sagas, which also
// make marks by way of commands and seals outside, and by processes, which react
// to orders. What belongs to which instance can be told from the names of things.

// purse holds coins. There is never less than nothing in it, and never more than
// purseHolds.
type purse struct{ Coins int }

const purseHolds = 1000

type (
	came    struct{ N int }
	went    struct{ N int }
	putIn   struct{ N int }
	takeOut struct{ N int }
)

var (
	errTooLittle = Reason{"too_little", "there are not that many coins"}
	errFull      = Reason{"full", "the purse is full"}
)

func (e came) Apply(p *purse) { p.Coins += e.N }
func (e went) Apply(p *purse) { p.Coins -= e.N }

func (c putIn) Decide(p purse) ([]Event[purse], error) {
	if p.Coins+c.N > purseHolds {
		return nil, errFull
	}
	return []Event[purse]{came(c)}, nil
}

func (c takeOut) Decide(p purse) ([]Event[purse], error) {
	if p.Coins < c.N {
		return nil, errTooLittle
	}
	return []Event[purse]{went(c)}, nil
}

var purses = Aggregate[purse]{
	Name:     "purse",
	Events:   map[string]Event[purse]{"came": came{}, "went": went{}},
	Commands: map[string]Command[purse]{"put-in": putIn{}, "take-out": takeOut{}},
}

// mark is made once, and removed once. What was removed cannot be made any more:
// whoever asks for that is late. Marks are unique.
type mark struct{ Made, Removed bool }

type (
	made     struct{ N int }
	removed  struct{ N int }
	makeIt   struct{ N int }
	removeIt struct{ N int }
)

func (e made) Apply(m *mark)    { m.Made = true }
func (e removed) Apply(m *mark) { m.Made, m.Removed = false, true }

func (e made) Claims() []Claim { return []Claim{{Scope: "mark", Value: fmt.Sprint(e.N)}} }
func (e removed) Claims() []Claim {
	return []Claim{{Scope: "mark", Value: fmt.Sprint(e.N), Release: true}}
}

func (c makeIt) Decide(m mark) ([]Event[mark], error) {
	switch {
	case m.Removed:
		return nil, Reason{"removed", "that is over"}
	case m.Made:
		return nil, nil
	}
	return []Event[mark]{made(c)}, nil
}

func (c removeIt) Decide(m mark) ([]Event[mark], error) {
	if m.Removed {
		return nil, nil
	}
	return []Event[mark]{removed(c)}, nil
}

var marks = Aggregate[mark]{
	Name:     "mark",
	Events:   map[string]Event[mark]{"made": made{}, "removed": removed{}},
	Commands: map[string]Command[mark]{"make": makeIt{}, "remove": removeIt{}},
}

// want is what somebody wants done, by an order (of a process) or a saga.
type want struct {
	From   string `json:"from"`
	To     string `json:"to"`
	N      int    `json:"n"`
	Child  bool   `json:"child,omitzero"`  // it begins a saga
	Asks   bool   `json:"asks,omitzero"`   // it asks somebody
	Waits  bool   `json:"waits,omitzero"`  // for a signature, which may come at any time
	Poison bool   `json:"poison,omitzero"` // its code panics at first
	Mark   int    `json:"mark"`            // which no other has at the same time
	Seal   string `json:"seal,omitempty"`
	Stamp  string `json:"stamp,omitempty"`
	Chosen string `json:"chosen,omitempty"`
}

// order is what processes begin with.
type order struct{ Ordered bool }

type (
	wanted    struct{ want }
	signed    struct{ For string }
	withdrawn struct{}
	wantIt    struct{ want }
	sign      struct{ For string }
	withdraw  struct{}
)

func (e wanted) Apply(o *order)    { o.Ordered = true }
func (e signed) Apply(o *order)    {}
func (e withdrawn) Apply(o *order) {}

func (c wantIt) Decide(o order) ([]Event[order], error) {
	if o.Ordered {
		return nil, ErrExists
	}
	return []Event[order]{wanted(c)}, nil
}
func (c sign) Decide(order) ([]Event[order], error)     { return []Event[order]{signed(c)}, nil }
func (c withdraw) Decide(order) ([]Event[order], error) { return []Event[order]{withdrawn(c)}, nil }

var simOrders = Aggregate[order]{
	Name:     "order",
	Events:   map[string]Event[order]{"wanted": wanted{}, "signed": signed{}, "withdrawn": withdrawn{}},
	Commands: map[string]Command[order]{"want": wantIt{}, "sign": sign{}, "withdraw": withdraw{}},
}

// A simService is something outside that does and undoes things by name. What was
// undone, or refused, is never done afterwards: a request that comes late is
// refused. It recognises a repetition by its key.
type simService interface {
	do(ctx context.Context, name, key string) (string, error)
	undo(ctx context.Context, name, key string) error
}

// What a domain of the simulations is told.
type simSettings struct {
	service simService
	broken  func() bool   // code that panics does so
	wait    time.Duration // for people and signatures
	retry   Retry
}

// simDomain makes the domain for one node.
func simDomain(set simSettings) Domain {
	errand := simErrand(set)
	return Domain{Name: "sim", Parts: []Part{purses, marks, simOrders, errand, simHaul(set, errand), simMove(set, errand)}}
}

// outside makes the two halves of a step that does something outside.
func (set simSettings) outside(what string, keep func(*want, string)) (do, undo func(context.Context, *Work, *want) error) {
	do = func(ctx context.Context, w *Work, s *want) error {
		got, err := set.service.do(ctx, w.Command+"/"+what, w.Key())
		keep(s, got)
		return err
	}
	undo = func(ctx context.Context, w *Work, s *want) error {
		keep(s, "")
		return set.service.undo(ctx, w.Command+"/"+what, w.Key())
	}
	return do, undo
}

func move(stream string, c Command[purse]) []Sending {
	return []Sending{Send(purses, stream, c)}
}

// simErrand is the saga that others begin: it takes one coin to a purse.
func simErrand(set simSettings) Saga[want] {
	call, uncall := set.outside("call", func(*want, string) {})
	return Saga[want]{Name: "errand", Steps: []SagaStep[want]{
		{Name: "call", Do: call, UndoDo: uncall, Retry: set.retry, Timeout: 10 * time.Second},
		{
			Name: "toll",
			Send: func(_ string, s want) []Sending { return append(move(s.From, takeOut{1}), move(s.To, putIn{1})...) },
			Undo: func(_ string, s want) []Sending { return append(move(s.To, takeOut{1}), move(s.From, putIn{1})...) },
		},
	}}
}

// errandFor is the errand of whoever wants something.
func errandFor(s want) want { return want{From: s.From, To: "toll-" + s.From} }

func simHaul(set simSettings, errand Saga[want]) Saga[want] {
	seal, unseal := set.outside("seal", func(s *want, got string) { s.Seal = got })
	stamp, unstamp := set.outside("stamp", func(s *want, got string) { s.Stamp = got })
	return Saga[want]{Name: "haul", Steps: []SagaStep[want]{
		{
			Name: "take",
			Send: func(id string, s want) []Sending {
				return append(move(s.From, takeOut{s.N}), Send(marks, "take-"+id, makeIt{-s.Mark}), move("way-"+id, putIn{s.N})[0])
			},
			Undo: func(id string, s want) []Sending {
				return append(move("way-"+id, takeOut{s.N}), Send(marks, "take-"+id, removeIt{-s.Mark}), move(s.From, putIn{s.N})[0])
			},
		},
		{
			Name: "mark", Retry: set.retry, Timeout: 10 * time.Second,
			Do: func(ctx context.Context, w *Work, s *want) error {
				return w.Ask(ctx, Send(marks, "haul-"+w.ID, makeIt{s.Mark}))
			},
			UndoDo: func(ctx context.Context, w *Work, s *want) error {
				return w.Ask(ctx, Send(marks, "haul-"+w.ID, removeIt{s.Mark}))
			},
		},
		{Name: "seal", Do: seal, UndoDo: unseal, Retry: set.retry, Timeout: 10 * time.Second},
		{Name: "stamp", Beside: true, Do: stamp, UndoDo: unstamp, Retry: set.retry, Timeout: 10 * time.Second},
		{
			Name: "child", When: func(_ string, s want) bool { return s.Child },
			Begin: func(id string, s want) Action { return errand.Begin("haul-"+id, errandFor(s)) },
		},
		{
			Name: "ask", Beside: true, When: func(_ string, s want) bool { return s.Asks },
			Ask: func(string, want) Question {
				return Question{Text: "well?", Within: set.wait, Escalate: set.wait / 2, To: []string{"boss"}}
			},
			Decided: func(s *want, d Decision) error {
				if s.Chosen = d.Choice; d.Choice != "approve" {
					return Reason{"no", "it was said no"}
				}
				return nil
			},
		},
		{
			Name: "wait", When: func(_ string, s want) bool { return s.Waits }, Within: set.wait,
			Await: Await(func(e signed) string { return e.For }, func(s *want, e signed) error {
				if s.Poison && set.broken() {
					panic("poison")
				}
				return nil
			}),
		},
		{
			Name: "pay",
			Send: func(id string, s want) []Sending {
				if s.Poison && set.broken() {
					panic("poison")
				}
				return append(move("way-"+id, takeOut{s.N}), move(s.To, putIn{s.N})...)
			},
			Undo: func(id string, s want) []Sending {
				return append(move(s.To, takeOut{s.N}), move("way-"+id, putIn{s.N})...)
			},
		},
	}}
}

// moving is the state of a process of the simulations.
type moving struct {
	want
	Tries int `json:"tries,omitzero"`
}

// simMove is a process that moves coins for an order. It has the id of the order.
func simMove(set simSettings, errand Saga[want]) Process[moving] {
	pay := func(m *moving) []Action {
		if m.Child {
			return []Action{errand.Begin(fmt.Sprint("move-", m.Mark), errandFor(m.want))}
		}
		return []Action{Send(purses, m.To, putIn{m.N}).Undo(Send(purses, m.To, takeOut{m.N})), Done()}
	}
	return Process[moving]{Name: "move", On: []ProcessReaction[moving]{
		Start(func(m *moving, e wanted) []Action {
			m.want = e.want
			if m.Poison && set.broken() {
				panic("poison")
			}
			return []Action{
				After("deadline", 2*set.wait),
				Send(purses, m.From, takeOut{m.N}).Undo(Send(purses, m.From, putIn{m.N})),
			}
		}),
		React(func(m *moving, e went) []Action { // what it has taken
			switch {
			case m.Waits:
				return []Action{After("tick", set.wait/3)}
			case m.Asks:
				return []Action{Ask("well", Question{Text: "well?", Within: set.wait})}
			}
			return pay(m)
		}),
		OnTimer[moving]("tick", func(m *moving) []Action {
			if m.Tries++; m.Tries < 3 {
				return []Action{After("tick", set.wait/3)}
			}
			return pay(m)
		}),
		OnDecision("well", func(m *moving, d Decision) []Action {
			if m.Chosen = d.Choice; d.Choice == "approve" {
				return pay(m)
			}
			return []Action{Fail(Reason{"no", "it was said no"})}
		}),
		OnEnded("errand", func(m *moving, i Instance) []Action {
			if i.State == InstanceUndone {
				return []Action{Fail(Reason{"errand", "the errand was undone"})}
			}
			m.Child = false
			return pay(m)
		}),
		OnRefused(func(m *moving, r Rejected) []Action {
			if m.Tries++; errors.Is(r, errFull) && m.Tries < 6 {
				return []Action{Send(purses, "rest-"+m.To, putIn{m.N}).Undo(Send(purses, "rest-"+m.To, takeOut{m.N})), Done()}
			}
			return []Action{Fail(r.Reason())}
		}),
		React(func(m *moving, e withdrawn) []Action { return []Action{Fail(Reason{"withdrawn", "it was withdrawn"})} }),
		OnTimer[moving]("deadline", func(m *moving) []Action { return []Action{Fail(Reason{"deadline", "it took too long"})} }),
	}}
}
