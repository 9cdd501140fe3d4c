package league

import (
	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Summary is what the public sees of a league: no e-mail address.
type Summary struct {
	Location         string `json:"location"`
	TwitterHandle    string `json:"twitter_handle,omitempty"`
	DateIncorporated string `json:"date_incorporated"`
}

// Summaries has one Summary per league.
var Summaries = deed.Projection[Summary]{
	Name:    "league-summaries",
	Doc:     "What the public sees of each league.",
	Indexes: []string{"location", "date_incorporated"},
	On: []deed.Handler[Summary]{
		deed.On(func(s *Summary, e Formed) { s.Location, s.DateIncorporated = e.Location, e.DateIncorporated }),
		deed.On(func(s *Summary, e ContactDetailsChanged) { s.TwitterHandle = e.TwitterHandle }),
	},
}

// Progress says how many runners of a race are where.
type Progress struct {
	Completed int  `json:"runners_completed"`
	Running   int  `json:"runners_running"`
	Cancelled bool `json:"cancelled,omitempty"`
}

// RunnersInRace has one Progress per race that has started.
var RunnersInRace = deed.Projection[Progress]{
	Name:    "runners-in-race",
	Doc:     "How many runners of each race are still running, and how many have finished.",
	Indexes: []string{"runners_running"},
	On: []deed.Handler[Progress]{
		deed.On(func(p *Progress, e Started) { p.Running = e.StartingRunners }),
		deed.On(func(p *Progress, _ RunnerFinished) { p.Completed++; p.Running-- }),
		deed.On(func(p *Progress, _ Cancelled) { p.Running, p.Cancelled = 0, true }),
	},
}

// Account is what a runner has paid and owes.
type Account struct {
	Balance    money.Money `json:"balance"` // below zero: the runner owes it
	PaidToDate money.Money `json:"paid_to_date"`
	FeesToDate money.Money `json:"fees_to_date"`
}

// Accounts has one Account per runner.
var Accounts = deed.Projection[Account]{
	Name:    "runner-accounts",
	Doc:     "What each runner has paid and owes.",
	Indexes: []string{"balance.amount"},
	On: []deed.Handler[Account]{
		deed.On(func(a *Account, e RegisteredForRace) {
			a.FeesToDate, a.Balance = a.FeesToDate.Plus(e.Fee), a.Balance.Minus(e.Fee)
		}),
		deed.On(func(a *Account, e RegistrationPaid) {
			a.PaidToDate, a.Balance = a.PaidToDate.Plus(e.Amount), a.Balance.Plus(e.Amount)
		}),
		deed.On(func(a *Account, e Reimbursed) { a.Balance = a.Balance.Minus(e.Amount) }),
	},
}

// Domain is all of it.
var Domain = deed.Domain{
	Name:      "league",
	Doc:       "Running leagues, races and runners.",
	Parts:     []deed.Part{Leagues, Races, Runners, CreateLeague, Summaries, RunnersInRace, Accounts, GetSummary, GetAll},
	Scenarios: []deed.Scenario{found, run},
}
