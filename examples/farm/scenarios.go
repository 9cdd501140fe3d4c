package farm

import (
	"context"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// herd is a farmer who buys three cows, has them looked at, moves them to
// another field and sells one.
var herd = deed.Scenario{Name: "herd", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	number := fmt.Sprintf("IE-%d", 100_000+r.IntN(900_000))
	home, hill := fmt.Sprintf("home-%08x", r.Uint32()), fmt.Sprintf("hill-%08x", r.Uint32())
	if err := v.Ask(ctx, "barn", home, "register", RegisterBarn{"Home barn", 40}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "field", hill, "register", RegisterField{"Hill field", 12_000}); err != nil {
		return err
	}
	var cows []string
	for i := range 3 {
		id := fmt.Sprintf("%s-%04d", number, 42+i)
		cows = append(cows, id)
		buy := Buy{From: "the mart", Price: eur(900_00 + r.Int64N(600_00)), Breed: "Angus", Place: "barn/" + home}
		if err := v.Ask(ctx, "cow", id, "buy", buy); err != nil {
			return err
		}
	}
	inspection := InspectTB{Cows: append(cows[:3:3], number+"-9999"), Date: "2026-02-03", Inspector: "the vet"}
	if err := v.Ask(ctx, "herd", number, "tb-inspection", inspection); err != nil { // refused: there is no 9999
		return err
	}
	inspection.Cows = cows
	if err := v.Ask(ctx, "herd", number, "tb-inspection", inspection); err != nil {
		return err
	}
	if err := v.Ask(ctx, "herd", number, "relocate", RelocateHerd{cows, "field/" + hill}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "cow", cows[1], "ai-visit", AIVisit{Date: "2026-02-04", Technician: "the breeding service", Sire: "AA-2113"}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "cow", cows[0], "sell", Sell{"a neighbour", eur(1500_00)}); err != nil {
		return err
	}
	return v.Ask(ctx, "cow", cows[0], "relocate", Relocate{To: "barn/" + home}) // refused: it is gone
}}

// machinery is a farmer who borrows money for a tractor.
var machinery = deed.Scenario{Name: "machinery", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	chassis, loan := fmt.Sprintf("CH%08X", r.Uint32()), fmt.Sprintf("loan-%08x", r.Uint32())
	if err := v.Ask(ctx, "tractor", chassis, "buy", BuyTractor{"Green", "T-40", "the dealer", eur(45_000_00)}); err != nil {
		return err
	}
	c := Collateralise{Lender: "the bank", Amount: eur(40_000_00), Assets: Assets{Tractors: []string{chassis}}}
	if err := v.Ask(ctx, "loan", loan, "collateralise", c); err != nil {
		return err
	}
	if err := v.Ask(ctx, "loan", loan+"-2", "collateralise", c); err != nil { // refused: it secures a loan
		return err
	}
	if err := v.Ask(ctx, "tractor", chassis, "service", Service{"2026-02-05", "oil and filters"}); err != nil {
		return err
	}
	if r.IntN(3) > 0 {
		return nil
	}
	return v.Ask(ctx, "loan", loan, "repay", Repay{})
}}

func eur(cents int64) money.Money { return money.Money{Amount: cents, Currency: "EUR"} }
