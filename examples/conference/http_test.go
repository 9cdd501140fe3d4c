package conference_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("conference", func(t *testing.T) { conferenceOverHTTP(t, deedtest.Serve(t, open(t), conference.Domain)) })
	})
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("one address, one attendee", func(t *testing.T) { oneAddressOneAttendee(t, open(t)) })
	})
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("trouble with views", func(t *testing.T) { troubleWithViews(t, open(t)) })
	})
}

type answer struct {
	status int
	body   map[string]any
}

func (a answer) get(path ...string) any {
	var v any = a.body
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func ask(t testing.TB, method, url, body string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode}
	if err := json.Unmarshal(data, &a.body); err != nil {
		t.Fatalf("%s %s: %q: %v", method, url, data, err)
	}
	return a
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Scenarios A1 to A5 of the specification.
func conferenceOverHTTP(t *testing.T, base string) {
	g1 := base + "/v1/attendee/g1"
	// look reads a view as soon as it shows what an answer says.
	look := func(view, key string, a answer) answer {
		return ask(t, "GET", fmt.Sprintf("%s/v1/views/%s/%s?min-position=%v&wait=5s", base, view, key, a.get("position")), "")
	}
	// A1
	a := ask(t, "POST", g1+"/register", `{"email":"a@x.org"}`)
	want(t, "register", a.status, 200)
	want(t, "view", look("attendees", "g1", a).get("value", "email"), "a@x.org")
	want(t, "same id again", ask(t, "POST", g1+"/register", `{"email":"b@x.org"}`).status, 409)
	want(t, "blank address", ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":" "}`).status, 400)
	want(t, "no body", ask(t, "POST", base+"/v1/attendee/g2/register", ``).status, 400)
	taken := ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":"A@X.org"}`)
	want(t, "somebody else's address", []any{taken.status, taken.get("reason")}, []any{422, "email_taken"})

	// A2: a change is pending.
	a = ask(t, "POST", g1+"/change-email", `{"email":"  new@x.org "}`)
	want(t, "change", a.status, 200)
	want(t, "view", look("attendees", "g1", a).get("value", "email"), "a@x.org")
	mail := look("outbox", "g1", a)
	want(t, "mail to", mail.get("value", "to"), "new@x.org")
	want(t, "the state keeps the secret", strings.Contains(fmt.Sprint(ask(t, "GET", g1, "").body), fmt.Sprint(mail.get("value", "confirmation"))), false)

	// A3: confirm.
	wrong := ask(t, "POST", g1+"/confirm-email", `{"confirmation":"wrong"}`)
	want(t, "wrong id", []any{wrong.status, wrong.get("reason")}, []any{422, "wrong_confirmation"})
	confirm := fmt.Sprintf(`{"confirmation":%q}`, mail.get("value", "confirmation"))
	a = ask(t, "POST", g1+"/confirm-email", confirm)
	want(t, "confirm", a.status, 200)
	want(t, "view", look("attendees", "g1", a).get("value", "email"), "new@x.org")
	want(t, "confirm again", ask(t, "POST", g1+"/confirm-email", confirm).status, 422)
	want(t, "the old address is free", ask(t, "POST", base+"/v1/attendee/g3/register", `{"email":"a@x.org"}`).status, 200)
	want(t, "the new one is not", ask(t, "POST", base+"/v1/attendee/g4/register", `{"email":"new@x.org"}`).status, 422)

	// Only the latest confirmation counts.
	first := look("outbox", "g3", ask(t, "POST", base+"/v1/attendee/g3/change-email", `{"email":"c1@x.org"}`))
	second := look("outbox", "g3", ask(t, "POST", base+"/v1/attendee/g3/change-email", `{"email":"c2@x.org"}`))
	want(t, "the first id", ask(t, "POST", base+"/v1/attendee/g3/confirm-email", fmt.Sprintf(`{"confirmation":%q}`, first.get("value", "confirmation"))).status, 422)
	want(t, "the latest id", ask(t, "POST", base+"/v1/attendee/g3/confirm-email", fmt.Sprintf(`{"confirmation":%q}`, second.get("value", "confirmation"))).status, 200)

	// A5: unregister.
	a = ask(t, "POST", g1+"/unregister", `{"reason":"ill"}`)
	want(t, "unregister", a.status, 200)
	doc := look("attendees", "g1", a)
	want(t, "view", []any{doc.get("value", "active"), doc.get("value", "reason")}, []any{false, "ill"})
	want(t, "again", ask(t, "POST", g1+"/unregister", `{"reason":"ill"}`).status, 422)
	want(t, "unknown id", ask(t, "POST", base+"/v1/attendee/nobody/unregister", `{"reason":"ill"}`).status, 404)
	want(t, "change afterwards", ask(t, "POST", g1+"/change-email", `{"email":"z@x.org"}`).status, 422)
	want(t, "the address is free", ask(t, "POST", base+"/v1/attendee/g5/register", `{"email":"new@x.org"}`).status, 200)
}

// Twenty clients of two servers want the same address at once; one gets it.
func oneAddressOneAttendee(t *testing.T, s store.Store) {
	// Two runtimes on one store know nothing of each other, as two processes would.
	servers := []string{deedtest.Serve(t, s, conference.Domain), deedtest.Serve(t, s, conference.Domain)}
	for round := range 100 {
		answers := make([]answer, 20)
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range answers {
			all.Go(func() {
				<-begin
				answers[i] = ask(t, "POST", fmt.Sprintf("%s/v1/attendee/r%d-%d/register", servers[i%2], round, i), fmt.Sprintf(`{"email":"guest%d@x.org"}`, round))
			})
		}
		close(begin)
		all.Wait()
		won := 0
		for _, a := range answers {
			switch {
			case a.status == 200:
				won++
			case a.status != 422 || a.get("reason") != "email_taken":
				t.Errorf("round %d: %d %v", round, a.status, a.body)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d attendees got the address", round, won)
		}
	}
}

// Scenarios A7 and A8: a view that does not move keeps nobody from registering,
// and an event that a projection cannot take in holds up its own attendee only.
func troubleWithViews(t *testing.T, s store.Store) {
	var broken atomic.Bool
	broken.Store(true)
	badges := deed.Projection[string]{Name: "badges", On: []deed.Handler[string]{deed.On(func(v *string, e conference.Registered) {
		if e.Email == "g2@x.org" && broken.Load() {
			panic("the printer is jammed")
		}
		*v = e.Email
	})}}
	base := deedtest.Serve(t, s, conference.Domain, deed.Domain{Name: "badges", Parts: []deed.Part{badges}})
	view := func(name, key string, after any) answer {
		return ask(t, "GET", fmt.Sprintf("%s/v1/views/%s/%s?min-position=%v&wait=10s", base, name, key, after), "")
	}
	// A7
	want(t, "pause", ask(t, "POST", base+"/v1/followers/attendees/pause", "").status, 200)
	g1 := ask(t, "POST", base+"/v1/attendee/g1/register", `{"email":"g1@x.org"}`)
	want(t, "register", g1.status, 200)
	want(t, "not yet", ask(t, "GET", base+"/v1/views/attendees/g1", "").status, 404)
	want(t, "resume", ask(t, "POST", base+"/v1/followers/attendees/resume", "").status, 200)
	want(t, "now", view("attendees", "g1", g1.get("position")).get("value", "email"), "g1@x.org")
	// A8
	ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":"g2@x.org"}`)
	g3 := ask(t, "POST", base+"/v1/attendee/g3/register", `{"email":"g3@x.org"}`)
	want(t, "another", view("badges", "g3", g3.get("position")).get("value"), "g3@x.org")
	want(t, "the one in question", view("badges", "g2", g3.get("position")).status, 404)
	letters, _ := ask(t, "GET", base+"/v1/dead-letters?follower=badges", "").get("dead_letters").([]any)
	if len(letters) != 1 {
		t.Fatalf("dead letters: %v", letters)
	}
	letter, _ := letters[0].(map[string]any)
	want(t, "handler and stream", []any{letter["follower"], letter["stream"]}, []any{"badges", "attendee/g2"})
	broken.Store(false)
	want(t, "redrive", ask(t, "POST", fmt.Sprintf("%s/v1/dead-letters/%v/redrive", base, letter["id"]), "").status, 200)
	want(t, "repaired", view("badges", "g2", g3.get("position")).get("value"), "g2@x.org")
}
