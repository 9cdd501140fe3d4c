package league

import (
	"errors"
	"fmt"
	"maps"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Runner is what a decision about a runner depends on. The id is the login
// name.
type Runner struct {
	Entries map[string]Entry `json:"entries"` // by race
	Paid    money.Money      `json:"paid"`    // in all, less what was given back
}

// Entry is a runner's part in a race.
type Entry struct {
	Fee       money.Money `json:"fee"`
	Paid      money.Money `json:"paid"`
	Finished  bool        `json:"finished"`
	Confirmed bool        `json:"confirmed"`
}

// What can happen to a runner. Times are in milliseconds.
type (
	RegisteredForRace struct {
		Race         string      `json:"race"`
		RaceNumber   int         `json:"race_number"`
		Instructions string      `json:"instructions"`
		Fee          money.Money `json:"registration_fee"`
	}
	RegistrationPaid struct {
		Race   string      `json:"race"`
		Amount money.Money `json:"amount"`
	}
	FinishedRace struct {
		Race        string `json:"race"`
		Distance    int64  `json:"distance_m"`
		Provisional int64  `json:"provisional_ms"`
		DateRun     string `json:"date_run"`
	}
	ResultConfirmed struct {
		Race         string `json:"race"`
		Distance     int64  `json:"distance_m"`
		Time         int64  `json:"time_ms"`
		ChipTime     int64  `json:"chip_time_ms"`
		Place        int    `json:"place"`
		DidNotFinish bool   `json:"did_not_finish"`
		Type         string `json:"type"`
		DateRun      string `json:"date_run"`
		Notes        string `json:"notes"`
	}
	Reimbursed struct {
		Amount money.Money `json:"amount"`
		Notes  string      `json:"notes"`
	}
)

func (e RegisteredForRace) Apply(r *Runner) { r.change(e.Race, func(x *Entry) { x.Fee = e.Fee }) }
func (e RegistrationPaid) Apply(r *Runner) {
	r.change(e.Race, func(x *Entry) { x.Paid = x.Paid.Plus(e.Amount) })
	r.Paid = r.Paid.Plus(e.Amount)
}
func (e FinishedRace) Apply(r *Runner)    { r.change(e.Race, func(x *Entry) { x.Finished = true }) }
func (e ResultConfirmed) Apply(r *Runner) { r.change(e.Race, func(x *Entry) { x.Confirmed = true }) }
func (e Reimbursed) Apply(r *Runner)      { r.Paid = r.Paid.Minus(e.Amount) }

// change does not touch the map that earlier states have.
func (r *Runner) change(race string, f func(*Entry)) {
	entries := maps.Clone(r.Entries)
	if entries == nil {
		entries = map[string]Entry{}
	}
	x := entries[race]
	f(&x)
	entries[race], r.Entries = x, entries
}

// What can be asked of a runner.
type (
	RegisterForRace RegisteredForRace
	PayRegistration RegistrationPaid
	FinishRace      FinishedRace
	ConfirmResult   ResultConfirmed
	Reimburse       Reimbursed
)

// Why a runner may say no.
var (
	ErrInRace      = deed.Reason{Code: "in_race", Text: "the runner is registered for this race already"}
	ErrNotInRace   = deed.Reason{Code: "not_in_race", Text: "the runner is not registered for this race"}
	ErrCurrency    = deed.Reason{Code: "currency_mismatch", Text: "a runner's account has one currency"}
	ErrWrongAmount = deed.Reason{Code: "wrong_amount", Text: "the payment is more than what is open of the fee"}
	ErrFinished    = deed.Reason{Code: "finished", Text: "the runner has finished this race already"}
	ErrNotFinished = deed.Reason{Code: "not_finished", Text: "the runner has not finished this race"}
	ErrConfirmed   = deed.Reason{Code: "confirmed", Text: "the result is confirmed already"}
	ErrTooMuch     = deed.Reason{Code: "too_much", Text: "the runner has not paid that much"}
)

const maxFee = 100_000_000

func (c RegisterForRace) Validate() error {
	return errors.Join(deed.Required("race", c.Race), c.Fee.Check("registration_fee", 0, maxFee))
}

func (c RegisterForRace) Decide(r Runner) ([]deed.Event[Runner], error) {
	if _, in := r.Entries[c.Race]; in {
		return nil, ErrInRace
	}
	for _, x := range r.Entries {
		if x.Fee.Currency != c.Fee.Currency {
			return nil, ErrCurrency
		}
	}
	return []deed.Event[Runner]{RegisteredForRace(c)}, nil
}

func (c PayRegistration) Validate() error {
	return errors.Join(deed.Required("race", c.Race), c.Amount.Check("amount", 1, maxFee))
}

func (c PayRegistration) Decide(r Runner) ([]deed.Event[Runner], error) {
	x, err := r.entry(c.Race)
	switch open := x.Fee.Minus(x.Paid); {
	case err != nil:
		return nil, err
	case c.Amount.Currency != x.Fee.Currency:
		return nil, ErrCurrency
	case c.Amount.Amount > open.Amount:
		return nil, fmt.Errorf("%w, which is %v", ErrWrongAmount, open)
	}
	return []deed.Event[Runner]{RegistrationPaid(c)}, nil
}

func (c FinishRace) Validate() error {
	return errors.Join(deed.Required("race", c.Race), positive("distance_m", c.Distance), positive("provisional_ms", c.Provisional))
}

func (c FinishRace) Decide(r Runner) ([]deed.Event[Runner], error) {
	x, err := r.entry(c.Race)
	if err != nil {
		return nil, err
	}
	if x.Finished {
		return nil, ErrFinished
	}
	return []deed.Event[Runner]{FinishedRace(c)}, nil
}

func (c ConfirmResult) Validate() error {
	errs := []error{deed.Required("race", c.Race), positive("distance_m", c.Distance)}
	if !c.DidNotFinish {
		errs = append(errs, positive("time_ms", c.Time), positive("place", int64(c.Place)))
	}
	return errors.Join(errs...)
}

// Decide confirms that a runner has finished, or has not.
func (c ConfirmResult) Decide(r Runner) ([]deed.Event[Runner], error) {
	x, err := r.entry(c.Race)
	switch {
	case err != nil:
		return nil, err
	case x.Confirmed:
		return nil, ErrConfirmed
	case !x.Finished && !c.DidNotFinish:
		return nil, ErrNotFinished
	}
	return []deed.Event[Runner]{ResultConfirmed(c)}, nil
}

func (c Reimburse) Validate() error { return c.Amount.Check("amount", 1, maxFee) }

func (c Reimburse) Decide(r Runner) ([]deed.Event[Runner], error) {
	switch {
	case len(r.Entries) == 0:
		return nil, deed.ErrNotFound
	case c.Amount.Amount > r.Paid.Amount:
		return nil, ErrTooMuch
	case c.Amount.Currency != r.Paid.Currency:
		return nil, ErrCurrency
	}
	return []deed.Event[Runner]{Reimbursed(c)}, nil
}

func (r Runner) entry(race string) (Entry, error) {
	if len(r.Entries) == 0 {
		return Entry{}, deed.ErrNotFound
	}
	x, in := r.Entries[race]
	if !in {
		return x, ErrNotInRace
	}
	return x, nil
}

func positive(field string, n int64) error {
	if n < 1 {
		return deed.Invalid{Field: field, Detail: "must be at least 1"}
	}
	return nil
}

// Runners is the vocabulary of runners, as stored and as called.
var Runners = deed.Aggregate[Runner]{
	Name: "runner",
	Doc:  "Somebody who runs, known by the login name.",
	Events: map[string]deed.Event[Runner]{
		"registered-for-race": RegisteredForRace{},
		"registration-paid":   RegistrationPaid{},
		"finished-race":       FinishedRace{},
		"result-confirmed":    ResultConfirmed{},
		"reimbursed":          Reimbursed{},
	},
	Commands: map[string]deed.Command[Runner]{
		"register-for-race": RegisterForRace{},
		"pay-registration":  PayRegistration{},
		"finish-race":       FinishRace{},
		"confirm-result":    ConfirmResult{},
		"reimburse":         Reimburse{},
	},
}
