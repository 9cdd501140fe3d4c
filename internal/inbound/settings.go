package inbound

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// Settings are what a sender sends, and how it shows that it is the one.
type Settings struct {
	Doc    string `json:"doc,omitempty"`    // one sentence for people
	Format string `json:"format,omitempty"` // cloudevents (the default), eventgrid or json
	Proof  string `json:"proof,omitempty"`  // signature (the default), hub, stripe, secret or none

	Secret     string   `json:"secret,omitempty"`      // the one to use; "" = the former one, or a new one is made
	PublicKeys []string `json:"public_keys,omitempty"` // of a sender that signs with ed25519: whpk_...
	Header     string   `json:"header,omitempty"`      // that has the secret, if that is the proof; default Authorization
	Query      string   `json:"query,omitempty"`       // parameter that has it instead

	Sources []string `json:"sources,omitempty"` // that the sender may speak for: sources of CloudEvents, topics of Event Grid; none = any
	Origins []string `json:"origins,omitempty"` // that are granted a CloudEvents handshake, for example eventgrid.azure.net; "*" = any
	Rate    int      `json:"rate,omitzero"`     // messages a minute that they are told to keep to; 0 = as many as they like

	// Of the format json: where in a request these are.
	ID      Locator `json:"id,omitempty"`      // default header:webhook-id
	Type    Locator `json:"type,omitempty"`    // default /type
	Subject Locator `json:"subject,omitempty"` // default nowhere

	secrets []secret // the newest first
	source  string   // of messages that say none
}

// hidden is what is shown of what nobody is to see.
const hidden = "***"

func (s Settings) format() string  { return cmp.Or(s.Format, CloudEvents) }
func (s Settings) proof() string   { return cmp.Or(s.Proof, Signature) }
func (s Settings) header() string  { return cmp.Or(s.Header, "Authorization") }
func (s Settings) idAt() Locator   { return cmp.Or(s.ID, "header:webhook-id") }
func (s Settings) typeAt() Locator { return cmp.Or(s.Type, "/type") }

func (s Settings) rate() string {
	if s.Rate == 0 {
		return "*"
	}
	return strconv.Itoa(s.Rate)
}

// Bounds of settings.
const (
	maxEntries = 100
	maxText    = 1024
)

// check reports what is wrong with settings.
func (s Settings) check() error {
	for field, c := range map[string]struct {
		is  string
		all []string
	}{
		"format": {s.format(), []string{CloudEvents, EventGrid, Plain}}, "proof": {s.proof(), []string{Signature, Hub, Stripe, Secret, Nothing}},
	} {
		if !slices.Contains(c.all, c.is) {
			return deed.Invalid{Field: field, Detail: "is one of " + strings.Join(c.all, ", ")}
		}
	}
	for field, given := range map[string]bool{"header": s.Header != "", "query": s.Query != ""} {
		if given && s.proof() != Secret {
			return deed.Invalid{Field: field, Detail: "is where a secret is, and the proof is " + s.proof()}
		}
	}
	for field, l := range map[string]Locator{"id": s.ID, "type": s.Type, "subject": s.Subject} {
		if l != "" && s.format() != Plain {
			return deed.Invalid{Field: field, Detail: "is for the format json: others have a place for it"}
		}
		if err := l.check(field); err != nil {
			return err
		}
	}
	for field, list := range map[string][]string{"sources": s.Sources, "origins": s.Origins, "public_keys": s.PublicKeys} {
		if len(list) > maxEntries || slices.ContainsFunc(list, func(v string) bool { return v == "" || len(v) > maxText }) {
			return deed.Invalid{Field: field, Detail: fmt.Sprintf("is a list of up to %d texts", maxEntries)}
		}
	}
	switch {
	case s.Header != "" && s.Query != "":
		return deed.Invalid{Field: "query", Detail: "is there beside header: the secret is in one of them"}
	case s.Header != "" && !isToken(s.Header):
		return deed.Invalid{Field: "header", Detail: "is no name of a header"}
	case s.Query != "" && url.QueryEscape(s.Query) != s.Query:
		return deed.Invalid{Field: "query", Detail: "is no plain name of a parameter"}
	case s.Rate < 0:
		return deed.Invalid{Field: "rate", Detail: "is a number of messages a minute"}
	case len(s.Doc) > maxText:
		return deed.Invalid{Field: "doc", Detail: fmt.Sprintf("is longer than %d bytes", maxText)}
	case len(s.PublicKeys) > 0 && s.proof() != Signature:
		return deed.Invalid{Field: "public_keys", Detail: "are for the proof signature"}
	}
	for _, key := range s.PublicKeys {
		if _, err := publicKey(key); err != nil {
			return deed.Invalid{Field: "public_keys", Detail: err.Error()}
		}
	}
	return s.checkSecret()
}

// isToken reports whether a text may be the name of a header.
func isToken(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	})
}

// checkSecret reports what is wrong with the secret that somebody wants.
func (s Settings) checkSecret() error {
	switch {
	case s.Secret == "" || s.Secret == hidden:
		return nil
	case s.proof() == Nothing:
		return deed.Invalid{Field: "secret", Detail: "is there, and the proof is none"}
	case s.proof() == Signature:
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Secret, prefixHMAC))
		if err != nil || len(raw) < 24 || len(raw) > 64 || !strings.HasPrefix(s.Secret, prefixHMAC) {
			return deed.Invalid{Field: "secret", Detail: "is " + prefixHMAC + " and 24 to 64 bytes in base64"}
		}
	case len(s.Secret) < 16 || len(s.Secret) > 256 || strings.ContainsFunc(s.Secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return deed.Invalid{Field: "secret", Detail: "has 16 to 256 printable ASCII characters and no blanks"}
	}
	return nil
}

// A secret is one that is good now, or for a while.
type secret struct {
	Text  string    `json:"text"`
	Until time.Time `json:"until,omitzero"` // zero = it is the present one
}

func (s secret) good(now time.Time) bool { return s.Until.IsZero() || now.Before(s.Until) }

// needsSecret reports whether there is nothing without a secret.
func (s Settings) needsSecret() bool {
	return s.proof() != Nothing && !(s.proof() == Signature && len(s.PublicKeys) > 0)
}

// newSecret makes a secret for a kind of proof.
func newSecret(proof string) string {
	if proof != Signature {
		return rand.Text() + rand.Text()
	}
	raw := make([]byte, 32)
	rand.Read(raw) // never fails
	return prefixHMAC + base64.StdEncoding.EncodeToString(raw)
}
