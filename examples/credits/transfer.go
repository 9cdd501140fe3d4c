package credits

import (
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
	Judged bool        `json:"judged,omitzero"` // by the fraud check
}

// What can happen to a transfer.
type (
	// TransferRequested comes with the hold on the credits.
	TransferRequested struct {
		From        string      `json:"from"`
		To          string      `json:"to"`
		Amount      money.Money `json:"amount"`
		Significant bool        `json:"significant,omitzero"` // somebody has to validate it
	}
	TransferApproved struct {
		By     string `json:"by"`
		Reason string `json:"reason"`
	}
	TransferSucceeded struct{}
	TransferFailed    struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
)

func (e TransferRequested) Apply(t *Transfer) {
	*t = Transfer{Status: e.status(), From: e.From, To: e.To, Amount: e.Amount}
}
func (TransferApproved) Apply(*Transfer)    {}
func (TransferSucceeded) Apply(t *Transfer) { t.Status = Succeeded }
func (TransferFailed) Apply(t *Transfer)    { t.Status = Failed }

func (e TransferRequested) status() Status {
	if e.Significant {
		return PendingValidation
	}
	return Requested
}

// What is asked of a transfer by [Credits.RequestTransfer] and by the process.
type (
	request TransferRequested
	// takeUp changes nothing. What undoes it says why the transfer has failed.
	takeUp  struct{}
	approve TransferApproved
	succeed struct{}
	// fail records why the process turned back.
	fail struct{ why deed.Reason }
)

// ErrOver is why a transfer may say no.
var ErrOver = deed.Reason{Code: "transfer_over", Text: "The transfer has succeeded or failed already"}

func (c request) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if t.Status != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Transfer]{TransferRequested(c)}, nil
}

func (takeUp) Decide(t Transfer) ([]deed.Event[Transfer], error) { return nil, t.mustGoOn() }

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
var Transfers = deed.Aggregate[Transfer]{
	Name: "credit-transfer",
	Doc:  "Credits on their way from one account to another.",
	Events: map[string]deed.Event[Transfer]{
		"requested": TransferRequested{},
		"approved":  TransferApproved{},
		"succeeded": TransferSucceeded{},
		"failed":    TransferFailed{},

		"judged":              TransferJudged{},
		"validation-required": ValidationRequired{},
	},
	Commands: map[string]deed.Command[Transfer]{"judge": deed.Ruled(Judge{}, deed.Rules{Roles: []string{RoleFraudCheck}})},
	Internal: map[string]deed.Command[Transfer]{
		"record":  request{},
		"take-up": takeUp{},
		"approve": approve{},
		"succeed": succeed{},
		"fail":    fail{},

		"require-validation": requireValidation{},
	},
}
