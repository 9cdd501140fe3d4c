package notices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/notify"
)

// hidden is what is shown of what nobody is to see.
const hidden = "***"

// Mails is the kind of targets that are people: each event is a mail.
type Mails struct{ hosts []string }

// NewMails returns the kind of targets that are reached by the named mail
// servers, as HOST or HOST:PORT, and by no others.
func NewMails(hosts []string) *Mails {
	k := &Mails{}
	for _, h := range hosts {
		k.hosts = append(k.hosts, strings.ToLower(h))
	}
	return k
}

// mailSettings are what is stored of a target of mails.
type mailSettings struct {
	Kind     string   `json:"kind"`
	URL      string   `json:"url"` // smtp://HOST:PORT or smtps://HOST:PORT
	From     string   `json:"from"`
	To       template `json:"to"`
	Subject  template `json:"subject"`
	Text     template `json:"text,omitempty"` // default: the data of the event
	User     string   `json:"user,omitempty"`
	Password string   `json:"password,omitempty"`
	Plain    bool     `json:"plain,omitzero"`    // the connection stays unencrypted
	Timeout  string   `json:"timeout,omitempty"` // of one mail; default 20s
}

// Prepare implements [deed.TargetKind].
func (k *Mails) Prepare(_ context.Context, _ string, asked, former json.RawMessage) (json.RawMessage, map[string]string, error) {
	var s, was mailSettings
	if err := parse(asked, &s); err != nil {
		return nil, nil, err
	}
	if former != nil {
		if err := parse(former, &was); err != nil {
			return nil, nil, err
		}
	}
	if s.Password == hidden {
		if s.URL != was.URL || s.User != was.User {
			return nil, nil, errors.New("password is hidden, and the server or the user is another: say it again")
		}
		s.Password = was.Password
	}
	if err := k.check(s); err != nil {
		return nil, nil, err
	}
	stored, err := json.Marshal(s)
	return stored, nil, err
}

// parse reads settings; a field that there is not is an error.
func parse(data json.RawMessage, into any) error {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("is not as of this kind: %w", err)
	}
	return nil
}

// check reports what is wrong with settings.
func (k *Mails) check(s mailSettings) error {
	if err := s.server().Check(); err != nil {
		return err
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return err
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme]
	}
	if !slices.Contains(k.hosts, host) && !slices.Contains(k.hosts, net.JoinHostPort(host, port)) {
		return fmt.Errorf("url has the mail server %s, which this server does not use: whoever runs it names mail servers with --smtp-hosts", net.JoinHostPort(host, port))
	}
	if s.To == "" || s.Subject == "" {
		return errors.New("to and subject are needed, for example {data.email} and {type}")
	}
	for field, t := range map[string]template{"to": s.To, "subject": s.Subject, "text": s.Text} {
		if err := t.check(); err != nil {
			return fmt.Errorf("%s %w", field, err)
		}
	}
	if d, err := time.ParseDuration(s.Timeout); s.Timeout != "" && (err != nil || d < time.Second || d > time.Minute) {
		return errors.New("timeout is a duration from 1s to 60s")
	}
	return nil
}

func (s mailSettings) server() *notify.SMTP {
	timeout, err := time.ParseDuration(s.Timeout)
	if err != nil {
		timeout = 0 // the usual one
	}
	return &notify.SMTP{Server: s.URL, From: s.From, User: s.User, Password: s.Password, Plain: s.Plain, Timeout: timeout}
}

// Shown implements [deed.TargetKind].
func (k *Mails) Shown(stored json.RawMessage) json.RawMessage {
	var s mailSettings
	if err := parse(stored, &s); err != nil {
		return json.RawMessage(`{"kind":"smtp"}`)
	}
	if s.Password != "" {
		s.Password = hidden
	}
	data, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`{"kind":"smtp"}`)
	}
	return data
}

// Open implements [deed.TargetKind].
func (k *Mails) Open(_ string, stored json.RawMessage) (deed.Target, error) {
	var s mailSettings
	if err := parse(stored, &s); err != nil {
		return nil, err
	}
	if err := k.check(s); err != nil { // the server may have become stricter since
		return nil, err
	}
	return mailing{s, s.server()}, nil
}

// mailing is where the mails of one subscription go.
type mailing struct {
	mailSettings
	by *notify.SMTP
}

// Deliver implements [deed.Target]. The key of a mail is the id of its event.
func (m mailing) Deliver(ctx context.Context, events []deed.CloudEvent) error {
	for i := range events {
		mail, err := m.mail(&events[i])
		if err != nil {
			return deed.Permanent(err)
		}
		if err := m.by.Send(ctx, mail); err != nil {
			return err
		}
	}
	return nil
}

// mail is what is sent of an event.
func (m mailing) mail(e *deed.CloudEvent) (notify.Mail, error) {
	to, toErr := m.To.of(e)
	subject, subjectErr := m.Subject.of(e)
	text, textErr := m.Text.of(e)
	if m.Text == "" {
		text = string(e.Data) + "\n"
	}
	return notify.Mail{Key: e.ID, To: to, Subject: oneLine(subject), Text: text, At: e.Time}, errors.Join(toErr, subjectErr, textErr)
}

// oneLine makes spaces of what would begin another line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
