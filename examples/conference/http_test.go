package conference_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/store/sqlite"
)

func serve(t *testing.T) string {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return deedtest.Serve(t, s, conference.Domain)
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
func TestConferenceOverHTTP(t *testing.T) {
	base := serve(t)
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
func TestOneAddressOneAttendee(t *testing.T) {
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
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
