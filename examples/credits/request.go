package credits

import (
	"context"
	"errors"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Request asks for credits to be sent.
type Request struct {
	From   string      `json:"from"` // account
	To     string      `json:"to"`   // account
	Amount money.Money `json:"amount"`
}

// Validate implements the check of what is asked.
func (c Request) Validate() error {
	errs := []error{deed.Required("from", c.From), deed.Required("to", c.To), c.Amount.Check("amount", leastAmount, maxAmount)}
	if c.From != "" && c.From == c.To {
		errs = append(errs, deed.Invalid{Field: "to", Detail: "must be another account"})
	}
	return errors.Join(errs...)
}

// requestTransfer is the name of the command that asks for a transfer.
const requestTransfer = "credit-transfer.request"

// RequestTransfer stores a request, and looks at it later. It holds the credits
// and begins the transfer: both, or neither. If the account has not as many, or
// one of the two is not there, the command is rejected, and nothing happened.
func (c Credits) RequestTransfer() deed.Stepwise[Request] {
	return deed.Stepwise[Request]{
		Name:  requestTransfer,
		Doc:   "Holds credits and has them sent to another account.",
		Rules: deed.Rules{Roles: []string{"customer"}, Retry: c.Retry},
		Steps: []deed.Step[Request]{{
			Name: "hold",
			Do: func(ctx context.Context, w *deed.Work, r Request) error {
				return w.AskTogether(ctx,
					deed.Send(Transfers, w.ID, request{r.From, r.To, r.Amount, r.Amount.Amount >= c.significant()}),
					deed.Send(Accounts, r.To, expect{r.Amount}),
					deed.Send(Accounts, r.From, hold{w.ID, r.Amount}))
			},
		}},
	}
}
