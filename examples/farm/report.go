package farm

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// OfHerd are the parameters of a report on a herd.
type OfHerd struct {
	Herd string `json:"herd"`
}

var herdNumber = regexp.MustCompile(`^[A-Z]{2}-[0-9]{1,7}$`)

// Validate wants the number of a herd.
func (p OfHerd) Validate() error {
	if !herdNumber.MatchString(p.Herd) {
		return deed.Invalid{Field: "herd", Detail: "must be the number of a herd, for example IE-123"}
	}
	return nil
}

// A HerdReport says where the animals of a herd are, as far as they are on the
// farm.
type HerdReport struct {
	Herd    string       `json:"herd"`
	Animals []HerdMember `json:"animals"` // by their tags
	Places  []HerdPlace  `json:"places"`  // in the order of the first animal that is there
	Kept    int          `json:"kept"`    // so many may not leave the farm
}

// A HerdMember is an animal of a herd.
type HerdMember struct {
	Animal string    `json:"animal"`
	Place  string    `json:"place"`
	Since  time.Time `json:"since"`             // since when it is there
	Kept   string    `json:"kept_by,omitempty"` // why it may not leave the farm
}

// A HerdPlace is a field or barn, and how many animals of the herd are there.
type HerdPlace struct {
	Place   string `json:"place"`
	Animals int    `json:"animals"`
}

// GetHerd looks at each animal of a herd by itself, and puts together what it
// finds.
var GetHerd = deed.Query[OfHerd, HerdReport]{
	Name: "herd-report",
	Doc:  "Which animals of a herd are on the farm, and where they are.",
	Parts: deed.FanOut(
		func(ctx context.Context, r deed.Reader, p OfHerd) (animals []string, err error) {
			for row, err := range OnFarm.Members(ctx, r) {
				if err != nil {
					return nil, err
				}
				if strings.HasPrefix(row.Key, p.Herd+"-") {
					animals = append(animals, row.Key)
				}
			}
			return animals, nil
		},
		func(ctx context.Context, r deed.Reader, _ OfHerd, id string) (m HerdMember, err error) {
			where, err := WhereAnimalsAre.Get(ctx, r, id)
			if err != nil {
				return m, err
			}
			cow, _, err := Cows.Load(ctx, r, id)
			if err != nil {
				return m, err
			}
			m = HerdMember{Animal: id, Place: where.Place, Since: where.Since}
			if why := cow.mayLeave(); why != nil {
				m.Kept = why.Error()
			}
			return m, nil
		},
		func(p OfHerd, all []HerdMember) (HerdReport, error) {
			report := HerdReport{Herd: p.Herd, Animals: all, Places: []HerdPlace{}}
			at := map[string]int{}
			for _, m := range all {
				i, seen := at[m.Place]
				if !seen {
					i = len(report.Places)
					at[m.Place], report.Places = i, append(report.Places, HerdPlace{Place: m.Place})
				}
				report.Places[i].Animals++
				if m.Kept != "" {
					report.Kept++
				}
			}
			return report, nil
		},
	),
}
