package simulate_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/bank"
	"github.com/deed-dev/deed/examples/credits"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/simulate"
	"github.com/deed-dev/deed/store/mem"
)

var domains = []deed.Domain{orders.Domain, credits.Domain, bank.Domain, farm.Domain, league.Domain}

// play lets visitors play until enough is done, and returns what they counted.
func play(t *testing.T, enough func(simulate.Counts) bool, scenarios ...deed.Scenario) simulate.Counts {
	t.Helper()
	sim := &simulate.Simulator{
		Client:    client.New(deedtest.Serve(t, mem.New(), domains...)),
		Scenarios: scenarios, Rate: 200, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); sim.Run(ctx) }()
	for ctx.Err() == nil && !enough(sim.Counts()) {
		time.Sleep(20 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Errorf("that took too long: %+v", sim.Counts())
	}
	cancel()
	<-done
	return sim.Counts()
}

// The scenarios of the examples play without trouble, and some of what they ask
// is refused.
func TestScenarios(t *testing.T) {
	for _, dom := range domains {
		for _, sc := range dom.Scenarios {
			t.Run(sc.Name, func(t *testing.T) {
				c := play(t, func(c simulate.Counts) bool { return c.Asked >= 100 }, sc)
				if c.Failed > 0 {
					t.Errorf("%d visits failed", c.Failed)
				}
				if c.Refused == 0 && sc.Name != "run" {
					t.Error("nothing was refused")
				}
			})
		}
	}
}

// What a stored command did is in the views when Ask has returned, and what it
// found wrong is no trouble.
func TestStoredCommandsAreWaitedFor(t *testing.T) {
	var played, seen, refused atomic.Int64
	pledge := deed.Scenario{Name: "pledge", Play: func(ctx context.Context, v deed.Visitor) error {
		id := fmt.Sprintf("f-%016x", v.Rand().Uint64())
		if err := v.Ask(ctx, "field", id, "register", farm.RegisterField{Name: "F", Area: 1}); err != nil {
			return err
		}
		c := map[string]any{"lender": "bank", "amount": map[string]any{"amount": 5, "currency": "EUR"}, "fields": []string{id}}
		if err := v.Ask(ctx, "loan", id, "collateralise", c); err != nil {
			return err
		}
		var l farm.LoanEntry
		if err := v.Look(ctx, "loans", id, &l); err != nil {
			return err
		}
		if l.Lender == "bank" {
			seen.Add(1)
		}
		c["fields"] = []string{"nowhere"}
		if err := v.Ask(ctx, "loan", id+"-2", "collateralise", c); err != nil {
			return err
		}
		refused.Add(1)
		played.Add(1)
		return nil
	}}
	c := play(t, func(simulate.Counts) bool { return played.Load() >= 20 }, pledge)
	if c.Failed > 0 || seen.Load() < 20 || refused.Load() < 20 || c.Refused < 20 {
		t.Errorf("%+v, %d loans seen, %d unknown fields refused", c, seen.Load(), refused.Load())
	}
}
