package bank

import (
	"slices"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// CustomerDetail is what a teller sees of a customer.
type CustomerDetail struct {
	FirstName string   `json:"first_name"`
	LastName  string   `json:"last_name"`
	Email     string   `json:"email"`
	Accounts  []string `json:"accounts,omitempty"`
}

// CustomerDetails has one CustomerDetail per customer.
var CustomerDetails = deed.Projection[CustomerDetail]{
	Name:    "customer-details",
	Doc:     "Each customer and which accounts they have.",
	Indexes: []string{"last_name", "email"},
	On: []deed.Handler[CustomerDetail]{
		deed.On(func(c *CustomerDetail, e CustomerCreated) {
			c.FirstName, c.LastName, c.Email = e.FirstName, e.LastName, e.Email
		}),
		deed.On(func(c *CustomerDetail, e AccountAdded) { c.Accounts = append(slices.Clip(c.Accounts), e.Account) }),
	},
}

// AccountDetail is what a customer sees of an account.
type AccountDetail struct {
	Customer string      `json:"customer"`
	Balance  money.Money `json:"balance"`
	Interest int64       `json:"interest"` // accrued and not paid, in millionths of a minor unit
	Blocked  string      `json:"blocked,omitempty"`
}

// AccountDetails has one AccountDetail per account.
var AccountDetails = deed.Projection[AccountDetail]{
	Name:    "account-details",
	Doc:     "What is on each account.",
	Indexes: []string{"customer", "balance.amount", "balance.currency"},
	On: []deed.Handler[AccountDetail]{
		deed.On(func(a *AccountDetail, e AccountOpened) { a.Customer, a.Balance.Currency = e.Customer, e.Currency }),
		deed.On(func(a *AccountDetail, e MoneyDeposited) { a.Balance = a.Balance.Plus(e.Amount) }),
		deed.On(func(a *AccountDetail, e MoneyWithdrawn) { a.Balance = a.Balance.Minus(e.Amount) }),
		deed.On(func(a *AccountDetail, e SentOff) { a.Balance = a.Balance.Minus(e.Amount) }),
		deed.On(func(a *AccountDetail, e TakenIn) { a.Balance = a.Balance.Plus(e.Amount) }),
		deed.On(func(a *AccountDetail, e Refunded) { a.Balance = a.Balance.Plus(e.Amount) }),
		deed.On(func(a *AccountDetail, e InterestAccrued) { a.Interest += e.Amount }),
		deed.On(func(a *AccountDetail, e InterestPaid) {
			a.Balance = a.Balance.Plus(e.Amount)
			a.Interest -= e.Amount.Amount * millionths
		}),
		deed.On(func(a *AccountDetail, e AccountBlocked) { a.Blocked = e.Reason }),
		deed.On(func(a *AccountDetail, _ AccountUnblocked) { a.Blocked = "" }),
	},
}

// TransferDetail is what the parties see of a transfer.
type TransferDetail struct {
	From      string      `json:"from"`
	To        string      `json:"to"`
	Amount    money.Money `json:"amount"`
	Status    Status      `json:"status"`
	Code      string      `json:"code,omitempty"` // why it failed
	Reason    string      `json:"reason,omitempty"`
	Initiated time.Time   `json:"initiated_at"`
	Finished  time.Time   `json:"finished_at,omitzero"`
}

// TransferDetails has one TransferDetail per transfer.
var TransferDetails = deed.Projection[TransferDetail]{
	Name:    "money-transfers",
	Doc:     "Each transfer and what became of it.",
	Indexes: []string{"from", "to", "status", "initiated_at"},
	On: []deed.Handler[TransferDetail]{
		deed.On(func(t *TransferDetail, e deed.Recorded[TransferInitiated]) {
			*t = TransferDetail{From: e.Event.From, To: e.Event.To, Amount: e.Event.Amount, Status: Initiated, Initiated: e.Time}
		}),
		deed.On(func(t *TransferDetail, _ SourceFundsWithdrawn) { t.Status = Funded }),
		deed.On(func(t *TransferDetail, e deed.Recorded[TargetFundsDeposited]) {
			t.Status, t.Finished = Transferred, e.Time
		}),
		deed.On(func(t *TransferDetail, e RefundInitiated) { t.Status, t.Reason = Refunding, e.Reason }),
		deed.On(func(t *TransferDetail, e deed.Recorded[TransferFailed]) {
			t.Status, t.Code, t.Reason, t.Finished = Failed, e.Event.Code, e.Event.Reason, e.Time
		}),
	},
}
