package inbound

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Proofs: how a sender shows that it is the one.
const (
	Signature = "signature" // Standard Webhooks: HMAC with a secret, or ed25519
	Hub       = "hub"       // X-Hub-Signature-256, as of GitHub
	Stripe    = "stripe"    // Stripe-Signature
	Secret    = "secret"    // a secret in a header or in the address
	Nothing   = "none"      // anybody may send
)

// tolerance is how old a signature may be, or how far ahead of the clock.
const tolerance = 5 * time.Minute

// Prefixes of secrets and keys, as Standard Webhooks have them.
const (
	prefixHMAC   = "whsec_"
	prefixPublic = "whpk_"
)

func unproven(detail string, given ...any) error {
	return Refusal{http.StatusUnauthorized, fmt.Sprintf(detail, given...)}
}

// Verify reports whether a request is the sender's. If not, the error is a [Refusal].
func (s Settings) Verify(r *http.Request, body []byte, now time.Time) error {
	switch s.proof() {
	case Signature:
		return s.verifyStandard(r.Header, body, now)
	case Hub:
		given, err := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		if err != nil || len(given) == 0 {
			return unproven("the header X-Hub-Signature-256 is missing, or not sha256= and hexadecimal")
		}
		return s.anySecret(now, func(secret string) bool { return hmac.Equal(given, signed(secret, body)) })
	case Stripe:
		return s.verifyStripe(r.Header.Get("Stripe-Signature"), body, now)
	case Secret:
		given := s.shownSecret(r.Header, r.URL)
		if given == "" {
			return unproven("the secret is missing: it is expected in %s", s.place())
		}
		sum := sha256.Sum256([]byte(given))
		return s.anySecret(now, func(secret string) bool {
			want := sha256.Sum256([]byte(secret))
			return subtle.ConstantTimeCompare(sum[:], want[:]) == 1
		})
	}
	return nil
}

// anySecret reports whether one of the secrets that are good now fits. It tries all
// of them, so that how long it takes says nothing.
func (s Settings) anySecret(now time.Time, fits func(secret string) bool) error {
	ok := false
	for _, x := range s.secrets {
		if x.good(now) && fits(x.Text) {
			ok = true
		}
	}
	if !ok {
		return unproven("the signature or secret is not the sender's")
	}
	return nil
}

func signed(key string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return mac.Sum(nil)
}

// fresh reports whether a signature was made at a time near now.
func fresh(seconds string, now time.Time) error {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return unproven("the time of the signature is missing, or no number of seconds")
	}
	if at := time.Unix(n, 0); now.Sub(at) > tolerance || at.Sub(now) > tolerance {
		return unproven("the signature is of another time: it is good for %v", tolerance)
	}
	return nil
}

// verifyStandard checks a signature of Standard Webhooks.
func (s Settings) verifyStandard(h http.Header, body []byte, now time.Time) error {
	id, at, given := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")
	if id == "" || at == "" || given == "" {
		return unproven("one of the headers webhook-id, webhook-timestamp and webhook-signature is missing")
	}
	if err := fresh(at, now); err != nil {
		return err
	}
	ok := false
	for _, x := range s.secrets {
		w, err := standard.NewWebhook(x.Text)
		if x.good(now) && err == nil && w.VerifyIgnoringTimestamp(body, h) == nil {
			ok = true
		}
	}
	content := fmt.Appendf(nil, "%s.%s.%s", id, at, body)
	for _, key := range s.PublicKeys {
		public, err := publicKey(key)
		if err != nil {
			continue
		}
		for one := range strings.FieldsSeq(given) {
			text, is := strings.CutPrefix(one, "v1a,")
			sig, err := base64.StdEncoding.DecodeString(text)
			if is && err == nil && ed25519.Verify(public, content, sig) {
				ok = true
			}
		}
	}
	if !ok {
		return unproven("no signature of webhook-signature is the sender's")
	}
	return nil
}

func publicKey(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, prefixPublic))
	if err != nil || len(raw) != ed25519.PublicKeySize || !strings.HasPrefix(text, prefixPublic) {
		return nil, fmt.Errorf("is no public key like %s and 32 bytes in base64", prefixPublic)
	}
	return raw, nil
}

// verifyStripe checks a header like "t=1492774577,v1=5257a869...", of which several v1
// may be there.
func (s Settings) verifyStripe(header string, body []byte, now time.Time) error {
	at, given := "", [][]byte{}
	for part := range strings.SplitSeq(header, ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			at = v
		case "v1":
			if sig, err := hex.DecodeString(v); err == nil {
				given = append(given, sig)
			}
		}
	}
	if err := fresh(at, now); err != nil {
		return err
	}
	content := append([]byte(at+"."), body...)
	return s.anySecret(now, func(secret string) bool {
		ok, want := false, signed(secret, content)
		for _, sig := range given {
			ok = hmac.Equal(sig, want) || ok
		}
		return ok
	})
}

// shownSecret is the secret that a request shows.
func (s Settings) shownSecret(h http.Header, u *url.URL) string {
	if s.Query != "" {
		return u.Query().Get(s.Query)
	}
	v := h.Get(s.header())
	if scheme, token, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return v
}

// place says where the secret is expected.
func (s Settings) place() string {
	if s.Query != "" {
		return "the parameter " + s.Query
	}
	return "the header " + s.header()
}
