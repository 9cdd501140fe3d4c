package credits

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/faulty"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := &site{}
		t.Run("before a restart", func(t *testing.T) {
			s.serve(t, open(t))
			t.Run("C1 C2", s.transfer)
			t.Run("C3", s.insufficient)
			t.Run("C4", s.structure)
			t.Run("C8", s.fees)
			t.Run("C9", s.retry)
			t.Run("C5", s.largeTransfers)
		})
		t.Run("after it", func(t *testing.T) {
			s.serve(t, open(t))
			t.Run("C5", s.decisions)
			t.Run("C9", s.resume)
		})
	})
}

// site is an issuer of credits that is served at an address.
type site struct {
	apicheck.Server
	store *faulty.Store
	tasks map[string]any // by transfer
}

func (s *site) serve(t *testing.T, st store.Store) {
	s.store = faulty.New(st)
	s.Base = deedtest.Serve(t, s.store, Credits{Retry: deed.Retry{Attempts: 3, First: 20 * time.Millisecond}}.Domain())
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return s.Ask(t, method, "/v1/"+path, body, headers...)
}

// open makes accounts with credits on them, in minor units.
func (s *site) open(t *testing.T, accounts map[string]int64) {
	t.Helper()
	for id, n := range accounts {
		httptry.Want(t, "open", s.ask(t, "POST", "credit-account/"+id+"/open", `{"owner":"Ann","currency":"USD"}`).Status, 200)
		if n > 0 {
			httptry.Want(t, "load", s.ask(t, "POST", "credit-account/"+id+"/load", amount(n)).Status, 200)
		}
	}
}

func amount(n int64) string { return fmt.Sprintf(`{"amount":{"amount":%d,"currency":"USD"}}`, n) }

// send asks for a transfer that is named by the key of the request, and returns
// the answer and the id of the transfer.
func (s *site) send(t *testing.T, key, from, to string, n int64) (httptry.Answer, string) {
	t.Helper()
	body := strings.Replace(amount(n), "{", fmt.Sprintf(`{"from":%q,"to":%q,`, from, to), 1)
	a := s.ask(t, "POST", "credit-transfer/request", body, "Idempotency-Key", key, "X-Actor", "ann")
	return a, strings.TrimPrefix(fmt.Sprint(a.Get("stream")), "credit-transfer/")
}

// command is what has become of a command when it is over, or stands.
func (s *site) command(t *testing.T, id string) httptry.Answer {
	t.Helper()
	return s.ask(t, "GET", "commands/"+id+"?wait=30s", "")
}

// becomes waits until a transfer has a status, and returns what is known of it.
func (s *site) becomes(t *testing.T, id string, status Status) (entry httptry.Answer) {
	t.Helper()
	httptry.Until(t, fmt.Sprintf("transfer %s is %s", id, status), func() bool {
		entry = s.ask(t, "GET", "views/transfers/"+id, "")
		return entry.Get("value", "status") == string(status)
	})
	return entry
}

// has is what can be spent of an account, and what is on it, when the view knows
// all of it.
func (s *site) has(t *testing.T, id string) string {
	t.Helper()
	var view httptry.Answer
	httptry.Until(t, "the view knows "+id, func() bool {
		account := s.ask(t, "GET", "credit-account/"+id, "")
		view = s.ask(t, "GET", "views/balances/"+id, "")
		var held float64
		holds, _ := account.Get("state", "holds").(map[string]any)
		for _, m := range holds {
			held += m.(map[string]any)["amount"].(float64)
		}
		is, _ := account.Get("state", "balance", "amount").(float64)
		return view.Get("value", "balance", "amount") == is && view.Get("value", "available", "amount") == is-held
	})
	return fmt.Sprintf("%v of %v", view.Get("value", "available", "amount"), view.Get("value", "balance", "amount"))
}

func (s *site) says(t *testing.T, notice, text string) {
	t.Helper()
	httptry.Until(t, fmt.Sprintf("notice %s says %q", notice, text), func() bool {
		return s.ask(t, "GET", "views/notices/"+notice, "").Get("value", "text") == text
	})
}

// Scenarios C1 and C2 of the specification.
func (s *site) transfer(t *testing.T) {
	s.open(t, map[string]int64{"a": 100_00, "b": 0})
	first, id := s.send(t, "c1", "a", "b", 30_00)
	httptry.Want(t, "stored", []any{first.Status, first.Get("id"), first.Header.Get("Location")}, []any{202, "c1", "/v1/commands/c1"})
	httptry.Want(t, "command", s.command(t, "c1").Get("state"), "completed")
	httptry.Want(t, "fee", s.becomes(t, id, Succeeded).Get("value", "fee", "amount"), 0)
	httptry.Want(t, "a, b", []any{s.has(t, "a"), s.has(t, "b")}, []any{"7000 of 7000", "3000 of 3000"})
	s.says(t, id, "30.00 USD to b was sent")
	s.says(t, id+"-in", "30.00 USD from a has come")

	again, same := s.send(t, "c1", "a", "b", 30_00)
	httptry.Want(t, "again", []any{again.Status / 100, same, again.Header.Get("Idempotent-Replay")}, []any{2, id, "true"})
	mismatch, _ := s.send(t, "c1", "a", "b", 31_00)
	httptry.Want(t, "with another amount", []any{mismatch.Status, mismatch.Get("code")}, []any{422, "idempotency_mismatch"})
	httptry.Want(t, "a", s.has(t, "a"), "7000 of 7000")
	_, second := s.send(t, "c2", "a", "b", 30_00)
	s.becomes(t, second, Succeeded)
	httptry.Want(t, "a, b", []any{second != id, s.has(t, "a"), s.has(t, "b")}, []any{true, "4000 of 4000", "6000 of 6000"})
}

// Scenario C3.
func (s *site) insufficient(t *testing.T) {
	s.open(t, map[string]int64{"c": 20_00})
	a, id := s.send(t, "c3", "c", "b", 30_00)
	httptry.Want(t, "stored", a.Status, 202)
	c := s.command(t, "c3")
	httptry.Want(t, "why", []any{c.Get("state"), c.Get("code"), c.Get("reason")}, []any{"rejected", "insufficient_balance", "credit-account/c: insufficient balance"})
	s.says(t, "c3", "30.00 USD to b could not be sent: credit-account/c: insufficient balance")
	httptry.Want(t, "events of c", s.ask(t, "GET", "credit-account/c", "").Get("version"), 2)
	httptry.Want(t, "c, transfer", []any{s.has(t, "c"), s.ask(t, "GET", "streams/credit-transfer/"+id, "").Status}, []any{"2000 of 2000", 404})
}

// Scenario C4: what is malformed is not stored.
func (s *site) structure(t *testing.T) {
	less, _ := s.send(t, "c4-1", "a", "b", -5)
	none, _ := s.send(t, "c4-2", "a", "", 5)
	httptry.Want(t, "less than nothing", []any{less.Status, less.Get("errors").([]any)[0].(map[string]any)["field"]}, []any{400, "amount.amount"})
	httptry.Want(t, "nobody", []any{none.Status, none.Get("errors").([]any)[0].(map[string]any)["field"]}, []any{400, "to"})
	for _, key := range []string{"c4-1", "c4-2"} {
		httptry.Want(t, "not stored", s.ask(t, "GET", "commands/"+key, "").Status, 404)
	}
	for _, internal := range []string{"credit-account/a/hold", "credit-account/a/receive", "credit-transfer/x/record", "credit-transfer/x/succeed"} {
		httptry.Want(t, internal, s.ask(t, "POST", internal, `{}`).Status, 404)
	}
}

// Scenario C8.
func (s *site) fees(t *testing.T) {
	s.open(t, map[string]int64{"f": 0})
	for _, n := range []int64{100_00, 500_00, 500_01} {
		httptry.Want(t, "load", s.ask(t, "POST", "credit-account/f/load", amount(n)).Status, 200)
	}
	var fees []any
	for _, e := range s.ask(t, "GET", "streams/credit-account/f", "").Get("events").([]any)[1:] {
		fees = append(fees, e.(map[string]any)["data"].(map[string]any)["fee"].(map[string]any)["amount"])
	}
	httptry.Want(t, "fees", fees, []any{2, 10, 0})
	httptry.Want(t, "all is there", s.has(t, "f"), "110001 of 110001")

	httptry.Want(t, "register", s.ask(t, "POST", "merchant/m/register", `{"name":"Shop","currency":"USD"}`).Status, 200)
	sell := func(n int64) httptry.Answer {
		return s.ask(t, "POST", "merchant/m/sell", strings.Replace(amount(n), "{", `{"account":"f",`, 1), "Prefer", "wait=30")
	}
	httptry.Want(t, "sell", sell(200_00).Status, 200)
	httptry.Want(t, "the customer pays the price, the merchant the fee", []any{s.has(t, "f"), s.ask(t, "GET", "merchant/m", "").Get("state", "balance", "amount")},
		[]any{"90001 of 90001", 199_95})
	too := sell(2000_00)
	httptry.Want(t, "sell too much", []any{too.Status, too.Get("reason")}, []any{422, "insufficient_balance"})
	httptry.Want(t, "neither", []any{s.has(t, "f"), s.ask(t, "GET", "merchant/m", "").Get("version")}, []any{"90001 of 90001", 2})
}

// Scenario C9: a request that cannot be handled twice is handled the third time;
// one that never can is listed, until somebody has it done again. Both debit once.
func (s *site) retry(t *testing.T) {
	s.open(t, map[string]int64{"r": 100_00})
	s.store.Fail("credit-account/r", 2)
	_, id := s.send(t, "c9-1", "r", "b", 10_00)
	done := s.command(t, "c9-1")
	httptry.Want(t, "twice and again", []any{done.Get("state"), attempts(done)}, []any{"completed", 3})
	s.becomes(t, id, Succeeded)
	httptry.Want(t, "one debit", s.has(t, "r"), "9000 of 9000")

	s.store.Fail("credit-account/r", faulty.Always)
	s.send(t, "c9-2", "r", "b", 10_00)
	failed := s.command(t, "c9-2")
	httptry.Want(t, "given up", []any{failed.Get("state"), attempts(failed), s.has(t, "r")}, []any{"failed", 3, "9000 of 9000"})
	s.says(t, "c9-2", "10.00 USD to b could not be sent yet")
	httptry.Until(t, "it is listed", func() bool {
		list, _ := s.ask(t, "GET", "commands?state=failed", "").Get("commands").([]any)
		return len(list) == 1 && list[0].(map[string]any)["id"] == "c9-2"
	})
	s.store.Repair()
}

func attempts(command httptry.Answer) any {
	return command.Get("steps").([]any)[0].(map[string]any)["attempts"]
}

// Scenario C9 goes on, the disk has been repaired.
func (s *site) resume(t *testing.T) {
	httptry.Want(t, "resume", s.ask(t, "POST", "commands/c9-2/resume", "").Status, 202)
	done := s.command(t, "c9-2")
	httptry.Want(t, "done", done.Get("state"), "completed")
	s.becomes(t, strings.TrimPrefix(fmt.Sprint(done.Get("stream")), "credit-transfer/"), Succeeded)
	httptry.Want(t, "one debit", s.has(t, "r"), "8000 of 8000")
	httptry.Want(t, "once is enough", s.ask(t, "POST", "commands/c9-2/resume", "").Status, 409)
}

// Scenario C5, as far as the restart: the credits are held.
func (s *site) largeTransfers(t *testing.T) {
	s.open(t, map[string]int64{"l": 5_000_00, "m": 0})
	s.tasks = map[string]any{}
	for n, key := range []string{"c5", "c6"} {
		_, id := s.send(t, key, "l", "m", 1_500_00)
		s.becomes(t, id, PendingValidation)
		httptry.Want(t, "held", s.has(t, "l"), fmt.Sprintf("%d of 500000", 5_000_00-int64(n+1)*1_500_00))
		httptry.Until(t, "somebody is asked", func() bool {
			i := s.ask(t, "GET", "processes/credit-transfer/"+id, "")
			s.tasks[id] = i.Get("tasks", "validation")
			return i.Get("state") == "running" && s.tasks[id] != nil
		})
		s.says(t, id, "1500.00 USD to m waits for validation")
	}
	httptry.Want(t, "m", s.has(t, "m"), "0 of 0")
}

// Scenario C5 goes on: one transfer is approved, the other one is not.
func (s *site) decisions(t *testing.T) {
	_, yes := s.send(t, "c5", "l", "m", 1_500_00)
	_, no := s.send(t, "c6", "l", "m", 1_500_00)
	decide := func(id, body string) httptry.Answer {
		return s.ask(t, "POST", fmt.Sprintf("tasks/%v/decision", s.tasks[id]), body, "X-Actor", "olga")
	}
	httptry.Until(t, "both are asked", func() bool {
		list, _ := s.ask(t, "GET", "tasks?state=open&role=validator", "").Get("tasks").([]any)
		return len(list) == 2
	})
	approved := decide(yes, `{"choice":"approve"}`)
	httptry.Want(t, "approve", []any{approved.Status, approved.Get("state")}, []any{200, "decided"})
	httptry.Want(t, "by", s.becomes(t, yes, Succeeded).Get("value", "approved_by"), "olga")
	httptry.Want(t, "l, m", []any{s.has(t, "l"), s.has(t, "m")}, []any{"200000 of 350000", "150000 of 150000"})

	httptry.Want(t, "no such choice", decide(no, `{"choice":"perhaps"}`).Status, 400)
	httptry.Want(t, "reject", decide(no, `{"choice":"reject","reason":"who is m?"}`).Status, 200)
	entry := s.becomes(t, no, Failed)
	httptry.Want(t, "why", []any{entry.Get("value", "code"), entry.Get("value", "reason")}, []any{"validation_rejected", "who is m?"})
	httptry.Want(t, "l, m", []any{s.has(t, "l"), s.has(t, "m")}, []any{"350000 of 350000", "150000 of 150000"})
	httptry.Want(t, "decided otherwise", decide(no, `{"choice":"approve"}`).Status, 409)
	httptry.Want(t, "both parties", []any{s.ask(t, "GET", "processes/credit-transfer/"+no, "").Get("state"), s.ask(t, "GET", "processes/credit-transfer/"+yes, "").Get("state")},
		[]any{"undone", "completed"})
}
