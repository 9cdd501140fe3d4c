package bank

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/internal/program"
	"github.com/deed-dev/deed/internal/smtptest"
	"github.com/deed-dev/deed/notify"
)

// A bank that is killed writes its mails to a folder, or sends them by a server.
func TestMain(m *testing.M) {
	program.Main(m, func(arg string) []deed.Domain {
		bank := Bank{InterestAt: leapDays}
		if dir, ok := strings.CutPrefix(arg, "folder:"); ok {
			mails, err := notify.OpenFolder(dir)
			if err != nil {
				panic(err)
			}
			bank.Mails = dying{mails, filepath.Join(dir, "dead")}
		} else {
			bank.Mails = &notify.SMTP{Server: arg, From: "The bank <bank@example.org>", Plain: true}
		}
		return []deed.Domain{bank.Domain()}
	})
}

// dying sends mails, and has its process killed when the first is there and
// nobody has noted that.
type dying struct {
	notify.Sender
	died string // a file that says that it was
}

func (d dying) Send(ctx context.Context, m notify.Mail) error {
	if err := d.Sender.Send(ctx, m); err != nil {
		return err
	}
	if _, err := os.Stat(d.died); err == nil {
		return nil
	}
	if err := os.WriteFile(d.died, nil, 0o600); err != nil {
		return err
	}
	program.Die()
	return nil
}

// A neighbour is who subscribes to what is public of the bank.
type neighbour struct {
	mu  sync.Mutex
	got []map[string]any
}

func (n *neighbour) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e map[string]any
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, e)
}

// of are the events of a type and an account.
func (n *neighbour) of(typ, account string) (out []map[string]any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.got {
		if e["type"] == typ && e["aggregate"] == account {
			out = append(out, e)
		}
	}
	return out
}

// lost asks a server that may be killed before it answers.
func (s *site) lost(method, path, body string, headers ...string) {
	r, err := http.NewRequest(method, s.Base+"/v1/"+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if resp, err := http.DefaultClient.Do(r); err == nil {
		io.Copy(io.Discard, resp.Body) // whatever it is
		resp.Body.Close()
	}
}

// Scenarios B9 and B10 of the specification, with kill -9 between an append and
// what is public, and between a mail and its note.
func TestKilled(t *testing.T) {
	backends.EachPlace(t, func(t *testing.T, place string) {
		t.Parallel()
		near := &neighbour{}
		world := httptest.NewServer(near)
		defer world.Close()
		dir := t.TempDir()
		folder := program.Server{Place: place, Arg: "folder:" + dir}
		mails := func() []string {
			paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
			if err != nil {
				t.Fatal(err)
			}
			return paths
		}

		// B10: it is killed when the mail is there. It is sent again, and is there once.
		s := &site{}
		p := folder.Start(t)
		s.Base = p.Base
		put := s.ask(t, "PUT", "topics/bank-events/subscriptions/near", fmt.Sprintf(`{"target":{"kind":"webhook","url":%q},"start":"beginning","retry":["100ms","200ms","1s","1s","1s"]}`, world.URL))
		httptry.Want(t, "subscribe", put.Status, 200)
		s.person(t, "ann")
		s.lost("POST", "account/a-1/open", `{"customer":"ann","currency":"CAD"}`, "Prefer", "wait=30")
		p.Killed(t)

		// B9: it is killed between an append and what is public of it.
		s.Base = program.Server{Place: place, Arg: folder.Arg, DieAfter: "money-deposited"}.Start(t).Base
		s.handled(t, "notifications")
		var mail notify.Mail
		if all := mails(); len(all) != 1 || readJSON(all[0], &mail) != nil || mail.To != "ann@example.com" || !strings.Contains(mail.Text, "Dear P,") || !strings.Contains(mail.Text, "a-1") {
			t.Errorf("mails: %q, %+v", all, mail)
		}
		s.lost("POST", "account/a-1/deposit", amount(71_00), "Idempotency-Key", "d-1")
		s.Base = folder.Start(t).Base
		again := s.ask(t, "POST", "account/a-1/deposit", amount(71_00), "Idempotency-Key", "d-1")
		httptry.Want(t, "asked again", []any{again.Status, again.Header.Get("Idempotent-Replay"), s.balance(t, "a-1")}, []any{200, "true", 71_00})
		httptry.Until(t, "the deposit is public", func() bool { return len(near.of("account.transaction.v1", "a-1")) > 0 })
		s.handled(t, "notifications")
		ids := map[any]bool{}
		for _, e := range near.of("account.transaction.v1", "a-1") {
			ids[e["id"]] = true
			httptry.Want(t, "public", []any{e["correlationid"], e["subject"], e["data"]}, []any{"a-1", "account/a-1", map[string]any{"account": "a-1"}})
		}
		httptry.Want(t, "one message, and one mail more", []any{len(ids), len(mails())}, []any{1, 2})
		if n := len(near.of("account.created.v1", "a-1")); n == 0 {
			t.Error("nobody has heard of the account")
		}

		// B6: what is refused is no event, public or not.
		s.do(t, 422, "a-1", "withdraw", amount(72_00))
		httptry.Want(t, "nothing more", s.types(t, "a-1"), "opened money-deposited")

		// B10: the view lags; the mail waits for it, and is no dead letter.
		httptry.Want(t, "pause", s.ask(t, "POST", "followers/customer-details/pause", "").Status, 200)
		s.person(t, "joe", "EUR")
		httptry.Until(t, "the mail waits", func() bool {
			letters, _ := s.ask(t, "GET", "dead-letters?follower=notifications", "").Get("dead_letters").([]any)
			return len(letters) == 1 && fmt.Sprint(letters[0].(map[string]any)["state"], letters[0].(map[string]any)["reason"]) == "retryingthe view does not know customer joe yet"
		})
		httptry.Want(t, "resume", s.ask(t, "POST", "followers/customer-details/resume", "").Status, 200)
		httptry.Until(t, "the mail is there", func() bool { return len(mails()) == 3 })
	})
}

// handled waits until a follower has dealt with all there is. One that has just
// begun does not know yet where the log ends.
func (s *site) handled(t *testing.T, follower string) {
	t.Helper()
	httptry.Until(t, follower+" has handled everything", func() bool {
		list, _ := s.ask(t, "GET", "followers", "").Get("followers").([]any)
		for _, f := range list {
			f := httptry.Answer{Body: f.(map[string]any)}
			if f.Get("name") == follower {
				return fmt.Sprint(f.Get("behind"), f.Get("retrying"), f.Get("cursor")) == fmt.Sprint(0, 0, f.Get("head")) && f.Get("head") != "" && f.Get("state") == "running"
			}
		}
		return false
	})
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	return errors.Join(err, json.Unmarshal(data, v))
}

// A bank is killed when a mail server has taken a mail, and nobody knows: the
// mail that comes again says that it is the same.
func TestKilledAfterMail(t *testing.T) {
	mails := smtptest.Start(t, nil, false, nil)
	server := program.Server{Place: "sqlite:" + filepath.Join(t.TempDir(), "deed.db"), Arg: "smtp://" + mails.Addr}
	p := server.Start(t)
	mails.Refuse(func(stage, _ string) error {
		if stage == smtptest.Taken {
			p.Kill()
		}
		return nil
	})
	s := &site{Server: apicheck.Server{Base: p.Base}}
	s.person(t, "ann")
	s.lost("POST", "account/a-1/open", `{"customer":"ann","currency":"CAD"}`, "Prefer", "wait=30")
	p.Killed(t)
	mails.Refuse(nil)
	s.Base = server.Start(t).Base
	httptry.Until(t, "it is sent again", func() bool { return len(mails.Mails()) == 2 })
	s.handled(t, "notifications")
	if got := mails.Mails(); len(got) != 2 || got[0] != got[1] || got[0].To != "ann@example.com" || got[0].Subject != "Your new account" {
		t.Errorf("%+v", got)
	}
}
