package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/deed-dev/deed"
)

// usualTimeout is how long the sending of a mail may take.
const usualTimeout = 20 * time.Second

// SMTP sends mails by a mail server. Its fields are not to be changed once it
// is used.
type SMTP struct {
	// Server is "smtp://HOST:PORT" or "smtps://HOST:PORT". With smtp (port 587 if
	// none is given) the connection has to become encrypted by STARTTLS; with
	// smtps (port 465) it is from the beginning.
	Server string
	From   string // an address, which may have a name: "The bank <bank@example.org>"

	User, Password string        // "" = the server wants none
	Plain          bool          // with smtp: the connection stays as it is; passwords are then sent to this machine only
	Timeout        time.Duration // of one mail; default 20 s
	TLS            *tls.Config   // nil = the usual one
}

// Check reports what is wrong with the settings.
func (s *SMTP) Check() error {
	_, _, err := s.place()
	if _, addressErr := netmail.ParseAddress(s.From); addressErr != nil {
		err = errors.Join(err, fmt.Errorf("from: %q is no address of a mail, for example shop@example.org", s.From))
	}
	if s.Password != "" && s.User == "" {
		err = errors.Join(err, errors.New("there is a password, and no user"))
	}
	return err
}

// place is where the server is.
func (s *SMTP) place() (u *url.URL, port int, err error) {
	u, err = url.Parse(s.Server)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return u, 0, errors.New("the mail server is no address like smtp://mail.example.org:587 or smtps://mail.example.org")
	}
	if s.Plain && u.Scheme == "smtps" {
		return u, 0, errors.New("smtps is never plain")
	}
	port, err = strconv.Atoi(cmp.Or(u.Port(), map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme]))
	return u, port, err
}

// Send implements [Sender]. The Message-ID and the date of a mail follow from
// its key and its time, so that a server or a reader recognises it if it comes
// again: that is so when nobody knows whether the server has taken it.
//
// What the server answers about this mail with 5xx is permanent. All else is
// not, also when it does not let us in: that is about every mail.
func (s *SMTP) Send(ctx context.Context, m Mail) error {
	if err := errors.Join(s.Check(), m.Check()); err != nil {
		return err
	}
	msg, err := s.message(m)
	if err != nil {
		return deed.Permanent(err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, usualTimeout))
	defer cancel()
	l := line{until: ctx}
	defer l.close()
	client, err := s.client(&l)
	if err != nil {
		return err
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return s.failed(ctx, fmt.Errorf("the mail server cannot be used: %w", err))
	}
	if err := client.SendWithSMTPClient(conn, msg); err != nil && !msg.IsDelivered() {
		return s.failed(ctx, verdict(err))
	}
	_ = client.CloseWithSMTPClient(conn) // it has the mail, whatever it says now
	return nil
}

// failed says that time was up, if that is why.
func (s *SMTP) failed(ctx context.Context, err error) error {
	var late net.Error
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("the mail server did not take the mail within %s", cmp.Or(s.Timeout, usualTimeout))
	}
	return err
}

// message is a mail as it is sent.
func (s *SMTP) message(m Mail) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := errors.Join(msg.From(s.From), msg.To(m.To)); err != nil {
		return nil, err
	}
	msg.SetMessageIDWithValue(s.id(m.Key))
	msg.SetDateWithValue(m.At)
	msg.Subject(m.Subject)
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	return msg, nil
}

// id is the Message-ID, without its brackets, of whatever has a key.
func (s *SMTP) id(key string) string {
	host := "localhost"
	if a, err := netmail.ParseAddress(s.From); err == nil {
		host = a.Address[strings.LastIndexByte(a.Address, '@')+1:]
	}
	return fmt.Sprintf("%x.deed@%s", sha256.Sum256([]byte(key)), host)
}

// client returns what sends one mail, over a line.
func (s *SMTP) client(l *line) (*mail.Client, error) {
	u, port, err := s.place()
	if err != nil {
		return nil, err
	}
	conf := s.TLS
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ServerName == "" {
		conf = conf.Clone()
		conf.ServerName = u.Hostname()
	}
	l.tls = conf
	opts := []mail.Option{
		mail.WithPort(port), mail.WithTimeout(cmp.Or(s.Timeout, usualTimeout)), mail.WithTLSConfig(conf), mail.WithDialContextFunc(l.dial),
		mail.WithoutNoop(), mail.WithoutRset(), // each line carries one mail
	}
	switch {
	case u.Scheme == "smtps":
		l.implicit = true
		opts = append(opts, mail.WithSSL())
	case s.Plain:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.User != "" {
		opts = append(opts, mail.WithUsername(s.User), mail.WithPassword(s.Password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return mail.NewClient(u.Hostname(), opts...)
}

// A line is the connection for one mail, which ends with it: go-mail leaves it
// open when a greeting fails, and does not look at a context once it is there.
type line struct {
	until    context.Context
	tls      *tls.Config
	implicit bool

	mu   sync.Mutex
	conn net.Conn
	stop func() bool
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.conn, l.stop = conn, context.AfterFunc(l.until, func() { conn.Close() })
	l.mu.Unlock()
	if l.implicit {
		return tls.Client(conn, l.tls), nil
	}
	return conn, nil
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.stop()
		l.conn.Close() // what was to be said is said
	}
}

// verdict is what an answer of the server means.
func verdict(err error) error {
	var of *mail.SendError
	if !errors.As(err, &of) {
		return err
	}
	said := fmt.Errorf("the mail server did not take the mail: %s", of.Error())
	mine := of.Reason == mail.ErrSMTPRcptTo || of.Reason == mail.ErrSMTPData || of.Reason == mail.ErrSMTPDataClose
	if code := of.ErrorCode(); mine && code >= 500 && code < 600 {
		return deed.Permanent(said)
	}
	return said
}
