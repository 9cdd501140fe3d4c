package farm

import (
	"context"
	"errors"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Loan is what a decision about a loan depends on.
type Loan struct {
	Lender string `json:"lender"`
	Repaid bool   `json:"repaid"`
	Assets
}

// Assets are what secures a loan.
type Assets struct {
	Tractors []string `json:"tractors"`
	Fields   []string `json:"fields"`
	Cows     []string `json:"cows"`
}

// What can happen to a loan.
type (
	Collateralised struct {
		Lender string      `json:"lender"`
		Amount money.Money `json:"amount"`
		Assets
	}
	Repaid struct {
		Notes string `json:"notes"`
	}
)

func (e Collateralised) Apply(l *Loan) { l.Lender, l.Assets = e.Lender, e.Assets }
func (e Repaid) Apply(l *Loan)         { l.Repaid = true }

// Loans is the vocabulary of loans, as stored. What is asked of a loan
// concerns what secures it too: see [CollateraliseLoan] and [RepayLoan].
var Loans = deed.Aggregate[Loan]{
	Name:   "loan",
	Doc:    "A loan that tractors, fields and cattle secure.",
	Events: map[string]deed.Event[Loan]{"collateralised": Collateralised{}, "repaid": Repaid{}},
}

// Collateralise pledges tractors, fields and cattle for a loan.
type Collateralise struct {
	Lender string      `json:"lender"`
	Amount money.Money `json:"amount"`
	Assets
}

// maxAssets is how many assets one atomic decision can pledge: with the loan
// they are 500 entities.
const maxAssets = 499

func (c Collateralise) Validate() error {
	errs := []error{deed.Required("lender", c.Lender), c.Amount.Check("amount", 1, maxPrice)}
	switch n := len(c.Tractors) + len(c.Fields) + len(c.Cows); {
	case n == 0:
		errs = append(errs, deed.Invalid{Detail: "a loan needs something that secures it"})
	case n > maxAssets:
		errs = append(errs, deed.Invalid{Detail: fmt.Sprintf("a loan is secured by at most %d assets", maxAssets)})
	}
	return errors.Join(append(errs, distinct("tractors", c.Tractors), distinct("fields", c.Fields), distinct("cows", c.Cows))...)
}

// CollateraliseLoan is one decision about several kinds of entities: either
// all of the assets secure the loan, or none does.
var CollateraliseLoan = deed.Stepwise[Collateralise]{
	Name:  "loan.collateralise",
	Doc:   "Pledges tractors, fields and cattle for a loan, all of them or none.",
	Check: unknownAssets,
	Steps: []deed.Step[Collateralise]{{Name: "pledge", Do: func(ctx context.Context, w *deed.Work, c Collateralise) error {
		p := Pledge{w.ID}
		all := []deed.Sending{deed.Send(Loans, w.ID, secure(c))}
		for _, id := range c.Tractors {
			all = append(all, deed.Send(Tractors, id, pledgeTractor{p}))
		}
		for _, id := range c.Fields {
			all = append(all, deed.Send(Fields, id, pledgeField{p}))
		}
		for _, id := range c.Cows {
			all = append(all, deed.Send(Cows, id, pledge{p}))
		}
		return w.AskTogether(ctx, all...)
	}}},
}

func unknownAssets(ctx context.Context, r deed.Reader, _ string, c Collateralise) ([]deed.Finding, error) {
	tractors, err1 := unknown(ctx, r, Tractors, "tractors", c.Tractors)
	fields, err2 := unknown(ctx, r, Fields, "fields", c.Fields)
	cows, err3 := unknown(ctx, r, Cows, "cows", c.Cows)
	return append(append(tractors, fields...), cows...), errors.Join(err1, err2, err3)
}

// secure is what collateralising asks of the loan itself.
type secure Collateralise

func (c secure) Decide(l Loan) ([]deed.Event[Loan], error) {
	if l.Lender != "" {
		return nil, deed.ErrExists
	}
	return []deed.Event[Loan]{Collateralised(c)}, nil
}

// Repay says that a loan is paid back.
type Repay struct {
	Notes string `json:"notes"`
}

// RepayLoan sets free what secures a loan that is paid back.
var RepayLoan = deed.Stepwise[Repay]{
	Name: "loan.repay",
	Doc:  "Says that a loan is paid back, and sets free what secures it.",
	Steps: []deed.Step[Repay]{
		{Name: "look", Do: func(ctx context.Context, w *deed.Work, _ Repay) error {
			l, _, err := Loans.Load(ctx, w.Reader(), w.ID)
			if err != nil {
				return err
			}
			return w.Put(l.Assets)
		}},
		{Name: "release", Do: func(ctx context.Context, w *deed.Work, c Repay) error {
			var a Assets
			if err := w.Get("look", &a); err != nil {
				return err
			}
			p := Pledge{w.ID}
			all := []deed.Sending{deed.Send(Loans, w.ID, repay(c))}
			for _, id := range a.Tractors {
				all = append(all, deed.Send(Tractors, id, releaseTractor{p}))
			}
			for _, id := range a.Fields {
				all = append(all, deed.Send(Fields, id, releaseField{p}))
			}
			for _, id := range a.Cows {
				all = append(all, deed.Send(Cows, id, release{p}))
			}
			return w.AskTogether(ctx, all...)
		}},
	},
}

// ErrRepaid is why a loan is not paid back twice.
var ErrRepaid = deed.Reason{Code: "loan_repaid", Text: "the loan is paid back already"}

type repay Repay

func (c repay) Decide(l Loan) ([]deed.Event[Loan], error) {
	if l.Repaid {
		return nil, ErrRepaid
	}
	return []deed.Event[Loan]{Repaid(c)}, nil
}
