package farm

import (
	"errors"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Tractor is what a decision about a tractor depends on.
type Tractor struct {
	Model string `json:"model"`
	Owned bool   `json:"owned"`
	Collateral
}

// What can happen to a tractor. It is known by its chassis number.
type (
	TractorBought struct {
		Make  string      `json:"make"`
		Model string      `json:"model"`
		From  string      `json:"from"`
		Price money.Money `json:"price"`
	}
	Serviced struct {
		Date string `json:"date"`
		Text string `json:"text"`
	}
	TractorSold struct {
		To    string      `json:"to"`
		Price money.Money `json:"price"`
	}
	TractorPledged  struct{ Pledge }
	TractorReleased struct{ Pledge }
)

func (e TractorBought) Apply(t *Tractor)   { t.Model, t.Owned = e.Model, true }
func (e Serviced) Apply(*Tractor)          {}
func (e TractorSold) Apply(t *Tractor)     { t.Owned = false }
func (e TractorPledged) Apply(t *Tractor)  { t.Loan = e.Loan }
func (e TractorReleased) Apply(t *Tractor) { t.Loan = "" }

// Effective is the day of the service: it is often written down later.
func (e Serviced) Effective() time.Time { return dayOf(e.Date) }

// Effective is the day of the visit.
func (e AIVisited) Effective() time.Time { return dayOf(e.Date) }

// Effective is the day of the inspection.
func (e TBInspected) Effective() time.Time { return dayOf(e.Date) }

// dayOf returns the zero time for what is no day.
func dayOf(s string) time.Time {
	t, _ := time.Parse(time.DateOnly, s)
	return t
}

// What can be asked of a tractor.
type (
	BuyTractor struct {
		Make  string      `json:"make"`
		Model string      `json:"model"`
		From  string      `json:"from"`
		Price money.Money `json:"price"`
	}
	Service struct {
		Date string `json:"date"`
		Text string `json:"text"`
	}
	SellTractor struct {
		To    string      `json:"to"`
		Price money.Money `json:"price"`
	}

	pledgeTractor  struct{ Pledge }
	releaseTractor struct{ Pledge }
)

// ErrTractorSold is why nothing more is asked of a tractor that is sold.
var ErrTractorSold = deed.Reason{Code: "tractor_sold", Text: "the tractor is sold"}

func (c BuyTractor) Validate() error {
	return errors.Join(deed.Required("make", c.Make), deed.Required("model", c.Model), deed.Required("from", c.From), c.Price.Check("price", 0, maxPrice))
}

func (c BuyTractor) Decide(t Tractor) ([]deed.Event[Tractor], error) {
	if t.Owned {
		return nil, deed.ErrExists
	}
	return []deed.Event[Tractor]{TractorBought(c)}, nil
}

func (c Service) Validate() error {
	return errors.Join(checkDay("date", c.Date, false), deed.Required("text", c.Text))
}

func (c Service) Decide(t Tractor) ([]deed.Event[Tractor], error) {
	if err := t.mustBeOwned(); err != nil {
		return nil, err
	}
	return []deed.Event[Tractor]{Serviced(c)}, nil
}

func (c SellTractor) Validate() error {
	return errors.Join(deed.Required("to", c.To), c.Price.Check("price", 0, maxPrice))
}

func (c SellTractor) Decide(t Tractor) ([]deed.Event[Tractor], error) {
	if err := t.mustBeOwned(); err != nil {
		return nil, err
	}
	if err := t.mustBeFree(); err != nil {
		return nil, err
	}
	return []deed.Event[Tractor]{TractorSold(c)}, nil
}

func (c pledgeTractor) Decide(t Tractor) ([]deed.Event[Tractor], error) {
	if err := t.mustBeOwned(); err != nil {
		return nil, err
	}
	if err := t.mustBeFree(); err != nil {
		return nil, err
	}
	return []deed.Event[Tractor]{TractorPledged(c)}, nil
}

func (c releaseTractor) Decide(t Tractor) ([]deed.Event[Tractor], error) {
	if t.Loan != c.Loan {
		return nil, nil
	}
	return []deed.Event[Tractor]{TractorReleased(c)}, nil
}

func (t Tractor) mustBeOwned() error {
	switch {
	case t.Model == "":
		return deed.ErrNotFound
	case !t.Owned:
		return ErrTractorSold
	}
	return nil
}

// Tractors is the vocabulary of tractors, as stored and as called.
var Tractors = deed.Aggregate[Tractor]{
	Name: "tractor",
	Doc:  "A tractor, known by its chassis number.",
	Events: map[string]deed.Event[Tractor]{
		"bought":   TractorBought{},
		"serviced": Serviced{},
		"sold":     TractorSold{},
		"pledged":  TractorPledged{},
		"released": TractorReleased{},
	},
	Commands: map[string]deed.Command[Tractor]{"buy": BuyTractor{}, "service": Service{}, "sell": SellTractor{}},
}
