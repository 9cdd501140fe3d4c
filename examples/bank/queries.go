package bank

import (
	"context"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
	"github.com/deed-dev/deed/store"
)

// OfCustomer are the parameters of a query about a customer.
type OfCustomer struct {
	Customer string `json:"customer"`
}

// Validate wants a customer.
func (p OfCustomer) Validate() error { return deed.Required("customer", p.Customer) }

// A CustomerOverview is what a teller sees of a customer and all their money.
type CustomerOverview struct {
	Customer  string           `json:"customer"`
	FirstName string           `json:"first_name"`
	LastName  string           `json:"last_name"`
	Email     string           `json:"email"`
	Accounts  []AccountBalance `json:"accounts"` // in the order in which they were opened
	Total     money.Money      `json:"total"`    // in CAD
}

// An AccountBalance is what is on an account.
type AccountBalance struct {
	Account string      `json:"account"`
	Balance money.Money `json:"balance"`
}

// Overview puts together what the views know of a customer and of each account.
func (b Bank) Overview() deed.Query[OfCustomer, CustomerOverview] {
	return deed.Query[OfCustomer, CustomerOverview]{
		Name: "customer-overview",
		Doc:  "A customer, each account, and what that comes to.",
		Answer: func(ctx context.Context, r deed.Reader, p OfCustomer) (CustomerOverview, error) {
			c, err := CustomerDetails.Get(ctx, r, p.Customer)
			out := CustomerOverview{p.Customer, c.FirstName, c.LastName, c.Email, []AccountBalance{}, money.Money{Currency: total}}
			for _, id := range c.Accounts {
				a, err := AccountDetails.Get(ctx, r, id)
				if err != nil {
					return out, err
				}
				worth, err := b.worth(a.Balance, total)
				if err != nil {
					return out, err
				}
				out.Accounts, out.Total = append(out.Accounts, AccountBalance{id, a.Balance}), out.Total.Plus(worth)
			}
			return out, err
		},
	}
}

// worth is what money comes to in another currency, which may be nothing.
func (b Bank) worth(m money.Money, currency string) (money.Money, error) {
	out, err := b.rates().Exchange(m, currency)
	if ErrTooSmall.Is(err) {
		err = nil
	}
	return out, err
}

// Wealth is the account with the most money on it, and what that is worth.
type Wealth struct {
	AccountBalance
	Customer string      `json:"customer"`
	Worth    money.Money `json:"worth"` // in CAD
}

// Richest compares the highest balances of each currency.
func (b Bank) Richest() deed.Query[struct{}, Wealth] {
	return deed.Query[struct{}, Wealth]{
		Name: "highest-balance",
		Doc:  "The account with the most money on it.",
		Answer: func(ctx context.Context, r deed.Reader, _ struct{}) (most Wealth, err error) {
			found := false
			for _, currency := range currencies {
				q := store.Query{Where: []store.Cond{{Field: "balance.currency", Op: "=", Value: currency}}, Sort: "balance.amount", Desc: true, Limit: 1}
				for row, err := range AccountDetails.Find(ctx, r, q) {
					if err != nil {
						return most, err
					}
					worth, err := b.worth(row.Value.Balance, total)
					if err != nil {
						return most, err
					}
					if !found || worth.Amount > most.Worth.Amount {
						most, found = Wealth{AccountBalance{row.Key, row.Value.Balance}, row.Value.Customer, worth}, true
					}
				}
			}
			if !found {
				return most, deed.ErrNotFound
			}
			return most, nil
		},
	}
}

// Threshold are the parameters of the group of accounts with less than that.
type Threshold struct {
	Amount   int64  `json:"amount"`   // minor units
	Currency string `json:"currency"` // "" = CAD; balances in other ones are exchanged
}

// Validate refuses a currency that there is not.
func (p Threshold) Validate() error {
	if p.Currency == "" {
		return nil
	}
	return checkCurrency("currency", p.Currency)
}

// Poor are the accounts with less than a threshold.
func (b Bank) Poor() deed.Classifiers[Threshold, Account] {
	return deed.Classifiers[Threshold, Account]{
		Name: "below",
		Doc:  "The accounts with less than a threshold.",
		With: func(p Threshold) deed.Classifier[Account] {
			currency := total
			if p.Currency != "" {
				currency = normal(p.Currency)
			}
			return deed.Classifier[Account]{Name: "below", Of: Accounts.States("customer", "balance.amount"), Verdict: func(a Account) deed.Verdict {
				worth, err := b.worth(a.Balance, currency)
				if err != nil || worth.Amount >= p.Amount {
					return deed.Exclude
				}
				return deed.Include
			}}
		},
	}
}
