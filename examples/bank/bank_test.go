package bank

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func TestCustomer(t *testing.T) {
	type given = []deed.Event[Customer]
	ann := given{CustomerCreated{"Ann", "Lee", "ann@example.com"}}
	deedtest.Run(t, []deedtest.Case[Customer]{
		{Name: "create", When: CreateCustomer{"Ann", "Lee", " ann@example.com "}, Then: ann},
		{Name: "create twice", Given: ann, When: CreateCustomer{"Ann", "Lee", "ann@example.com"}, Err: deed.ErrExists},
		{Name: "create nobody", When: CreateCustomer{" ", "Lee", "ann@example.com"}, Err: deedtest.ErrInvalid},
		{Name: "create without an address", When: CreateCustomer{"Ann", "Lee", "nope"}, Err: deedtest.ErrInvalid},
		{Name: "account", Given: ann, When: addAccount{"a"}, Then: given{AccountAdded{"a"}}},
		{Name: "account twice", Given: append(ann[:1:1], AccountAdded{"a"}), When: addAccount{"a"}},
		{Name: "account of nobody", When: addAccount{"a"}, Err: deed.ErrNotFound},
	})
}

func TestAccount(t *testing.T) {
	type given = []deed.Event[Account]
	open := given{AccountOpened{"ann", "CAD"}}
	full := append(open[:1:1], MoneyDeposited{Amount: cad(71_00)})
	over := append(full[:2:2], OverdraftLimitSet{10_00})
	blocked := append(full[:2:2], AccountBlocked{"lost card"})
	accrued := append(full[:2:2], InterestAccrued{"2026-02-03", cad(71_00), 1_00, 194_520})
	interest := func(n int64) given { return append(full[:2:2], InterestAccrued{Day: "2026-02-03", Amount: n}) }
	eur := money.Money{Amount: 1, Currency: "EUR"}
	rates := Rates{CAD: 1_000_000, EUR: 1_500_000}
	deedtest.Run(t, []deedtest.Case[Account]{
		{Name: "open", When: create{"ann", "CAD"}, Then: open},
		{Name: "open twice", Given: open, When: create{"ann", "CAD"}, Err: deed.ErrExists},
		{Name: "deposit", Given: open, When: Deposit{Amount: cad(71_00)}, Then: full[1:]},
		{Name: "deposit less than nothing", Given: open, When: Deposit{Amount: cad(-1)}, Err: deedtest.ErrInvalid},
		{Name: "deposit other money", Given: open, When: Deposit{Amount: eur, Rates: rates}, Then: given{MoneyDeposited{Amount: cad(2), Exchanged: eur}}},
		{Name: "deposit other money without a rate", Given: open, When: Deposit{Amount: eur}, Err: ErrCurrency},
		{Name: "deposit what there is not", Given: open, When: Deposit{Amount: money.Money{Amount: 1, Currency: "XXX"}, Rates: rates}, Err: deedtest.ErrInvalid},
		{Name: "deposit in small letters", Given: open, When: Deposit{Amount: money.Money{Amount: 71_00, Currency: " cad"}}, Then: full[1:]},
		{Name: "withdraw other money", Given: full, When: Withdraw{Amount: money.Money{Amount: 47_33, Currency: "EUR"}, Rates: rates},
			Then: given{MoneyWithdrawn{Amount: cad(71_00), Exchanged: money.Money{Amount: 47_33, Currency: "EUR"}}}},
		{Name: "withdraw too much other money", Given: full, When: Withdraw{Amount: money.Money{Amount: 47_34, Currency: "EUR"}, Rates: rates}, Err: ErrInsufficient},
		{Name: "deposit nowhere", When: Deposit{Amount: cad(1)}, Err: deed.ErrNotFound},
		{Name: "deposit when blocked", Given: blocked, When: Deposit{Amount: cad(1)}, Err: ErrBlocked},
		{Name: "withdraw", Given: full, When: Withdraw{Amount: cad(71_00)}, Then: given{MoneyWithdrawn{Amount: cad(71_00)}}},
		{Name: "withdraw too much", Given: full, When: Withdraw{Amount: cad(71_01)}, Err: ErrInsufficient},
		{Name: "withdraw as far as it may go", Given: over, When: Withdraw{Amount: cad(81_00)}, Then: given{MoneyWithdrawn{Amount: cad(81_00)}}},
		{Name: "withdraw more", Given: over, When: Withdraw{Amount: cad(81_01)}, Err: ErrInsufficient},
		{Name: "overdraft", Given: full, When: SetOverdraftLimit{10_00}, Then: over[2:]},
		{Name: "overdraft below zero", Given: full, When: SetOverdraftLimit{-1}, Err: deedtest.ErrInvalid},
		{Name: "overdraft that is used", Given: append(over[:3:3], MoneyWithdrawn{Amount: cad(76_00)}), When: SetOverdraftLimit{4_99}, Err: ErrOverdrawn},
		{Name: "overdraft of nothing", When: SetOverdraftLimit{1}, Err: deed.ErrNotFound},
		{Name: "block", Given: full, When: Block{"lost card"}, Then: blocked[2:]},
		{Name: "block again", Given: blocked, When: Block{"lost card"}},
		{Name: "block for nothing", Given: full, When: Block{}, Err: deedtest.ErrInvalid},
		{Name: "unblock", Given: blocked, When: Unblock{}, Then: given{AccountUnblocked{}}},
		{Name: "unblock what is not", Given: full, When: Unblock{}},
		{Name: "send off", Given: full, When: sendOff{"t", "b", cad(71_00)}, Then: given{SentOff{"t", "b", cad(71_00)}}},
		{Name: "send off too much", Given: full, When: sendOff{"t", "b", cad(71_01)}, Err: ErrInsufficient},
		{Name: "take in", Given: full, When: takeIn{"t", "b", cad(1)}, Then: given{TakenIn{"t", "b", cad(1)}}},
		{Name: "take in when blocked", Given: blocked, When: takeIn{"t", "b", cad(1)}, Err: ErrBlocked},
		{Name: "refund", Given: full, When: refund{"t", cad(1)}, Then: given{Refunded{"t", cad(1)}}},
		{Name: "refund when blocked", Given: blocked, When: refund{"t", cad(1)}, Err: ErrBlocked},
		{Name: "accrue", Given: full, When: accrue{"2026-02-03", cad(71_00), 1_00, 194_520}, Then: accrued[2:]},
		{Name: "accrue twice", Given: accrued, When: accrue{"2026-02-03", cad(71_00), 1_00, 194_520}, Err: ErrAccrued},
		{Name: "accrue for the day before", Given: accrued, When: accrue{Day: "2026-02-02"}, Then: given{InterestAccrued{Day: "2026-02-02"}}},
		{Name: "accrue for the day before twice", Given: append(accrued[:3:3], InterestAccrued{Day: "2026-02-02"}), When: accrue{Day: "2026-02-02"}, Err: ErrAccrued},
		{Name: "accrue for the next day", Given: accrued, When: accrue{Day: "2026-02-04"}, Then: given{InterestAccrued{Day: "2026-02-04"}}},
		{Name: "accrue when blocked", Given: blocked, When: accrue{Day: "2026-02-04"}, Then: given{InterestAccrued{Day: "2026-02-04"}}},
		{Name: "accrue for nothing", When: accrue{Day: "2026-02-04"}, Err: deed.ErrNotFound},
		{Name: "pay what is less than a cent", Given: accrued, When: PayInterest{}},
		{Name: "pay half a cent", Given: interest(500_000), When: PayInterest{}, Then: given{InterestPaid{cad(1)}}},
		{Name: "pay", Given: interest(1_499_999), When: PayInterest{}, Then: given{InterestPaid{cad(1)}}},
		{Name: "pay the rest", Given: append(interest(1_499_999), InterestPaid{cad(1)}, InterestAccrued{Day: "2026-02-04", Amount: 1}), When: PayInterest{},
			Then: given{InterestPaid{cad(1)}}},
		{Name: "be paid", Given: interest(-1_500_000), When: PayInterest{}, Then: given{InterestPaid{cad(-2)}}},
		{Name: "be paid more than there is", Given: interest(-71_01_000_000), When: PayInterest{}, Then: given{OverdraftLimitSet{1}, InterestPaid{cad(-71_01)}}},
		{Name: "be paid from the overdraft", Given: append(over[:3:3], InterestAccrued{Day: "2026-02-03", Amount: -81_00_000_000}), When: PayInterest{},
			Then: given{InterestPaid{cad(-81_00)}}},
		{Name: "pay when blocked", Given: blocked, When: PayInterest{}, Err: ErrBlocked},
		{Name: "pay nobody", When: PayInterest{}, Err: deed.ErrNotFound},
	})
	all := []any{open[0], full[1], MoneyWithdrawn{Amount: cad(1_00)}, SentOff{"t", "b", cad(10_00)}, Refunded{"t", cad(10_00)}, TakenIn{"u", "b", cad(5_00)}, accrued[2], AccountBlocked{"x"}, AccountUnblocked{},
		InterestAccrued{Day: "2026-02-04", Amount: 900_000}, InterestPaid{cad(1)}}
	if a := AccountDetails.Fold(all...); a != (AccountDetail{"ann", cad(75_01), 94_520, ""}) {
		t.Errorf("%+v", a)
	}
}

func TestExchange(t *testing.T) {
	r := Rates{CAD: 1_000_000, EUR: 1_500_000, USD: 1}
	for _, c := range []struct {
		n        int64
		from, to string
		want     int64
		err      error
	}{
		{100, "EUR", "CAD", 150, nil}, {150, "CAD", "EUR", 100, nil}, {1, "CAD", "EUR", 1, nil}, {-1, "EUR", "CAD", -2, nil}, {0, "EUR", "CAD", 0, nil},
		{3, "EUR", "EUR", 3, nil}, {maxAmount, "EUR", "EUR", maxAmount, nil}, {1, "USD", "CAD", 0, ErrTooSmall}, {1, "XXX", "CAD", 0, ErrCurrency},
		{maxAmount, "CAD", "USD", 0, deed.Invalid{}}, {-maxAmount, "EUR", "CAD", 0, deed.Invalid{}},
	} {
		got, err := r.Exchange(money.Money{Amount: c.n, Currency: c.from}, c.to)
		if _, invalid := c.err.(deed.Invalid); invalid && errors.As(err, new(deed.Invalid)) {
			continue
		}
		if !errors.Is(err, c.err) || err == nil && got != (money.Money{Amount: c.want, Currency: c.to}) {
			t.Errorf("%d %s is %v, %v; want %d %s, %v", c.n, c.from, got, err, c.want, c.to, c.err)
		}
	}
}

// An account knows the last days for which interest has accrued.
func TestAccruedDays(t *testing.T) {
	a := Account{Customer: "ann"}
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) string { return first.AddDate(0, 0, n).Format(time.DateOnly) }
	for n := range 2 * keptDays {
		if n%10 != 7 { // these fail
			InterestAccrued{Day: day(n)}.Apply(&a)
		}
	}
	before := slices.Clone(a.Days)
	for n, want := range map[int]error{0: ErrLongAgo, 77: ErrLongAgo, 187: nil, 190: ErrAccrued, 197: nil, 200: nil} {
		if _, err := (accrue{Day: day(n)}).Decide(a); !errors.Is(err, want) {
			t.Errorf("%s: %v, wanted %v", day(n), err, want)
		}
	}
	later := a
	InterestAccrued{Day: day(187)}.Apply(&later)
	if !slices.IsSorted(later.Days) || len(later.Days) != keptDays || !slices.Equal(a.Days, before) {
		t.Errorf("%v after %v", later.Days, a.Days)
	}
}

func TestTransfer(t *testing.T) {
	type given = []deed.Event[Transfer]
	ask := Initiate{From: "a", To: "b", Amount: cad(30_00)}
	initiated := given{TransferInitiated(ask)}
	funded := append(initiated[:1:1], SourceFundsWithdrawn{})
	done := append(funded[:2:2], TargetFundsDeposited{})
	cancelling := append(funded[:2:2], CancellationRequested{"wrong account"})
	refunding := append(funded[:2:2], RefundInitiated{"blocked"})
	why := deed.Stamp{Why: deed.Reason{Code: "account_blocked", Text: "blocked"}}
	failed := given{TransferFailed{"account_blocked", "blocked"}}
	deedtest.Run(t, []deedtest.Case[Transfer]{
		{Name: "initiate", When: ask, Then: initiated},
		{Name: "initiate twice", Given: initiated, When: ask, Err: deed.ErrExists},
		{Name: "initiate nothing", When: Initiate{From: "a", To: "b", Amount: cad(0)}, Err: deedtest.ErrInvalid},
		{Name: "initiate without a target", When: Initiate{From: "a", Amount: cad(1)}, Err: deedtest.ErrInvalid},
		{Name: "initiate to oneself", When: Initiate{From: "a", To: "a", Amount: cad(1)}, Err: deedtest.ErrInvalid},
		{Name: "take up", Given: initiated, When: takeUp{}},
		{Name: "take up twice", Given: funded, When: takeUp{}, Err: ErrOver},
		{Name: "fund", Given: initiated, When: fund{}, Then: funded[1:]},
		{Name: "clear", Given: funded, When: clear{}},
		{Name: "clear what is cancelled", Given: cancelling, When: clear{}, Err: ErrCancelled},
		{Name: "complete", Given: funded, When: complete{}, Then: done[2:]},
		{Name: "complete twice", Given: done, When: complete{}, Err: ErrOver},
		{Name: "cancel", Given: funded, When: Cancel{"wrong account"}, Then: cancelling[2:]},
		{Name: "cancel twice", Given: cancelling, When: Cancel{"really"}},
		{Name: "cancel too late", Given: done, When: Cancel{"wrong account"}, Err: ErrOver},
		{Name: "cancel nothing", When: Cancel{"wrong account"}, Err: deed.ErrNotFound},
		{Name: "cancel for nothing", Given: funded, When: Cancel{}, Err: deedtest.ErrInvalid},
		{Name: "start the refund", Given: funded, When: startRefund{}, By: why, Then: refunding[2:]},
		{Name: "refund what has arrived", Given: done, When: startRefund{}, By: why, Err: ErrOver},
		{Name: "fail after the refund", Given: refunding, When: fail{}, By: why, Then: failed},
		{Name: "fail at once", Given: initiated, When: fail{}, By: why, Then: failed},
		{Name: "fail after all", Given: done, When: fail{}, By: why, Err: ErrOver},
	})
}

func TestRates(t *testing.T) {
	for balance, want := range map[int64][2]int64{
		365_000_00: {1_00, 1_000 * millionths}, -365_00: {12_00, -12 * millionths}, 0: {1_00, 0}, 1: {1_00, 27}, -1: {12_00, -328},
		maxAmount: {1_00, 27_397_260_273_972},
	} {
		if rate, amount := (Bank{}).interest(cad(balance)); rate != want[0] || amount != want[1] {
			t.Errorf("a day of %d at %d comes to %d, wanted %d at %d", balance, rate, amount, want[1], want[0])
		}
	}
	if rate, amount := (Bank{CreditRate: 3_65}).interest(cad(100_00)); rate != 3_65 || amount != 1*millionths {
		t.Errorf("a day of 100.00 at %d comes to %d", rate, amount)
	}
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, Domain)
	deedtest.CheckSchemas(t, Domain)
}

// A branch is a runtime with accounts a, b and c of one customer, of which a has
// 100.00.
type branch struct {
	*testing.T
	bank  Bank
	store *faulty.Store
	rt    *deed.Runtime
	stop  func()
}

func openBranch(t *testing.T, bank Bank) *branch {
	b := &branch{T: t, bank: bank, store: faulty.New(mem.New())}
	b.open()
	t.Cleanup(func() { b.stop() })
	_, err := Customers.Execute(t.Context(), b.rt, "ann", CreateCustomer{"Ann", "Lee", "ann@example.com"})
	b.ok(err)
	for _, id := range []string{"a", "b", "c"} {
		b.ok(b.await(OpenAccount.Submit(t.Context(), b.rt, id, NewAccount{"ann", "CAD"})))
	}
	b.do("a", Deposit{Amount: cad(100_00)})
	return b
}

func (b *branch) open() {
	rt, err := deed.New(b.store, deed.Config{Domains: []deed.Domain{b.bank.Domain()}, Poll: time.Hour}) // days pass
	b.ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	b.rt, b.stop = rt, func() { stop(); b.ok(<-ended); b.stop = func() {} }
}

func (b *branch) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// await waits for a stored command, and returns why it is not completed.
func (b *branch) await(r deed.Receipt, err error) error {
	b.Helper()
	b.ok(err)
	s, err := b.rt.Commands().Wait(b.Context(), r.Command)
	b.ok(err)
	if s.State != deed.CommandCompleted {
		return deed.Reason{Code: s.Code, Text: s.Reason}
	}
	return nil
}

func (b *branch) do(account string, c deed.Command[Account]) {
	b.Helper()
	_, err := Accounts.Execute(b.Context(), b.rt, account, c)
	b.ok(err)
}

// send initiates a transfer from a and returns when the process has dealt with
// it as far as it can.
func (b *branch) send(id, to string, amount int64) {
	b.Helper()
	_, err := Transfers.Execute(b.Context(), b.rt, id, Initiate{From: "a", To: to, Amount: cad(amount)})
	b.ok(err)
	time.Sleep(time.Second)
}

// balance is what is on an account.
func (b *branch) balance(account string) int64 {
	b.Helper()
	a, _, err := Accounts.Load(b.Context(), b.rt, account)
	b.ok(err)
	return a.Balance.Amount
}

// want compares what a and b have, and what became of a transfer and of its
// process.
func (b *branch) want(id, want string) {
	b.Helper()
	d, err1 := TransferDetails.Get(b.Context(), b.rt, id)
	i, err2 := b.rt.Instances().Get(b.Context(), "process", "money-transfer", id)
	b.ok(errors.Join(err1, err2))
	got := strings.TrimSpace(fmt.Sprintf("%d, %d, %s, %s %s", b.balance("a"), b.balance("b"), i.State, d.Status, d.Reason))
	if got != want {
		b.Errorf("transfer %s: %s, wanted %s", id, got, want)
	}
}

// A transfer that fails puts both accounts back as they were. If that cannot be,
// somebody has to see to it.
func TestTransfers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBranch(t, Bank{Clearing: time.Hour})
		b.send("good", "b", 30_00)
		b.want("good", "7000, 0, running, Funded")
		b.stop() // the timer outlives it
		b.open()
		time.Sleep(2 * time.Hour)
		b.want("good", "7000, 3000, completed, Transferred")
		if _, err := Transfers.Execute(t.Context(), b.rt, "good", Cancel{"too late"}); !errors.Is(err, ErrOver) {
			t.Errorf("cancelled after the end: %v", err)
		}

		b.send("much", "b", 70_01)
		b.want("much", "7000, 3000, undone, Failed account/a: There is not enough money on the account")
		b.send("nobody", "nobody", 10_00)
		b.want("nobody", "6000, 3000, running, Funded")
		time.Sleep(time.Hour)
		b.want("nobody", "7000, 3000, undone, Failed there is no account/nobody")

		b.send("cancelled", "b", 10_00)
		_, err := Transfers.Execute(t.Context(), b.rt, "cancelled", Cancel{"wrong account"})
		b.ok(err)
		time.Sleep(time.Second)
		b.want("cancelled", "7000, 3000, undone, Failed wrong account")

		b.send("refused", "b", 10_00)
		b.do("b", Block{"lost card"})
		time.Sleep(time.Hour)
		b.want("refused", "7000, 3000, undone, Failed account/b: The account is blocked: lost card")

		b.send("stuck", "b", 10_00)
		b.do("a", Block{"a court says so"})
		time.Sleep(time.Hour)
		b.want("stuck", "6000, 3000, stuck, Refunding account/b: The account is blocked: lost card")
		b.stop()
		b.open()
		i, err := b.rt.Instances().Retry(t.Context(), "process", "money-transfer", "stuck", "perhaps by now")
		if err != nil || i.State != deed.InstanceStuck || !strings.Contains(i.Reason, "a court says so") {
			t.Errorf("%s %s, %v", i.State, i.Reason, err)
		}
		b.do("a", Unblock{})
		_, err = b.rt.Instances().Retry(t.Context(), "process", "money-transfer", "stuck", "the court has changed its mind")
		b.ok(err)
		time.Sleep(time.Second)
		b.want("stuck", "7000, 3000, undone, Failed account/b: The account is blocked: lost card")

		b.send("by hand", "b", 10_00)
		b.do("a", Block{"a court says so"})
		time.Sleep(time.Hour)
		_, err = b.rt.Instances().Skip(t.Context(), "process", "money-transfer", "by hand", "", "paid in cash")
		b.ok(err)
		time.Sleep(time.Second)
		b.want("by hand", "6000, 3000, undone, Failed account/b: The account is blocked: lost card")
	})
}

// Somebody cancels a transfer when the money is about to reach the target. What
// the process hears of first, the timer or the cancellation, changes nothing.
func TestLateCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBranch(t, Bank{Clearing: time.Hour})
		timers := 0
		for n := range 16 {
			id := fmt.Sprint(n)
			b.send(id, "b", 10_00)
			b.store.Fail("$process/money-transfer/"+id, 1+n%7) // until both have happened
			time.Sleep(time.Hour - time.Second)
			_, err := Transfers.Execute(t.Context(), b.rt, id, Cancel{"wrong account"})
			b.ok(err)
			time.Sleep(time.Minute)
			d, err := TransferDetails.Get(t.Context(), b.rt, id)
			b.ok(err)
			b.want(id, "10000, 0, undone, Failed "+d.Reason)
			if d.Reason != "wrong account" {
				timers++
			}
		}
		t.Logf("the timer came first %d times", timers)
	})
}

// accrued is how much interest has accrued on an account, and to which day.
func (b *branch) accrued(account string) string {
	b.Helper()
	a, _, err := Accounts.Load(b.Context(), b.rt, account)
	b.ok(err)
	return fmt.Sprintf("%d to %s", a.Interest, append([]string{""}, a.Days...)[len(a.Days)])
}

// night is what became of the interest of a day.
func (b *branch) night(day string) string {
	b.Helper()
	i, err := b.rt.Instances().Get(b.Context(), "saga", "interest", "daily-"+day)
	b.ok(err)
	return fmt.Sprintf("%s %s", i.State, i.Data)
}

// begin lets the interest of a day accrue, and returns why it does not.
func (b *branch) begin(id string, d Day) error {
	b.Helper()
	_, err := b.bank.Interest().Start(b.Context(), b.rt, id, Night{Day: d})
	b.ok(err)
	i, err := b.rt.Instances().Wait(b.Context(), "saga", "interest", id)
	b.ok(err)
	if i.State != deed.InstanceCompleted {
		return deed.Reason{Code: i.Code, Text: i.Reason}
	}
	return nil
}

// Every night at 01:30 interest accrues for all accounts, by the balance of
// midnight, once for each day, whatever happens.
func TestDailyInterest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := func(got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s, wanted %s", got, want)
			}
		}
		b := openBranch(t, Bank{}) // it is 2000-01-01, a moment after midnight
		b.do("a", Deposit{Amount: cad(364_900_00)})
		b.do("b", SetOverdraftLimit{365_00})
		b.do("b", Withdraw{Amount: cad(365_00)})
		time.Sleep(2 * time.Hour)
		is(b.accrued("a"), "0 to 2000-01-01")
		time.Sleep(23*time.Hour + 29*time.Minute)
		b.do("a", Withdraw{Amount: cad(365_000_00)}) // after midnight, so it does not count
		is(b.accrued("a"), "0 to 2000-01-01")
		time.Sleep(2 * time.Minute)
		is(b.accrued("a"), "1000000000 to 2000-01-02")
		is(b.accrued("b"), "-12000000 to 2000-01-02")
		is(b.accrued("c"), "0 to 2000-01-02")
		is(b.night("2000-01-02"), `completed {"day":"2000-01-02","accrued":3,"before":0}`)

		// Scenario X1.
		accrue := b.bank.AccrueInterest()
		err := b.await(accrue.Submit(t.Context(), b.rt, "a", Day{"2000-01-02"}))
		if !errors.Is(err, ErrAccrued) {
			t.Errorf("accrued twice: %v", err)
		}
		for name, err := range map[string]error{
			"an account": b.await(accrue.Submit(t.Context(), b.rt, "a", Day{"2000-01-04"})),
			"all":        b.begin("too-early", Day{"2000-01-04"}),
		} {
			if !errors.Is(err, ErrToCome) {
				t.Errorf("interest of a day to come, %s: %v", name, err)
			}
		}

		// One account fails at first, and one for good.
		time.Sleep(21 * time.Hour)
		b.do("a", Deposit{Amount: cad(365_00)})
		time.Sleep(2 * time.Hour) // after midnight
		b.ok(b.await(accrue.Submit(t.Context(), b.rt, "c", Day{"2000-01-03"})))
		b.store.Fail("account/a", 1)
		time.Sleep(2 * time.Hour)
		is(b.accrued("a"), "1001000000 to 2000-01-03")
		is(b.night("2000-01-03"), `completed {"day":"2000-01-03","accrued":2,"before":1}`)
		time.Sleep(21 * time.Hour)
		b.store.Fail("account/b", faulty.Always)
		time.Sleep(2 * time.Hour)
		is(b.accrued("a"), "1002000000 to 2000-01-04")
		is(b.accrued("b"), "-24000000 to 2000-01-03")
		is(b.night("2000-01-04"), `running {"day":"2000-01-04","accrued":2,"before":0,"failed":["b"]}`)
		b.store.Repair()

		// Nobody was there for three nights.
		b.stop()
		time.Sleep(72 * time.Hour)
		b.open()
		time.Sleep(time.Minute)
		is(b.accrued("a"), "1005000000 to 2000-01-07")
		is(b.accrued("b"), "-60000000 to 2000-01-07")

		// The day that has failed is made up for, and the question answered.
		b.ok(b.begin("again", Day{"2000-01-04"}))
		is(b.accrued("a"), "1005000000 to 2000-01-07")
		is(b.accrued("b"), "-72000000 to 2000-01-07")
		i, err := b.rt.Instances().Get(t.Context(), "saga", "interest", "daily-2000-01-04")
		b.ok(err)
		_, err = b.rt.Tasks().Decide(t.Context(), i.Tasks["see-to-it"], "seen-to", "begun again", nil)
		b.ok(err)
		is(b.night("2000-01-04"), `completed {"day":"2000-01-04","accrued":2,"before":0,"failed":["b"]}`)
		_, version, err := Accounts.Load(t.Context(), b.rt, "c")
		if err != nil || version != 1+7 {
			t.Errorf("c has %d events, %v", version, err)
		}
		b.do("a", PayInterest{})
		b.do("b", PayInterest{})
		a, _, err1 := Accounts.Load(t.Context(), b.rt, "a")
		o, _, err2 := Accounts.Load(t.Context(), b.rt, "b")
		b.ok(errors.Join(err1, err2))
		is(fmt.Sprintf("%v, %v with an overdraft of %d", a.Balance, o.Balance, o.Overdraft), "375.05 CAD, -365.72 CAD with an overdraft of 36572")
	})
}

// The store goes away in the middle of a night, and the program ends too: the
// others go on when both are back, and nobody has interest twice.
func TestNightIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBranch(t, Bank{})
		time.Sleep(time.Hour)
		b.store.Why = store.ErrUnavailable
		b.store.Fail("account/b", faulty.Always)
		time.Sleep(time.Hour)
		b.stop()
		b.store.Repair()
		b.open()
		time.Sleep(20 * time.Minute)
		if got, want := b.night("2000-01-01"), `completed {"day":"2000-01-01","accrued":3,"before":0}`; got != want {
			t.Errorf("%s, wanted %s", got, want)
		}
		for _, id := range []string{"a", "b", "c"} {
			if a, _, err := Accounts.Load(t.Context(), b.rt, id); err != nil || len(a.Days) != 1 {
				t.Errorf("%s: %v, %v", id, a.Days, err)
			}
		}
	})
}
