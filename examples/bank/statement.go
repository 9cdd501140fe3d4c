package bank

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
	"github.com/deed-dev/deed/store"
)

// A Movement is money that came or went.
type Movement struct {
	Account string      `json:"account"`
	Number  uint64      `json:"number"` // grows along the account
	At      time.Time   `json:"at"`
	What    string      `json:"what"`   // deposit, withdrawal, transfer, refund or interest
	Amount  money.Money `json:"amount"` // below zero: it went
	Other   string      `json:"other,omitempty"`
	Text    string      `json:"text,omitempty"`
}

// Movements has one Movement for each time that money came or went, so that an
// account may have as many as it likes.
var Movements = deed.Projection[Movement]{
	Name:    "movements",
	Doc:     "What came to each account, and what went.",
	Indexes: []string{"account", "number", "at", "what", "amount.amount"},
	On: []deed.Handler[Movement]{
		moved("deposit", func(e MoneyDeposited) (money.Money, string, string) { return e.Amount, "", e.Commentary }),
		moved("withdrawal", func(e MoneyWithdrawn) (money.Money, string, string) { return e.Amount.Times(-1), "", e.Commentary }),
		moved("transfer", func(e SentOff) (money.Money, string, string) { return e.Amount.Times(-1), e.To, e.Transfer }),
		moved("transfer", func(e TakenIn) (money.Money, string, string) { return e.Amount, e.From, e.Transfer }),
		moved("refund", func(e Refunded) (money.Money, string, string) { return e.Amount, "", e.Transfer }),
		moved("interest", func(e InterestPaid) (money.Money, string, string) { return e.Amount, "", "" }),
	},
}

// moved handles events by which money comes or goes: how much, from or to which
// other account, and with which text.
func moved[E any](what string, read func(E) (amount money.Money, other, text string)) deed.Handler[Movement] {
	return deed.OnBy(func(e deed.Recorded[E]) string { return fmt.Sprintf("%s-%d", e.ID, e.Version) }, func(m *Movement, e deed.Recorded[E]) {
		amount, other, text := read(e.Event)
		*m = Movement{e.ID, e.Version, e.Time, what, amount, other, text}
	})
}

// OfAccount are the parameters of a statement.
type OfAccount struct {
	Account string `json:"account"`
	From    string `json:"from"` // the first day; "" = the first there is
	To      string `json:"to"`   // the last day; "" = the last there is
}

// Validate refuses what is no day.
func (p OfAccount) Validate() error {
	for field, day := range map[string]string{"from": p.From, "to": p.To} {
		if _, err := time.Parse(time.DateOnly, day); err != nil && day != "" {
			return deed.Invalid{Field: field, Detail: "must be a date like 2026-02-03"}
		}
	}
	return deed.Required("account", p.Account)
}

// A Statement says what came and went, and what was on the account after each.
type Statement struct {
	Account string          `json:"account"`
	Opening money.Money     `json:"opening"` // before the first line
	Lines   []StatementLine `json:"lines"`
	Closing money.Money     `json:"closing"` // after the last line
}

// A StatementLine is a movement, and what was on the account after it.
type StatementLine struct {
	Movement
	Balance money.Money `json:"balance"`
}

// Statements are statements of accounts, for all days or some.
func (b Bank) Statements() deed.Query[OfAccount, Statement] {
	return deed.Query[OfAccount, Statement]{
		Name: "statement",
		Doc:  "What came to an account and went, with the running balance.",
		Answer: func(ctx context.Context, r deed.Reader, p OfAccount) (Statement, error) {
			a, err := AccountDetails.Get(ctx, r, p.Account)
			if err != nil {
				return Statement{}, err
			}
			running := money.Money{Currency: a.Balance.Currency}
			out := Statement{Account: p.Account, Opening: running, Lines: []StatementLine{}}
			q := store.Query{Where: []store.Cond{{Field: "account", Op: "=", Value: p.Account}}, Sort: "number"}
			for row, err := range Movements.Find(ctx, r, q) {
				if err != nil {
					return out, err
				}
				day := row.Value.At.In(b.zone()).Format(time.DateOnly)
				if day > cmp.Or(p.To, day) {
					break
				}
				if running = running.Plus(row.Value.Amount); day < p.From {
					out.Opening = running
					continue
				}
				out.Lines = append(out.Lines, StatementLine{row.Value, running})
			}
			out.Closing = running
			return out, nil
		},
	}
}
