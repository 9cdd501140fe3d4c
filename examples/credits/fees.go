package credits

import "github.com/deed-dev/deed/examples/money"

// Fees are rounded half up to the minor unit.
const (
	loadShare = 5_000  // the fee is one part in so many, 0.02 %
	freeAbove = 500_00 // minor units: whoever loads more at once pays none
	saleShare = 4_000  // the fee is one part in so many, 0.025 %
)

// What can be moved at once, in minor units: far from overflow.
const (
	leastAmount = 1
	maxAmount   = 1 << 50
)

// LoadFee is what it costs to load an amount, on top of it.
func LoadFee(amount money.Money) money.Money {
	fee := money.Money{Currency: amount.Currency}
	if amount.Amount <= freeAbove {
		fee.Amount = (amount.Amount + loadShare/2) / loadShare
	}
	return fee
}

// SaleFee is what a sale costs the merchant.
func SaleFee(amount money.Money) money.Money {
	return money.Money{Amount: (amount.Amount + saleShare/2) / saleShare, Currency: amount.Currency}
}
