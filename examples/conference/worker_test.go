package conference_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/internal/program"
	"github.com/deed-dev/deed/internal/smtptest"
)

func TestMain(m *testing.M) {
	program.Main(m, func(string) []deed.Domain { return []deed.Domain{conference.Domain} })
}

// desk is a conference with a worker, each a process of its own.
type desk struct {
	*testing.T
	server program.Server
	dir    string // of the worker
	mails  *smtptest.Server
	base   string
}

func (d *desk) ask(method, path, body string, headers ...string) httptry.Answer {
	d.Helper()
	return httptry.Ask(d, method, d.base+"/v1/"+path, body, headers...)
}

// do asks something of an attendee, and wants a status.
func (d *desk) do(status int, id, command, body string, headers ...string) {
	d.Helper()
	httptry.Want(d, command+" "+id, d.ask("POST", "attendee/"+id+"/"+command, body, headers...).Status, status)
}

// serve runs the server, where the former one was.
func (d *desk) serve() *program.Process {
	d.Helper()
	p := d.server.Start(d.T)
	d.base, d.server.Addr = p.Base, p.Addr()
	return p
}

func (d *desk) worker() *program.Process {
	d.Helper()
	return program.Start(d.T, nil, program.Build(d.T, "./worker"), "--server", d.base, "--dir", d.dir, "--smtp", "smtp://"+d.mails.Addr, "--plain", "--lock", "2s")
}

// shows waits until the list of the entrance shows somebody.
func (d *desk) shows(id, email string, active bool, reason string) {
	d.Helper()
	var a struct {
		Email, Reason string
		Active        bool
	}
	httptry.Until(d, fmt.Sprintf("the entrance knows that %s is %s %v %q", id, email, active, reason), func() bool {
		data, err := os.ReadFile(filepath.Join(d.dir, "attendees", url.PathEscape(id)+".json"))
		return err == nil && json.Unmarshal(data, &a) == nil && a.Email == email && a.Active == active && a.Reason == reason
	})
}

// mailTo waits for mails to an address, and returns them.
func (d *desk) mailsTo(to string, n int) (got []smtptest.Mail) {
	d.Helper()
	httptry.Until(d, fmt.Sprintf("%d mails to %s", n, to), func() bool {
		got = nil
		for _, m := range d.mails.Mails() {
			if m.To == to {
				got = append(got, m)
			}
		}
		return len(got) >= n
	})
	return got
}

func confirmation(m smtptest.Mail) string {
	_, rest, _ := strings.Cut(m.Text, "with the id ")
	id, _, _ := strings.Cut(rest, " ")
	return fmt.Sprintf(`{"confirmation":%q}`, id)
}

const subscription = "topics/attendee-events/subscriptions/worker"

// Scenarios A1, A2, A3, A5, A7 and A8 of the specification, with a server and a
// worker that are processes of their own, and are killed.
func TestWorker(t *testing.T) {
	backends.EachPlace(t, func(t *testing.T, place string) {
		t.Parallel()
		d := &desk{T: t, server: program.Server{Place: place}, dir: t.TempDir(), mails: smtptest.Start(t, nil, false, nil)}
		server := d.serve()
		put := d.ask("PUT", subscription, `{"target":{"kind":"queue","ordered":true,"max_deliveries":50},"start":"beginning"}`)
		httptry.Want(t, "subscribe", put.Status, 200)
		worker := d.worker()
		later := []string{"Prefer", "respond-async"}

		// A1
		d.do(202, "g1", "register", `{"email":"a@x.org"}`, later...)
		d.shows("g1", "a@x.org", true, "")
		d.do(409, "g1", "register", `{"email":"b@x.org"}`)
		d.do(400, "g2", "register", `{"email":" "}`)
		d.do(400, "g2", "register", ``)

		// A2: the worker is killed when the mail server has the mail and nobody
		// knows that; another worker sends it again.
		d.mails.Refuse(func(stage, _ string) error {
			if stage == smtptest.Taken {
				worker.Kill()
			}
			return nil
		})
		d.do(202, "g1", "change-email", `{"email":"  new@x.org "}`, later...)
		worker.Killed(t)
		d.mails.Refuse(nil)
		worker = d.worker()
		twice := d.mailsTo("new@x.org", 2)
		httptry.Want(t, "the same mail", twice[0], twice[1])
		d.shows("g1", "a@x.org", true, "")

		// A3: the server is killed while the worker waits for messages.
		server.Kill()
		d.serve()
		d.do(422, "g1", "confirm-email", `{"confirmation":"wrong"}`)
		d.do(200, "g1", "confirm-email", confirmation(twice[0]))
		d.shows("g1", "new@x.org", true, "")
		d.do(422, "g1", "confirm-email", confirmation(twice[0]))

		// A5
		d.do(202, "g1", "unregister", `{"reason":"ill"}`, later...)
		d.shows("g1", "new@x.org", false, "ill")
		d.do(422, "g1", "unregister", `{"reason":"ill"}`)
		d.do(404, "nobody", "unregister", `{"reason":"ill"}`)
		d.do(422, "g1", "change-email", `{"email":"z@x.org"}`)

		// A7: the queue takes in nothing, and nobody works on it.
		httptry.Want(t, "pause", d.ask("POST", subscription+"/pause", "").Status, 200)
		worker.Kill()
		d.do(202, "g7", "register", `{"email":"g7@x.org"}`, later...)
		httptry.Until(t, "it is stored", func() bool { return d.ask("GET", "streams/attendee/g7", "").Status == 200 })
		httptry.Want(t, "resume", d.ask("POST", subscription+"/resume", "").Status, 200)
		worker = d.worker()
		d.shows("g7", "g7@x.org", true, "")

		// A8: what can never be sent is a dead letter, and says why; others are
		// not affected. Done again, it goes, and what waits behind it.
		d.mails.Refuse(func(stage, to string) error {
			if stage == smtptest.Rcpt && to == "never@x.org" {
				return smtptest.Answer(550, "no such mailbox")
			}
			return nil
		})
		d.do(200, "g8", "register", `{"email":"g8@x.org"}`)
		d.do(200, "g8", "change-email", `{"email":"never@x.org"}`)
		d.do(200, "g8", "unregister", `{"reason":"late"}`)
		d.do(200, "g9", "register", `{"email":"g9@x.org"}`)
		d.do(200, "g9", "change-email", `{"email":"nine@x.org"}`)
		d.mailsTo("nine@x.org", 1)
		var dead httptry.Answer
		httptry.Until(t, "there is a dead letter", func() bool {
			list, _ := d.ask("GET", subscription+"/messages?dead=true", "").Get("messages").([]any)
			if len(list) == 1 {
				dead.Body = list[0].(map[string]any)
			}
			return len(list) == 1
		})
		httptry.Want(t, "of", []any{dead.Get("event", "id"), strings.Contains(fmt.Sprint(dead.Get("reason")), "no such mailbox")}, []any{"attendee/g8:2", true})
		d.shows("g8", "g8@x.org", true, "")
		d.mails.Refuse(nil)
		redriven := d.ask("POST", subscription+"/messages/"+url.PathEscape(fmt.Sprint(dead.Get("id")))+"/redrive", "")
		httptry.Want(t, "redrive", redriven.Status/100, 2)
		d.mailsTo("never@x.org", 1)
		d.shows("g8", "g8@x.org", false, "late")
		ids := map[string]bool{}
		for _, m := range d.mails.Mails() {
			ids[m.ID] = true
		}
		httptry.Want(t, "mails, whatever came again", len(ids), 3)
		worker.Kill()
	})
}
