package bank

import (
	"fmt"
	"maps"
	"slices"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Account is what a decision about an account depends on.
type Account struct {
	Customer  string      `json:"customer"` // "" = there is no such account
	Balance   money.Money `json:"balance"`
	Overdraft int64       `json:"overdraft"`              // how far below zero it may go, in minor units
	Blocked   string      `json:"blocked,omitempty"`      // why nothing may move
	Days      []string    `json:"accrued_days,omitempty"` // the last ones for which interest has accrued, in order
	Interest  int64       `json:"interest"`               // accrued and not paid, in millionths of a minor unit
}

// keptDays is of how many days an account knows that interest has accrued: so
// long a day that has failed can be made up for.
const keptDays = 100

// What can happen to an account.
type (
	AccountOpened struct {
		Customer string `json:"customer"`
		Currency string `json:"currency"`
	}
	MoneyDeposited struct {
		Amount     money.Money `json:"amount"` // in the currency of the account
		Commentary string      `json:"commentary,omitempty"`
		Exchanged  money.Money `json:"exchanged,omitzero"` // what it was before, if that was in another currency
	}
	MoneyWithdrawn struct {
		Amount     money.Money `json:"amount"` // in the currency of the account
		Commentary string      `json:"commentary,omitempty"`
		Exchanged  money.Money `json:"exchanged,omitzero"` // for what, if that was in another currency
	}
	// SentOff is money that has left for another account.
	SentOff struct {
		Transfer string      `json:"transfer"`
		To       string      `json:"to"`
		Amount   money.Money `json:"amount"`
	}
	// TakenIn is money that has come from another account.
	TakenIn struct {
		Transfer string      `json:"transfer"`
		From     string      `json:"from"`
		Amount   money.Money `json:"amount"`
	}
	// Refunded is money that could not be delivered.
	Refunded struct {
		Transfer string      `json:"transfer"`
		Amount   money.Money `json:"amount"`
	}
	OverdraftLimitSet struct {
		Limit int64 `json:"limit"` // minor units
	}
	AccountBlocked struct {
		Reason string `json:"reason"`
	}
	AccountUnblocked struct{}
	InterestAccrued  struct {
		Day     string      `json:"day"`     // 2006-01-02
		Balance money.Money `json:"balance"` // as the day began
		Rate    int64       `json:"rate"`    // hundredths of a percent a year
		Amount  int64       `json:"amount"`  // millionths of a minor unit; below zero: the customer owes it
	}
	// InterestPaid is interest that was added to the balance, or, below zero,
	// taken from it.
	InterestPaid struct {
		Amount money.Money `json:"amount"`
	}
)

func (e AccountOpened) Apply(a *Account)     { a.Customer, a.Balance.Currency = e.Customer, e.Currency }
func (e MoneyDeposited) Apply(a *Account)    { a.Balance = a.Balance.Plus(e.Amount) }
func (e MoneyWithdrawn) Apply(a *Account)    { a.Balance = a.Balance.Minus(e.Amount) }
func (e SentOff) Apply(a *Account)           { a.Balance = a.Balance.Minus(e.Amount) }
func (e TakenIn) Apply(a *Account)           { a.Balance = a.Balance.Plus(e.Amount) }
func (e Refunded) Apply(a *Account)          { a.Balance = a.Balance.Plus(e.Amount) }
func (e OverdraftLimitSet) Apply(a *Account) { a.Overdraft = e.Limit }
func (e AccountBlocked) Apply(a *Account)    { a.Blocked = e.Reason }
func (e AccountUnblocked) Apply(a *Account)  { a.Blocked = "" }
func (e InterestAccrued) Apply(a *Account)   { a.Interest += e.Amount; a.accrued(e.Day) }
func (e InterestPaid) Apply(a *Account) {
	a.Balance = a.Balance.Plus(e.Amount)
	a.Interest -= e.Amount.Amount * millionths
}

// accrued notes a day. Earlier states keep theirs.
func (a *Account) accrued(day string) {
	i, _ := slices.BinarySearch(a.Days, day)
	a.Days = slices.Insert(slices.Clone(a.Days), i, day)
	if len(a.Days) > keptDays {
		a.Days = a.Days[1:]
	}
}

// What can be asked of an account.
type (
	// Deposit and Withdraw take money of any currency, and exchange it.
	Deposit struct {
		Amount     money.Money `json:"amount"`
		Commentary string      `json:"commentary,omitempty"`
		Rates      Rates       `json:"-"` // of the bank; the zero Rates exchange nothing
	}
	Withdraw          Deposit
	SetOverdraftLimit OverdraftLimitSet
	// Block keeps all money where it is.
	Block   AccountBlocked
	Unblock struct{}
	// PayInterest moves what has accrued to the balance, in whole minor units. An
	// overdraft that does not suffice for what is owed is extended.
	PayInterest struct{}
)

// What only transfers, interest and the opening of an account ask of it.
type (
	create  NewAccount
	sendOff SentOff
	takeIn  TakenIn
	refund  Refunded
	// accrue adds the interest of a day.
	accrue InterestAccrued
)

// Why an account may say no.
var (
	ErrInsufficient = deed.Reason{Code: "insufficient_funds", Text: "There is not enough money on the account"}
	ErrCurrency     = deed.Reason{Code: "currency_mismatch", Text: "The account is in another currency"}
	ErrBlocked      = deed.Reason{Code: "account_blocked", Text: "The account is blocked"}
	ErrOverdrawn    = deed.Reason{Code: "overdrawn", Text: "The account is overdrawn by more than that"}
	ErrAccrued      = deed.Reason{Code: "already_accrued", Text: "Interest of this day has accrued already"}
	ErrLongAgo      = deed.Reason{Code: "long_ago", Text: "Nobody knows any more whether interest of this day has accrued"}
)

// What can be moved at once, and owed, in minor units: far from overflow.
const (
	leastAmount = 1
	maxAmount   = 1_000_000_000_000
)

func (c Deposit) Validate() error  { return checkAmount(c.Amount) }
func (c Withdraw) Validate() error { return checkAmount(c.Amount) }
func (c Block) Validate() error    { return deed.Required("reason", c.Reason) }
func (c SetOverdraftLimit) Validate() error {
	if c.Limit < 0 || c.Limit > maxAmount {
		return deed.Invalid{Field: "limit", Detail: fmt.Sprintf("must be from 0 to %d minor units", maxAmount)}
	}
	return nil
}

func (c create) Decide(a Account) ([]deed.Event[Account], error) {
	if a.Customer != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Account]{AccountOpened{c.Customer, normal(c.Currency)}}, nil
}

func (c Deposit) Decide(a Account) ([]deed.Event[Account], error) {
	m, before, err := a.exchanged(c.Amount, c.Rates)
	if err != nil {
		return nil, err
	}
	return a.takeIn(m, MoneyDeposited{m, c.Commentary, before})
}

func (c Withdraw) Decide(a Account) ([]deed.Event[Account], error) {
	m, before, err := a.exchanged(c.Amount, c.Rates)
	if err != nil {
		return nil, err
	}
	return a.giveOut(m, MoneyWithdrawn{m, c.Commentary, before})
}

func (c sendOff) Decide(a Account) ([]deed.Event[Account], error) {
	return a.giveOut(c.Amount, SentOff(c))
}

func (c takeIn) Decide(a Account) ([]deed.Event[Account], error) {
	return a.takeIn(c.Amount, TakenIn(c))
}

func (c refund) Decide(a Account) ([]deed.Event[Account], error) {
	return a.takeIn(c.Amount, Refunded(c))
}

func (c SetOverdraftLimit) Decide(a Account) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case a.Balance.Amount < -c.Limit:
		return nil, ErrOverdrawn
	case a.Overdraft == c.Limit:
		return nil, nil
	}
	return []deed.Event[Account]{OverdraftLimitSet(c)}, nil
}

func (c Block) Decide(a Account) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case a.Blocked == c.Reason:
		return nil, nil
	}
	return []deed.Event[Account]{AccountBlocked(c)}, nil
}

func (c Unblock) Decide(a Account) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case a.Blocked == "":
		return nil, nil
	}
	return []deed.Event[Account]{AccountUnblocked(c)}, nil
}

func (c accrue) Decide(a Account) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case slices.Contains(a.Days, c.Day):
		return nil, fmt.Errorf("%w: %s", ErrAccrued, c.Day)
	case len(a.Days) == keptDays && c.Day < a.Days[0]:
		return nil, fmt.Errorf("%w: %s", ErrLongAgo, c.Day)
	}
	return []deed.Event[Account]{InterestAccrued(c)}, nil
}

// Decide leaves what is less than half a minor unit for the next time.
func (PayInterest) Decide(a Account) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case a.Blocked != "":
		return nil, fmt.Errorf("%w: %s", ErrBlocked, a.Blocked)
	}
	paid := money.Money{Amount: rounded(a.Interest), Currency: a.Balance.Currency}
	if paid.Amount == 0 {
		return nil, nil
	}
	var out []deed.Event[Account]
	if after := a.Balance.Plus(paid).Amount; after < -a.Overdraft {
		out = append(out, OverdraftLimitSet{-after})
	}
	return append(out, InterestPaid{paid}), nil
}

// exchanged is an amount in the currency of the account, and what it was before
// if that was another one.
func (a Account) exchanged(m money.Money, r Rates) (now, before money.Money, err error) {
	m.Currency = normal(m.Currency)
	if a.Customer == "" || m.Currency == a.Balance.Currency {
		return m, before, nil
	}
	now, err = r.Exchange(m, a.Balance.Currency)
	return now, m, err
}

// takeIn is an event by which money comes, if the account can take it in.
func (a Account) takeIn(m money.Money, e deed.Event[Account]) ([]deed.Event[Account], error) {
	switch {
	case a.Customer == "":
		return nil, deed.ErrNotFound
	case a.Blocked != "":
		return nil, fmt.Errorf("%w: %s", ErrBlocked, a.Blocked)
	case a.Balance.Currency != m.Currency:
		return nil, fmt.Errorf("%w: %s", ErrCurrency, a.Balance.Currency)
	}
	return []deed.Event[Account]{e}, nil
}

// giveOut is an event by which money goes, if the account can give it.
func (a Account) giveOut(m money.Money, e deed.Event[Account]) ([]deed.Event[Account], error) {
	out, err := a.takeIn(m, e)
	if err == nil && a.Balance.Amount+a.Overdraft < m.Amount {
		return nil, ErrInsufficient
	}
	return out, err
}

// tellers are the rules of what only tellers may ask.
var tellers = deed.Rules{Roles: []string{RoleTeller}}

// Accounts is the vocabulary of accounts. Who asks by name has money exchanged
// at the rates of the bank, see [Bank.accounts].
var Accounts = deed.Aggregate[Account]{
	Name: "account",
	Doc:  "An account of a customer.",
	Events: map[string]deed.Event[Account]{
		"opened":              AccountOpened{},
		"money-deposited":     MoneyDeposited{},
		"money-withdrawn":     MoneyWithdrawn{},
		"sent-off":            SentOff{},
		"taken-in":            TakenIn{},
		"refunded":            Refunded{},
		"overdraft-limit-set": OverdraftLimitSet{},
		"blocked":             AccountBlocked{},
		"unblocked":           AccountUnblocked{},
		"interest-accrued":    InterestAccrued{},
		"interest-paid":       InterestPaid{},
	},
	Commands: map[string]deed.Command[Account]{
		"deposit":             Deposit{},
		"withdraw":            Withdraw{},
		"set-overdraft-limit": deed.Ruled(SetOverdraftLimit{}, tellers),
		"block":               deed.Ruled(Block{}, tellers),
		"unblock":             deed.Ruled(Unblock{}, tellers),
		"pay-interest":        deed.Ruled(PayInterest{}, tellers),
	},
	Internal: map[string]deed.Command[Account]{
		"create":   create{},
		"send-off": sendOff{},
		"take-in":  takeIn{},
		"refund":   refund{},
		"accrue":   accrue{},
	},
	Snapshot: deed.Snapshot{Every: 200, Version: 1},
}

// accounts are Accounts whose commands know the rates.
func (b Bank) accounts() deed.Aggregate[Account] {
	a, rates := Accounts, b.rates()
	a.Commands = maps.Clone(a.Commands)
	a.Commands["deposit"], a.Commands["withdraw"] = Deposit{Rates: rates}, Withdraw{Rates: rates}
	return a
}
