// Package webhook delivers public events to web addresses: signed as Standard
// Webhooks say, as CloudEvents or in the schema of Event Grid.
package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/sinks"
)

// Bounds of deliveries.
const (
	usualTimeout   = 15 * time.Second
	longestTimeout = 30 * time.Second
	maxHeaders     = 20
)

// Formats of deliveries.
const (
	structured = "structured" // one CloudEvent as JSON, or several as a batch
	batch      = "batch"      // always a batch of CloudEvents
	binary     = "binary"     // the data is the body, the attributes are headers
	eventGrid  = "eventgrid"  // an array in the schema of Event Grid
)

// A Kind is webhooks: targets that are reached by HTTP.
type Kind struct {
	hosts  *sinks.Hosts
	origin string
	now    func() time.Time
}

// New returns the kind of targets that are at the hosts that may be called. An
// address on the public internet has to be https, one of a named host need not.
// Receivers that have to consent are asked as origin.
func New(hosts *sinks.Hosts, origin string) *Kind {
	return &Kind{hosts: hosts, origin: origin, now: time.Now}
}

// settings are what is stored of a webhook.
type settings struct {
	Kind      string            `json:"kind"`
	URL       string            `json:"url"`
	Format    string            `json:"format,omitempty"`    // default structured
	Signing   string            `json:"signing,omitempty"`   // hmac (the default), ed25519 or none
	Handshake string            `json:"handshake,omitempty"` // none (the default), cloudevents or eventgrid: how the receiver consents
	Timeout   string            `json:"timeout,omitempty"`   // of one delivery; default 15s
	Headers   map[string]string `json:"headers,omitempty"`   // that each delivery has besides, for example Authorization

	Secrets   []secret `json:"secrets,omitempty"`   // the newest first; not to be set
	Consented string   `json:"consented,omitempty"` // the address that has consented; not to be set

	PublicKeys []string `json:"public_keys,omitempty"` // only shown
}

// Prepare implements delivery.Kind.
func (k *Kind) Prepare(ctx context.Context, name string, asked, former json.RawMessage) (json.RawMessage, map[string]string, error) {
	var was settings
	s, err := parse(asked)
	if err != nil {
		return nil, nil, err
	}
	if len(s.Secrets) > 0 || s.Consented != "" {
		return nil, nil, errors.New("must not have secrets or consented: they are made here")
	}
	if former != nil {
		if was, err = parse(former); err != nil {
			return nil, nil, err
		}
	}
	if err := s.keep(was); err != nil {
		return nil, nil, err
	}
	if err := k.check(s); err != nil {
		return nil, nil, err
	}
	var once map[string]string
	if s.Secrets = was.Secrets; was.signing() != s.signing() || len(was.Secrets) == 0 {
		if s.Secrets, once, err = newSecrets(s.signing(), nil, k.now()); err != nil {
			return nil, nil, err
		}
	}
	if s.Consented = was.Consented; s.handshake() != "none" && s.Consented != s.URL {
		if err := k.consent(ctx, name, s); err != nil {
			return nil, nil, err
		}
		s.Consented = s.URL
	}
	stored, err := json.Marshal(s)
	return stored, once, err
}

func parse(data json.RawMessage) (s settings, err error) {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("is not as a webhook's: %w", err)
	}
	return s, nil
}

// keep takes over what is hidden from whoever changes what was shown to them. It
// does not for another host: nobody is to learn a secret by having it sent elsewhere.
func (s *settings) keep(was settings) error {
	s.PublicKeys = nil
	if was.URL != "" && s.URL == shownURL(was.URL) {
		s.URL = was.URL
	}
	for name, v := range s.Headers {
		former, there := was.Headers[name]
		if !there || v != hidden {
			continue
		}
		if !sameHost(s.URL, was.URL) {
			return fmt.Errorf("headers has %s hidden, and the host is another: say its value again", name)
		}
		s.Headers[name] = former
	}
	return nil
}

func sameHost(a, b string) bool {
	u, err := url.Parse(a)
	v, err2 := url.Parse(b)
	return err == nil && err2 == nil && u.Scheme == v.Scheme && strings.EqualFold(u.Host, v.Host)
}

func (s settings) signing() string   { return cmp.Or(s.Signing, "hmac") }
func (s settings) handshake() string { return cmp.Or(s.Handshake, "none") }
func (s settings) format() string    { return cmp.Or(s.Format, structured) }

func (s settings) timeout() time.Duration {
	d, err := time.ParseDuration(s.Timeout)
	if err != nil {
		return usualTimeout
	}
	return d
}

// check reports what is wrong with settings.
func (k *Kind) check(s settings) error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("url is no web address, for example https://shop.example/hook")
	}
	if u.User != nil || u.Fragment != "" {
		return errors.New("url has a user or a fragment: put what the receiver wants to know into headers")
	}
	if u.Scheme != "https" && !k.hosts.Named(u) {
		return errors.New("url has to be https, unless the server names the host with --webhook-hosts")
	}
	if _, err := k.hosts.Client(s.URL); err != nil {
		return err
	}
	for field, c := range map[string]struct {
		is  string
		all []string
	}{
		"format": {s.format(), []string{structured, batch, binary, eventGrid}}, "signing": {s.signing(), []string{"hmac", "ed25519", "none"}},
		"handshake": {s.handshake(), []string{"none", "cloudevents", "eventgrid"}},
	} {
		if !slices.Contains(c.all, c.is) {
			return fmt.Errorf("%s is one of %s", field, strings.Join(c.all, ", "))
		}
	}
	if d, err := time.ParseDuration(s.Timeout); s.Timeout != "" && (err != nil || d < time.Second || d > longestTimeout) {
		return errors.New("timeout is a duration from 1s to 30s")
	}
	return checkHeaders(s.Headers)
}

// ours are the headers that are set here.
var ours = []string{"host", "content-", "webhook-", "ce-", "aeg-", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect", "keep-alive", "proxy-"}

func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return fmt.Errorf("headers has more than %d", maxHeaders)
	}
	for name, v := range headers {
		lower := strings.ToLower(name)
		if slices.ContainsFunc(ours, func(p string) bool { return lower == p || strings.HasSuffix(p, "-") && strings.HasPrefix(lower, p) }) {
			return fmt.Errorf("headers has %s, which is set by deed", name)
		}
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
		}) || len(v) > 4096 || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("headers has %q, which is none: a header has a name of letters, digits, - and _, a value of up to 4,096 printable ASCII characters", name)
		}
	}
	return nil
}

// hidden is what is shown of what nobody is to see.
const hidden = "***"

// Shown implements delivery.Kind.
func (k *Kind) Shown(stored json.RawMessage) json.RawMessage {
	s, err := parse(stored)
	if err != nil {
		return json.RawMessage(`{"kind":"webhook"}`)
	}
	out := map[string]any{"kind": s.Kind, "url": shownURL(s.URL), "format": s.format(), "signing": s.signing(), "handshake": s.handshake(), "timeout": s.timeout().String()}
	if len(s.Headers) > 0 {
		headers := map[string]string{}
		for name := range s.Headers {
			headers[name] = hidden
		}
		out["headers"] = headers
	}
	var keys []string
	for _, x := range s.Secrets {
		if key := x.public(); key != "" {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		out["public_keys"] = keys
	}
	data, err := json.Marshal(out)
	if err != nil {
		return json.RawMessage(`{"kind":"webhook"}`)
	}
	return data
}

// shownURL is an address without its query, which may hold a secret.
func shownURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return hidden
	}
	if u.RawQuery != "" {
		u.RawQuery = hidden
	}
	return u.String()
}

// Rotate implements delivery.Rotator.
func (k *Kind) Rotate(stored json.RawMessage) (json.RawMessage, map[string]string, error) {
	s, err := parse(stored)
	if err != nil {
		return nil, nil, err
	}
	var once map[string]string
	if s.Secrets, once, err = newSecrets(s.signing(), s.Secrets, k.now()); err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(s)
	return data, once, err
}

// Open implements delivery.Kind.
func (k *Kind) Open(name string, stored json.RawMessage) (delivery.Target, error) {
	s, err := parse(stored)
	if err != nil {
		return nil, err
	}
	c, err := k.hosts.Client(s.URL) // the server may have become stricter since
	if err != nil {
		return nil, err
	}
	keys, err := signersOf(s.Secrets)
	if err != nil {
		return nil, err
	}
	return &hook{settings: s, name: name, origin: k.origin, client: patient(c, s.timeout()), signers: keys, now: k.now}, nil
}

// patient returns a client that waits so long.
func patient(c *http.Client, timeout time.Duration) *http.Client {
	with := *c
	with.Timeout = timeout
	return &with
}
