package bank

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := &site{}
		t.Run("before a restart", func(t *testing.T) {
			s.base = deedtest.Serve(t, open(t), Bank{Clearing: time.Hour, InterestAt: leapDays}.Domain())
			t.Run("accounts", s.accounts)
			t.Run("X1", s.interest)
			t.Run("under way", s.underWay)
			t.Run("stuck", s.stuck)
		})
		t.Run("after it", func(t *testing.T) {
			s.base = deedtest.Serve(t, open(t), Bank{InterestAt: leapDays}.Domain())
			t.Run("X1", s.onceOnly)
			t.Run("repair", s.repair)
			t.Run("transfers", s.transfers)
		})
	})
}

// leapDays are far from whenever this runs.
const leapDays = "30 1 29 2 *"

// site is a bank that is served at an address.
type site struct {
	base string
	day  string // for which interest has accrued, as JSON
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return httptry.Ask(t, method, s.base+"/v1/"+path, body, headers...)
}

func amount(n int64) string { return fmt.Sprintf(`{"amount":{"amount":%d,"currency":"CAD"}}`, n) }

// balance is what is on an account.
func (s *site) balance(t *testing.T, account string) any {
	t.Helper()
	return s.ask(t, "GET", "account/"+account, "").Get("state", "balance", "amount")
}

// types are the events of an account.
func (s *site) types(t *testing.T, account string) string {
	t.Helper()
	var out []string
	list, _ := s.ask(t, "GET", "streams/account/"+account, "").Get("events").([]any)
	for _, e := range list {
		out = append(out, fmt.Sprint(e.(map[string]any)["type"]))
	}
	return strings.Join(out, " ")
}

func (s *site) accounts(t *testing.T) {
	ann := `{"first_name":"Ann","last_name":"Lee","email":"ann@example.com"}`
	httptry.Want(t, "create", s.ask(t, "POST", "customer/ann/create", ann).Status, 200)
	taken := s.ask(t, "POST", "customer/eve/create", strings.Replace(ann, "ann@", "ANN@", 1))
	httptry.Want(t, "the same address", []any{taken.Status, taken.Get("reason")}, []any{422, "email_taken"})
	for _, id := range []string{"a", "b", "c", "d"} {
		httptry.Want(t, "open", s.ask(t, "POST", "account/"+id+"/open", `{"customer":"ann","currency":"CAD"}`, "Prefer", "wait=30").Status, 200)
	}
	nobody := s.ask(t, "POST", "account/z/open", `{"customer":"bob","currency":"CAD"}`, "Prefer", "wait=30")
	httptry.Want(t, "of nobody", []any{nobody.Status, s.types(t, "z")}, []any{404, ""})
	httptry.Want(t, "deposit", s.ask(t, "POST", "account/a/deposit", amount(100_00)).Status, 200)
	httptry.Want(t, "withdraw", s.ask(t, "POST", "account/a/withdraw", amount(100_01)).Status, 422)
}

func today() string { return fmt.Sprintf(`{"day":%q}`, time.Now().UTC().Format(time.DateOnly)) }

// accrue lets the interest of today accrue on an account.
func (s *site) accrue(t *testing.T, account, day string) httptry.Answer {
	t.Helper()
	return s.ask(t, "POST", "account/"+account+"/accrue-interest", day, "Prefer", "wait=30")
}

// Scenario X1 of the specification, and the saga of a day.
func (s *site) interest(t *testing.T) {
	s.day = today() // all the time, should it end
	httptry.Want(t, "accrue", s.accrue(t, "a", s.day).Status, 200)
	again := s.accrue(t, "a", s.day)
	httptry.Want(t, "accrue again", []any{again.Status, again.Get("reason")}, []any{422, "already_accrued"})
	httptry.Want(t, "one event", strings.Count(s.types(t, "a"), "interest-accrued"), 1)
	httptry.Want(t, "of nothing", s.accrue(t, "z", s.day).Status, 404)
	httptry.Want(t, "no date", s.accrue(t, "a", `{"day":"today"}`).Status, 400)

	night := s.ask(t, "POST", "sagas/interest/all", s.day, "Prefer", "wait=30")
	httptry.Want(t, "for all", []any{night.Get("state"), night.Get("data", "accrued"), night.Get("data", "before")}, []any{"completed", 3, 1})
	httptry.Want(t, "once", strings.Count(s.types(t, "a")+s.types(t, "b"), "interest-accrued"), 2)
	httptry.Want(t, "counted before", s.ask(t, "POST", "sagas/interest/some", `{"day":"2026-01-01","accrued":1}`).Status, 400)
	httptry.Want(t, "the schedule has begun", s.ask(t, "GET", "streams/$schedule/daily-interest/runs", "").Status, 200)
}

// Scenario X1 after a restart.
func (s *site) onceOnly(t *testing.T) {
	again := s.accrue(t, "a", s.day)
	httptry.Want(t, "accrue again", []any{again.Status, again.Get("reason")}, []any{422, "already_accrued"})
	httptry.Want(t, "one event", strings.Count(s.types(t, "a"), "interest-accrued"), 1)
}

// transfer initiates one from a and waits until the money has left, or cannot.
func (s *site) transfer(t *testing.T, id, from, to string, n int64) {
	t.Helper()
	body := strings.Replace(amount(n), "{", fmt.Sprintf(`{"from":%q,"to":%q,`, from, to), 1)
	httptry.Want(t, "initiate", s.ask(t, "POST", "money-transfer/"+id+"/initiate", body).Status, 200)
	s.becomes(t, id, Funded, Failed, Transferred)
}

// becomes waits until a transfer has one of some statuses.
func (s *site) becomes(t *testing.T, id string, status ...Status) string {
	t.Helper()
	var is string
	httptry.Until(t, fmt.Sprintf("transfer %s is one of %v", id, status), func() bool {
		is = fmt.Sprint(s.ask(t, "GET", "money-transfer/"+id, "").Get("state", "status"))
		return slices.Contains(status, Status(is))
	})
	return is
}

// Money that is under way can be called back.
func (s *site) underWay(t *testing.T) {
	s.transfer(t, "t-1", "a", "b", 30_00)
	httptry.Want(t, "under way", []any{s.balance(t, "a"), s.balance(t, "b")}, []any{70_00, 0})
	httptry.Want(t, "cancel", s.ask(t, "POST", "money-transfer/t-1/cancel", `{"reason":"wrong account"}`).Status, 200)
	s.becomes(t, "t-1", Failed)
	httptry.Want(t, "as they were", []any{s.balance(t, "a"), s.balance(t, "b")}, []any{100_00, 0})
	httptry.Want(t, "b", s.types(t, "b"), "opened interest-accrued")
}

// The money can reach neither side: somebody has to see to it.
func (s *site) stuck(t *testing.T) {
	s.transfer(t, "t-2", "a", "b", 30_00)
	httptry.Want(t, "block", s.ask(t, "POST", "account/a/block", `{"reason":"a court says so"}`).Status, 200)
	httptry.Want(t, "cancel", s.ask(t, "POST", "money-transfer/t-2/cancel", `{"reason":"wrong account"}`).Status, 200)
	i := s.ask(t, "GET", "processes/money-transfer/t-2?wait=30s", "")
	httptry.Want(t, "stuck", []any{i.Get("state"), i.Get("cause"), s.balance(t, "a")}, []any{"stuck", "wrong account", 70_00})
	s.becomes(t, "t-2", Refunding)
}

func (s *site) repair(t *testing.T) {
	httptry.Until(t, "it is listed", func() bool {
		list, _ := s.ask(t, "GET", "processes?state=stuck", "").Get("instances").([]any)
		return len(list) == 1
	})
	retry := func() httptry.Answer {
		return s.ask(t, "POST", "processes/money-transfer/t-2/retry", `{"reason":"let us see"}`, "X-Actor", "tim")
	}
	httptry.Want(t, "still", []any{retry().Get("state"), s.balance(t, "a")}, []any{"stuck", 70_00})
	httptry.Want(t, "unblock", s.ask(t, "POST", "account/a/unblock", "").Status, 200)
	httptry.Want(t, "retry", retry().Status, 200)
	i := s.ask(t, "GET", "processes/money-transfer/t-2?wait=30s", "")
	httptry.Want(t, "then", []any{i.Get("state"), s.becomes(t, "t-2", Failed), s.balance(t, "a")}, []any{"undone", Failed, 100_00})
	httptry.Want(t, "one refund of it", strings.Count(s.types(t, "a"), "refunded"), 2)
	httptry.Want(t, "what is over", retry().Status, 409)
}

// Without clearing, money arrives at once, or is back at once.
func (s *site) transfers(t *testing.T) {
	s.transfer(t, "t-3", "a", "b", 30_00)
	s.becomes(t, "t-3", Transferred)
	httptry.Want(t, "arrived", []any{s.balance(t, "a"), s.balance(t, "b")}, []any{70_00, 30_00})
	httptry.Want(t, "block", s.ask(t, "POST", "account/c/block", `{"reason":"lost card"}`).Status, 200)
	for id, to := range map[string]string{"t-4": "c", "t-5": "nobody"} {
		s.transfer(t, id, "a", to, 30_00)
		s.becomes(t, id, Failed)
	}
	s.transfer(t, "t-6", "a", "b", 70_01)
	s.becomes(t, "t-6", Failed)
	httptry.Want(t, "as they were", []any{s.balance(t, "a"), s.balance(t, "b"), s.balance(t, "c")}, []any{70_00, 30_00, 0})
	var d httptry.Answer
	httptry.Until(t, "the view knows", func() bool {
		d = s.ask(t, "GET", "views/money-transfers/t-4", "")
		return d.Get("value", "status") == string(Failed)
	})
	httptry.Want(t, "why", []any{d.Get("value", "code"), d.Get("value", "reason")}, []any{"account_blocked", "account/c: The account is blocked: lost card"})
	httptry.Want(t, "too late", s.ask(t, "POST", "money-transfer/t-3/cancel", `{"reason":"wrong account"}`).Status, 422)
}
