package bank

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP. All that is asked
// and answered is as the OpenAPI document says.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := &site{}
		t.Run("before a restart", func(t *testing.T) {
			s.Base = deedtest.Serve(t, open(t), Bank{Clearing: time.Hour, InterestAt: leapDays, Rates: Rates{CAD: 1_000_000, EUR: 1_500_000, USD: 1_250_000}}.Domain())
			t.Run("B1 B2 B4", s.customers)
			t.Run("B5 B6", s.money)
			t.Run("currencies", s.currencies)
			t.Run("accounts", s.accounts)
			t.Run("X1", s.interest)
			t.Run("under way", s.underWay)
			t.Run("stuck", s.stuck)
		})
		t.Run("after it", func(t *testing.T) {
			s.Base = deedtest.Serve(t, open(t), Bank{InterestAt: leapDays}.Domain())
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
	apicheck.Server
	day string // for which interest has accrued, as JSON
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return s.Ask(t, method, "/v1/"+path, body, headers...)
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

// overview is what a query says of a customer.
func (s *site) overview(t *testing.T, customer, of string) httptry.Answer {
	t.Helper()
	return s.ask(t, "POST", "queries/customer-overview"+of, fmt.Sprintf(`{"customer":%q}`, customer))
}

// Scenarios B1, B2 and B4 of the specification.
func (s *site) customers(t *testing.T) {
	const bea = `{"first_name":"Bea","last_name":"Lee","email":"bea@example.com"}`
	a := s.ask(t, "POST", "customer/create", bea)
	location := a.Header.Get("Location")
	httptry.Want(t, "create", []any{a.Status, strings.HasPrefix(location, "/v1/customer/")}, []any{201, true})
	id := strings.TrimPrefix(location, "/v1/customer/")
	httptry.Want(t, "overview", s.overview(t, id, "").Get("result"), map[string]any{
		"customer": id, "first_name": "Bea", "last_name": "Lee", "email": "bea@example.com", "accounts": []any{}, "total": map[string]any{"amount": 0, "currency": "CAD"},
	})
	archive := func() []any {
		return s.ask(t, "GET", fmt.Sprintf("views/customer-details?where=last_name=Lee&min-position=%v&wait=10s", a.Get("position")), "").Get("documents").([]any)
	}
	httptry.Want(t, "the archive", []any{len(archive()), archive()[0].(map[string]any)["key"]}, []any{1, id})
	for _, email := range []string{"bea@example.com", "BEA@example.com"} {
		taken := s.ask(t, "POST", "customer/create", strings.Replace(bea, "bea@example.com", email, 1))
		httptry.Want(t, "again", []any{taken.Status, taken.Get("reason"), taken.Get("detail")}, []any{422, "email_taken", "email '" + email + "' already exists"})
	}
	httptry.Want(t, "one of her", len(archive()), 1)

	bad := s.ask(t, "POST", "customer/create", strings.Replace(bea, "bea@example.com", "nope", 1))
	httptry.Want(t, "no address", []any{bad.Status, bad.Get("errors").([]any)[0].(map[string]any)["field"]}, []any{400, "email"})
	bad = s.ask(t, "POST", "account/open", `{"customer":"`+id+`","currency":"XXX"}`)
	httptry.Want(t, "no currency", []any{bad.Status, bad.Get("errors").([]any)[0].(map[string]any)["field"]}, []any{400, "currency"})
	httptry.Want(t, "of nobody", s.ask(t, "POST", "account/open", `{"customer":"nobody","currency":"CAD"}`, "Prefer", "wait=30").Status, 404)
	for _, path := range []string{"customer/nobody", "account/none", "views/customer-details/nobody", "views/account-details/none"} {
		httptry.Want(t, path, s.ask(t, "GET", path, "").Status, 404)
	}
	httptry.Want(t, "nobody's overview", s.overview(t, "nobody", "").Status, 404)
	httptry.Want(t, "nothing of an account", s.ask(t, "POST", "queries/statement", `{"account":"none"}`).Status, 404)
}

// do asks something of an account, and wants a status.
func (s *site) do(t *testing.T, status int, account, command, body string) httptry.Answer {
	t.Helper()
	a := s.ask(t, "POST", "account/"+account+"/"+command, body, "Prefer", "wait=30")
	httptry.Want(t, command+" of "+account, a.Status, status)
	return a
}

// person makes a customer with accounts, whose names begin with that of the
// customer and end with the currency.
func (s *site) person(t *testing.T, id string, currencies ...string) {
	t.Helper()
	httptry.Want(t, "create", s.ask(t, "POST", "customer/"+id+"/create", fmt.Sprintf(`{"first_name":"P","last_name":"Q","email":"%s@example.com"}`, id)).Status, 200)
	for _, c := range currencies {
		s.do(t, 200, id+"-"+c, "open", fmt.Sprintf(`{"customer":%q,"currency":%q}`, id, c))
	}
}

// Scenarios B5 and B6.
func (s *site) money(t *testing.T) {
	s.person(t, "max", "CAD")
	const account = "max-CAD"
	httptry.Want(t, "overdraw", s.do(t, 422, account, "withdraw", amount(42_00)).Get("reason"), "insufficient_funds")
	s.do(t, 400, account, "withdraw", amount(-42_00))
	s.do(t, 400, account, "deposit", amount(-1))
	httptry.Want(t, "no event", s.types(t, account), "opened")
	deposit := s.do(t, 200, account, "deposit", strings.Replace(amount(71_00), "{", `{"commentary":"salary",`, 1))
	withdrawal := s.do(t, 200, account, "withdraw", amount(42_00))

	details := s.ask(t, "GET", fmt.Sprintf("views/account-details/%s?min-position=%v&wait=10s", account, withdrawal.Get("position")), "")
	overview := s.overview(t, "max", "")
	in := func(a any) any { return a.([]any)[0].(map[string]any)["balance"] }
	cad29 := map[string]any{"amount": 29_00, "currency": "CAD"}
	httptry.Want(t, "29 CAD in both", []any{details.Get("value", "balance"), in(overview.Get("result", "accounts")), overview.Get("result", "total")}, []any{cad29, cad29, cad29})
	then := s.overview(t, "max", fmt.Sprintf("?position=%v", deposit.Get("position")))
	httptry.Want(t, "between the two", then.Get("result", "total", "amount"), 71_00)

	httptry.Want(t, "statement", s.statement(t, `{"account":"max-CAD"}`, ""), "0; deposit 7100 salary 7100, withdrawal -4200  2900; 2900")
	httptry.Want(t, "statement before", s.statement(t, `{"account":"max-CAD"}`, fmt.Sprintf("?position=%v", deposit.Get("position"))), "0; deposit 7100 salary 7100; 7100")
	httptry.Want(t, "of days to come", s.statement(t, `{"account":"max-CAD","from":"2999-01-01"}`, ""), "2900; ; 2900")
	httptry.Want(t, "of days long ago", s.statement(t, `{"account":"max-CAD","to":"2000-01-01"}`, ""), "0; ; 0")
	httptry.Want(t, "of no day", s.ask(t, "POST", "queries/statement", `{"account":"max-CAD","from":"monday"}`).Status, 400)
}

// statement is what a statement says: the opening balance, the lines, and the
// closing balance.
func (s *site) statement(t *testing.T, params, of string) string {
	t.Helper()
	a := s.ask(t, "POST", "queries/statement"+of, params)
	var lines []string
	for _, l := range a.Get("result", "lines").([]any) {
		l := httptry.Answer{Body: l.(map[string]any)}
		text, _ := l.Get("text").(string)
		lines = append(lines, fmt.Sprint(l.Get("what"), " ", l.Get("amount", "amount"), " ", text, " ", l.Get("balance", "amount")))
	}
	return fmt.Sprint(a.Get("result", "opening", "amount"), "; ", strings.Join(lines, ", "), "; ", a.Get("result", "closing", "amount"))
}

// Money of other currencies is exchanged. Accounts are compared by what they are
// worth.
func (s *site) currencies(t *testing.T) {
	s.person(t, "uma", "CAD", "EUR", "USD")
	for account, want := range map[string]int64{"uma-CAD": 150_00, "uma-EUR": 100_00, "uma-USD": 120_00} {
		s.do(t, 200, account, "deposit", `{"amount":{"amount":10000,"currency":"eur"}}`)
		httptry.Want(t, "100 EUR on "+account, s.balance(t, account), want)
	}
	httptry.Want(t, "too much", s.do(t, 422, "uma-EUR", "withdraw", amount(150_01)).Get("reason"), "insufficient_funds")
	last := s.do(t, 200, "uma-EUR", "withdraw", amount(75_00))
	httptry.Want(t, "what is left", s.balance(t, "uma-EUR"), 50_00)
	httptry.Want(t, "all of it", s.overview(t, "uma", "").Get("result", "total", "amount"), 150_00+75_00+150_00)

	s.do(t, 200, "uma-USD", "deposit", `{"amount":{"amount":500000,"currency":"USD"}}`)
	rich := s.ask(t, "POST", "queries/highest-balance", "")
	httptry.Want(t, "the richest", []any{rich.Get("result", "account"), rich.Get("result", "customer"), rich.Get("result", "worth", "amount")}, []any{"uma-USD", "uma", 6400_00})
	httptry.Want(t, "the richest before", s.ask(t, "POST", fmt.Sprintf("queries/highest-balance?position=%v", last.Get("position")), "").Get("result", "worth", "amount"), 150_00)

	below := func(query string) (keys []any) {
		for _, m := range s.ask(t, "GET", "groups/below?where=of.customer=uma&"+query, "").Get("members").([]any) {
			keys = append(keys, m.(map[string]any)["key"])
		}
		return keys
	}
	httptry.Want(t, "less than 75.00 CAD", below("amount=7500"), []any(nil))
	httptry.Want(t, "less than 75.01 CAD", below("amount=7501"), []any{"uma-EUR"})
	httptry.Want(t, "less than 100.01 EUR", below("amount=10001&currency=EUR"), []any{"uma-CAD", "uma-EUR"})
	httptry.Want(t, "less than 100.01 EUR before", below(fmt.Sprintf("amount=10001&currency=EUR&position=%v", last.Get("position"))), []any{"uma-CAD", "uma-EUR", "uma-USD"})
	httptry.Want(t, "less than nothing known", s.ask(t, "GET", "groups/below?amount=1&currency=XXX", "").Status, 400)
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
	httptry.Want(t, "for all", []any{night.Get("state"), night.Get("data", "accrued"), night.Get("data", "before")}, []any{"completed", 7, 1})
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
