package league

import (
	"context"
	"strings"

	"github.com/deed-dev/deed"
)

// Named are the parameters of a query about one league.
type Named struct {
	LeagueName string `json:"league_name"`
}

// Validate refuses a name that is blank.
func (n Named) Validate() error {
	if strings.TrimSpace(n.LeagueName) == "" {
		return deed.Invalid{Field: "league_name", Detail: "is blank"}
	}
	return nil
}

// NamedSummary is the summary of a league, with its name.
type NamedSummary struct {
	LeagueName string `json:"league_name"`
	Summary
}

// GetSummary tells what the public may know of a league.
var GetSummary = deed.Query[Named, NamedSummary]{
	Name: "league-summary",
	Doc:  "What the public sees of a league.",
	Answer: func(ctx context.Context, r deed.Reader, p Named) (NamedSummary, error) {
		s, err := Summaries.Get(ctx, r, p.LeagueName)
		return NamedSummary{p.LeagueName, s}, err
	},
}

// AllLeagues are the leagues there are, by name.
type AllLeagues struct {
	Leagues   []NamedSummary `json:"leagues"`
	OnTwitter int            `json:"on_twitter"`
}

// GetAll tells of all leagues what GetSummary tells of one.
var GetAll = deed.Query[struct{}, AllLeagues]{
	Name: "all-leagues",
	Doc:  "What the public sees of each league.",
	Parts: deed.FanOut(
		func(ctx context.Context, r deed.Reader, _ struct{}) (names []string, err error) {
			for row, err := range Summaries.All(ctx, r) {
				if err != nil {
					return nil, err
				}
				names = append(names, row.Key)
			}
			return names, nil
		},
		func(ctx context.Context, r deed.Reader, _ struct{}, name string) (NamedSummary, error) {
			return GetSummary.Answer(ctx, r, Named{name})
		},
		func(_ struct{}, parts []NamedSummary) (AllLeagues, error) {
			all := AllLeagues{Leagues: parts}
			for _, s := range parts {
				if s.TwitterHandle != "" {
					all.OnTwitter++
				}
			}
			return all, nil
		},
	),
}
