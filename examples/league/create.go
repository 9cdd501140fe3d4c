package league

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// CreateLeague forms a league, then says how to reach it. It is for league
// admins, three times a day at most. A warning blocks it, as a fatal finding
// does: the difference is for whoever reads the findings.
//
// What is formed stays formed: if the command is called off after that, the
// contact details can be given later.
var CreateLeague = deed.Stepwise[Create]{
	Name: "league.create",
	Doc:  "Forms a league under a name that no league has.",
	Rules: deed.Rules{
		Roles: []string{"league-admin"},
		Quota: deed.Quota{Limit: 3, Per: 24 * time.Hour},
		Retry: deed.Retry{Attempts: 2, First: 10 * time.Second},
	},
	Check:  examine,
	Strict: true,
	Steps: []deed.Step[Create]{
		{Name: "form", Do: func(ctx context.Context, w *deed.Work, c Create) error {
			return w.Ask(ctx, deed.Send(Leagues, c.Name, form{c.DateIncorporated, c.Location, c.Notes}))
		}},
		{Name: "contact", Do: func(ctx context.Context, w *deed.Work, c Create) error {
			if c.Contact == (Contact{}) {
				return nil
			}
			day, err := c.day()
			if err != nil {
				return deed.Permanent(err) // it was checked
			}
			return w.Ask(ctx, deed.Send(Leagues, c.Name, setContact{EffectiveFrom: day, Contact: c.Contact}))
		}},
	},
}

// examine looks at the name, at whether it is free, and at the date.
func examine(ctx context.Context, r deed.Reader, _ string, c Create) (found []deed.Finding, err error) {
	switch why := badName(c.Name); {
	case why != "":
		found = append(found, deed.Finding{Field: "name", Text: why, Fatal: true})
	default:
		_, _, err := Leagues.Load(ctx, r, c.Name)
		if err == nil {
			found = append(found, deed.Finding{Field: "name", Text: "there is a league " + c.Name + " already", Fatal: true})
		} else if !errors.Is(err, deed.ErrNotFound) {
			return nil, err
		}
	}
	switch day, err := c.day(); {
	case err != nil:
		found = append(found, deed.Finding{Field: "date_incorporated", Text: "the date of incorporation " + err.Error()})
	case day.After(time.Now()):
		found = append(found, deed.Finding{Field: "date_incorporated", Text: "the date of incorporation is in the future"})
	}
	return found, nil
}

// badName says why a name cannot be the id of a league.
func badName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "the name of the league is blank"
	case name != strings.TrimSpace(name) || len(name) > deed.MaxID || strings.ContainsAny(name, "/\\") || name == "." || name == ".." ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }):
		return "the name of the league must not have slashes, control characters or blanks around it, nor be very long"
	}
	return ""
}
