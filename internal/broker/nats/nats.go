// Package nats delivers public events to streams of NATS JetStream. What is
// delivered is in its stream: the server has said so.
package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/delivery"
)

// settings are what is stored of a target.
type settings struct {
	servers
	Subject string `json:"subject"`          // for example events.{type}
	Stream  string `json:"stream,omitempty"` // that has to take it in; default: whichever does

	subject broker.Template
}

// New returns the kind of targets that are streams of JetStream.
func New(hosts *broker.Hosts) delivery.Kind {
	lines := &broker.Lines[*conn]{}
	return &broker.Kind[*settings]{
		Name: "nats", Hosts: hosts,
		Empty: func() *settings { return &settings{} },
		Place: func(s *settings) (delivery.Target, error) { return open(s, hosts, lines) },
	}
}

// Complete implements broker.Settings.
func (s *settings) Complete() error {
	if err := s.servers.complete(); err != nil {
		return err
	}
	if !isName(s.Stream) {
		return errors.New("stream is the name of a stream")
	}
	var err error
	if s.subject, err = broker.ParseTemplate(s.Subject); err != nil {
		return fmt.Errorf("subject %w", err)
	}
	if sample := s.subject.Of(&delivery.Event{}, fit); !isSubject(sample) || strings.HasPrefix(sample, "$") {
		return errors.New("subject is one to publish on, for example events.{type}: tokens with dots between them, without spaces, * and >")
	}
	return nil
}

// isName reports whether a stream or a consumer may be called so.
func isName(name string) bool { return !strings.ContainsAny(name, " .*>/\\\t\r\n") }

func isSubject(text string) bool {
	for token := range strings.SplitSeq(text, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }) {
			return false
		}
	}
	return true
}

// fit makes a value fit for a subject: what must not be there is _ instead.
// Dots are between tokens, as in order.placed.v1.
func fit(v string) string {
	if v != "" && isSubject(v) {
		return v
	}
	tokens := strings.Split(v, ".")
	for i, token := range tokens {
		tokens[i] = strings.Map(func(r rune) rune {
			if r <= ' ' || r == '*' || r == '>' || r == 0x7f {
				return '_'
			}
			return r
		}, token)
		if token == "" {
			tokens[i] = "_"
		}
	}
	return strings.Join(tokens, ".")
}

// A target is a place in a stream.
type target struct {
	*settings
	hosts *broker.Hosts
	lines *broker.Lines[*conn]
	key   string // of the connection
}

func open(s *settings, hosts *broker.Hosts, lines *broker.Lines[*conn]) (*target, error) {
	if _, err := s.TLS.Config(); err != nil {
		return nil, err
	}
	key, err := json.Marshal([]any{s.URL, s.User, s.Password, s.Token, s.Creds, s.TLS})
	return &target{s, hosts, lines, string(key)}, err
}

// Deliver implements delivery.Target.
func (t *target) Deliver(ctx context.Context, events []delivery.Event) error {
	within, cancel := context.WithTimeout(ctx, t.Patience())
	defer cancel()
	dial := func(ctx context.Context) (*conn, error) { return t.dial(ctx, t.hosts) }
	return t.lines.Use(ctx, t.key, dial, func(c *conn) error { return t.publish(within, c, events) })
}

// messages are what events become on a connection. One that is too large is an
// error of all: nothing is sent then, and it is found out which it is.
func (t *target) messages(c *conn, events []delivery.Event) ([]*natsgo.Msg, error) {
	all := make([]*natsgo.Msg, len(events))
	for i := range events {
		e := &events[i]
		m, err := t.message(e)
		if err == nil {
			err = c.fits(m)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.ID, err)
		}
		all[i] = m
	}
	return all, nil
}

// message is what an event becomes. The stream passes over an id that it has
// seen lately.
func (t *target) message(e *delivery.Event) (*natsgo.Msg, error) {
	m := &natsgo.Msg{Header: natsgo.Header{}, Data: make([]byte, 0, broker.RoomFor(e))}
	return m, t.fill(m, e)
}

// fill makes a message, which may have been another one, what an event becomes.
func (t *target) fill(m *natsgo.Msg, e *delivery.Event) (err error) {
	m.Subject = t.subject.Of(e, fit)
	if t.Format == broker.Binary {
		clear(m.Header)
		for name, v := range e.All() {
			m.Header["ce-"+name] = []string{delivery.Escaped(v)}
		}
		m.Data = append(m.Data[:0], e.Data...)
	} else {
		set(m.Header, "Content-Type", broker.ContentType)
		m.Data, err = e.AppendJSON(m.Data[:0])
	}
	set(m.Header, jetstream.MsgIDHeader, delivery.Escaped(e.ID))
	if t.Stream != "" {
		set(m.Header, jetstream.ExpectedStreamHeader, t.Stream)
	}
	return err
}

// set sets a header to one value, in place if it had one.
func set(h natsgo.Header, name, v string) {
	if was := h[name]; len(was) == 1 {
		was[0] = v
		return
	}
	h[name] = []string{v}
}
