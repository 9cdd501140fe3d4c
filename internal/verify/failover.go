package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Disturbance takes something away from an installation while it is used: a
// leader, a server. Undo, if not nil, gives it back; it is called when appends
// have gone on without.
type Disturbance func(ctx context.Context, in Installation, round int) (undo func(context.Context) error, err error)

// goOn is how long appends may take to go on after a disturbance.
const goOn = time.Minute

// Failover is a check that appends from several writers while an installation
// is disturbed, round after round. What was acknowledged must be there, in
// order, and appends must go on.
func Failover(name, why string, rounds int, disturb Disturbance) Check {
	var note string
	return Check{
		Name: name, Why: why, Note: func() string { return note },
		Run: func(ctx context.Context, p Place) error {
			return with(ctx, p, func(in Installation) error {
				f := &failover{in: in, rounds: rounds, disturb: disturb}
				err := f.run(ctx)
				note = f.note
				return err
			})
		},
	}
}

// failover is one run of such a check.
type failover struct {
	in      Installation
	rounds  int
	disturb Disturbance
	load    load
	note    string
}

func (f *failover) run(ctx context.Context) (err error) {
	n := 1
	if f.in.Shared() {
		n = 2
	}
	var stores []store.Store
	for range n {
		s, err := f.in.Open(ctx, nil)
		if err != nil {
			return err
		}
		defer s.Close()
		stores = append(stores, s)
	}
	f.load.begin(ctx, stores)
	longest, err := f.rage(ctx)
	if e := f.load.end(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	f.note = fmt.Sprintf("%d appends and %d changes of documents over %d rounds; they went on after at most %v",
		f.load.appends(), f.load.changes(), f.rounds, longest.Round(time.Millisecond))
	for _, s := range stores {
		if err := f.load.check(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// rage disturbs the installation round after round. It returns how long it
// took at most until every writer went on.
func (f *failover) rage(ctx context.Context) (longest time.Duration, err error) {
	for round := range f.rounds {
		if err := f.load.goesOn(ctx); err != nil {
			return longest, err
		}
		time.Sleep(rand.N(100 * time.Millisecond)) // at a moment nobody has chosen
		began := time.Now()
		undo, err := f.disturb(ctx, f.in, round)
		if err != nil {
			return longest, err
		}
		if err := f.load.goesOn(ctx); err != nil {
			return longest, fmt.Errorf("round %d: %w", round+1, err)
		}
		longest = max(longest, time.Since(began))
		if undo != nil {
			if err := undo(ctx); err != nil {
				return longest, err
			}
		}
	}
	return longest, nil
}

// doesNotApply is the error of a check that means nothing here.
type doesNotApply struct{ reason string }

func (e *doesNotApply) Error() string { return "does not apply: " + e.reason }

// DoesNotApply is what a check returns that can show nothing here, with the
// reason.
func DoesNotApply(reason string) error { return &doesNotApply{reason} }

// whyNot returns the reason of a check that does not apply.
func whyNot(err error) (reason string, ok bool) {
	e, ok := errors.AsType[*doesNotApply](err)
	if !ok {
		return "", false
	}
	return e.reason, true
}
