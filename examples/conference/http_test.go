package conference_test

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

var races = flag.Int("races", 25, "how often clients race for an address on a store that is a server (100 times on SQLite)")

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("conference", func(t *testing.T) { conferenceOverHTTP(t, deedtest.Serve(t, open(t), conference.Domain)) })
	})
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("one address, one attendee", func(t *testing.T) {
			rounds := *races
			if strings.Contains(t.Name(), "/sqlite") {
				rounds = max(rounds, 100)
			}
			oneAddressOneAttendee(t, open(t), rounds)
		})
	})
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Run("trouble with views", func(t *testing.T) { troubleWithViews(t, open(t)) })
	})
}

// Scenarios A1 to A5 of the specification.
func conferenceOverHTTP(t *testing.T, base string) {
	g1 := base + "/v1/attendee/g1"
	// look reads a view as soon as it shows what an answer says.
	look := func(view, key string, a httptry.Answer) httptry.Answer {
		return httptry.Ask(t, "GET", fmt.Sprintf("%s/v1/views/%s/%s?min-position=%v&wait=5s", base, view, key, a.Get("position")), "")
	}
	// A1
	a := httptry.Ask(t, "POST", g1+"/register", `{"email":"a@x.org"}`)
	httptry.Want(t, "register", a.Status, 200)
	httptry.Want(t, "view", look("attendees", "g1", a).Get("value", "email"), "a@x.org")
	httptry.Want(t, "same id again", httptry.Ask(t, "POST", g1+"/register", `{"email":"b@x.org"}`).Status, 409)
	httptry.Want(t, "blank address", httptry.Ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":" "}`).Status, 400)
	httptry.Want(t, "no body", httptry.Ask(t, "POST", base+"/v1/attendee/g2/register", ``).Status, 400)
	taken := httptry.Ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":"A@X.org"}`)
	httptry.Want(t, "somebody else's address", []any{taken.Status, taken.Get("reason")}, []any{422, "email_taken"})

	// A2: a change is pending.
	a = httptry.Ask(t, "POST", g1+"/change-email", `{"email":"  new@x.org "}`)
	httptry.Want(t, "change", a.Status, 200)
	httptry.Want(t, "view", look("attendees", "g1", a).Get("value", "email"), "a@x.org")
	mail := look("outbox", "g1", a)
	httptry.Want(t, "mail to", mail.Get("value", "to"), "new@x.org")
	httptry.Want(t, "the state keeps the secret", strings.Contains(fmt.Sprint(httptry.Ask(t, "GET", g1, "").Body), fmt.Sprint(mail.Get("value", "confirmation"))), false)

	// A3: confirm.
	wrong := httptry.Ask(t, "POST", g1+"/confirm-email", `{"confirmation":"wrong"}`)
	httptry.Want(t, "wrong id", []any{wrong.Status, wrong.Get("reason")}, []any{422, "wrong_confirmation"})
	confirm := fmt.Sprintf(`{"confirmation":%q}`, mail.Get("value", "confirmation"))
	a = httptry.Ask(t, "POST", g1+"/confirm-email", confirm)
	httptry.Want(t, "confirm", a.Status, 200)
	httptry.Want(t, "view", look("attendees", "g1", a).Get("value", "email"), "new@x.org")
	httptry.Want(t, "confirm again", httptry.Ask(t, "POST", g1+"/confirm-email", confirm).Status, 422)
	httptry.Want(t, "the old address is free", httptry.Ask(t, "POST", base+"/v1/attendee/g3/register", `{"email":"a@x.org"}`).Status, 200)
	httptry.Want(t, "the new one is not", httptry.Ask(t, "POST", base+"/v1/attendee/g4/register", `{"email":"new@x.org"}`).Status, 422)

	// Only the latest confirmation counts.
	first := look("outbox", "g3", httptry.Ask(t, "POST", base+"/v1/attendee/g3/change-email", `{"email":"c1@x.org"}`))
	second := look("outbox", "g3", httptry.Ask(t, "POST", base+"/v1/attendee/g3/change-email", `{"email":"c2@x.org"}`))
	httptry.Want(t, "the first id", httptry.Ask(t, "POST", base+"/v1/attendee/g3/confirm-email", fmt.Sprintf(`{"confirmation":%q}`, first.Get("value", "confirmation"))).Status, 422)
	httptry.Want(t, "the latest id", httptry.Ask(t, "POST", base+"/v1/attendee/g3/confirm-email", fmt.Sprintf(`{"confirmation":%q}`, second.Get("value", "confirmation"))).Status, 200)

	// A5: unregister.
	a = httptry.Ask(t, "POST", g1+"/unregister", `{"reason":"ill"}`)
	httptry.Want(t, "unregister", a.Status, 200)
	doc := look("attendees", "g1", a)
	httptry.Want(t, "view", []any{doc.Get("value", "active"), doc.Get("value", "reason")}, []any{false, "ill"})
	httptry.Want(t, "again", httptry.Ask(t, "POST", g1+"/unregister", `{"reason":"ill"}`).Status, 422)
	httptry.Want(t, "unknown id", httptry.Ask(t, "POST", base+"/v1/attendee/nobody/unregister", `{"reason":"ill"}`).Status, 404)
	httptry.Want(t, "change afterwards", httptry.Ask(t, "POST", g1+"/change-email", `{"email":"z@x.org"}`).Status, 422)
	httptry.Want(t, "the address is free", httptry.Ask(t, "POST", base+"/v1/attendee/g5/register", `{"email":"new@x.org"}`).Status, 200)
}

// Twenty clients of two servers want the same address at once; one gets it.
func oneAddressOneAttendee(t *testing.T, s store.Store, rounds int) {
	// Two runtimes on one store know nothing of each other, as two processes would.
	servers := []string{deedtest.Serve(t, s, conference.Domain), deedtest.Serve(t, s, conference.Domain)}
	for round := range rounds {
		answers := make([]httptry.Answer, 20)
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range answers {
			all.Go(func() {
				<-begin
				answers[i] = httptry.Ask(t, "POST", fmt.Sprintf("%s/v1/attendee/r%d-%d/register", servers[i%2], round, i), fmt.Sprintf(`{"email":"guest%d@x.org"}`, round))
			})
		}
		close(begin)
		all.Wait()
		won := 0
		for _, a := range answers {
			switch {
			case a.Status == 200:
				won++
			case a.Status != 422 || a.Get("reason") != "email_taken":
				t.Errorf("round %d: %d %v", round, a.Status, a.Body)
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
	view := func(name, key string, after any) httptry.Answer {
		return httptry.Ask(t, "GET", fmt.Sprintf("%s/v1/views/%s/%s?min-position=%v&wait=10s", base, name, key, after), "")
	}
	// A7
	httptry.Want(t, "pause", httptry.Ask(t, "POST", base+"/v1/followers/attendees/pause", "").Status, 200)
	g1 := httptry.Ask(t, "POST", base+"/v1/attendee/g1/register", `{"email":"g1@x.org"}`)
	httptry.Want(t, "register", g1.Status, 200)
	httptry.Want(t, "not yet", httptry.Ask(t, "GET", base+"/v1/views/attendees/g1", "").Status, 404)
	httptry.Want(t, "resume", httptry.Ask(t, "POST", base+"/v1/followers/attendees/resume", "").Status, 200)
	httptry.Want(t, "now", view("attendees", "g1", g1.Get("position")).Get("value", "email"), "g1@x.org")
	// A8
	httptry.Ask(t, "POST", base+"/v1/attendee/g2/register", `{"email":"g2@x.org"}`)
	g3 := httptry.Ask(t, "POST", base+"/v1/attendee/g3/register", `{"email":"g3@x.org"}`)
	httptry.Want(t, "another", view("badges", "g3", g3.Get("position")).Get("value"), "g3@x.org")
	httptry.Want(t, "the one in question", view("badges", "g2", g3.Get("position")).Status, 404)
	letters, _ := httptry.Ask(t, "GET", base+"/v1/dead-letters?follower=badges", "").Get("dead_letters").([]any)
	if len(letters) != 1 {
		t.Fatalf("dead letters: %v", letters)
	}
	letter, _ := letters[0].(map[string]any)
	httptry.Want(t, "handler and stream", []any{letter["follower"], letter["stream"]}, []any{"badges", "attendee/g2"})
	broken.Store(false)
	httptry.Want(t, "redrive", httptry.Ask(t, "POST", fmt.Sprintf("%s/v1/dead-letters/%v/redrive", base, letter["id"]), "").Status, 200)
	httptry.Want(t, "repaired", view("badges", "g2", g3.Get("position")).Get("value"), "g2@x.org")
}
