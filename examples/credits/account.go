package credits

import (
	"errors"
	"fmt"
	"maps"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Account is what a decision about an account depends on.
type Account struct {
	Owner   string                 `json:"owner"` // "" = there is no such account
	Balance money.Money            `json:"balance"`
	Holds   map[string]money.Money `json:"holds,omitempty"` // by transfer: what is about to leave
}

// Available is what the owner can spend.
func (a Account) Available() money.Money {
	left := a.Balance
	for _, m := range a.Holds {
		left = left.Minus(m)
	}
	return left
}

// What can happen to an account.
type (
	Opened struct {
		Owner    string `json:"owner"`
		Currency string `json:"currency"`
	}
	// Loaded credits were bought: the owner has paid the amount and the fee.
	Loaded struct {
		Amount money.Money `json:"amount"`
		Fee    money.Money `json:"fee"`
	}
	// Held credits are still there, and nobody can spend them.
	Held struct {
		Transfer string      `json:"transfer"`
		Amount   money.Money `json:"amount"`
	}
	// Returned credits were held for a transfer that has failed.
	Returned struct {
		Transfer string      `json:"transfer"`
		Amount   money.Money `json:"amount"`
	}
	Sent struct {
		Transfer string      `json:"transfer"`
		To       string      `json:"to"`
		Amount   money.Money `json:"amount"`
	}
	Received struct {
		Transfer string      `json:"transfer"`
		From     string      `json:"from"`
		Amount   money.Money `json:"amount"`
	}
	// Reversed credits were received by a transfer that has failed after all.
	Reversed struct {
		Transfer string      `json:"transfer"`
		Amount   money.Money `json:"amount"`
	}
	Spent struct {
		Merchant string      `json:"merchant"`
		Amount   money.Money `json:"amount"`
	}
)

func (e Opened) Apply(a *Account)   { a.Owner, a.Balance.Currency = e.Owner, e.Currency }
func (e Loaded) Apply(a *Account)   { a.Balance = a.Balance.Plus(e.Amount) }
func (e Held) Apply(a *Account)     { a.hold(e.Transfer, &e.Amount) }
func (e Returned) Apply(a *Account) { a.hold(e.Transfer, nil) }
func (e Sent) Apply(a *Account)     { a.hold(e.Transfer, nil); a.Balance = a.Balance.Minus(e.Amount) }
func (e Received) Apply(a *Account) { a.Balance = a.Balance.Plus(e.Amount) }
func (e Reversed) Apply(a *Account) { a.Balance = a.Balance.Minus(e.Amount) }
func (e Spent) Apply(a *Account)    { a.Balance = a.Balance.Minus(e.Amount) }

// hold sets what is held for a transfer. Earlier states keep theirs.
func (a *Account) hold(transfer string, amount *money.Money) {
	a.Holds = maps.Clone(a.Holds)
	if a.Holds == nil {
		a.Holds = map[string]money.Money{}
	}
	if delete(a.Holds, transfer); amount != nil {
		a.Holds[transfer] = *amount
	}
}

// What can be asked of an account.
type (
	Open struct {
		Owner    string `json:"owner"`
		Currency string `json:"currency"`
	}
	// Load buys credits with the owner's own money.
	Load struct {
		Amount money.Money `json:"amount"`
	}
)

// What only transfers and sales ask of an account.
type (
	// expect asks whether an account could receive an amount.
	expect struct{ Amount money.Money }
	hold   struct {
		Transfer string
		Amount   money.Money
	}
	// keep changes nothing. What undoes it gives the credits back.
	keep struct {
		Transfer string
	}
	giveBack struct {
		Transfer string `json:"transfer"`
	}
	// settle lets go what is held.
	settle  struct{ Transfer, To string }
	receive Received
	// reverse takes back what was received.
	reverse Reversed
	spend   Spent
)

// Why an account may say no.
var (
	ErrInsufficient = deed.Reason{Code: "insufficient_balance", Text: "insufficient balance"}
	ErrCurrency     = deed.Reason{Code: "currency_mismatch", Text: "The account is in another currency"}
	ErrNotHeld      = deed.Reason{Code: "not_held", Text: "Nothing is held for this transfer"}
)

func (c Open) Validate() error {
	return errors.Join(deed.Required("owner", c.Owner), money.Money{Currency: c.Currency}.CheckCurrency("currency"))
}

func (c Load) Validate() error { return c.Amount.Check("amount", leastAmount, maxAmount) }

func (c Open) Decide(a Account) ([]deed.Event[Account], error) {
	if a.Owner != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Account]{Opened(c)}, nil
}

func (c Load) Decide(a Account) ([]deed.Event[Account], error) {
	return a.takeIn(c.Amount, Loaded{c.Amount, LoadFee(c.Amount)})
}

func (c expect) Decide(a Account) ([]deed.Event[Account], error) {
	_, err := a.takeIn(c.Amount, nil)
	return nil, err
}

func (c hold) Decide(a Account) ([]deed.Event[Account], error) {
	return a.giveOut(c.Amount, Held(c))
}

func (c keep) Decide(a Account) ([]deed.Event[Account], error) {
	if _, held := a.Holds[c.Transfer]; !held {
		return nil, ErrNotHeld
	}
	return nil, nil
}

// Decide has nothing to do if nothing is held.
func (c giveBack) Decide(a Account) ([]deed.Event[Account], error) {
	amount, held := a.Holds[c.Transfer]
	if !held {
		return nil, nil
	}
	return []deed.Event[Account]{Returned{c.Transfer, amount}}, nil
}

func (c settle) Decide(a Account) ([]deed.Event[Account], error) {
	amount, held := a.Holds[c.Transfer]
	if !held {
		return nil, ErrNotHeld
	}
	return []deed.Event[Account]{Sent{c.Transfer, c.To, amount}}, nil
}

func (c receive) Decide(a Account) ([]deed.Event[Account], error) {
	return a.takeIn(c.Amount, Received(c))
}

func (c reverse) Decide(a Account) ([]deed.Event[Account], error) {
	return a.giveOut(c.Amount, Reversed(c))
}

func (c spend) Decide(a Account) ([]deed.Event[Account], error) {
	return a.giveOut(c.Amount, Spent(c))
}

// takeIn is an event by which credits come, if the account can receive them.
func (a Account) takeIn(m money.Money, e deed.Event[Account]) ([]deed.Event[Account], error) {
	switch {
	case a.Owner == "":
		return nil, deed.ErrNotFound
	case a.Balance.Currency != m.Currency:
		return nil, fmt.Errorf("%w: %s", ErrCurrency, a.Balance.Currency)
	}
	return []deed.Event[Account]{e}, nil
}

// giveOut is an event by which credits go, or are held, if they are there.
func (a Account) giveOut(m money.Money, e deed.Event[Account]) ([]deed.Event[Account], error) {
	out, err := a.takeIn(m, e)
	if err == nil && a.Available().Amount < m.Amount {
		return nil, ErrInsufficient
	}
	return out, err
}

// Accounts is the vocabulary of accounts, as stored and as called.
var Accounts = deed.Aggregate[Account]{
	Name: "credit-account",
	Doc:  "The prepaid credits of somebody.",
	Events: map[string]deed.Event[Account]{
		"opened":   Opened{},
		"loaded":   Loaded{},
		"held":     Held{},
		"returned": Returned{},
		"sent":     Sent{},
		"received": Received{},
		"reversed": Reversed{},
		"spent":    Spent{},
	},
	Commands: map[string]deed.Command[Account]{
		"open": Open{},
		"load": Load{},
	},
	Internal: map[string]deed.Command[Account]{
		"expect":    expect{},
		"hold":      hold{},
		"keep":      keep{},
		"give-back": giveBack{},
		"settle":    settle{},
		"receive":   receive{},
		"reverse":   reverse{},
		"spend":     spend{},
	},
	Snapshot: deed.Snapshot{Every: 200, Version: 1},
}
