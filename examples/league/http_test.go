package league

import (
	"errors"
	"fmt"
	"net/url"
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
		s := &site{store: faulty.New(open(t))}
		s.Base = deedtest.Serve(t, s.store, Domain)
		t.Run("create", s.create)
		t.Run("resume", s.resume)
		t.Run("handle", s.handle)
		t.Run("quota", s.quota)
		t.Run("roles", s.roles)
		t.Run("a race", s.race)
	})
}

// site is a league office that is served at an address.
type site struct {
	apicheck.Server
	store *faulty.Store
}

func (s *site) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return s.Ask(t, method, "/v1/"+path, body, headers...)
}

// types lists the types of some events.
func types(events any) string {
	var out []string
	list, _ := events.([]any)
	for _, e := range list {
		out = append(out, fmt.Sprint(e.(map[string]any)["type"]))
	}
	return strings.Join(out, " ")
}

func (s *site) stream(t *testing.T, league string) string {
	t.Helper()
	return types(s.ask(t, "GET", "streams/league/"+url.PathEscape(league), "").Get("events"))
}

// Scenario L1 of the specification.
func (s *site) create(t *testing.T) {
	const name, at = "Blackrock Meet And Train", "Blackrock%20Meet%20And%20Train"
	body := `{"name":"` + name + `","location":"Dublin","date_incorporated":"2016-04-01","twitter_handle":"@blackrock_ach","email_address":"old@x.org"}`
	a := s.ask(t, "POST", "league/create", body, "Idempotency-Key", "c-1", "X-Actor", "ann")
	httptry.Want(t, "stored", []any{a.Status, a.Get("id"), a.Header.Get("Location")}, []any{202, "c-1", "/v1/commands/c-1"})
	done := s.ask(t, "GET", "commands/c-1?wait=30s", "")
	httptry.Want(t, "state", []any{done.Get("state"), done.Get("actor"), done.Get("entities")}, []any{"completed", "ann", []string{"league/" + name}})
	httptry.Want(t, "parameters", done.Get("parameters", "location"), "Dublin")
	httptry.Want(t, "its stream", types(done.Get("history")), "received validated step-started step-completed step-started step-completed completed")
	httptry.Want(t, "the league's stream", s.stream(t, name), "formed contact-details-changed")
	events := s.ask(t, "GET", "streams/league/"+at, "").Get("events").([]any)
	httptry.Want(t, "effective", events[0].(map[string]any)["meta"].(map[string]any)["effective"], "2016-04-01T00:00:00Z")

	again := s.ask(t, "POST", "league/create", body, "X-Actor", "bob", "Prefer", "wait=30")
	httptry.Want(t, "again", []any{again.Status, again.Get("errors").([]any)[0].(map[string]any)["field"]}, []any{400, "name"})
	late := s.ask(t, "POST", "league/create", `{"name":"Late","date_incorporated":"2999-01-01"}`, "X-Actor", "bob", "Prefer", "wait=30")
	httptry.Want(t, "late", []any{late.Status, late.Get("errors").([]any)[0].(map[string]any)["field"], s.stream(t, "Late")}, []any{400, "date_incorporated", ""})
	fixed := s.ask(t, "POST", strings.TrimPrefix(late.Header.Get("Location"), "/v1/")+"/correct", `{"name":"Late","date_incorporated":"2019-01-01","location":"Cork"}`)
	httptry.Want(t, "corrected", fixed.Status, 202)
	httptry.Want(t, "done then", s.eventually(t, strings.TrimPrefix(late.Header.Get("Location"), "/v1/"), "completed").Get("state"), "completed")

	// The defects of the original: the location was lost, the twitter handle
	// wiped, and a league came into being by way of its e-mail address.
	email := s.ask(t, "POST", "league/"+at+"/set-email", `{"email_address":"new@x.org"}`)
	httptry.Want(t, "set-email", email.Status, 200)
	sum := s.ask(t, "GET", fmt.Sprintf("views/league-summaries/%s?min-position=%v&wait=10s", at, email.Get("position")), "")
	httptry.Want(t, "summary", sum.Get("value"), map[string]string{"location": "Dublin", "twitter_handle": "@blackrock_ach", "date_incorporated": "2016-04-01"})
	httptry.Want(t, "both", s.ask(t, "GET", "league/"+at, "").Get("state", "contact"), map[string]string{"twitter_handle": "@blackrock_ach", "email_address": "new@x.org"})
	httptry.Want(t, "a phantom", s.ask(t, "POST", "league/phantom/set-email", `{"email_address":"new@x.org"}`).Status, 404)
	httptry.Want(t, "no stream", s.stream(t, "phantom"), "")
	httptry.Want(t, "blank", s.ask(t, "POST", "league/"+at+"/set-email", `{"email_address":" "}`).Status, 400)
	httptry.Want(t, "a step is no command", s.ask(t, "POST", "league/x/form", `{}`).Status, 404)
}

// The handle of a league as of a day: as far as is known today, and as was known
// before it was corrected.
func (s *site) handle(t *testing.T) {
	body := `{"name":"Handles","location":"Cork","date_incorporated":"2016-04-01","twitter_handle":"@first"}`
	httptry.Want(t, "create", s.ask(t, "POST", "league/create", body, "X-Actor", "hue", "Prefer", "wait=30").Status, 200)
	set := func(body string) httptry.Answer { return s.ask(t, "POST", "league/Handles/set-twitter-handle", body) }
	first := set(`{"twitter_handle":"@second","since":"2018-05-01"}`)
	last := set(`{"twitter_handle":"@third","since":"2020-05-01"}`)
	httptry.Want(t, "set", []any{first.Status, last.Status, set(`{"twitter_handle":"@fourth","since":"2999-01-01"}`).Get("reason")}, []any{200, 200, "day_to_come"})

	summary := func(of string) any {
		return s.ask(t, "POST", "queries/league-summary?"+of, `{"league_name":"Handles"}`).Get("result", "twitter_handle")
	}
	document := func(of string) any {
		return s.ask(t, "GET", fmt.Sprintf("views/league-summaries/Handles?%s&min-position=%v&wait=10s", of, last.Get("position")), "").Get("value", "twitter_handle")
	}
	state := func(of string) any {
		return s.ask(t, "GET", "league/Handles?"+of, "").Get("state", "contact", "twitter_handle")
	}
	for _, c := range []struct{ of, want string }{
		{"", "@third"},
		{"effective=2019-01-01T00:00:00Z", "@second"},
		{"effective=2020-05-01T00:00:00Z", "@third"},
		{fmt.Sprintf("position=%v", first.Get("position")), "@second"},
		{"at=2999-01-01T00:00:00Z", "@third"},
	} {
		httptry.Want(t, "the handle as of "+c.of, []any{summary(c.of), document(c.of), state(c.of)}, []any{c.want, c.want, c.want})
	}
	httptry.Want(t, "before the league", s.ask(t, "POST", "queries/league-summary?effective=2016-01-01T00:00:00Z", `{"league_name":"Handles"}`).Status, 404)
}

// eventually waits until a command is in a state.
func (s *site) eventually(t *testing.T, path, state string) (a httptry.Answer) {
	t.Helper()
	for range 300 {
		if a = s.ask(t, "GET", path, ""); a.Get("state") == state {
			return a
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not become %s: it is %v", path, state, a.Get("state"))
	return a
}

// Scenario L3: the store of the leagues fails at the handling step.
func (s *site) resume(t *testing.T) {
	s.store.Fail("league/", faulty.Always)
	a := s.ask(t, "POST", "league/create", `{"name":"Slow","location":"Galway","date_incorporated":"2016-04-01"}`, "X-Actor", "cat")
	path := strings.TrimPrefix(a.Header.Get("Location"), "/v1/")
	stuck := s.eventually(t, path, "retrying")
	httptry.Want(t, "reason", strings.Contains(fmt.Sprint(stuck.Get("reason")), "is full"), true)
	httptry.Want(t, "nothing yet", s.stream(t, "Slow"), "")
	s.store.Repair()
	httptry.Want(t, "resume", s.ask(t, "POST", path+"/resume", "").Status, 202)
	done := s.eventually(t, path, "completed")
	httptry.Want(t, "one Formed", s.stream(t, "Slow"), "formed")
	httptry.Want(t, "validated once", strings.Count(types(done.Get("history")), "validated"), 1)
	httptry.Want(t, "resume what is over", s.ask(t, "POST", path+"/resume", "").Status, 409)
}

// Scenario L7, the quota: an actor's fourth league of the day is refused and
// goes to the poison log; all else still works.
func (s *site) quota(t *testing.T) {
	create := func(actor string, n int) httptry.Answer {
		return s.ask(t, "POST", "league/create", fmt.Sprintf(`{"name":"%s %d","date_incorporated":"2016-04-01"}`, actor, n), "X-Actor", actor, "Prefer", "wait=30")
	}
	for n := range 3 {
		a := create("dan", n)
		httptry.Want(t, "league", []any{a.Status, a.Get("state")}, []any{200, "completed"})
	}
	fourth := create("dan", 3)
	httptry.Want(t, "the fourth", []any{fourth.Status, fourth.Get("code"), fourth.Header.Get("Retry-After") != ""}, []any{429, "quota_exceeded", true})
	httptry.Want(t, "nothing executed", s.stream(t, "dan 3"), "")
	poison := s.ask(t, "GET", "events?category=$poison&limit=1000", "").Get("events").([]any)
	last := poison[len(poison)-1].(map[string]any)
	httptry.Want(t, "poison log", []any{last["data"].(map[string]any)["command"], last["data"].(map[string]any)["code"], last["meta"].(map[string]any)["actor"]},
		[]any{"league.create", "quota_exceeded", "dan"})
	httptry.Want(t, "somebody else", create("eve", 0).Status, 200)
	httptry.Want(t, "another command", s.ask(t, "POST", "league/dan%200/set-email", `{"email_address":"d@x.org"}`, "X-Actor", "dan").Status, 200)
}

// Scenario L7, the role.
func (s *site) roles(t *testing.T) {
	rt := deedtest.StartOn(t, s.store, Domain)
	ask := func(actor, name string, roles ...string) error {
		ctx := deed.With(t.Context(), deed.Call{Actor: actor, Restricted: true, Roles: roles})
		_, err := CreateLeague.Submit(ctx, rt, "", Create{Name: name, DateIncorporated: "2016-04-01"})
		return err
	}
	_, forbidden := errors.AsType[deed.Forbidden](ask("fay", "Fay's", "runner"))
	httptry.Want(t, "without the role", forbidden, true)
	poison := s.ask(t, "GET", "events?category=$poison&limit=1000", "").Get("events").([]any)
	last := poison[len(poison)-1].(map[string]any)
	httptry.Want(t, "poison log", []any{last["data"].(map[string]any)["code"], last["meta"].(map[string]any)["actor"]}, []any{"forbidden", "fay"})
	httptry.Want(t, "with the role", ask("gus", "Gus's", "league-admin"), nil)
	httptry.Want(t, "as an admin", ask("hal", "Hal's", deed.RoleAdmin), nil)
	httptry.Want(t, "nothing executed", s.stream(t, "Fay's"), "")
}

func (s *site) race(t *testing.T) {
	do := func(path, body string) httptry.Answer {
		t.Helper()
		a := s.ask(t, "POST", path, body)
		httptry.Want(t, path, a.Status, 200)
		return a
	}
	do("race/five-miles/register-runner", `{"login_name":"ann"}`)
	do("race/five-miles/register-runner", `{"login_name":"bob"}`)
	do("runner/ann/register-for-race", `{"race":"five-miles","race_number":1,"registration_fee":{"amount":1500,"currency":"EUR"}}`)
	do("runner/ann/pay-registration", `{"race":"five-miles","amount":{"amount":1000,"currency":"EUR"}}`)
	do("race/five-miles/start", `{"start_time":"2026-02-03T10:00:00Z"}`)
	a := do("race/five-miles/finish-runner", `{"race_number":1,"finish_time":"2026-02-03T10:35:00Z"}`)
	doc := s.ask(t, "GET", fmt.Sprintf("views/runners-in-race/five-miles?min-position=%v&wait=10s", a.Get("position")), "")
	httptry.Want(t, "runners", []any{doc.Get("value", "runners_completed"), doc.Get("value", "runners_running")}, []any{1, 1})
	do("runner/ann/finish-race", `{"race":"five-miles","distance_m":8047,"provisional_ms":2100000}`)
	a = do("runner/ann/confirm-result", `{"race":"five-miles","distance_m":8047,"time_ms":2100000,"place":1}`)
	doc = s.ask(t, "GET", fmt.Sprintf("views/runner-accounts/ann?min-position=%v&wait=10s", a.Get("position")), "")
	httptry.Want(t, "balance", doc.Get("value", "balance", "amount"), -500)
	httptry.Want(t, "again", s.ask(t, "POST", "race/five-miles/finish-runner", `{"race_number":1,"finish_time":"2026-02-03T10:36:00Z"}`).Get("reason"), "not_running")
}
