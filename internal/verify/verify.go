// Package verify is the suite that people run against their own database: the
// whole contract of stores, races between processes, random histories over
// connections that stall and break, and what only one kind of store has to show.
package verify

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest"
)

// A Place is where an installation of a store can be made for the suite: a
// folder, a database, a cluster.
type Place interface {
	// Fresh makes an empty installation that nobody else uses.
	Fresh(ctx context.Context) (Installation, error)
}

// An Installation is an empty store of the suite's own.
type Installation interface {
	// Open opens the store. If the installation is Shared, it may be opened
	// several times at once, each standing for a process of its own. The
	// connections go over net, if that is not nil and there are any.
	Open(ctx context.Context, net *Net) (store.Store, error)
	// Shared says whether several processes may use it.
	Shared() bool
	// Drop removes all there is of it.
	Drop(ctx context.Context) error
}

// A Check is something that must hold.
type Check struct {
	Name string
	Why  string // it matters
	Run  func(ctx context.Context, p Place) error
	Note func() string // what Run has seen, for people; nil = nothing
}

// Options shape a run of the suite.
type Options struct {
	Races     int            // rounds of each race; default 200
	Histories int            // random histories; default 20
	Seed      uint64         // of the first history; 0 = a new one
	Only      *regexp.Regexp // names of checks; nil = all
	Extra     []Check        // what only this kind of store has to show
	Progress  io.Writer      // nil = nobody looks
	Terminal  bool           // Progress is one: a line can be written again
}

// A Result is what came of a check.
type Result struct {
	Name    string  `json:"name"`
	Why     string  `json:"why"`
	Passed  bool    `json:"passed"`
	Error   string  `json:"error,omitempty"`
	NotHere string  `json:"does_not_apply,omitempty"` // why it means nothing here
	Note    string  `json:"note,omitempty"`           // what was seen
	Seconds float64 `json:"seconds"`
}

// A Report is what came of the suite.
type Report struct {
	Store   string    `json:"store"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Passed  int       `json:"passed"`
	Failed  int       `json:"failed"`
	NotHere int       `json:"do_not_apply"`
	Warning string    `json:"warning,omitempty"` // what the store itself says it may lose
	Results []Result  `json:"results"`
}

// Run runs the suite. Its error says that it could not be run, not that
// something failed.
func Run(ctx context.Context, name string, p Place, o Options) (Report, error) {
	if o.Races <= 0 {
		o.Races = 200
	}
	if o.Histories <= 0 {
		o.Histories = 20
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	start := time.Now()
	r := Report{Store: name, Started: start.UTC()}
	var err error
	if r.Warning, err = warning(ctx, p); err != nil {
		return r, err
	}
	checks := append(contract(), races(o)...)
	checks = append(checks, histories(o)...)
	checks = append(checks, o.Extra...)
	if o.Only != nil {
		checks = slices.DeleteFunc(checks, func(c Check) bool { return !o.Only.MatchString(c.Name) })
	}
	clear, end := "", "\n"
	if o.Terminal {
		clear, end = "\r\x1b[K", ""
	}
	for i, c := range checks {
		if o.Terminal || i%10 == 0 {
			fmt.Fprintf(o.Progress, "%s%3d of %d  %s%s", clear, i+1, len(checks), c.Name, end)
		}
		began := time.Now()
		err := guarded(ctx, c, p)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		res := Result{Name: c.Name, Why: c.Why, Passed: err == nil, Seconds: time.Since(began).Seconds()}
		if c.Note != nil {
			res.Note = c.Note()
		}
		reason, notHere := whyNot(err)
		switch {
		case err == nil:
			r.Passed++
		case notHere:
			r.NotHere++
			res.NotHere = reason
		default:
			r.Failed++
			res.Error = err.Error()
			fmt.Fprintf(o.Progress, "%sFAILED    %s\n          %v\n          why it matters: %s\n", clear, c.Name, err, c.Why)
		}
		r.Results = append(r.Results, res)
	}
	fmt.Fprint(o.Progress, clear)
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// guarded makes a failure of a panic: a store that panics has not passed.
func guarded(ctx context.Context, c Check, p Place) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return c.Run(ctx, p)
}

// warning is what a fresh store says of itself. That one can be made at all is
// the first thing to find out.
func warning(ctx context.Context, p Place) (reason string, err error) {
	err = with(ctx, p, func(in Installation) error {
		s, err := in.Open(ctx, nil)
		if err != nil {
			return err
		}
		reason = store.VolatileReason(s)
		return s.Close()
	})
	return reason, err
}

// with calls f with a fresh installation.
func with(ctx context.Context, p Place, f func(Installation) error) (err error) {
	in, err := p.Fresh(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := in.Drop(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	return f(in)
}

// clauseTime bounds a clause of the contract.
const clauseTime = 2 * time.Minute

// contract is every clause of storetest.
func contract() (out []Check) {
	for _, c := range storetest.Clauses() {
		out = append(out, Check{Name: "contract/" + c.Name, Why: c.Why, Run: func(ctx context.Context, p Place) error {
			ctx, cancel := context.WithTimeout(ctx, clauseTime)
			defer cancel()
			return with(ctx, p, func(in Installation) error {
				s, err := in.Open(ctx, nil)
				if err != nil {
					return err
				}
				err = c.Check(ctx, s)
				s.Close() // again, if the clause has closed it
				return err
			})
		}})
	}
	for _, c := range storetest.DurableClauses() {
		out = append(out, Check{Name: "contract/durable/" + c.Name, Why: c.Why, Run: func(ctx context.Context, p Place) error {
			ctx, cancel := context.WithTimeout(ctx, clauseTime)
			defer cancel()
			return with(ctx, p, func(in Installation) error {
				return c.Check(ctx, func() (store.Store, error) { return in.Open(ctx, nil) })
			})
		}})
	}
	return out
}

// Print writes a report for people.
func (r Report) Print(out io.Writer) {
	for _, res := range r.Results {
		switch {
		case res.NotHere != "":
			fmt.Fprintf(out, "DOES NOT APPLY  %s: %s\n", res.Name, res.NotHere)
		case res.Note != "":
			fmt.Fprintf(out, "passed  %s: %s\n", res.Name, res.Note)
		case !res.Passed:
			fmt.Fprintf(out, "FAILED  %s\n        %s\n        why it matters: %s\n", res.Name, res.Error, res.Why)
		}
	}
	notHere := ""
	if r.NotHere > 0 {
		notHere = fmt.Sprintf(", %d do not apply", r.NotHere)
	}
	fmt.Fprintf(out, "%s: %d checks passed, %d failed%s, in %.0f s\n", r.Store, r.Passed, r.Failed, notHere, r.Seconds)
	if r.Warning != "" {
		fmt.Fprintf(out, "NOT DURABLE: %s\n", r.Warning)
	}
}
