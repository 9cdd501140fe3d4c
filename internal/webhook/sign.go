package webhook

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// formerGood is how long a secret is good beside the one that takes its place.
const formerGood = 24 * time.Hour

// Prefixes of secrets and keys, as Standard Webhooks have them.
const (
	prefixHMAC    = "whsec_"
	prefixPrivate = "whsk_"
	prefixPublic  = "whpk_"
)

// A secret signs what is delivered.
type secret struct {
	Text  string    `json:"text"`           // whsec_ or whsk_ and base64
	Until time.Time `json:"until,omitzero"` // it signs until then; zero = it is the present one
}

// newSecrets returns secrets with a new one at their head, and what whoever
// asked for it has to know: of a pair of keys the public one.
func newSecrets(signing string, former []secret, now time.Time) ([]secret, map[string]string, error) {
	switch signing {
	case "none":
		if len(former) > 0 {
			return nil, nil, errors.New("nothing is signed, so there are no secrets")
		}
		return nil, nil, nil
	case "ed25519":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		s := secret{Text: prefixPrivate + base64.StdEncoding.EncodeToString(private)}
		return with(s, former, now), map[string]string{"public_key": s.public()}, nil
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return nil, nil, err
	}
	s := secret{Text: prefixHMAC + base64.StdEncoding.EncodeToString(raw)}
	return with(s, former, now), map[string]string{"secret": s.Text}, nil
}

// with puts a new secret before the last one, which is good for a while; those
// before that are not.
func with(s secret, former []secret, now time.Time) []secret {
	out := []secret{s}
	if len(former) > 0 {
		last := former[0]
		last.Until = now.Add(formerGood).UTC()
		out = append(out, last)
	}
	return out
}

// public is the public key of a secret that is a pair of keys, else "".
func (s secret) public() string {
	private, err := s.private()
	if err != nil {
		return ""
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
}

func (s secret) private() (ed25519.PrivateKey, error) {
	text, is := strings.CutPrefix(s.Text, prefixPrivate)
	raw, err := base64.StdEncoding.DecodeString(text)
	if !is || err != nil || len(raw) != ed25519.PrivateKeySize {
		return nil, errors.New("it is no private key")
	}
	return ed25519.PrivateKey(raw), nil
}

// A signer makes one signature.
type signer struct {
	until time.Time
	sign  func(id string, at time.Time, body []byte) (string, error)
}

func signersOf(secrets []secret) ([]signer, error) {
	var out []signer
	for _, s := range secrets {
		if strings.HasPrefix(s.Text, prefixHMAC) {
			w, err := standard.NewWebhook(s.Text)
			if err != nil {
				return nil, errors.New("a secret cannot be read")
			}
			out = append(out, signer{s.Until, w.Sign})
			continue
		}
		private, err := s.private()
		if err != nil {
			return nil, err
		}
		out = append(out, signer{s.Until, func(id string, at time.Time, body []byte) (string, error) {
			signed := ed25519.Sign(private, fmt.Appendf(nil, "%s.%d.%s", id, at.Unix(), body))
			return "v1a," + base64.StdEncoding.EncodeToString(signed), nil
		}})
	}
	return out, nil
}

// signatures are those of all secrets that are good now, the newest first.
func signatures(all []signer, id string, at time.Time, body []byte) (string, error) {
	var out []string
	for _, s := range all {
		if !s.until.IsZero() && !s.until.After(at) {
			continue
		}
		signed, err := s.sign(id, at, body)
		if err != nil {
			return "", err
		}
		out = append(out, signed)
	}
	return strings.Join(out, " "), nil
}
