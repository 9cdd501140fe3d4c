package credits

import (
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Merchant is what a decision about a merchant depends on.
type Merchant struct {
	Name    string      `json:"name"` // "" = there is no such merchant
	Balance money.Money `json:"balance"`
}

// What can happen to a merchant.
type (
	Registered struct {
		Name     string `json:"name"`
		Currency string `json:"currency"`
	}
	// Sold something, the merchant gets the amount less the fee.
	Sold struct {
		Account string      `json:"account"`
		Amount  money.Money `json:"amount"`
		Fee     money.Money `json:"fee"`
	}
)

func (e Registered) Apply(m *Merchant) { m.Name, m.Balance.Currency = e.Name, e.Currency }
func (e Sold) Apply(m *Merchant)       { m.Balance = m.Balance.Plus(e.Amount).Minus(e.Fee) }

// Register makes a merchant.
type Register Registered

// earn is the merchant's side of a sale.
type earn struct {
	Account string
	Amount  money.Money
}

func (c Register) Validate() error {
	return errors.Join(deed.Required("name", c.Name), money.Money{Currency: c.Currency}.CheckCurrency("currency"))
}

func (c Register) Decide(m Merchant) ([]deed.Event[Merchant], error) {
	if m.Name != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Merchant]{Registered(c)}, nil
}

func (c earn) Decide(m Merchant) ([]deed.Event[Merchant], error) {
	switch {
	case m.Name == "":
		return nil, deed.ErrNotFound
	case m.Balance.Currency != c.Amount.Currency:
		return nil, fmt.Errorf("%w: %s", ErrCurrency, m.Balance.Currency)
	}
	return []deed.Event[Merchant]{Sold{c.Account, c.Amount, SaleFee(c.Amount)}}, nil
}

// Merchants is the vocabulary of merchants.
var Merchants = deed.Aggregate[Merchant]{
	Name:     "merchant",
	Doc:      "A shop that takes credits.",
	Events:   map[string]deed.Event[Merchant]{"registered": Registered{}, "sold": Sold{}},
	Commands: map[string]deed.Command[Merchant]{"register": Register{}},
	Internal: map[string]deed.Command[Merchant]{"earn": earn{}},
	Snapshot: deed.Snapshot{Every: 200, Version: 1},
}

// Sale is what a customer buys from a merchant.
type Sale struct {
	Account string      `json:"account"`
	Amount  money.Money `json:"amount"`
}

// Validate implements the check of what is asked.
func (c Sale) Validate() error {
	return errors.Join(deed.Required("account", c.Account), c.Amount.Check("amount", leastAmount, maxAmount))
}

// Sell takes credits from an account and gives them to a merchant: both, or
// neither.
var Sell = deed.Stepwise[Sale]{
	Name:  "merchant.sell",
	Doc:   "Sells something for credits.",
	Rules: deed.Rules{Roles: []string{"merchant"}},
	Steps: []deed.Step[Sale]{{
		Name: "book",
		Do: func(ctx context.Context, w *deed.Work, c Sale) error {
			return w.AskTogether(ctx,
				deed.Send(Accounts, c.Account, spend{w.ID, c.Amount}),
				deed.Send(Merchants, w.ID, earn(c)))
		},
	}},
}
