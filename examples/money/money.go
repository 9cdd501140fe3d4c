// Package money is what the example domains count with: whole minor units of
// a currency, never a float.
package money

import (
	"fmt"

	"github.com/deed-dev/deed"
)

// Money is an amount in minor units (cents) of a currency.
type Money struct {
	Amount   int64  `json:"amount"`   // in minor units
	Currency string `json:"currency"` // three letters, ISO 4217
}

// Times returns the price of n pieces.
func (m Money) Times(n int) Money { return Money{m.Amount * int64(n), m.Currency} }

// Plus returns the sum. The zero Money has no currency and adds nothing.
func (m Money) Plus(other Money) Money {
	if m.Currency == "" {
		return other
	}
	return Money{m.Amount + other.Amount, m.Currency}
}

// Minus returns the difference.
func (m Money) Minus(other Money) Money { return m.Plus(Money{-other.Amount, other.Currency}) }

// String returns the amount as people write it, for example "12.50 EUR".
func (m Money) String() string {
	sign, n := "", m.Amount
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, n/100, n%100, m.Currency)
}

// Check returns an error that names field unless the amount is from min to
// max and the currency is three capital letters.
func (m Money) Check(field string, min, max int64) error {
	if m.Amount < min || m.Amount > max {
		return deed.Invalid{Field: field + ".amount", Detail: fmt.Sprintf("must be from %d to %d minor units", min, max)}
	}
	return m.CheckCurrency(field + ".currency")
}

// CheckCurrency returns an error that names field unless the currency is three
// capital letters.
func (m Money) CheckCurrency(field string) error {
	ok := len(m.Currency) == 3
	for _, r := range m.Currency {
		ok = ok && 'A' <= r && r <= 'Z'
	}
	if !ok {
		return deed.Invalid{Field: field, Detail: "must be three capital letters, for example EUR"}
	}
	return nil
}
