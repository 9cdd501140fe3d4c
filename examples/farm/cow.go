package farm

import (
	"errors"
	"regexp"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Cow is what a decision about an animal depends on.
type Cow struct {
	OnFarm  bool   `json:"on_farm"`
	Place   string `json:"place,omitempty"`   // the field or barn, for example "field/home"
	Reactor bool   `json:"reactor,omitempty"` // its last TB inspection was not clear
	Known   bool   `json:"known"`             // it has been on the farm at some time
	Collateral
}

// What can happen to an animal. It is known by its herd and its ear tag.
type (
	Bought struct {
		Herd  string      `json:"herd"`
		Tag   string      `json:"tag"`
		From  string      `json:"from"`
		Price money.Money `json:"price"`
		Breed string      `json:"breed"`
		Born  string      `json:"born"`
		Place string      `json:"place"`
	}
	Sold struct {
		To    string      `json:"to"`
		Price money.Money `json:"price"`
	}
	// Transferred is an animal that moves to another herd without being sold.
	Transferred struct {
		Herd   string `json:"herd"`
		Reason string `json:"reason"`
	}
	Relocated struct {
		From string `json:"from"`
		To   string `json:"to"`
		Date string `json:"date,omitempty"` // "" = when it was recorded
	}
	AIVisited struct {
		Date       string `json:"date"`
		Technician string `json:"technician"`
		Sire       string `json:"sire"`
		Notes      string `json:"notes"`
	}
	TBInspected struct {
		Inspection string `json:"inspection"` // id of the command that named the group
		Date       string `json:"date"`
		Inspector  string `json:"inspector"`
		Reactor    bool   `json:"reactor"`
	}
	CowPledged  struct{ Pledge }
	CowReleased struct{ Pledge }
)

func (e Bought) Apply(c *Cow)      { c.Known, c.OnFarm, c.Place, c.Reactor = true, true, e.Place, false }
func (e Sold) Apply(c *Cow)        { c.OnFarm, c.Place = false, "" }
func (e Transferred) Apply(c *Cow) { c.OnFarm, c.Place = false, "" }
func (e Relocated) Apply(c *Cow)   { c.Place = e.To }
func (e AIVisited) Apply(*Cow)     {}
func (e TBInspected) Apply(c *Cow) { c.Reactor = e.Reactor }
func (e CowPledged) Apply(c *Cow)  { c.Loan = e.Loan }
func (e CowReleased) Apply(c *Cow) { c.Loan = "" }

// Effective is the day on which the animal was moved.
func (e Relocated) Effective() time.Time { return dayOf(e.Date) }

// What can be asked of an animal.
type (
	Buy struct {
		From  string      `json:"from"`
		Price money.Money `json:"price"`
		Breed string      `json:"breed"`
		Born  string      `json:"born"` // a day; "" = nobody knows
		Place string      `json:"place"`

		herd, tag string // what Stamp makes of the id
	}
	Sell struct {
		To    string      `json:"to"`
		Price money.Money `json:"price"`
	}
	Transfer struct {
		Herd   string `json:"herd"`
		Reason string `json:"reason"`
	}
	// Relocate moves an animal to a field or barn. An animal knows nothing of
	// fields and barns: herd.relocate looks whether the place exists.
	Relocate struct {
		To   string `json:"to"`
		Date string `json:"date,omitempty"` // if it is written down later
	}
	AIVisit struct {
		Date       string `json:"date"`
		Technician string `json:"technician"`
		Sire       string `json:"sire"`
		Notes      string `json:"notes"`
	}

	// The rest is asked by commands that concern several animals.
	inspect struct{ TBInspected }
	putBack struct{ From, To string } // undoes a move from From to To
	pledge  struct{ Pledge }
	release struct{ Pledge }
)

// Why an animal may say no.
var (
	ErrEarTag    = deed.Reason{Code: "no_ear_tag", Text: "an animal's id is its herd and its ear tag, for example IE-123-0042"}
	ErrOnFarm    = deed.Reason{Code: "on_farm", Text: "the animal is on the farm already"}
	ErrNotOnFarm = deed.Reason{Code: "not_on_farm", Text: "the animal is not on the farm any more"}
	ErrReactor   = deed.Reason{Code: "tb_reactor", Text: "the animal must pass a TB inspection before it may leave the farm"}
)

var earTag = regexp.MustCompile(`^([A-Z]{2}-[0-9]{1,7})-([0-9]{4})$`)

func (c Buy) Validate() error {
	return errors.Join(deed.Required("from", c.From), c.Price.Check("price", 0, maxPrice), checkPlace("place", c.Place), checkDay("born", c.Born, true))
}

// Stamp finds herd and tag in the animal's id.
func (c Buy) Stamp(s deed.Stamp) deed.Command[Cow] {
	if m := earTag.FindStringSubmatch(s.ID); m != nil {
		c.herd, c.tag = m[1], m[2]
	}
	return c
}

// Decide lets an animal that has left come back.
func (c Buy) Decide(w Cow) ([]deed.Event[Cow], error) {
	if c.tag == "" {
		return nil, ErrEarTag
	}
	if w.OnFarm {
		return nil, ErrOnFarm
	}
	return []deed.Event[Cow]{Bought{c.herd, c.tag, c.From, c.Price, c.Breed, c.Born, c.Place}}, nil
}

func (c Sell) Validate() error {
	return errors.Join(deed.Required("to", c.To), c.Price.Check("price", 0, maxPrice))
}

func (c Sell) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mayLeave(); err != nil {
		return nil, err
	}
	return []deed.Event[Cow]{Sold(c)}, nil
}

func (c Transfer) Validate() error { return deed.Required("herd", c.Herd) }

func (c Transfer) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mayLeave(); err != nil {
		return nil, err
	}
	return []deed.Event[Cow]{Transferred(c)}, nil
}

func (c Relocate) Validate() error {
	return errors.Join(checkPlace("to", c.To), checkDay("date", c.Date, true))
}

// Decide does nothing with an animal that is there already.
func (c Relocate) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mustBeHere(); err != nil || w.Place == c.To {
		return nil, err
	}
	return []deed.Event[Cow]{Relocated{From: w.Place, To: c.To, Date: c.Date}}, nil
}

func (c AIVisit) Validate() error {
	return errors.Join(checkDay("date", c.Date, false), deed.Required("technician", c.Technician), deed.Required("sire", c.Sire))
}

func (c AIVisit) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mustBeHere(); err != nil {
		return nil, err
	}
	return []deed.Event[Cow]{AIVisited(c)}, nil
}

func (c inspect) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mustBeHere(); err != nil {
		return nil, err
	}
	return []deed.Event[Cow]{c.TBInspected}, nil
}

// Decide leaves an animal alone that somebody else has moved on meanwhile.
func (c putBack) Decide(w Cow) ([]deed.Event[Cow], error) {
	if !w.OnFarm || w.Place != c.To || c.From == c.To {
		return nil, nil
	}
	return []deed.Event[Cow]{Relocated{From: c.To, To: c.From}}, nil
}

func (c pledge) Decide(w Cow) ([]deed.Event[Cow], error) {
	if err := w.mustBeHere(); err != nil {
		return nil, err
	}
	if err := w.mustBeFree(); err != nil {
		return nil, err
	}
	return []deed.Event[Cow]{CowPledged(c)}, nil
}

func (c release) Decide(w Cow) ([]deed.Event[Cow], error) {
	if w.Loan != c.Loan {
		return nil, nil
	}
	return []deed.Event[Cow]{CowReleased(c)}, nil
}

func (w Cow) mustBeHere() error {
	switch {
	case !w.Known:
		return deed.ErrNotFound
	case !w.OnFarm:
		return ErrNotOnFarm
	}
	return nil
}

func (w Cow) mayLeave() error {
	if err := w.mustBeHere(); err != nil {
		return err
	}
	if w.Reactor {
		return ErrReactor
	}
	return w.mustBeFree()
}

// Cows is the vocabulary of animals, as stored and as called.
var Cows = deed.Aggregate[Cow]{
	Name: "cow",
	Doc:  "An animal, known by its herd and its ear tag.",
	Events: map[string]deed.Event[Cow]{
		"bought":       Bought{},
		"sold":         Sold{},
		"transferred":  Transferred{},
		"relocated":    Relocated{},
		"ai-visited":   AIVisited{},
		"tb-inspected": TBInspected{},
		"pledged":      CowPledged{},
		"released":     CowReleased{},
	},
	Commands: map[string]deed.Command[Cow]{
		"buy":      Buy{},
		"sell":     Sell{},
		"transfer": Transfer{},
		"relocate": Relocate{},
		"ai-visit": AIVisit{},
	},
}
