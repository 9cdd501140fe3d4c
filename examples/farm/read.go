package farm

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Animal says whether an animal is on the farm.
type Animal struct {
	Herd   string    `json:"herd"`
	Tag    string    `json:"tag"`
	OnFarm bool      `json:"on_farm"`
	Since  time.Time `json:"since"`
	How    string    `json:"how"` // bought, sold or transferred
}

// Animals has one Animal per cow that was ever on the farm.
var Animals = deed.Projection[Animal]{
	Name:    "animals",
	Doc:     "Which animals are on the farm, and since when they are or are not.",
	Indexes: []string{"on_farm", "herd", "since"},
	On: []deed.Handler[Animal]{
		deed.On(func(a *Animal, e deed.Recorded[Bought]) {
			*a = Animal{e.Event.Herd, e.Event.Tag, true, e.Time, "bought"}
		}),
		deed.On(func(a *Animal, e deed.Recorded[Sold]) { a.OnFarm, a.Since, a.How = false, e.Time, "sold" }),
		deed.On(func(a *Animal, e deed.Recorded[Transferred]) { a.OnFarm, a.Since, a.How = false, e.Time, "transferred" }),
	},
}

// OnFarm is the group of the animals that are on the farm.
var OnFarm = deed.Classifier[Cow]{
	Name: "on-farm",
	Doc:  "The animals that are on the farm, and those that ever were.",
	Of:   Cows.States("place"),
	Verdict: func(c Cow) deed.Verdict {
		if c.OnFarm {
			return deed.Include
		}
		return deed.Exclude
	},
}

// UnderRestriction is the group of the animals on the farm that may not leave
// it: the last TB inspection was not clear, or they secure a loan.
var UnderRestriction = deed.Classifier[Cow]{
	Name:   "under-restriction",
	Doc:    "The animals on the farm that may not leave it.",
	Of:     OnFarm.Of,
	Within: &OnFarm,
	Verdict: func(c Cow) deed.Verdict {
		if c.mayLeave() != nil {
			return deed.Include
		}
		return deed.Exclude
	},
}

// Kept are the animals that are kept in a place.
var Kept = deed.Classifiers[KeptIn, Cow]{
	Name: "kept",
	Doc:  "The animals in a field or barn.",
	With: func(k KeptIn) deed.Classifier[Cow] {
		return deed.Classifier[Cow]{Name: "kept", Of: OnFarm.Of, Verdict: func(c Cow) deed.Verdict {
			if c.OnFarm && c.Place == k.Place {
				return deed.Include
			}
			return deed.Exclude
		}}
	},
}

// KeptIn says in which place.
type KeptIn struct {
	Place string `json:"place"`
}

// Validate wants a place.
func (k KeptIn) Validate() error { return checkPlace("place", k.Place) }

// Notice is a line of the farm's register of animals: one came, or left.
type Notice struct {
	Animal string    `json:"animal"`
	Came   bool      `json:"came"` // else it left
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
}

// Notices is the register.
var Notices = deed.View[Notice]{
	Name:    "register",
	Doc:     "Each animal that came or left, in the order in which that was recorded.",
	Indexes: []string{"animal", "at"},
}

// KeepRegister writes the register: one line when an animal becomes a member of
// the group or ceases to be one, none for whatever else happens to it.
var KeepRegister = deed.Watcher[deed.Member[Cow]]{
	Name: "keep-register",
	Doc:  "Notes in the register which animals come and leave.",
	Of:   OnFarm.Projection(),
	Changed: func(_ context.Context, tx *deed.Tx, c deed.Change[deed.Member[Cow]]) error {
		line := Notice{Animal: c.Key, Came: c.Now.In, At: c.Time, By: c.Actor}
		return Notices.Put(tx, fmt.Sprintf("%s-%d", c.Key, c.Version), line)
	},
}

// Whereabouts says where an animal is.
type Whereabouts struct {
	Place string    `json:"place"`
	Since time.Time `json:"since"`
}

// WhereAnimalsAre has one document per animal on the farm.
var WhereAnimalsAre = deed.Projection[Whereabouts]{
	Name:    "whereabouts",
	Doc:     "In which field or barn each animal on the farm is.",
	Indexes: []string{"place", "since"},
	On: []deed.Handler[Whereabouts]{
		deed.On(func(w *Whereabouts, e deed.Recorded[Bought]) { *w = Whereabouts{e.Event.Place, e.Time} }),
		deed.On(func(w *Whereabouts, e deed.Recorded[Relocated]) { *w = Whereabouts{e.Event.To, e.Time} }),
		deed.Drop[Whereabouts](Sold{}),
		deed.Drop[Whereabouts](Transferred{}),
	},
}

// ServiceEntry is a line of a tractor's service history.
type ServiceEntry struct {
	Tractor string `json:"tractor"`
	Date    string `json:"date"`
	Text    string `json:"text"`
}

// Services has one document per service, so that a history may grow as long as
// it likes.
var Services = deed.Projection[ServiceEntry]{
	Name:    "services",
	Doc:     "What was done to which tractor, and when.",
	Indexes: []string{"tractor", "date"},
	On: []deed.Handler[ServiceEntry]{
		deed.OnBy(func(e deed.Recorded[Serviced]) string { return fmt.Sprintf("%s-%d", e.ID, e.Version) },
			func(s *ServiceEntry, e deed.Recorded[Serviced]) { *s = ServiceEntry{e.ID, e.Event.Date, e.Event.Text} }),
	},
}

// LoanEntry is a loan and what secures it.
type LoanEntry struct {
	Lender string      `json:"lender"`
	Amount money.Money `json:"amount"`
	Since  time.Time   `json:"since"`
	Repaid bool        `json:"repaid"`
	Assets             // none once it is repaid
}

// LoanBook has one LoanEntry per loan.
var LoanBook = deed.Projection[LoanEntry]{
	Name:    "loans",
	Doc:     "Each loan and what secures it.",
	Indexes: []string{"lender", "repaid", "amount.amount"},
	On: []deed.Handler[LoanEntry]{
		deed.On(func(l *LoanEntry, e deed.Recorded[Collateralised]) {
			*l = LoanEntry{Lender: e.Event.Lender, Amount: e.Event.Amount, Since: e.Time, Assets: e.Event.Assets}
		}),
		deed.On(func(l *LoanEntry, _ Repaid) { l.Repaid, l.Assets = true, Assets{} }),
	},
}

// Domain is all of it.
var Domain = deed.Domain{
	Name: "farm",
	Doc:  "Animals, fields, barns and machines of a farm.",
	Parts: []deed.Part{
		Cows, Fields, Barns, Tractors, Loans,
		InspectHerd, MoveHerd, CollateraliseLoan, RepayLoan,
		Animals, WhereAnimalsAre, Services, LoanBook,
		OnFarm, UnderRestriction, Kept, Notices, KeepRegister, GetHerd,
	},
	Scenarios: []deed.Scenario{herd, machinery},
}
