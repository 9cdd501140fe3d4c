package credits

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/internal/program"
)

func TestMain(m *testing.M) {
	program.Main(m, func(wait string) []deed.Domain {
		d, err := time.ParseDuration(wait)
		if err != nil {
			panic(err)
		}
		return []deed.Domain{Credits{FraudCheck: d}.Domain()}
	})
}

func TestJudge(t *testing.T) {
	pending := deed.Fold[Transfer](TransferRequested{From: "a", To: "b", Amount: usd(1)})
	judged := deed.Fold[Transfer](TransferRequested{From: "a", To: "b", Amount: usd(1)}, TransferJudged{})
	over := deed.Fold[Transfer](TransferRequested{From: "a", To: "b", Amount: usd(1)}, TransferSucceeded{})
	for _, c := range []struct {
		name string
		of   Transfer
		cmd  Judge
		n    int
		err  error
	}{
		{"clear", pending, Judge{}, 1, nil}, {"suspicious", pending, Judge{true, "much"}, 1, nil}, {"again", judged, Judge{true, "much"}, 0, nil},
		{"too late", over, Judge{}, 0, ErrOver}, {"of nothing", Transfer{}, Judge{}, 0, deed.ErrNotFound},
	} {
		events, err := c.cmd.Decide(c.of)
		if len(events) != c.n || fmt.Sprint(err) != fmt.Sprint(c.err) && !strings.HasPrefix(fmt.Sprint(err), fmt.Sprint(c.err)) {
			t.Errorf("%s: %v, %v", c.name, events, err)
		}
	}
	if (Judge{Suspicious: true}).Validate() == nil {
		t.Error("suspicious, and nobody knows why")
	}
}

// The fraud check is a process of its own, which is killed, and away; so is the
// server, between a judgement and its answer. Every transfer is judged once, or a
// person decides.
func TestFraudCheck(t *testing.T) {
	backends.EachPlace(t, func(t *testing.T, place string) {
		t.Parallel()
		server := program.Server{Place: place, Arg: "10m", DieAfter: "judged"}
		p := server.Start(t)
		s := &site{Server: apicheck.Server{Base: p.Base}}
		server.Addr = p.Addr()
		addr := program.FreeAddr(t)
		put := s.ask(t, "PUT", "topics/credit-events/subscriptions/fraud-check", fmt.Sprintf(
			`{"target":{"kind":"webhook","url":"http://%s"},"types":["credit-transfer.requested.v1"],"retry":[%s]}`, addr, strings.Join(slices.Repeat([]string{`"200ms"`}, 100), ",")))
		httptry.Want(t, "subscribe", put.Status, 200)
		secret := fmt.Sprint("WEBHOOK_SECRET=", put.Get("once", "secret"))
		checker := func() *program.Process {
			return program.Start(t, []string{secret}, program.Build(t, "./fraudcheck"), "--addr", addr, "--server", s.Base)
		}
		s.open(t, map[string]int64{"a": 5_000_00, "b": 0})

		// The server is killed when the judgement is recorded: the webhook comes
		// again, and so does the judgement, under its key.
		check := checker()
		_, first := s.send(t, "f1", "a", "b", 10_00)
		p.Killed(t)
		server.DieAfter = ""
		p = server.Start(t)
		s.becomes(t, first, Succeeded)
		httptry.Want(t, "judged once", s.transferEvents(t, first), "requested judged succeeded")

		// It is away for a while.
		check.Kill()
		_, second := s.send(t, "f2", "a", "b", 10_00)
		httptry.Until(t, "the credits are held", func() bool { return s.has(t, "a") == "498000 of 499000" })
		check = checker()
		s.becomes(t, second, Succeeded)

		// What it finds suspicious, a person decides.
		_, third := s.send(t, "f3", "a", "b", 600_00)
		entry := s.becomes(t, third, PendingValidation)
		httptry.Want(t, "why", entry.Get("value", "doubt"), "The fraud check says: 600.00 USD is much")
		s.approve(t, third, "The fraud check says: 600.00 USD is much.")
		httptry.Want(t, "all of it", s.transferEvents(t, third), "requested judged validation-required approved succeeded")

		// Only the fraud check is heard, and only if it can show who sent it.
		forged, err := http.Post("http://"+addr, "application/json", strings.NewReader(`{"id":"x","type":"credit-transfer.requested.v1","data":{"transfer":"x"}}`))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, forged.Body) // whatever it says
		forged.Body.Close()
		httptry.Want(t, "forged", forged.StatusCode, 401)

		// It does not come back in time: a person decides.
		check.Kill()
		p.Kill()
		server.Arg = "300ms"
		server.Start(t)
		_, fourth := s.send(t, "f4", "a", "b", 20_00)
		s.becomes(t, fourth, PendingValidation)
		s.approve(t, fourth, "The fraud check has not answered in time.")
		checker() // what it says now changes nothing
		httptry.Until(t, "it has heard of everything", func() bool {
			st := s.ask(t, "GET", "topics/credit-events/subscriptions/fraud-check", "")
			return fmt.Sprint(st.Get("behind"), st.Get("retrying"), st.Get("waiting"), st.Get("dead")) == "0 0 0 0"
		})
		httptry.Want(t, "all of it", s.transferEvents(t, fourth), "requested validation-required approved succeeded")
		httptry.Want(t, "a, b", []any{s.has(t, "a"), s.has(t, "b")}, []any{"436000 of 436000", "64000 of 64000"})
	})
}

// transferEvents are the types of the events of a transfer.
func (s *site) transferEvents(t *testing.T, id string) string {
	t.Helper()
	var out []string
	for _, e := range s.ask(t, "GET", "streams/credit-transfer/"+id, "").Get("events").([]any) {
		out = append(out, fmt.Sprint(e.(map[string]any)["type"]))
	}
	return strings.Join(out, " ")
}

// approve decides a task that says something.
func (s *site) approve(t *testing.T, transfer, says string) {
	t.Helper()
	var task any
	httptry.Until(t, "somebody is asked", func() bool {
		task = s.ask(t, "GET", "processes/credit-transfer/"+transfer, "").Get("tasks", "validation")
		return task != nil
	})
	question := fmt.Sprint(s.ask(t, "GET", fmt.Sprintf("tasks/%v", task), "").Get("question", "text"))
	if !strings.HasSuffix(question, says) {
		t.Errorf("the question is %q", question)
	}
	httptry.Want(t, "approve", s.ask(t, "POST", fmt.Sprintf("tasks/%v/decision", task), `{"choice":"approve"}`, "X-Actor", "olga").Status, 200)
	s.becomes(t, transfer, Succeeded)
}
