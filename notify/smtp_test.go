package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/smtptest"
)

func mailOf(key string) Mail {
	return Mail{
		Key: key, To: "Ann Lee <ann@example.org>", Subject: "Your account äöü", Text: "Dear Ann,\n.\nyour account a-1 is open.\n",
		At: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
	}
}

// A mail is the same mail each time it is sent, and says so.
func TestSMTP(t *testing.T) {
	server := smtptest.Start(t, nil, false, nil)
	s := &SMTP{Server: "smtp://" + server.Addr, From: "The bank <bank@example.org>", Plain: true}
	for range 2 {
		if err := s.Send(t.Context(), mailOf("mails/1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Send(t.Context(), mailOf("mails/2")); err != nil {
		t.Fatal(err)
	}
	got := server.Mails()
	if len(got) != 3 || got[0] != got[1] || got[2].ID == got[0].ID || !strings.HasSuffix(got[0].ID, ".deed@example.org>") {
		t.Fatalf("%+v", got)
	}
	m := got[0]
	if m.From != "bank@example.org" || m.To != "ann@example.org" || m.Date != "Tue, 03 Feb 2026 04:05:06 +0000" || !strings.Contains(m.Text, "your account a-1 is open") || !strings.Contains(m.Text, "\r\n.\r\n") {
		t.Errorf("%+v", m)
	}
}

// What a server says decides whether a mail is sent again.
func TestAnswers(t *testing.T) {
	server := smtptest.Start(t, nil, false, nil)
	s := &SMTP{Server: "smtp://" + server.Addr, From: "bank@example.org", Plain: true, Timeout: 10 * time.Second}
	for _, c := range []struct {
		stage     string
		err       error
		permanent bool
		taken     int
	}{
		{smtptest.From, smtptest.Answer(451, "later"), false, 0},
		{smtptest.From, smtptest.Answer(550, "not you"), false, 0}, // it is about all mails
		{smtptest.Rcpt, smtptest.Answer(450, "mailbox busy"), false, 0},
		{smtptest.Rcpt, smtptest.Answer(550, "no such user"), true, 0},
		{smtptest.Data, smtptest.Answer(452, "disk full"), false, 0},
		{smtptest.Data, smtptest.Answer(554, "spam"), true, 0},
		{smtptest.Rcpt, smtptest.ErrHangup, false, 0},
		{smtptest.Data, smtptest.ErrHangup, false, 0},
		{smtptest.Taken, smtptest.ErrHangup, false, 1}, // and nobody knows
	} {
		before := len(server.Mails())
		server.Refuse(func(stage, _ string) error {
			if stage == c.stage {
				return c.err
			}
			return nil
		})
		err := s.Send(t.Context(), mailOf("k"))
		if err == nil || deed.IsPermanent(err) != c.permanent || len(server.Mails())-before != c.taken {
			t.Errorf("%s %v: permanent %t, %d taken: %v", c.stage, c.err, deed.IsPermanent(err), len(server.Mails())-before, err)
		}
		if answer := fmt.Sprint(c.err); c.err != smtptest.ErrHangup && !strings.Contains(fmt.Sprint(err), answer[strings.LastIndex(answer, ": ")+2:]) {
			t.Errorf("%s %v: the error is %v", c.stage, c.err, err)
		}
	}
	server.Refuse(nil)
	if err := s.Send(t.Context(), mailOf("k")); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(30 * time.Second); server.Open() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d lines are left open", server.Open())
		}
	}
}

// A server that does not answer, or is not there, holds nobody up for long.
func TestSilentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // it never accepts: the system does, and says nothing
	s := &SMTP{Server: "smtp://" + ln.Addr().String(), From: "bank@example.org", Plain: true, Timeout: 100 * time.Millisecond}
	if err := s.Send(t.Context(), mailOf("k")); err == nil || deed.IsPermanent(err) || !strings.Contains(err.Error(), "within 100ms") {
		t.Error(err)
	}
	s.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, mailOf("k")); err == nil {
		t.Error("it was sent to nobody")
	}
}

// Lines are encrypted unless somebody says that they are not; passwords are
// shown to nobody who might be somebody else.
func TestEncryption(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	known := x509.NewCertPool()
	known.AddCert(web.Certificate())
	server := &tls.Config{Certificates: web.TLS.Certificates}
	client := &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}
	users := map[string]string{"bank": "secret"}
	starttls, implicit, bare := smtptest.Start(t, server, false, users), smtptest.Start(t, server, true, users), smtptest.Start(t, nil, false, nil)
	for _, c := range []struct {
		name  string
		by    SMTP
		at    *smtptest.Server
		wrong string
	}{
		{"STARTTLS", SMTP{Server: "smtp://" + starttls.Addr, TLS: client, User: "bank", Password: "secret"}, starttls, ""},
		{"TLS from the beginning", SMTP{Server: "smtps://" + implicit.Addr, TLS: client, User: "bank", Password: "secret"}, implicit, ""},
		{"a wrong password", SMTP{Server: "smtps://" + implicit.Addr, TLS: client, User: "bank", Password: "guess"}, implicit, "535"},
		{"nobody", SMTP{Server: "smtps://" + implicit.Addr, TLS: client}, implicit, "530"},
		{"a certificate of nobody we know", SMTP{Server: "smtp://" + starttls.Addr, User: "bank", Password: "secret"}, starttls, "certificate"},
		{"no encryption to be had", SMTP{Server: "smtp://" + bare.Addr}, bare, "STARTTLS"},
	} {
		c.by.From = "bank@example.org"
		before := len(c.at.Mails())
		err := c.by.Send(t.Context(), mailOf("k"))
		if c.wrong != "" {
			if err == nil || deed.IsPermanent(err) || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), c.by.Password) && c.by.Password != "" {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if got := c.at.Mails(); err != nil || len(got) != before+1 || !got[before].TLS || got[before].User != "bank" {
			t.Errorf("%s: %v, %+v", c.name, err, got)
		}
	}
}

// What can be sent nowhere is refused for good, and nothing is smuggled in.
func TestCheck(t *testing.T) {
	for _, m := range []Mail{
		{To: "a@example.org", Subject: "s"}, {Key: "k", Subject: "s"}, {Key: "k", To: "nobody", Subject: "s"}, {Key: "k", To: "a@example.org"},
		{Key: "k", To: "a@example.org\r\nBcc: b@example.org", Subject: "s"}, {Key: "k", To: "a@example.org", Subject: "s\r\nBcc: b@example.org"},
		{Key: "k", To: "a@example.org, b@example.org", Subject: "s"},
	} {
		if err := m.Check(); !deed.IsPermanent(err) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, s := range []SMTP{
		{Server: "mail.example.org", From: "a@example.org"}, {Server: "http://mail.example.org", From: "a@example.org"}, {Server: "smtp://u:p@mail.example.org", From: "a@example.org"},
		{Server: "smtp://mail.example.org/x", From: "a@example.org"}, {Server: "smtp://mail.example.org", From: "shop"}, {Server: "smtps://mail.example.org", From: "a@example.org", Plain: true},
		{Server: "smtp://mail.example.org", From: "a@example.org", Password: "p"},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v", s)
		}
	}
}
