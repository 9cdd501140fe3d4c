// Package farm is an example domain: the animals, fields, barns and machines
// of a farm. It shows commands that concern many entities at once: a TB
// inspection of a group of cattle, and a loan that tractors, fields and cattle
// secure together, both in one atomic decision; and a move of a whole herd,
// which may have any size and can be called off.
package farm

import (
	"fmt"
	"regexp"
	"time"

	"github.com/deed-dev/deed"
)

// Bounds that keep every sum far from overflow.
const maxPrice = 100_000_000_000

// Collateral is the part of an asset's state that says what it secures.
type Collateral struct {
	Loan string `json:"loan,omitempty"` // id of the loan; "" = none
}

// Pledge is the part of an event or command that says for which loan an asset
// is pledged or released.
type Pledge struct {
	Loan string `json:"loan"`
}

// ErrPledged is why an asset that secures a loan can neither leave the farm
// nor secure another loan.
var ErrPledged = deed.Reason{Code: "secures_a_loan", Text: "the asset secures a loan"}

func (c Collateral) mustBeFree() error {
	if c.Loan != "" {
		return fmt.Errorf("%w, which is %s", ErrPledged, c.Loan)
	}
	return nil
}

var place = regexp.MustCompile(`^(field|barn)/[^/\\]+$`)

func checkPlace(field, s string) error {
	if !place.MatchString(s) {
		return deed.Invalid{Field: field, Detail: "must be a field or a barn, for example field/home"}
	}
	return nil
}

func checkDay(field, s string, mayLack bool) error {
	if _, err := time.Parse(time.DateOnly, s); err != nil && !(s == "" && mayLack) {
		return deed.Invalid{Field: field, Detail: "must be a day like 2026-02-03"}
	}
	return nil
}
