// Package smtptest is a mail server for tests, which speaks the real protocol.
package smtptest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// A Server keeps the mails that it has taken.
type Server struct {
	Addr string // host:port

	mu     sync.Mutex
	mails  []Mail
	tries  int
	refuse func(stage, to string) error
	users  map[string]string
	lines  map[*smtp.Conn]bool
}

// A Mail is one that was taken.
type Mail struct {
	ID, From, To, Subject, Text, Date string
	TLS                               bool
	User                              string
}

// Stages of a mail that can be refused.
const (
	From  = "from"
	Rcpt  = "rcpt"
	Data  = "data"  // when all of it is there
	Taken = "taken" // when it is kept, and before that is said
)

// ErrHangup is an error that makes a server end the line instead of answering.
var ErrHangup = errors.New("hang up")

// Answer is an error that is answered so.
func Answer(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCodeNotSet, Message: text}
}

// Start runs a server on this machine until the test ends. With a tls.Config
// it offers STARTTLS; users, if there are any, have to show their passwords.
func Start(t testing.TB, conf *tls.Config, implicit bool, users map[string]string) *Server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: ln.Addr().String(), users: users, lines: map[*smtp.Conn]bool{}}
	if implicit {
		ln = tls.NewListener(ln, conf)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines[c] = true
		return &session{s: s, c: c}, nil
	}))
	server.Domain, server.TLSConfig, server.AllowInsecureAuth = "mail.test", conf, conf == nil
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	server.ErrorLog = quiet{}
	var end sync.WaitGroup
	end.Go(func() { server.Serve(ln) })
	t.Cleanup(func() {
		server.Close()
		end.Wait()
	})
	return s
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Refuse has f asked at each stage of a mail; nil = nothing is refused.
func (s *Server) Refuse(f func(stage, to string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = f
}

// Mails are those that were taken.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Tries is how often somebody began to send a mail.
func (s *Server) Tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

// Open is how many lines are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

func (s *Server) ask(stage, to string) error {
	s.mu.Lock()
	f := s.refuse
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(stage, to)
}

// A session is one line.
type session struct {
	s        *Server
	c        *smtp.Conn
	user     string
	from, to string
}

func (n *session) AuthMechanisms() []string {
	if n.s.users == nil {
		return nil
	}
	return []string{sasl.Plain}
}

func (n *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if want, known := n.s.users[user]; !known || want != password {
			return Answer(535, "no")
		}
		n.user = user
		return nil
	}), nil
}

func (n *session) answer(err error) error {
	if errors.Is(err, ErrHangup) {
		n.c.Conn().Close()
	}
	return err
}

func (n *session) Mail(from string, _ *smtp.MailOptions) error {
	n.s.mu.Lock()
	n.s.tries++
	n.s.mu.Unlock()
	if n.s.users != nil && n.user == "" {
		return Answer(530, "who are you?")
	}
	n.from = from
	return n.answer(n.s.ask(From, ""))
}

func (n *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	n.to = to
	return n.answer(n.s.ask(Rcpt, to))
}

func (n *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := n.s.ask(Data, n.to); err != nil {
		return n.answer(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	_, encrypted := n.c.TLSConnectionState()
	n.s.mu.Lock()
	n.s.mails = append(n.s.mails, Mail{
		ID: m.Header.Get("Message-Id"), From: n.from, To: n.to, Subject: m.Header.Get("Subject"), Date: m.Header.Get("Date"), Text: string(text), TLS: encrypted, User: n.user,
	})
	n.s.mu.Unlock()
	return n.answer(n.s.ask(Taken, n.to))
}

func (n *session) Reset() {}

func (n *session) Logout() error {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	delete(n.s.lines, n.c)
	return nil
}
