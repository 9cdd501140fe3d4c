package credits

import (
	"errors"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// A Status is how far a transfer has come. The zero Status is that of a transfer
// nobody has requested.
type Status string

const (
	Requested         Status = "Requested"         // nobody has looked at it
	PendingValidation Status = "PendingValidation" // the credits are held, and somebody has to decide
	Succeeded         Status = "Succeeded"         // they are on the other account
	Failed            Status = "Failed"            // both accounts are as they were
)

// Transfer is what a decision about a transfer depends on.
type Transfer struct {
	Status Status      `json:"status"`
	From   string      `json:"from"` // account
	To     string      `json:"to"`   // account
	Amount money.Money `json:"amount"`
}

// What can happen to a transfer.
type (
	TransferRequested struct {
		From   string      `json:"from"`
		To     string      `json:"to"`
		Amount money.Money `json:"amount"`
	}
	ValidationRequired struct{}
	TransferApproved   struct {
		By     string `json:"by"`
		Reason string `json:"reason"`
	}
	TransferSucceeded struct{}
	TransferFailed    struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
)

func (e TransferRequested) Apply(t *Transfer) { *t = Transfer{Requested, e.From, e.To, e.Amount} }
func (ValidationRequired) Apply(t *Transfer)  { t.Status = PendingValidation }
func (TransferApproved) Apply(*Transfer)      {}
func (TransferSucceeded) Apply(t *Transfer)   { t.Status = Succeeded }
func (TransferFailed) Apply(t *Transfer)      { t.Status = Failed }

// Request asks for a transfer. It is stored and looked at later.
type Request struct {
	From   string      `json:"from"`
	To     string      `json:"to"`
	Amount money.Money `json:"amount"`
}

// What only the process asks of a transfer.
type (
	// examine finds out whether a transfer has to be validated.
	examine struct{ Significant int64 }
	approve TransferApproved
	succeed struct{}
	// fail records why the process turned back.
	fail struct{ why deed.Reason }
)

// ErrOver is why a transfer may say no.
var ErrOver = deed.Reason{Code: "transfer_over", Text: "The transfer has succeeded or failed already"}

func (c Request) Validate() error {
	errs := []error{deed.Required("from", c.From), deed.Required("to", c.To), c.Amount.Check("amount", leastAmount, maxAmount)}
	if c.From != "" && c.From == c.To {
		errs = append(errs, deed.Invalid{Field: "to", Detail: "must be another account"})
	}
	return errors.Join(errs...)
}

func (c Request) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if t.Status != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Transfer]{TransferRequested(c)}, nil
}

func (c examine) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	switch {
	case t.Status != Requested:
		return nil, ErrOver
	case t.Amount.Amount < c.Significant:
		return nil, nil
	}
	return []deed.Event[Transfer]{ValidationRequired{}}, nil
}

func (c approve) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mustGoOn(); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{TransferApproved(c)}, nil
}

func (c succeed) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mustGoOn(); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{TransferSucceeded{}}, nil
}

// Stamp fills in the reason.
func (c fail) Stamp(s deed.Stamp) deed.Command[Transfer] { return fail{s.Why} }

func (c fail) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mustGoOn(); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{TransferFailed{c.why.Code, c.why.Text}}, nil
}

func (t Transfer) mustGoOn() error {
	if t.Status == Requested || t.Status == PendingValidation {
		return nil
	}
	return fmt.Errorf("%w: it has %s", ErrOver, t.Status)
}

// Transfers is the vocabulary of transfers.
func (c Credits) Transfers() deed.Aggregate[Transfer] {
	return deed.Aggregate[Transfer]{
		Name: "credit-transfer",
		Doc:  "Credits on their way from one account to another.",
		Events: map[string]deed.Event[Transfer]{
			"requested":           TransferRequested{},
			"validation-required": ValidationRequired{},
			"approved":            TransferApproved{},
			"succeeded":           TransferSucceeded{},
			"failed":              TransferFailed{},
		},
		Commands: map[string]deed.Command[Transfer]{
			"request": deed.Ruled(Request{}, deed.Rules{Async: true, Roles: []string{"customer"}, Retry: c.Retry}),
		},
		Internal: map[string]deed.Command[Transfer]{
			"examine": examine{},
			"approve": approve{},
			"succeed": succeed{},
			"fail":    fail{},
		},
	}
}
