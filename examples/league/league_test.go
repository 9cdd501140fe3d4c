package league

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/money"
	"github.com/deed-dev/deed/internal/faulty"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	noon   = time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)
	five   = money.Money{Amount: 500, Currency: "EUR"}
	ten    = money.Money{Amount: 1000, Currency: "EUR"}
	handle = Contact{TwitterHandle: "@b", EmailAddress: "old@x.org"}
)

func TestLeague(t *testing.T) {
	type given = []deed.Event[League]
	formed := given{Formed{"2016-04-01", "Dublin", "n"}}
	reached := append(formed[:1:1], ContactDetailsChanged{noon, handle, ""})
	at := deed.Stamp{Time: noon}
	deedtest.Run(t, []deedtest.Case[League]{
		{Name: "form", When: form{"2016-04-01", "Dublin", "n"}, Then: formed},
		{Name: "form twice", Given: formed, When: form{"2016-04-01", "Dublin", "n"}, Err: deed.ErrExists},
		{Name: "contact", Given: formed, When: setContact{noon, handle, ""}, Then: reached[1:]},
		{Name: "e-mail keeps the twitter handle", Given: reached, When: SetEmail{EmailAddress: "new@x.org", Notes: "n"}, By: at,
			Then: given{ContactDetailsChanged{noon, Contact{"@b", "new@x.org"}, "n"}}},
		{Name: "the same e-mail", Given: reached, When: SetEmail{EmailAddress: "old@x.org"}, By: at},
		{Name: "e-mail of no league", When: SetEmail{EmailAddress: "new@x.org"}, By: at, Err: deed.ErrNotFound},
		{Name: "no e-mail", Given: formed, When: SetEmail{}, Err: deedtest.ErrInvalid},
		{Name: "a handle keeps the e-mail", Given: reached, When: SetHandle{TwitterHandle: "@c", Since: "2026-01-31"}, By: at,
			Then: given{ContactDetailsChanged{noon.AddDate(0, 0, -3).Add(-12 * time.Hour), Contact{"@c", "old@x.org"}, ""}}},
		{Name: "no handle from now on", Given: reached, When: SetHandle{}, By: at, Then: given{ContactDetailsChanged{noon, Contact{"", "old@x.org"}, ""}}},
		{Name: "the same handle", Given: reached, When: SetHandle{TwitterHandle: "@b"}, By: at},
		{Name: "a handle of tomorrow", Given: reached, When: SetHandle{TwitterHandle: "@c", Since: "2026-02-04"}, By: at, Err: ErrToCome},
		{Name: "what is no handle", Given: reached, When: SetHandle{TwitterHandle: "c"}, Err: deedtest.ErrInvalid},
		{Name: "what is no day", Given: reached, When: SetHandle{TwitterHandle: "@c", Since: "today"}, Err: deedtest.ErrInvalid},
		{Name: "half an e-mail", Given: formed, When: SetEmail{EmailAddress: "new"}, Err: deedtest.ErrInvalid},
	})
	if at := formed[0].(Formed).Effective(); at != time.Date(2016, 4, 1, 0, 0, 0, 0, time.UTC) {
		t.Error(at)
	}
}

func TestRace(t *testing.T) {
	type given = []deed.Event[Race]
	two := given{RunnerRegistered{1, "ann"}, RunnerRegistered{2, "bob"}}
	started := append(two[:2:2], Started{noon, "", 2, []int{1, 2}})
	cancelled := append(two[:2:2], Cancelled{"ice"})
	finish := FinishRunner{1, noon}
	deedtest.Run(t, []deedtest.Case[Race]{
		{Name: "register", When: RegisterRunner{LoginName: "ann"}, Then: two[:1]},
		{Name: "the next number", Given: two[:1], When: RegisterRunner{LoginName: "bob"}, Then: two[1:]},
		{Name: "a number that is taken", Given: two, When: RegisterRunner{"cat", 2}, Err: ErrNumberTaken},
		{Name: "register twice", Given: two, When: RegisterRunner{"bob", 7}, Err: ErrEntered},
		{Name: "register too late", Given: started, When: RegisterRunner{LoginName: "cat"}, Err: ErrStarted},
		{Name: "register for nothing", Given: cancelled, When: RegisterRunner{LoginName: "cat"}, Err: ErrCancelled},
		{Name: "register nobody", When: RegisterRunner{}, Err: deedtest.ErrInvalid},
		{Name: "start", Given: two, When: Start{StartTime: noon}, Then: started[2:]},
		{Name: "start some", Given: two, When: Start{noon, []int{2, 2}, ""}, Then: given{Started{noon, "", 1, []int{2}}}},
		{Name: "start a stranger", Given: two, When: Start{noon, []int{3}, ""}, Err: ErrUnknownNumber},
		{Name: "start nobody", When: Start{StartTime: noon}, Err: ErrNoEntrants},
		{Name: "start twice", Given: started, When: Start{StartTime: noon}, Err: ErrStarted},
		{Name: "finish", Given: started, When: finish, Then: given{RunnerFinished(finish)}},
		{Name: "finish twice", Given: append(started[:3:3], RunnerFinished(finish)), When: finish, Err: ErrNotRunning},
		{Name: "finish before the start", Given: two, When: finish, Err: ErrNotStarted},
		{Name: "finish a stranger", Given: started, When: FinishRunner{9, noon}, Err: ErrUnknownNumber},
		{Name: "finish what is cancelled", Given: cancelled, When: finish, Err: ErrCancelled},
		{Name: "cancel", Given: two, When: Cancel{"ice"}, Then: cancelled[2:]},
		{Name: "cancel while it is run", Given: started, When: Cancel{"ice"}, Then: cancelled[2:]},
		{Name: "cancel twice", Given: cancelled, When: Cancel{"ice"}, Err: ErrCancelled},
		{Name: "cancel nothing", When: Cancel{"ice"}, Err: deed.ErrNotFound},
	})
	if p := RunnersInRace.Fold(started[2], RunnerFinished(finish)); p != (Progress{Completed: 1, Running: 1}) {
		t.Errorf("%+v", p)
	}
}

func TestRunner(t *testing.T) {
	type given = []deed.Event[Runner]
	in := given{RegisteredForRace{"five", 1, "", ten}}
	paid := append(in[:1:1], RegistrationPaid{"five", ten})
	done := append(in[:1:1], FinishedRace{"five", 5000, 9, "2026-02-03"})
	confirm := ConfirmResult{Race: "five", Distance: 5000, Time: 9, Place: 1}
	usd := money.Money{Amount: 1, Currency: "USD"}
	deedtest.Run(t, []deedtest.Case[Runner]{
		{Name: "register", When: RegisterForRace{"five", 1, "", ten}, Then: in},
		{Name: "register twice", Given: in, When: RegisterForRace{"five", 1, "", ten}, Err: ErrInRace},
		{Name: "another currency", Given: in, When: RegisterForRace{"ten", 1, "", usd}, Err: ErrCurrency},
		{Name: "pay", Given: in, When: PayRegistration{"five", ten}, Then: paid[1:]},
		{Name: "pay a part", Given: in, When: PayRegistration{"five", five}, Then: given{RegistrationPaid{"five", five}}},
		{Name: "pay twice", Given: paid, When: PayRegistration{"five", ten}, Err: ErrWrongAmount},
		{Name: "pay for another race", Given: in, When: PayRegistration{"ten", ten}, Err: ErrNotInRace},
		{Name: "pay for nobody", When: PayRegistration{"five", ten}, Err: deed.ErrNotFound},
		{Name: "pay in another currency", Given: in, When: PayRegistration{"five", usd}, Err: ErrCurrency},
		{Name: "pay less than nothing", Given: in, When: PayRegistration{"five", money.Money{Amount: -1, Currency: "EUR"}}, Err: deedtest.ErrInvalid},
		{Name: "finish", Given: in, When: FinishRace{"five", 5000, 9, "2026-02-03"}, Then: done[1:]},
		{Name: "finish twice", Given: done, When: FinishRace{"five", 5000, 9, ""}, Err: ErrFinished},
		{Name: "finish another race", Given: in, When: FinishRace{"ten", 5000, 9, ""}, Err: ErrNotInRace},
		{Name: "confirm", Given: done, When: confirm, Then: given{ResultConfirmed(confirm)}},
		{Name: "confirm before the finish", Given: in, When: confirm, Err: ErrNotFinished},
		{Name: "confirm that it was not finished", Given: in, When: ConfirmResult{Race: "five", Distance: 1, DidNotFinish: true},
			Then: given{ResultConfirmed{Race: "five", Distance: 1, DidNotFinish: true}}},
		{Name: "confirm twice", Given: append(done[:2:2], ResultConfirmed(confirm)), When: confirm, Err: ErrConfirmed},
		{Name: "reimburse", Given: paid, When: Reimburse{five, "ill"}, Then: given{Reimbursed{five, "ill"}}},
		{Name: "reimburse too much", Given: append(paid[:2:2], Reimbursed{five, ""}), When: Reimburse{ten, ""}, Err: ErrTooMuch},
		{Name: "reimburse nobody", When: Reimburse{five, ""}, Err: deed.ErrNotFound},
	})
	got := Accounts.Fold(in[0], paid[1], Reimbursed{five, ""})
	if want := (Account{Balance: money.Money{Amount: -500, Currency: "EUR"}, PaidToDate: ten, FeesToDate: ten}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, Domain)
	deedtest.CheckSchemas(t, Domain)
}

// The three levels of validation: what is malformed is not stored, what is
// fatal and what is a warning both block.
func TestFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, rt := t.Context(), deedtest.Start(t, Domain)
		ask := func(actor string, c Create) deed.CommandStatus {
			t.Helper()
			r, err := CreateLeague.Submit(deed.With(ctx, deed.Call{Actor: actor}), rt, "", c)
			if err != nil {
				t.Fatal(err)
			}
			s, err := rt.Commands().Wait(ctx, r.Command)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if s := ask("ann", Create{Name: "B", DateIncorporated: "1999-04-01"}); s.State != deed.CommandCompleted || len(s.Entities) != 1 {
			t.Fatalf("%+v", s)
		}
		for what, c := range map[string]struct {
			cmd   Create
			field string
			fatal bool
		}{
			"blank name":           {Create{Name: " ", DateIncorporated: "1999-04-01"}, "name", true},
			"a name that is no id": {Create{Name: "a/b", DateIncorporated: "1999-04-01"}, "name", true},
			"a name that is taken": {Create{Name: "B", DateIncorporated: "1999-04-01"}, "name", true},
			"no date":              {Create{Name: "C"}, "date_incorporated", false},
			"a date to come":       {Create{Name: "C", DateIncorporated: "2999-04-01"}, "date_incorporated", false},
			"no date at all":       {Create{Name: "C", DateIncorporated: "spring"}, "date_incorporated", false},
		} {
			s := ask(what, c.cmd)
			if s.State != deed.CommandInvalid || len(s.Findings) != 1 || s.Findings[0].Field != c.field || s.Findings[0].Fatal != c.fatal {
				t.Errorf("%s: %s %v", what, s.State, s.Findings)
			}
			if _, _, err := Leagues.Load(ctx, rt, "C"); !errors.Is(err, deed.ErrNotFound) {
				t.Errorf("%s: there is a league: %v", what, err)
			}
		}
		if _, err := CreateLeague.Submit(ctx, rt, "", Create{Name: "C", Contact: Contact{EmailAddress: "nope"}}); err == nil {
			t.Error("half an e-mail address was stored")
		}
	})
}

// The attempts of a step are the article's: two, ten seconds apart. Then the
// command has failed, until somebody resumes it.
func TestFailsAndIsResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := faulty.New(mem.New())
		ctx, rt := t.Context(), deedtest.StartOn(t, broken, Domain)
		broken.Fail("league/", faulty.Always)
		began := time.Now()
		r, err := CreateLeague.Submit(ctx, rt, "", Create{Name: "B", DateIncorporated: "1999-04-01"})
		if err != nil {
			t.Fatal(err)
		}
		s, err := rt.Commands().Wait(ctx, r.Command)
		if took := time.Since(began); err != nil || s.State != deed.CommandFailed || s.Steps[0].Attempts != 2 || took < 5*time.Second || took > 30*time.Second {
			t.Errorf("%s after %v, %v", s.State, took, err)
		}
		broken.Repair()
		if err := rt.Commands().Resume(ctx, r.Command); err != nil {
			t.Fatal(err)
		}
		if s, err = rt.Commands().Wait(ctx, r.Command); err != nil || s.State != deed.CommandCompleted {
			t.Errorf("%s %v", s.State, err)
		}
		if _, version, err := Leagues.Load(ctx, rt, "B"); err != nil || version != 1 {
			t.Errorf("%d events, %v", version, err)
		}
	})
}

// While the store cannot serve, no attempt counts: the command goes on by itself
// when it can.
func TestStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := &faulty.Store{Store: mem.New(), Why: store.ErrUnavailable}
		ctx, rt := t.Context(), deedtest.StartOn(t, broken, Domain)
		broken.Fail("league/", faulty.Always)
		r, err := CreateLeague.Submit(ctx, rt, "", Create{Name: "B", DateIncorporated: "1999-04-01"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if s, err := rt.Commands().Get(ctx, r.Command); err != nil || s.State != deed.CommandRunning {
			t.Errorf("while it is away: %s, %v", s.State, err)
		}
		broken.Repair()
		if s, err := rt.Commands().Wait(ctx, r.Command); err != nil || s.State != deed.CommandCompleted {
			t.Errorf("%s %v", s.State, err)
		}
		if _, version, err := Leagues.Load(ctx, rt, "B"); err != nil || version != 1 {
			t.Errorf("%d events, %v", version, err)
		}
	})
}
