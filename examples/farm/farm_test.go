package farm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
)

func TestCow(t *testing.T) {
	type given = []deed.Event[Cow]
	tag := deed.Stamp{ID: "IE-123-0042"}
	bought := given{Bought{Herd: "IE-123", Tag: "0042", From: "mart", Price: eur(100), Place: "barn/b"}}
	buy := Buy{From: "mart", Price: eur(100), Place: "barn/b"}
	sold := append(bought[:1:1], Sold{"x", eur(1)})
	reactor := append(bought[:1:1], TBInspected{Inspection: "k", Date: "2026-02-03", Inspector: "vet", Reactor: true})
	clear := append(reactor[:2:2], TBInspected{Inspection: "l", Date: "2026-04-03", Inspector: "vet"})
	pledged := append(bought[:1:1], CowPledged{Pledge{"l1"}})
	visit := AIVisit{Date: "2026-02-03", Technician: "t", Sire: "s"}
	l1, l2 := Pledge{"l1"}, Pledge{"l2"}
	deedtest.Run(t, []deedtest.Case[Cow]{
		{Name: "buy", When: buy, By: tag, Then: bought},
		{Name: "buy without an ear tag", When: buy, By: deed.Stamp{ID: "daisy"}, Err: ErrEarTag},
		{Name: "buy twice", Given: bought, When: buy, By: tag, Err: ErrOnFarm},
		{Name: "buy back", Given: sold, When: buy, By: tag, Then: bought},
		{Name: "buy to nowhere", When: Buy{From: "mart", Price: eur(100), Place: "the pub"}, By: tag, Err: deedtest.ErrInvalid},
		{Name: "sell", Given: bought, When: Sell{"x", eur(1)}, Then: given{Sold{"x", eur(1)}}},
		{Name: "sell an unknown one", When: Sell{"x", eur(1)}, Err: deed.ErrNotFound},
		{Name: "sell twice", Given: sold, When: Sell{"x", eur(1)}, Err: ErrNotOnFarm},
		{Name: "sell a reactor", Given: reactor, When: Sell{"x", eur(1)}, Err: ErrReactor},
		{Name: "sell after a clear inspection", Given: clear, When: Sell{"x", eur(1)}, Then: given{Sold{"x", eur(1)}}},
		{Name: "sell what secures a loan", Given: pledged, When: Sell{"x", eur(1)}, Err: ErrPledged},
		{Name: "transfer", Given: bought, When: Transfer{"IE-9", "calving"}, Then: given{Transferred{"IE-9", "calving"}}},
		{Name: "transfer a reactor", Given: reactor, When: Transfer{"IE-9", ""}, Err: ErrReactor},
		{Name: "transfer after the sale", Given: sold, When: Transfer{"IE-9", ""}, Err: ErrNotOnFarm},
		{Name: "relocate", Given: bought, When: Relocate{To: "field/f"}, Then: given{Relocated{From: "barn/b", To: "field/f"}}},
		{Name: "relocate to where it is", Given: bought, When: Relocate{To: "barn/b"}},
		{Name: "relocate one that is gone", Given: sold, When: Relocate{To: "field/f"}, Err: ErrNotOnFarm},
		{Name: "relocate an unknown one", When: Relocate{To: "field/f"}, Err: deed.ErrNotFound},
		{Name: "relocate to no place", Given: bought, When: Relocate{To: "field/"}, Err: deedtest.ErrInvalid},
		{Name: "AI visit", Given: bought, When: visit, Then: given{AIVisited(visit)}},
		{Name: "AI visit of one that is gone", Given: sold, When: visit, Err: ErrNotOnFarm},
		{Name: "AI visit without a day", Given: bought, When: AIVisit{Technician: "t", Sire: "s"}, Err: deedtest.ErrInvalid},
		{Name: "inspect one that is gone", Given: sold, When: inspect{}, Err: ErrNotOnFarm},
		{Name: "pledge", Given: bought, When: pledge{l1}, Then: given{CowPledged{l1}}},
		{Name: "pledge twice", Given: pledged, When: pledge{l2}, Err: ErrPledged},
		{Name: "release", Given: pledged, When: release{l1}, Then: given{CowReleased{l1}}},
		{Name: "release from another loan", Given: pledged, When: release{l2}},
		{Name: "put back", Given: bought, When: putBack{"field/f", "barn/b"}, Then: given{Relocated{From: "barn/b", To: "field/f"}}},
		{Name: "put back what somebody has moved on", Given: bought, When: putBack{"field/f", "field/g"}},
		{Name: "put back what is gone", Given: sold, When: putBack{"field/f", "barn/b"}},
	})
}

func TestTractor(t *testing.T) {
	type given = []deed.Event[Tractor]
	buy := BuyTractor{"Green", "T-40", "dealer", eur(100)}
	bought := given{TractorBought(buy)}
	sold := append(bought[:1:1], TractorSold{"x", eur(1)})
	pledged := append(bought[:1:1], TractorPledged{Pledge{"l1"}})
	deedtest.Run(t, []deedtest.Case[Tractor]{
		{Name: "buy", When: buy, Then: bought},
		{Name: "buy twice", Given: bought, When: buy, Err: deed.ErrExists},
		{Name: "buy no model", When: BuyTractor{Make: "Green", From: "dealer", Price: eur(1)}, Err: deedtest.ErrInvalid},
		{Name: "service", Given: bought, When: Service{"2026-02-03", "oil"}, Then: given{Serviced{"2026-02-03", "oil"}}},
		{Name: "service an unknown one", When: Service{"2026-02-03", "oil"}, Err: deed.ErrNotFound},
		{Name: "service what is sold", Given: sold, When: Service{"2026-02-03", "oil"}, Err: ErrTractorSold},
		{Name: "service some day", Given: bought, When: Service{"soon", "oil"}, Err: deedtest.ErrInvalid},
		{Name: "sell", Given: bought, When: SellTractor{"x", eur(1)}, Then: given{TractorSold{"x", eur(1)}}},
		{Name: "sell what secures a loan", Given: pledged, When: SellTractor{"x", eur(1)}, Err: ErrPledged},
		{Name: "pledge what is sold", Given: sold, When: pledgeTractor{Pledge{"l1"}}, Err: ErrTractorSold},
	})
	if at := (Serviced{Date: "2026-02-03"}).Effective(); at != time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC) {
		t.Error(at)
	}
}

func TestFieldAndBarn(t *testing.T) {
	type fields = []deed.Event[Field]
	deedtest.Run(t, []deedtest.Case[Field]{
		{Name: "register", When: RegisterField{"Home", 5}, Then: fields{FieldRegistered{"Home", 5}}},
		{Name: "register twice", Given: fields{FieldRegistered{"Home", 5}}, When: RegisterField{"Home", 5}, Err: deed.ErrExists},
		{Name: "register nothing", When: RegisterField{"Home", 0}, Err: deedtest.ErrInvalid},
		{Name: "pledge an unknown one", When: pledgeField{Pledge{"l"}}, Err: deed.ErrNotFound},
	})
	type barns = []deed.Event[Barn]
	deedtest.Run(t, []deedtest.Case[Barn]{
		{Name: "register", When: RegisterBarn{"B", 5}, Then: barns{BarnRegistered{"B", 5}}},
		{Name: "register twice", Given: barns{BarnRegistered{"B", 5}}, When: RegisterBarn{"B", 5}, Err: deed.ErrExists},
		{Name: "register without a name", When: RegisterBarn{"", 5}, Err: deedtest.ErrInvalid},
	})
}

// What is malformed is refused before anything is stored.
func TestMalformedGroups(t *testing.T) {
	many := make([]string, 501)
	for i := range many {
		many[i] = fmt.Sprintf("IE-1-%04d", i)
	}
	ok := InspectTB{Cows: many[:500], Date: "2026-02-03", Inspector: "vet"}
	loan := Collateralise{Lender: "bank", Amount: eur(1), Assets: Assets{Cows: many[:499]}}
	for name, c := range map[string]struct {
		cmd interface{ Validate() error }
		why string
	}{
		"five hundred":          {ok, ""},
		"too many":              {InspectTB{Cows: many, Date: "2026-02-03", Inspector: "vet"}, "cows must name from 1 to 500"},
		"twice":                 {InspectTB{Cows: []string{"a", "a"}, Date: "2026-02-03", Inspector: "vet"}, "cows.1 is named twice"},
		"no ids":                {InspectTB{Cows: []string{"a", "b/c"}, Date: "2026-02-03", Inspector: "vet"}, "cows.1 is no id"},
		"a reactor from afar":   {InspectTB{Cows: []string{"a"}, Reactors: []string{"b"}, Date: "2026-02-03", Inspector: "vet"}, "reactors.0 is not one"},
		"a loan":                {loan, ""},
		"a loan on nothing":     {Collateralise{Lender: "bank", Amount: eur(1)}, "something that secures it"},
		"a loan on too much":    {Collateralise{Lender: "bank", Amount: eur(1), Assets: Assets{Cows: many}}, "at most 499"},
		"a move of nothing":     {RelocateHerd{To: "field/f"}, "cows is missing"},
		"a move to no place":    {RelocateHerd{[]string{"a"}, "moon"}, "to must be a field"},
		"a move of a multitude": {RelocateHerd{many, "field/f"}, ""},
	} {
		err := c.cmd.Validate()
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, Domain)
	deedtest.CheckSchemas(t, Domain)
}

// A herd of thousand moves, and one of them is gone: everybody goes back.
func TestMoveHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rt := t.Context(), deedtest.Start(t, Domain)
		must := func(_ deed.Receipt, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(Fields.Execute(ctx, rt, "f", RegisterField{"Hill", 1}))
		ids := make([]string, 1200)
		for i := range ids {
			ids[i] = fmt.Sprintf("IE-1-%04d", i)
			must(Cows.Execute(ctx, rt, ids[i], Buy{From: "mart", Price: eur(1), Place: "barn/b"}))
		}
		move := func(c RelocateHerd) deed.CommandStatus {
			t.Helper()
			r, err := MoveHerd.Submit(ctx, rt, "h", c)
			if err != nil {
				t.Fatal(err)
			}
			s, err := rt.Commands().Wait(ctx, r.Command)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		places := func() string {
			seen := map[string]int{}
			for _, id := range ids {
				c, _, err := Cows.Load(ctx, rt, id)
				if err != nil {
					t.Fatal(err)
				}
				seen[c.Place]++
			}
			return fmt.Sprint(seen)
		}
		if s := move(RelocateHerd{ids, "barn/none"}); s.State != deed.CommandInvalid || !slices.Equal(s.Findings, []deed.Finding{{Field: "to", Text: "there is no barn none", Fatal: true}}) {
			t.Errorf("to a place that is not there: %s, %v", s.State, s.Findings)
		}
		must(Cows.Execute(ctx, rt, ids[700], Sell{"x", eur(1)}))
		if s := move(RelocateHerd{ids, "field/f"}); s.State != deed.CommandRejected || s.Code != "not_on_farm" || !s.Undone || !strings.Contains(s.Reason, ids[700]) {
			t.Errorf("with one that is gone: %s, %s, %s, undone: %v", s.State, s.Code, s.Reason, s.Undone)
		}
		if got, want := places(), "map[:1 barn/b:1199]"; got != want {
			t.Errorf("the animals are in %s, want %s", got, want)
		}
		ids = slices.Delete(ids, 700, 701)
		if s := move(RelocateHerd{ids, "field/f"}); s.State != deed.CommandCompleted || s.EntityCount < len(ids) {
			t.Errorf("with the others: %s, %s, %d entities", s.State, s.Reason, s.EntityCount)
		}
		if got, want := places(), "map[field/f:1199]"; got != want {
			t.Errorf("the animals are in %s, want %s", got, want)
		}
	})
}

// Two loans want the same tractor at once: one gets it, and all else of the
// other's is free.
func TestOneAssetOneLoan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rt := t.Context(), deedtest.Start(t, Domain)
		if _, err := Tractors.Execute(ctx, rt, "CH1", BuyTractor{"Green", "T", "dealer", eur(1)}); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, err := Fields.Execute(ctx, rt, fmt.Sprint("f", i), RegisterField{"F", 1}); err != nil {
				t.Fatal(err)
			}
		}
		var ids []string
		for i := range 2 {
			r, err := CollateraliseLoan.Submit(ctx, rt, fmt.Sprint("l", i), Collateralise{"bank", eur(1), Assets{Tractors: []string{"CH1"}, Fields: []string{fmt.Sprint("f", i)}}})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.Command)
		}
		won := map[deed.CommandState]int{}
		for i, id := range ids {
			s, err := rt.Commands().Wait(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			won[s.State]++
			f, _, _ := Fields.Load(ctx, rt, fmt.Sprint("f", i))
			_, _, err = Loans.Load(ctx, rt, fmt.Sprint("l", i))
			if got, want := f.Loan != "", s.State == deed.CommandCompleted; got != want || errors.Is(err, deed.ErrNotFound) == want {
				t.Errorf("loan %d is %s, its field secures %q, and it is there: %v", i, s.State, f.Loan, err)
			}
		}
		if won[deed.CommandCompleted] != 1 || won[deed.CommandRejected] != 1 {
			t.Error(won)
		}
	})
}
