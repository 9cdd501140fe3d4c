package bank

import (
	"errors"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// A Status is how far a transfer has come. The zero Status is that of a transfer
// nobody has initiated.
type Status string

const (
	Initiated   Status = "Initiated"   // nobody has looked at it
	Funded      Status = "Funded"      // the money has left the source
	Transferred Status = "Transferred" // it has reached the target
	Refunding   Status = "Refunding"   // it goes back; if it stays so, somebody has to see to it
	Failed      Status = "Failed"      // both accounts are as they were
)

// Transfer is what a decision about a transfer depends on.
type Transfer struct {
	Status     Status      `json:"status"`
	From       string      `json:"from"` // account
	To         string      `json:"to"`   // account
	Amount     money.Money `json:"amount"`
	Cancelling bool        `json:"cancelling,omitempty"` // somebody does not want it any more
}

// What can happen to a transfer.
type (
	TransferInitiated struct {
		From       string      `json:"from"`
		To         string      `json:"to"`
		Amount     money.Money `json:"amount"`
		Commentary string      `json:"commentary,omitempty"`
	}
	SourceFundsWithdrawn  struct{}
	TargetFundsDeposited  struct{}
	CancellationRequested struct {
		Reason string `json:"reason"`
	}
	RefundInitiated struct {
		Reason string `json:"reason"`
	}
	TransferFailed struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
)

func (e TransferInitiated) Apply(t *Transfer) {
	*t = Transfer{Status: Initiated, From: e.From, To: e.To, Amount: e.Amount}
}
func (SourceFundsWithdrawn) Apply(t *Transfer)  { t.Status = Funded }
func (TargetFundsDeposited) Apply(t *Transfer)  { t.Status = Transferred }
func (CancellationRequested) Apply(t *Transfer) { t.Cancelling = true }
func (RefundInitiated) Apply(t *Transfer)       { t.Status = Refunding }
func (TransferFailed) Apply(t *Transfer)        { t.Status = Failed }

// What can be asked of a transfer.
type (
	Initiate TransferInitiated
	Cancel   CancellationRequested
)

// What only the process asks of a transfer.
type (
	// takeUp changes nothing. What undoes it says why the transfer has failed.
	takeUp struct{}
	fund   struct{}
	// clear asks whether the money may reach the target.
	clear       struct{}
	complete    struct{}
	startRefund struct{ why deed.Reason }
	fail        struct{ why deed.Reason }
)

// Why a transfer may say no.
var (
	ErrOver      = deed.Reason{Code: "transfer_over", Text: "The transfer is over"}
	ErrCancelled = deed.Reason{Code: "transfer_cancelled", Text: "The transfer was cancelled"}
)

func (c Initiate) Validate() error {
	errs := []error{deed.Required("from", c.From), deed.Required("to", c.To), checkAmount(c.Amount)}
	if c.From != "" && c.From == c.To {
		errs = append(errs, deed.Invalid{Field: "to", Detail: "must be another account"})
	}
	return errors.Join(errs...)
}

func (c Cancel) Validate() error { return deed.Required("reason", c.Reason) }

func (c Initiate) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if t.Status != "" {
		return nil, deed.ErrExists
	}
	c.Amount.Currency = normal(c.Amount.Currency)
	return []deed.Event[Transfer]{TransferInitiated(c)}, nil
}

func (c Cancel) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	switch {
	case t.Cancelling:
		return nil, nil
	case t.Status == "":
		return nil, deed.ErrNotFound
	}
	if err := t.must(Initiated, Funded); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{CancellationRequested(c)}, nil
}

func (c takeUp) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	return nil, t.mayGoOn(Initiated)
}

func (c fund) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mayGoOn(Initiated); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{SourceFundsWithdrawn{}}, nil
}

func (c clear) Decide(t Transfer) ([]deed.Event[Transfer], error) { return nil, t.mayGoOn(Funded) }

func (c complete) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mayGoOn(Funded); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{TargetFundsDeposited{}}, nil
}

// Stamp fills in the reason.
func (c startRefund) Stamp(s deed.Stamp) deed.Command[Transfer] { return startRefund{s.Why} }

func (c startRefund) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.must(Funded); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{RefundInitiated{c.why.Text}}, nil
}

// Stamp fills in the reason.
func (c fail) Stamp(s deed.Stamp) deed.Command[Transfer] { return fail{s.Why} }

func (c fail) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.must(Initiated, Refunding); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{TransferFailed{c.why.Code, c.why.Text}}, nil
}

// mayGoOn reports why a transfer cannot go on from a status.
func (t Transfer) mayGoOn(from Status) error {
	if t.Cancelling {
		return ErrCancelled
	}
	return t.must(from)
}

func (t Transfer) must(be ...Status) error {
	for _, s := range be {
		if t.Status == s {
			return nil
		}
	}
	return fmt.Errorf("%w: it is %s", ErrOver, t.Status)
}

// Transfers is the vocabulary of transfers.
var Transfers = deed.Aggregate[Transfer]{
	Name: "money-transfer",
	Doc:  "Money on its way from one account to another.",
	Events: map[string]deed.Event[Transfer]{
		"initiated":              TransferInitiated{},
		"source-funds-withdrawn": SourceFundsWithdrawn{},
		"target-funds-deposited": TargetFundsDeposited{},
		"cancellation-requested": CancellationRequested{},
		"refund-initiated":       RefundInitiated{},
		"failed":                 TransferFailed{},
	},
	Commands: map[string]deed.Command[Transfer]{
		"initiate": Initiate{},
		"cancel":   Cancel{},
	},
	Internal: map[string]deed.Command[Transfer]{
		"take-up":      takeUp{},
		"fund":         fund{},
		"clear":        clear{},
		"complete":     complete{},
		"start-refund": startRefund{},
		"fail":         fail{},
	},
}
