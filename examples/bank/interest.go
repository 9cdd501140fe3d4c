package bank

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Interest is counted in millionths of a minor unit: a day's share of a small
// balance is far below a cent, and many of them are not.
const millionths = 1_000_000

// interest is what a balance earns, or costs, in a day. It is rounded towards
// zero.
func (b Bank) interest(balance money.Money) (rate, amount int64) {
	rate = cmp.Or(b.CreditRate, 1_00)
	if balance.Amount < 0 {
		rate = cmp.Or(b.DebitRate, 12_00)
	}
	return rate, balance.Amount * rate * (millionths / 100_00) / 365
}

// rounded is an amount of interest in minor units, a half rounded away from zero.
func rounded(interest int64) int64 {
	half := int64(millionths / 2)
	if interest < 0 {
		half = -half
	}
	return (interest + half) / millionths
}

// A Day is one for which interest accrues, for example {"day":"2026-02-03"}.
type Day struct {
	Day string `json:"day"`
}

// Validate implements the check of what is asked.
func (d Day) Validate() error {
	if _, err := time.Parse(time.DateOnly, d.Day); err != nil {
		return deed.Invalid{Field: "day", Detail: "must be a date like 2026-02-03"}
	}
	return nil
}

// ErrToCome is why interest of a day may not accrue.
var ErrToCome = deed.Reason{Code: "day_to_come", Text: "This day has not begun"}

// midnight is when a day begins. A day that has begun need not be over.
func (b Bank) midnight(d Day) (time.Time, error) {
	at, err := time.ParseInLocation(time.DateOnly, d.Day, b.zone())
	if err == nil && at.After(time.Now()) {
		err = ErrToCome
	}
	return at, err
}

// accrue adds the interest of a day to an account, by its balance as the day
// began. An account that was not there then has none.
func (b Bank) accrue(ctx context.Context, w *deed.Work, account string, d Day) error {
	midnight, err := b.midnight(d)
	if err != nil {
		return err
	}
	a, _, err := Accounts.Load(ctx, deed.AsOf(w.Reader(), midnight), account)
	if err != nil && !errors.Is(err, deed.ErrNotFound) {
		return err
	}
	rate, amount := b.interest(a.Balance)
	return w.Ask(ctx, deed.Send(Accounts, account, accrue{d.Day, a.Balance, rate, amount}))
}

// AccrueInterest lets a teller do for one account what happens every night for
// all.
func (b Bank) AccrueInterest() deed.Stepwise[Day] {
	return deed.Stepwise[Day]{
		Name:  "account.accrue-interest",
		Doc:   "Adds the interest of a day to an account, once.",
		Rules: tellers,
		Steps: []deed.Step[Day]{{
			Name: "accrue",
			Do:   func(ctx context.Context, w *deed.Work, d Day) error { return b.accrue(ctx, w, w.ID, d) },
		}},
	}
}

// Night is the state of the saga that lets interest of a day accrue.
type Night struct {
	Day
	Accrued int      `json:"accrued"` // accounts
	Before  int      `json:"before"`  // accounts whose interest of the day had accrued before
	Failed  []string `json:"failed,omitempty"`
}

// Validate implements the check of what the saga is begun with.
func (n Night) Validate() error {
	if n.Accrued != 0 || n.Before != 0 || len(n.Failed) > 0 {
		return deed.Invalid{Field: "accrued", Detail: "is counted, not given"}
	}
	return n.Day.Validate()
}

// Interest lets the interest of a day accrue for all accounts, beside each other.
// Accounts for which that fails have a second turn. What fails then too is for
// somebody to see to: it can be begun again under another id.
func (b Bank) Interest() deed.Saga[Night] {
	failed := func(_ string, n Night) bool { return len(n.Failed) > 0 }
	return deed.Saga[Night]{
		Name:  "interest",
		Doc:   "Adds the interest of a day to all accounts.",
		Roles: []string{RoleTeller},
		Steps: []deed.SagaStep[Night]{
			{
				Name: "first-pass", Retry: patience, Timeout: time.Hour,
				Do: func(ctx context.Context, w *deed.Work, n *Night) error {
					all, err := accounts(ctx, w)
					if err != nil {
						return err
					}
					return b.pass(ctx, w, n, all)
				},
			},
			{
				Name: "second-pass", Retry: patience, Timeout: time.Hour, When: failed,
				Do: func(ctx context.Context, w *deed.Work, n *Night) error { return b.pass(ctx, w, n, n.Failed) },
			},
			{
				Name: "see-to-it", When: failed,
				Ask: func(_ string, n Night) deed.Question {
					return deed.Question{
						Text:  fmt.Sprintf("Interest of %s did not accrue for %d accounts, among them %s.", n.Day.Day, len(n.Failed), n.Failed[0]),
						Roles: []string{RoleTeller}, Choices: []string{"seen-to"},
					}
				},
			},
		},
	}
}

// patience is for a store that cannot be reached: a week of it.
var patience = deed.Retry{Attempts: 1000, First: time.Second, Max: 10 * time.Minute}

// accounts are all of them. They are read from the log: the view may be behind.
func accounts(ctx context.Context, w *deed.Work) (all []string, err error) {
	for row, err := range AccountDetails.All(ctx, deed.AsOf(w.Reader(), time.Now())) {
		if err != nil {
			return nil, err
		}
		all = append(all, row.Key)
	}
	return all, nil
}

// atOnce is how many accounts are dealt with at the same time.
const atOnce = 100

// pass lets interest accrue for accounts, and keeps those for which it fails.
func (b Bank) pass(ctx context.Context, w *deed.Work, n *Night, accounts []string) error {
	if _, err := b.midnight(n.Day); err != nil {
		return err
	}
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(atOnce)
	n.Failed = nil
	for _, id := range accounts {
		all.Go(func() error {
			err := b.accrue(ctx, w, id, n.Day)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				n.Accrued++
			case errors.Is(err, ErrAccrued):
				n.Before++
			case ctx.Err() != nil, deed.IsUnavailable(err):
				return err // nothing to do with the account
			default:
				n.Failed = append(n.Failed, id)
			}
			return nil
		})
	}
	err := all.Wait()
	slices.Sort(n.Failed)
	return err
}

// DailyInterest begins the saga of each day. Days that were missed are made up
// for, in any order.
func (b Bank) DailyInterest() deed.Schedule {
	interest := b.Interest()
	return deed.Schedule{
		Name:   "daily-interest",
		Doc:    "Lets the interest of the day accrue.",
		Cron:   cmp.Or(b.InterestAt, "30 1 * * *"),
		Zone:   b.Zone,
		Missed: deed.MissedAll,
		Do: func(due time.Time) []deed.Action {
			day := due.Format(time.DateOnly)
			return []deed.Action{interest.Begin("daily-"+day, Night{Day: Day{day}})}
		},
	}
}
