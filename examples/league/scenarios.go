package league

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// found is somebody who creates a league, tries to create it again, and moves
// to another e-mail address.
var found = deed.Scenario{Name: "found a league", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	name := fmt.Sprintf("Meet and Train %08x", r.Uint32())
	create := Create{
		Name: name, Location: "Dublin", DateIncorporated: fmt.Sprintf("20%02d-04-01", r.IntN(20)),
		Contact: Contact{TwitterHandle: "@meet_and_train", EmailAddress: "old@example.org"},
	}
	if err := v.Ask(ctx, "league", name, "create", create); err != nil {
		return err
	}
	if err := v.Ask(ctx, "league", name, "create", create); err != nil { // refused: there is one
		return err
	}
	return v.Ask(ctx, "league", name, "set-email", SetEmail{EmailAddress: "new@example.org"})
}}

// run is three people who run a race, of whom two get to the end.
var run = deed.Scenario{Name: "run", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	race := fmt.Sprintf("five-miles-%08x", r.Uint32())
	fee := money.Money{Amount: 15_00, Currency: "EUR"}
	start := time.Now().UTC().Truncate(time.Second)
	var names []string
	for i := range 3 {
		name := fmt.Sprintf("runner-%04d", r.IntN(5000))
		names = append(names, name)
		if err := v.Ask(ctx, "race", race, "register-runner", RegisterRunner{name, i + 1}); err != nil {
			return err
		}
		if err := v.Ask(ctx, "runner", name, "register-for-race", RegisterForRace{Race: race, RaceNumber: i + 1, Fee: fee}); err != nil {
			return err
		}
		if err := v.Ask(ctx, "runner", name, "pay-registration", PayRegistration{race, fee}); err != nil {
			return err
		}
	}
	if err := v.Ask(ctx, "race", race, "start", Start{StartTime: start}); err != nil {
		return err
	}
	for i, name := range names[:2] {
		took := time.Duration(30+r.IntN(20)) * time.Minute
		if err := v.Ask(ctx, "race", race, "finish-runner", FinishRunner{i + 1, start.Add(took)}); err != nil {
			return err
		}
		finish := FinishRace{race, 8047, took.Milliseconds(), start.Format(time.DateOnly)}
		if err := v.Ask(ctx, "runner", name, "finish-race", finish); err != nil {
			return err
		}
	}
	return v.Ask(ctx, "runner", names[2], "reimburse", Reimburse{fee, "fell at the first corner"})
}}
