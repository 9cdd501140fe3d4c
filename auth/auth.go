// Package auth says who asks: it makes a [Principal] of a request that carries
// an API key (see [Keys]) or a token of an identity provider (see [Tokens]).
// What a principal may do is decided by its roles, elsewhere.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// Roles that deed itself knows. Domains add their own, see deed.Rules.
const (
	RoleAdmin    = "admin"    // may everything
	RoleOperator = "operator" // looks after followers, dead letters and nodes; may read as well
	RoleReader   = "reader"   // reads views, states, streams and the log
)

// A Principal is who asks, as far as it has been proved.
type Principal struct {
	Actor string   // recorded with what it does
	Roles []string // what it may do
	Via   string   // how it proved it: "key:" and the id of a key, or "token:" and the issuer
}

// Is reports whether the principal has a role, or one that implies it: admin
// implies every role, operator implies reader.
func (p Principal) Is(role string) bool {
	return slices.Contains(p.Roles, role) || slices.Contains(p.Roles, RoleAdmin) ||
		role == RoleReader && slices.Contains(p.Roles, RoleOperator)
}

// An Authenticator finds out who asks. Its errors are a [Refusal], or wrap
// [ErrUnavailable] or what the store said if it could not find out.
type Authenticator interface {
	Authenticate(r *http.Request) (Principal, error)
}

// A Refusal is why a request has no principal. It says no more than its caller
// may know: not which part of a key or token was wrong.
type Refusal string

// The refusals.
const (
	Missing   Refusal = "the request carries no key or token that this server takes"
	Several   Refusal = "the request carries more than one key or token: send either Authorization or X-Api-Key, and that once"
	Malformed Refusal = "the key or token is malformed"
	Invalid   Refusal = "the key or token is not valid here"
	Expired   Refusal = "the key or token has expired"
	Revoked   Refusal = "the key has been revoked"
)

func (r Refusal) Error() string { return string(r) }

// ErrUnavailable reports that nothing is known about a token at the moment,
// because the keys it is checked with cannot be had.
var ErrUnavailable = errors.New("auth: the keys that tokens are checked with cannot be had")

// Chain asks one authenticator after the other, until one knows the kind of
// credentials that the request carries.
func Chain(all ...Authenticator) Authenticator { return chain(all) }

type chain []Authenticator

// Authenticate implements Authenticator.
func (c chain) Authenticate(r *http.Request) (Principal, error) {
	for _, a := range c {
		p, err := a.Authenticate(r)
		if !errors.Is(err, Missing) {
			return p, err
		}
	}
	return Principal{}, Missing
}

// credentials returns what a request carries: a bearer token or an API key.
// Two of them are refused: a proxy might look at the other one.
func credentials(r *http.Request) (string, error) {
	given := slices.Concat(r.Header.Values("Authorization"), r.Header.Values("X-Api-Key"))
	switch {
	case len(given) == 0:
		return "", Missing
	case len(given) > 1:
		return "", Several
	case len(r.Header.Values("X-Api-Key")) == 1:
		if !looksLikeKey(given[0]) {
			return "", Malformed
		}
		return given[0], nil
	}
	scheme, secret, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", Missing
	}
	if secret == "" {
		return "", Malformed
	}
	return secret, nil
}

// maxActor is the greatest length of an actor, in bytes, as deed.MaxKey says.
const maxActor = 128

// checkActor reports whether commands may be recorded as this actor's.
func checkActor(actor string) error {
	if actor == "" || len(actor) > maxActor || !plain(actor) {
		return fmt.Errorf("%w: the actor must be 1 to %d bytes of printable UTF-8", ErrInput, maxActor)
	}
	return nil
}

// plain reports whether s is UTF-8 without control characters.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 })
}

// A By is who does an administrative act, as it is recorded.
type By struct {
	Actor       string `json:"actor,omitempty"`
	Correlation string `json:"correlation,omitempty"`
	Source      string `json:"source,omitempty"` // where it comes from, for example "http"
}
