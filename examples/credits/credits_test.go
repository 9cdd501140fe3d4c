package credits

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

func TestAccount(t *testing.T) {
	type given = []deed.Event[Account]
	open := given{Opened{"Ann", "USD"}}
	loaded := append(open[:1:1], Loaded{usd(100_00), usd(2)})
	held := append(loaded[:2:2], Held{"t-1", usd(30_00)})
	sent := append(held[:3:3], Sent{"t-1", "b", usd(30_00)})
	eur := money.Money{Amount: 1, Currency: "EUR"}
	deedtest.Run(t, []deedtest.Case[Account]{
		{Name: "open", When: Open{"Ann", "USD"}, Then: open},
		{Name: "open twice", Given: open, When: Open{"Ann", "USD"}, Err: deed.ErrExists},
		{Name: "open for nobody", When: Open{"", "USD"}, Err: deedtest.ErrInvalid},
		{Name: "open in no currency", When: Open{"Ann", "dollars"}, Err: deedtest.ErrInvalid},
		{Name: "load", Given: open, When: Load{usd(100_00)}, Then: loaded[1:]},
		{Name: "load nothing", Given: open, When: Load{usd(0)}, Err: deedtest.ErrInvalid},
		{Name: "load another currency", Given: open, When: Load{eur}, Err: ErrCurrency},
		{Name: "load what is not there", When: Load{usd(1)}, Err: deed.ErrNotFound},
		{Name: "expect", Given: open, When: expect{usd(1)}},
		{Name: "expect another currency", Given: open, When: expect{eur}, Err: ErrCurrency},
		{Name: "expect of nobody", When: expect{usd(1)}, Err: deed.ErrNotFound},
		{Name: "hold", Given: loaded, When: hold{"t-1", usd(30_00)}, Then: held[2:]},
		{Name: "hold all", Given: loaded, When: hold{"t-1", usd(100_00)}, Then: given{Held{"t-1", usd(100_00)}}},
		{Name: "hold too much", Given: loaded, When: hold{"t-1", usd(100_01)}, Err: ErrInsufficient},
		{Name: "hold what is held", Given: held, When: hold{"t-2", usd(70_01)}, Err: ErrInsufficient},
		{Name: "keep", Given: held, When: keep{"t-1"}},
		{Name: "keep nothing", Given: loaded, When: keep{"t-1"}, Err: ErrNotHeld},
		{Name: "give back", Given: held, When: giveBack{"t-1"}, Then: given{Returned{"t-1", usd(30_00)}}},
		{Name: "give back nothing", Given: loaded, When: giveBack{"t-1"}},
		{Name: "settle", Given: held, When: settle{"t-1", "b"}, Then: sent[3:]},
		{Name: "settle twice", Given: sent, When: settle{"t-1", "b"}, Err: ErrNotHeld},
		{Name: "receive", Given: open, When: receive{"t-1", "a", usd(5)}, Then: given{Received{"t-1", "a", usd(5)}}},
		{Name: "reverse", Given: loaded, When: reverse{"t-1", usd(5)}, Then: given{Reversed{"t-1", usd(5)}}},
		{Name: "reverse what is spent", Given: open, When: reverse{"t-1", usd(5)}, Err: ErrInsufficient},
		{Name: "spend", Given: sent, When: spend{"shop", usd(70_00)}, Then: given{Spent{"shop", usd(70_00)}}},
		{Name: "spend what is held", Given: held, When: spend{"shop", usd(70_01)}, Err: ErrInsufficient},
	})
	all := []any{open[0], loaded[1], held[2], sent[3], Held{"t-2", usd(5_00)}, Returned{"t-2", usd(5_00)}, Held{"t-3", usd(1_00)}, Received{"t-4", "c", usd(9_00)}, Reversed{"t-5", usd(1_00)}, Spent{"s", usd(8_00)}}
	if b := Balances.Fold(all...); b != (Balance{"Ann", usd(70_00), usd(69_00)}) {
		t.Errorf("%+v", b)
	}
}

func TestTransfer(t *testing.T) {
	type given = []deed.Event[Transfer]
	small, significant := TransferRequested{"a", "b", usd(30_00), false}, TransferRequested{"a", "b", usd(30_00), true}
	requested, pending := given{small}, given{significant}
	done := append(requested[:1:1], TransferSucceeded{})
	failed := append(requested[:1:1], TransferFailed{"validation_overdue", "too late"})
	why := deed.Stamp{Why: deed.Reason{Code: "validation_overdue", Text: "too late"}}
	deedtest.Run(t, []deedtest.Case[Transfer]{
		{Name: "request", When: request(small), Then: requested},
		{Name: "request twice", Given: requested, When: request(small), Err: deed.ErrExists},
		{Name: "take up", Given: requested, When: takeUp{}},
		{Name: "take up a significant one", Given: pending, When: takeUp{}},
		{Name: "take up what is done", Given: done, When: takeUp{}, Err: ErrOver},
		{Name: "approve", Given: pending, When: approve{"ann", "ok"}, Then: given{TransferApproved{"ann", "ok"}}},
		{Name: "approve what has failed", Given: failed, When: approve{"ann", "ok"}, Err: ErrOver},
		{Name: "succeed", Given: requested, When: succeed{}, Then: done[1:]},
		{Name: "succeed twice", Given: done, When: succeed{}, Err: ErrOver},
		{Name: "fail", Given: pending, When: fail{}, By: why, Then: failed[1:]},
		{Name: "fail after all", Given: done, When: fail{}, Err: ErrOver},
	})
}

func TestRequest(t *testing.T) {
	for what, tt := range map[string]struct {
		r     Request
		field string
	}{
		"good":              {Request{"a", "b", usd(1)}, ""},
		"less than nothing": {Request{"a", "b", usd(-5)}, "amount.amount"},
		"too much to count": {Request{"a", "b", usd(maxAmount + 1)}, "amount.amount"},
		"in no currency":    {Request{"a", "b", money.Money{Amount: 1}}, "amount.currency"},
		"from nobody":       {Request{"", "b", usd(5)}, "from"},
		"for nobody":        {Request{"a", "", usd(5)}, "to"},
		"for oneself":       {Request{"a", "a", usd(5)}, "to"},
	} {
		err := tt.r.Validate()
		if inv, _ := errors.AsType[deed.Invalid](err); inv.Field != tt.field || (err == nil) != (tt.field == "") {
			t.Errorf("%s: %v, wanted something about %q", what, err, tt.field)
		}
	}
}

func TestMerchant(t *testing.T) {
	type given = []deed.Event[Merchant]
	known := given{Registered{"Shop", "USD"}}
	deedtest.Run(t, []deedtest.Case[Merchant]{
		{Name: "register", When: Register{"Shop", "USD"}, Then: known},
		{Name: "register twice", Given: known, When: Register{"Shop", "USD"}, Err: deed.ErrExists},
		{Name: "register nobody", When: Register{"", "USD"}, Err: deedtest.ErrInvalid},
		{Name: "sell", Given: known, When: earn{"a", usd(200_00)}, Then: given{Sold{"a", usd(200_00), usd(5)}}},
		{Name: "sell for other money", Given: known, When: earn{"a", money.Money{Amount: 1, Currency: "EUR"}}, Err: ErrCurrency},
		{Name: "nobody sells", When: earn{"a", usd(1)}, Err: deed.ErrNotFound},
	})
	if m := deed.Fold(append(known, Sold{"a", usd(200_00), usd(5)})...); m.Balance != usd(199_95) {
		t.Errorf("%+v", m)
	}
}

// Scenario C8: rates, bounds, and rounding half up.
func TestFees(t *testing.T) {
	for amount, want := range map[int64]int64{100_00: 2, 500_00: 10, 500_01: 0, 24_99: 0, 25_00: 1, 74_99: 1, 75_00: 2, 1: 0} {
		if fee := LoadFee(usd(amount)); fee != usd(want) {
			t.Errorf("loading %d costs %v, wanted %d", amount, fee, want)
		}
	}
	for amount, want := range map[int64]int64{200_00: 5, 19_99: 0, 20_00: 1, 1: 0, 1_000_000_00: 250_00} {
		if fee := SaleFee(usd(amount)); fee != usd(want) {
			t.Errorf("selling for %d costs %v, wanted %d", amount, fee, want)
		}
	}
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, Domain)
	deedtest.CheckSchemas(t, Domain)
}

// office is a runtime with two accounts, of which the first has 5,000.00.
type office struct {
	*testing.T
	rt *deed.Runtime
}

func openOffice(t *testing.T, s store.Store) *office {
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{Domain}, Poll: time.Hour}) // a day passes
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	t.Cleanup(func() {
		if stop(); <-ended != nil {
			t.Error("the program does not end well")
		}
	})
	o := &office{t, rt}
	for _, id := range []string{"a", "b"} {
		if _, err := Accounts.Execute(t.Context(), o.rt, id, Open{"Ann", "USD"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Accounts.Execute(t.Context(), o.rt, "a", Load{usd(5_000_00)}); err != nil {
		t.Fatal(err)
	}
	return o
}

// send asks for a transfer from a to b and returns when the process has dealt
// with it as far as it can.
func (o *office) send(id string, amount int64) deed.Instance {
	o.Helper()
	if s := o.request(id, Request{"a", "b", usd(amount)}); s.State != deed.CommandCompleted {
		o.Fatalf("%+v", s)
	}
	time.Sleep(time.Second)
	return o.process(id)
}

// request asks for a transfer and returns what became of that.
func (o *office) request(id string, r Request) deed.CommandStatus {
	o.Helper()
	receipt, err := Credits{}.RequestTransfer().Submit(o.Context(), o.rt, id, r)
	if err != nil {
		o.Fatal(err)
	}
	s, err := o.rt.Commands().Wait(o.Context(), receipt.Command)
	if err != nil {
		o.Fatal(err)
	}
	return s
}

func (o *office) process(id string) deed.Instance {
	o.Helper()
	i, err := o.rt.Instances().Get(o.Context(), "process", "credit-transfer", id)
	if err != nil {
		o.Fatal(err)
	}
	return i
}

// want compares what the accounts have, available ones first, and what became of
// a transfer.
func (o *office) want(id, want string) {
	o.Helper()
	a, _, err1 := Accounts.Load(o.Context(), o.rt, "a")
	b, _, err2 := Accounts.Load(o.Context(), o.rt, "b")
	e, err3 := History.Get(o.Context(), o.rt, id)
	if err := errors.Join(err1, err2, err3); err != nil {
		o.Fatal(err)
	}
	got := strings.TrimSpace(fmt.Sprintf("%d/%d, %d, %s %s", a.Available().Amount, a.Balance.Amount, b.Balance.Amount, e.Status, e.Reason))
	if got != want {
		o.Errorf("transfer %s: %s, wanted %s", id, got, want)
	}
}

// A significant transfer waits for 24 hours, then it fails and the credits are
// back.
func TestValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := openOffice(t, mem.New())
		o.send("small", 999_99)
		o.want("small", "400001/400001, 99999, Succeeded")
		ann := deed.With(t.Context(), deed.Call{Actor: "ann", Restricted: true, Roles: []string{RoleValidator}})
		decide := func(id, choice, reason string) error {
			_, err := o.rt.Tasks().Decide(ann, o.process(id).Tasks["validation"], choice, reason, nil)
			time.Sleep(time.Second)
			return err
		}
		o.send("yes", 1_000_00)
		o.want("yes", "300001/400001, 99999, PendingValidation")
		bob := deed.With(t.Context(), deed.Call{Actor: "bob", Restricted: true, Roles: []string{"customer"}})
		if _, err := o.rt.Tasks().Decide(bob, o.process("yes").Tasks["validation"], "approve", "", nil); !errors.As(err, &deed.Forbidden{}) {
			t.Errorf("bob validates: %v", err)
		}
		if err := decide("yes", "approve", ""); err != nil {
			t.Error(err)
		}
		o.want("yes", "300001/300001, 199999, Succeeded")
		if e, _ := History.Get(t.Context(), o.rt, "yes"); e.ApprovedBy != "ann" {
			t.Errorf("%+v", e)
		}

		o.send("no", 2_000_00)
		if err := decide("no", "reject", "who is this?"); err != nil {
			t.Error(err)
		}
		o.want("no", "300001/300001, 199999, Failed who is this?")

		o.send("cancelled", 2_000_00)
		if _, err := o.rt.Instances().Cancel(t.Context(), "process", "credit-transfer", "cancelled", "she called"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		o.want("cancelled", "300001/300001, 199999, Failed she called")

		task := o.send("late", 2_000_00).Tasks["validation"]
		time.Sleep(24*time.Hour - 2*time.Second)
		o.want("late", "100001/300001, 199999, PendingValidation")
		time.Sleep(2 * time.Second)
		o.want("late", "300001/300001, 199999, Failed Nobody has validated the transfer in time")
		if _, err := o.rt.Tasks().Decide(ann, task, "approve", "", nil); !errors.Is(err, deed.ErrDecided) {
			t.Errorf("approved too late: %v", err)
		}
	})
}

// What cannot be transferred leaves no trace on the accounts, and the sender is
// told.
func TestTransferFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := openOffice(t, mem.New())
		for code, r := range map[string]Request{
			"insufficient_balance": {"a", "b", usd(5_000_01)},
			"not_found":            {"a", "z", usd(1)},
			"currency_mismatch":    {"a", "b", money.Money{Amount: 1, Currency: "EUR"}},
		} {
			s := o.request(code, r)
			if s.State != deed.CommandRejected || s.Code != code {
				t.Errorf("%s: %+v", code, s)
			}
			time.Sleep(time.Second)
			n, err := Notices.Get(t.Context(), o.rt, s.ID)
			if want := fmt.Sprintf("%v to %s could not be sent: ", r.Amount, r.To); err != nil || n.Account != "a" || !strings.HasPrefix(n.Text, want) {
				t.Errorf("%s: %+v, %v", code, n, err)
			}
			if _, err := History.Get(t.Context(), o.rt, code); !errors.Is(err, deed.ErrNotFound) {
				t.Errorf("there is a transfer: %v", err)
			}
		}
		if _, version, err := Accounts.Load(t.Context(), o.rt, "a"); err != nil || version != 2 {
			t.Errorf("a has %d events, %v", version, err)
		}
		o.send("once", 10_00)
		if s := o.request("once", Request{"a", "b", usd(10_00)}); s.State != deed.CommandRejected || s.Code != "exists" {
			t.Errorf("a second transfer of that id: %+v", s)
		}
		o.want("once", "499000/499000, 1000, Succeeded")
	})
}

// Scenario C9 for the process: if what follows from a request cannot be recorded
// at first it is tried again, if it cannot be for long it is a dead letter, and
// others go on. Either way one debit comes of it.
func TestRetryAndRedrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faulty.New(mem.New())
		o := openOffice(t, s)
		s.Fail("$process/credit-transfer/twice", 2)
		o.send("twice", 10_00)
		o.want("twice", "499000/499000, 1000, Succeeded")

		s.Fail("$process/credit-transfer/always", faulty.Always)
		o.request("always", Request{"a", "b", usd(10_00)})
		time.Sleep(time.Hour)
		o.want("always", "498000/499000, 1000, Requested")
		letters, _, err := o.rt.Followers().DeadLetters(t.Context(), "process-credit-transfer", "", 10)
		if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Reason, "disk") {
			t.Fatalf("dead letters: %+v, %v", letters, err)
		}
		o.send("another", 10_00)
		o.want("another", "497000/498000, 2000, Succeeded")
		s.Repair()
		if _, err := o.rt.Followers().Redrive(t.Context(), letters[0].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		o.want("always", "497000/497000, 3000, Succeeded")
	})
}
