package bank

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// currencies are those in which there are accounts.
var currencies = []string{"CAD", "EUR", "USD"}

// total is the currency of sums over accounts.
const total = "CAD"

// Rates are what one unit of each currency is worth, in millionths of a common
// unit. They are how the bank gets at a market: whoever runs it says them, and a
// program that has other ones is started with those. What was exchanged before
// stays as it was, since the events say both amounts.
type Rates struct{ CAD, EUR, USD int64 }

// Par is what the zero Bank exchanges at.
var Par = Rates{CAD: 1_000_000, EUR: 1_000_000, USD: 1_000_000}

// Why money may not be exchanged.
var (
	errNoRate   = deed.Reason{Code: ErrCurrency.Code, Text: "There is no rate at which to exchange"}
	ErrTooSmall = deed.Reason{Code: "too_small", Text: "The amount comes to nothing in the currency of the account"}
)

// Exchange returns what an amount is worth in another currency, a half rounded
// away from zero.
func (r Rates) Exchange(m money.Money, to string) (money.Money, error) {
	if m.Currency == to {
		return m, nil
	}
	from, into := r.of(m.Currency), r.of(to)
	if from <= 0 || into <= 0 {
		return money.Money{}, fmt.Errorf("%w %s for %s", errNoRate, m.Currency, to)
	}
	// (2 * amount * from + into) / (2 * into), of the amount without its sign.
	n := new(big.Int).Mul(big.NewInt(max(m.Amount, -m.Amount)), big.NewInt(2*from))
	n.Div(n.Add(n, big.NewInt(into)), big.NewInt(2*into))
	if !n.IsInt64() || n.Int64() > maxAmount {
		return money.Money{}, deed.Invalid{Field: "amount", Detail: fmt.Sprintf("is more than %d minor units in %s", maxAmount, to)}
	}
	out := money.Money{Amount: n.Int64(), Currency: to}
	switch {
	case out.Amount == 0 && m.Amount != 0:
		return out, ErrTooSmall
	case m.Amount < 0:
		out.Amount = -out.Amount
	}
	return out, nil
}

func (r Rates) of(currency string) int64 {
	switch currency {
	case "CAD":
		return r.CAD
	case "EUR":
		return r.EUR
	case "USD":
		return r.USD
	}
	return 0
}

// rates are those of a bank.
func (b Bank) rates() Rates {
	if b.Rates == (Rates{}) {
		return Par
	}
	return b.Rates
}

// normal is the code of a currency as it is kept.
func normal(currency string) string { return strings.ToUpper(strings.TrimSpace(currency)) }

func checkCurrency(field, currency string) error {
	if !slices.Contains(currencies, normal(currency)) {
		return deed.Invalid{Field: field, Detail: "must be one of " + strings.Join(currencies, ", ")}
	}
	return nil
}

// checkAmount refuses what can be moved in no currency.
func checkAmount(m money.Money) error {
	if err := checkCurrency("amount.currency", m.Currency); err != nil {
		return err
	}
	m.Currency = normal(m.Currency)
	return m.Check("amount", leastAmount, maxAmount)
}
