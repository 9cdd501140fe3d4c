package notices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/smtptest"
	"github.com/deed-dev/deed/notify"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// programEnv makes this test binary the program that is killed: its value is
// the folder, the mail server, and after which delivery.
const programEnv = "DEED_NOTICES_PROGRAM"

func TestMain(m *testing.M) {
	if args := os.Getenv(programEnv); args != "" {
		a := strings.Split(args, "|")
		n, err := strconv.Atoi(a[2])
		if err == nil {
			err = program(context.Background(), a[0], a[1], n, nil)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fatal is a kind whose process is killed right after a delivery, before that
// is noted.
type fatal struct {
	deed.TargetKind
	left *int64
}

func (f fatal) Open(name string, stored json.RawMessage) (deed.Target, error) {
	t, err := f.TargetKind.Open(name, stored)
	return passing{t, f.left}, err
}

type passing struct {
	deed.Target
	left *int64
}

func (p passing) Deliver(ctx context.Context, events []deed.CloudEvent) error {
	err := p.Target.Deliver(ctx, events)
	if err == nil && atomic.AddInt64(p.left, -1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return err
}

type (
	guest  struct{ Email string }
	came   struct{ Email string }
	arrive struct{ Email string }
	public struct {
		Email string `json:"email"`
		Seat  int    `json:"seat"`
	}
)

func (e came) Apply(g *guest) { g.Email = e.Email }
func (c arrive) Decide(g guest) ([]deed.Event[guest], error) {
	if g.Email != "" {
		return nil, nil
	}
	return []deed.Event[guest]{came(c)}, nil
}

var guests = deed.Aggregate[guest]{
	Name: "guest", Events: map[string]deed.Event[guest]{"came": came{}}, Commands: map[string]deed.Command[guest]{"arrive": arrive{}},
}

// guestsOfProgram is how many guests come in each round.
const guestsOfProgram = 3

// program has guests of a round come, who are welcomed by mail, and are on two lists.
func program(ctx context.Context, dir, server string, round int, done func(context.Context, *deed.Runtime)) error {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	mails, files := int64(0), int64(0)
	switch {
	case round > 0 && round%2 == 0:
		files = int64(round / 2)
	case round > 0:
		mails = int64(round/2 + 1)
	}
	rt, err := deed.New(s, deed.Config{
		Domains: []deed.Domain{{Name: "guests", Parts: []deed.Part{guests, deed.Publication{
			Topic: "guests", Events: []deed.Publishing{deed.Publish("guest.came.v1", func(e came) public { return public{e.Email, 7} })},
		}}}},
		Targets: map[string]deed.TargetKind{"smtp": fatal{NewMails([]string{"127.0.0.1"}), &mails}, "file": fatal{NewFiles(dir), &files}},
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { rt.Run(ctx) })
	for name, target := range map[string]string{
		"mail": `{"kind":"smtp","url":"smtp://` + server + `","plain":true,"from":"desk@example.org","to":"{data.email}","subject":"Welcome, {aggregate}","text":"Your seat is {data.seat}."}`,
		"each": `{"kind":"file","path":"guests/each"}`, "list": `{"kind":"file","path":"guests/all.jsonl","lines":true}`,
	} {
		sub := deed.Subscription{Topic: "guests", Name: name, Target: json.RawMessage(target), Retry: slices.Repeat([]string{"100ms"}, 20)}
		if _, err := rt.Subscriptions().Get(ctx, "guests", name); err == nil {
			continue
		}
		if _, _, err := rt.Subscriptions().Put(ctx, sub, "beginning"); err != nil {
			return err
		}
	}
	for i := range guestsOfProgram {
		if _, err := guests.Execute(ctx, rt, fmt.Sprintf("g%d-%d", round, i), arrive{fmt.Sprintf("g%d-%d@example.org", round, i)}); err != nil {
			return err
		}
	}
	if done != nil {
		done(ctx, rt)
		return nil
	}
	<-ctx.Done() // the parent ends what was not killed
	return nil
}

// A process is killed again and again between a delivery and its note: nobody
// misses a mail, a mail that comes again is the same mail, with the same
// Message-ID, and nothing is in the files twice.
func TestKilledAfterDelivery(t *testing.T) {
	server := smtptest.Start(t, nil, false, nil)
	dir := t.TempDir()
	kills := 0
	const rounds = 4
	came := 0 // guests
	for n := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", programEnv, dir, server.Addr, 1+n))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		if late.Stop() && strings.Contains(fmt.Sprint(err), "killed") {
			kills++
		}
	}
	err := program(t.Context(), dir, server.Addr, 0, func(ctx context.Context, rt *deed.Runtime) {
		for _, err := range rt.Store().ReadAll(ctx, store.Start, store.Filter{Categories: []string{"guest"}}) {
			if came++; err != nil {
				t.Fatal(err)
			}
		}
		settled := func() bool {
			all, err := rt.Subscriptions().List(ctx, "guests")
			return err == nil && len(recipients(server.Mails())) == came && len(filesIn(t, dir)) == came && !slices.ContainsFunc(all, func(s deed.SubscriptionStatus) bool { return s.Behind > 0 || s.Retrying+s.Waiting+s.Dead > 0 })
		}
		for end := time.Now().Add(time.Minute); !settled(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it is never done")
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	mails := map[string]smtptest.Mail{} // by recipient
	again := 0
	for _, m := range server.Mails() {
		if first, there := mails[m.To]; there {
			again++
			if m != first {
				t.Errorf("%+v came again as %+v", first, m)
			}
			continue
		}
		mails[m.To] = m
		if name, _, _ := strings.Cut(m.To, "@"); m.Subject != "Welcome, "+name || strings.TrimSpace(m.Text) != "Your seat is 7." {
			t.Errorf("%+v", m)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "guests/all.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var l notify.Line
		if err := json.Unmarshal([]byte(line), &l); err != nil || lines[l.Key] {
			t.Errorf("%s: %v", line, err)
		}
		lines[l.Key] = true
	}
	if each := filesIn(t, dir); len(each) != came || len(lines) != came || len(mails) != came {
		t.Errorf("%d mails, %d lines, %d files", len(mails), len(lines), len(each))
	}
	t.Logf("%d kills, %d guests, %d mails came again", kills, came, again)
	if kills != rounds || again == 0 {
		t.Errorf("only %d kills, and %d mails came again", kills, again)
	}
}

func recipients(mails []smtptest.Mail) map[string]bool {
	all := map[string]bool{}
	for _, m := range mails {
		all[m.To] = true
	}
	return all
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	each, err := filepath.Glob(filepath.Join(dir, "guests/each/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return each
}

// Settings are checked when they are made, and passwords are shown to nobody.
func TestSettings(t *testing.T) {
	mails, files := NewMails([]string{"mail.example.org", "relay.example.org:2525"}), NewFiles(t.TempDir())
	const good = `{"kind":"smtp","url":"smtp://mail.example.org","from":"a@example.org","to":"{data.email}","subject":"{type}"`
	for _, c := range []struct {
		kind     deed.TargetKind
		settings string
		wrong    string
	}{
		{mails, good + `}`, ""},
		{mails, strings.Replace(good, "mail.example.org", "relay.example.org:2525", 1) + `,"user":"u","password":"p","timeout":"5s","text":"{{braces}} {id}"}`, ""},
		{mails, strings.Replace(good, "mail.example.org", "relay.example.org", 1) + `}`, "--smtp-hosts"},
		{mails, strings.Replace(good, "mail.example.org", "169.254.169.254:25", 1) + `}`, "--smtp-hosts"},
		{mails, strings.Replace(good, "smtp://", "http://", 1) + `}`, "no address like smtp://"},
		{mails, good + `,"text":"{data}"}`, "text has a brace"},
		{mails, good + `,"text":"{nothing}"}`, "text has a brace"},
		{mails, good + `,"text":"a } b"}`, "text has a brace"},
		{mails, good + `,"colour":"red"}`, "colour"},
		{mails, good + `,"timeout":"1h"}`, "timeout"},
		{mails, good + `,"user":"u","password":"***"}`, "say it again"},
		{files, `{"kind":"file","path":"a/b.jsonl","lines":true}`, ""},
		{files, `{"kind":"file","path":"../b"}`, "no path within"},
		{files, `{"kind":"file","path":"/etc/cron.d"}`, "no path within"},
		{files, `{"kind":"file","path":""}`, "no path within"},
		{NewFiles(""), `{"kind":"file","path":"a"}`, "--file-dir"},
	} {
		_, once, err := c.kind.Prepare(t.Context(), "s", json.RawMessage(c.settings), nil)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || len(once) > 0 {
			t.Errorf("%s: %v", c.settings, err)
		}
	}
	stored, _, err := mails.Prepare(t.Context(), "s", json.RawMessage(good+`,"user":"u","password":"secret"}`), nil)
	shown := mails.Shown(stored)
	if err != nil || strings.Contains(string(shown), "secret") {
		t.Fatalf("%s, %v", shown, err)
	}
	if again, _, err := mails.Prepare(t.Context(), "s", shown, stored); err != nil || string(again) != string(stored) {
		t.Errorf("%s, %v", again, err)
	}
	elsewhere := strings.Replace(string(shown), "mail.example.org", "relay.example.org:2525", 1)
	if _, _, err := mails.Prepare(t.Context(), "s", json.RawMessage(elsewhere), stored); err == nil || !strings.Contains(err.Error(), "say it again") {
		t.Errorf("a password goes to another server: %v", err)
	}
}

// A mail that cannot be written is never sent; what an event says begins no
// line of its own.
func TestMailOfAnEvent(t *testing.T) {
	m := mailing{mailSettings{To: "{data.who.email}", Subject: "{type}: {data.title}", Text: "{data.n} {data.ok} {{x}} {data.who}"}, nil}
	e := deed.CloudEvent{ID: "a/1:1", Type: "t.v1", Data: json.RawMessage(`{"who":{"email":"a@example.org"},"title":"one\r\nBcc: b@example.org","n":1.50,"ok":true}`)}
	mail, err := m.mail(&e)
	if err != nil || mail.To != "a@example.org" || mail.Subject != "t.v1: one  Bcc: b@example.org" || mail.Text != `1.5 true {x} {"email":"a@example.org"}` || mail.Key != "a/1:1" {
		t.Errorf("%+v, %v", mail, err)
	}
	e.Data = json.RawMessage(`{}`)
	if err := m.Deliver(t.Context(), []deed.CloudEvent{e}); !deed.IsPermanent(err) || !strings.Contains(err.Error(), "a/1:1 has no {data.who.email}") {
		t.Error(err)
	}
	if err := errors.Join(template("a{{b}}c").check(), template("").check()); err != nil {
		t.Error(err)
	}
}
