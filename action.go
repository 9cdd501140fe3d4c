package deed

import (
	"time"
)

// An Action is something that a [Process] wants done. Make one with [Send],
// [After], [At], [Unset], [Ask], [Done], [Fail], or the Begin of a [Saga].
type Action interface {
	plan(p *plan, x *turn) error
}

type (
	setTimer struct {
		name  string
		after time.Duration
		at    time.Time
		unset bool
	}
	ask struct {
		name string
		q    Question
	}
	finish struct {
		state InstanceState
		why   Reason
	}
)

// After sets a timer of the process: when d has passed, its reaction [OnTimer]
// of that name is called, once, and never early. Setting a timer again moves it.
func After(timer string, d time.Duration) Action { return setTimer{name: timer, after: d} }

// At sets a timer of the process to a time.
func At(timer string, t time.Time) Action { return setTimer{name: timer, at: t} }

// Unset takes a timer back.
func Unset(timer string) Action { return setTimer{name: timer, unset: true} }

// Ask opens a task: somebody has to decide. What was decided comes to the
// reaction [OnDecision] of that name.
func Ask(name string, q Question) Action { return ask{name, q} }

// Done ends the process. Its timers are taken back, its tasks withdrawn.
func Done() Action { return finish{state: InstanceCompleted} }

// Fail ends the process and undoes what it did, the last command first, as far
// as Sending.Undo says how.
func Fail(why Reason) Action { return finish{InstanceUndone, why} }

func (a setTimer) plan(p *plan, x *turn) error {
	at := a.at
	switch {
	case a.unset:
		at = time.Time{}
	case at.IsZero():
		at = p.now.Add(a.after)
	}
	x.setTimer(a.name, at)
	return nil
}

func (a ask) plan(p *plan, x *turn) error { return p.open(x, a.name, a.q) }

func (a finish) plan(p *plan, x *turn) error {
	if a.state == InstanceCompleted {
		return x.end(p, InstanceCompleted, Reason{})
	}
	return x.def.fail(p, x, a.why)
}

func (s Sending) plan(p *plan, x *turn) error { return p.send(x, s) }
