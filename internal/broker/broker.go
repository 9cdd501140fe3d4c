// Package broker is what the kinds of message brokers have in common that public
// events are delivered to: how they are declared, which of them may be connected
// to, how an event becomes a message, and connections that are kept.
package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
)

// Settings are what is stored of a target of some kind of brokers.
type Settings interface {
	// Complete fills in what follows from the rest, and reports what is wrong.
	Complete() error
	// Places are the addresses to connect to, as HOST:PORT.
	Places() []string
	// Secrets are the settings that nobody is to see, by their names.
	Secrets() map[string]*string
}

// A Kind is a kind of brokers: targets with settings S, which is a pointer.
type Kind[S Settings] struct {
	Name  string
	Hosts *Hosts
	Empty func() S                         // settings that say nothing
	Place func(S) (delivery.Target, error) // opens the place of complete settings
}

// hidden is what is shown of what nobody is to see.
const hidden = "***"

// Prepare implements delivery.Kind.
func (k *Kind[S]) Prepare(_ context.Context, _ string, asked, former json.RawMessage) (json.RawMessage, map[string]string, error) {
	s, err := k.parse(asked)
	if err != nil {
		return nil, nil, err
	}
	if err := complete(s, k.Hosts); err != nil {
		return nil, nil, err
	}
	if err := k.keep(s, former); err != nil {
		return nil, nil, err
	}
	if _, err := k.Place(s); err != nil {
		return nil, nil, err
	}
	stored, err := json.Marshal(s)
	return stored, nil, err
}

// parse reads settings, each of which has to be known.
func (k *Kind[S]) parse(data json.RawMessage) (S, error) {
	s := k.Empty()
	return s, read(k.Name, data, s)
}

func read(name string, data json.RawMessage, into any) error {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("is not as that of %s: %w", name, err)
	}
	return nil
}

// Read reads complete settings of a kind of brokers, all places of which have to
// be allowed.
func Read(name string, data json.RawMessage, hosts *Hosts, into Settings) error {
	if err := read(name, data, into); err != nil {
		return err
	}
	return complete(into, hosts)
}

// complete completes settings, whose places have to be allowed.
func complete(s Settings, hosts *Hosts) error {
	if err := s.Complete(); err != nil {
		return err
	}
	for _, place := range s.Places() {
		if err := hosts.Allow(place); err != nil {
			return err
		}
	}
	return nil
}

// keep takes over what is hidden from whoever changes what was shown to them. It
// does not for other places: nobody is to learn a secret by having it sent elsewhere.
func (k *Kind[S]) keep(s S, former json.RawMessage) error {
	was := k.Empty()
	if former != nil {
		var err error
		if was, err = k.parse(former); err != nil {
			return err
		}
	}
	known := was.Secrets()
	for name, v := range s.Secrets() {
		if *v != hidden {
			continue
		}
		secret, there := known[name]
		switch {
		case !there || *secret == "":
			return fmt.Errorf("%s is hidden, and there was none before: say it", name)
		case !sameEach(s.Places(), was.Places()):
			return fmt.Errorf("%s is hidden, and the broker is another: say it again", name)
		}
		*v = *secret
	}
	return nil
}

func sameEach(a, b []string) bool {
	return strings.EqualFold(strings.Join(a, ","), strings.Join(b, ","))
}

// Shown implements delivery.Kind.
func (k *Kind[S]) Shown(stored json.RawMessage) json.RawMessage {
	nothing := json.RawMessage(fmt.Sprintf(`{"kind":%q}`, k.Name))
	s, err := k.parse(stored)
	if err != nil {
		return nothing
	}
	for _, v := range s.Secrets() {
		if *v != "" {
			*v = hidden
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nothing
	}
	return data
}

// Open implements delivery.Kind.
func (k *Kind[S]) Open(_ string, stored json.RawMessage) (delivery.Target, error) {
	s := k.Empty()
	if err := Read(k.Name, stored, k.Hosts, s); err != nil { // the server may have become stricter since
		return nil, err
	}
	return k.Place(s)
}

// Common are the settings that all kinds of brokers have.
type Common struct {
	Kind     string `json:"kind"`
	Format   string `json:"format,omitempty"`  // structured (the default) or binary
	Timeout  string `json:"timeout,omitempty"` // of one delivery; default 15s
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	TLS      *TLS   `json:"tls,omitempty"`
}

// Bounds of deliveries.
const (
	usualTimeout   = 15 * time.Second
	longestTimeout = 30 * time.Second
)

// CheckCommon reports what is wrong with the common settings.
func (c *Common) CheckCommon() error {
	if f := c.Format; f != "" && f != Structured && f != Binary {
		return fmt.Errorf("format is %s or %s", Structured, Binary)
	}
	if d, err := time.ParseDuration(c.Timeout); c.Timeout != "" && (err != nil || d < time.Second || d > longestTimeout) {
		return errors.New("timeout is a duration from 1s to 30s")
	}
	if c.Password != "" && c.User == "" {
		return errors.New("password needs user")
	}
	return nil
}

// Patience is how long one delivery may take.
func (c *Common) Patience() time.Duration {
	d, err := time.ParseDuration(c.Timeout)
	if err != nil {
		return usualTimeout
	}
	return d
}

// Secrets are the common settings that nobody is to see.
func (c *Common) Secrets() map[string]*string {
	all := map[string]*string{"password": &c.Password}
	if c.TLS != nil {
		all["tls.key"] = &c.TLS.Key
	}
	return all
}
