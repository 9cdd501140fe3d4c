package credits

import (
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Balance is what the owner of an account sees of it.
type Balance struct {
	Owner     string      `json:"owner"`
	Balance   money.Money `json:"balance"`
	Available money.Money `json:"available"` // the balance less what is held for transfers
}

// Balances has one Balance per account.
var Balances = deed.Projection[Balance]{
	Name:    "balances",
	Doc:     "What is on each account, and what of it can be spent.",
	Indexes: []string{"owner", "balance.amount"},
	On: []deed.Handler[Balance]{
		deed.On(func(b *Balance, e Opened) {
			zero := money.Money{Currency: e.Currency}
			*b = Balance{e.Owner, zero, zero}
		}),
		deed.On(func(b *Balance, e Loaded) { b.add(e.Amount) }),
		deed.On(func(b *Balance, e Held) { b.Available = b.Available.Minus(e.Amount) }),
		deed.On(func(b *Balance, e Returned) { b.Available = b.Available.Plus(e.Amount) }),
		deed.On(func(b *Balance, e Sent) { b.Balance = b.Balance.Minus(e.Amount) }),
		deed.On(func(b *Balance, e Received) { b.add(e.Amount) }),
		deed.On(func(b *Balance, e Reversed) { b.add(e.Amount.Times(-1)) }),
		deed.On(func(b *Balance, e Spent) { b.add(e.Amount.Times(-1)) }),
	},
}

func (b *Balance) add(m money.Money) {
	b.Balance, b.Available = b.Balance.Plus(m), b.Available.Plus(m)
}

// A TransferEntry is what the parties see of a transfer.
type TransferEntry struct {
	From        string      `json:"from"`
	To          string      `json:"to"`
	Amount      money.Money `json:"amount"`
	Fee         money.Money `json:"fee"` // sending credits costs nothing
	Status      Status      `json:"status"`
	Code        string      `json:"code,omitempty"` // why it failed
	Reason      string      `json:"reason,omitempty"`
	Doubt       string      `json:"doubt,omitempty"` // why somebody has to validate it, if not for its amount
	ApprovedBy  string      `json:"approved_by,omitempty"`
	RequestedBy string      `json:"requested_by,omitempty"`
	Requested   time.Time   `json:"requested_at"`
	Finished    time.Time   `json:"finished_at,omitzero"`
}

// History has one TransferEntry per transfer.
var History = deed.Projection[TransferEntry]{
	Name:    "transfers",
	Doc:     "Each transfer and what became of it.",
	Indexes: []string{"from", "to", "status", "amount.amount", "requested_at"},
	On: []deed.Handler[TransferEntry]{
		deed.On(func(t *TransferEntry, e deed.Recorded[TransferRequested]) {
			r := e.Event
			*t = TransferEntry{
				From: r.From, To: r.To, Amount: r.Amount, Fee: money.Money{Currency: r.Amount.Currency},
				Status: r.status(), Requested: e.Time, RequestedBy: e.Actor,
			}
		}),
		deed.On(func(t *TransferEntry, e ValidationRequired) { t.Status, t.Doubt = PendingValidation, e.Reason }),
		deed.On(func(t *TransferEntry, e TransferApproved) { t.ApprovedBy = e.By }),
		deed.On(func(t *TransferEntry, e deed.Recorded[TransferSucceeded]) { t.Status, t.Finished = Succeeded, e.Time }),
		deed.On(func(t *TransferEntry, e deed.Recorded[TransferFailed]) {
			t.Status, t.Code, t.Reason, t.Finished = Failed, e.Event.Code, e.Event.Reason, e.Time
		}),
	},
}

// Earning is what the issuer has earned in a currency.
type Earning struct {
	Loads int64 `json:"load_fees"` // minor units
	Sales int64 `json:"sale_fees"` // minor units
}

// Earnings has one Earning per currency.
var Earnings = deed.Projection[Earning]{
	Name:  "earnings",
	Doc:   "The fees that were earned, by currency.",
	Roles: []string{"accountant"},
	On: []deed.Handler[Earning]{
		deed.OnBy(func(e Loaded) string { return e.Fee.Currency }, func(v *Earning, e Loaded) { v.Loads += e.Fee.Amount }),
		deed.OnBy(func(e Sold) string { return e.Fee.Currency }, func(v *Earning, e Sold) { v.Sales += e.Fee.Amount }),
	},
}
