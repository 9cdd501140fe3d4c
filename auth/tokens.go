package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TokenOptions say which tokens are taken.
type TokenOptions struct {
	Issuer   string // the one that tokens must come from, for example "https://id.example.com"; needed
	Audience string // the one that tokens must be meant for; needed

	// JWKS is where the issuer's public keys are: a URL, or the path of a file.
	// Default: where the issuer says (OpenID Connect discovery).
	JWKS string

	Roles string   // the claim with the roles, for example "realm_access.roles"; default "roles"
	Actor string   // the claim with the actor; default "sub"
	Algs  []string // of signatures; default: all that have a public key, as RS256, ES256, EdDSA

	HTTP *http.Client // asks the issuer; default: one that waits 5 seconds at most
}

// Leeway is how far the clocks of the issuer and of this server may be apart.
const Leeway = time.Minute

// algs are the signatures with a public key. Others are never taken: whoever
// can check an HMAC can also make one.
var algs = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Tokens are signed tokens (JWT) of one issuer, as OpenID Connect providers
// hand them out.
type Tokens struct {
	opts TokenOptions
	algs []jose.SignatureAlgorithm
	keys *keySet
}

// NewTokens returns an authenticator of tokens, or an error that says what is
// wrong with the options. It does not ask the issuer for anything yet, so that
// an issuer that is down keeps no server from starting.
func NewTokens(o TokenOptions) (*Tokens, error) {
	if o.Issuer == "" || o.Audience == "" {
		return nil, errors.New("auth: tokens need an issuer and an audience")
	}
	o.Roles, o.Actor = cmp.Or(o.Roles, "roles"), cmp.Or(o.Actor, "sub")
	t := &Tokens{opts: o, algs: algs}
	if len(o.Algs) > 0 {
		t.algs = nil
		for _, name := range o.Algs {
			alg := jose.SignatureAlgorithm(name)
			if !slices.Contains(algs, alg) {
				return nil, fmt.Errorf("auth: %q is no signature with a public key; there are %v", name, algs)
			}
			t.algs = append(t.algs, alg)
		}
	}
	source, err := newSource(o)
	if err != nil {
		return nil, err
	}
	t.keys = &keySet{fetch: source}
	return t, nil
}

// Load gets the issuer's keys if that has not been done, for example to find
// out on start whether they can be had.
func (t *Tokens) Load(ctx context.Context) error { return t.keys.load(ctx) }

// Authenticate implements [Authenticator]: it takes bearer tokens.
func (t *Tokens) Authenticate(r *http.Request) (Principal, error) {
	text, err := credentials(r)
	if err != nil {
		return Principal{}, err
	}
	if looksLikeKey(text) {
		return Principal{}, Missing
	}
	claims, err := t.verify(r.Context(), text)
	if err != nil {
		return Principal{}, err
	}
	actor, _ := claim(claims, t.opts.Actor).(string)
	if checkActor(actor) != nil {
		return Principal{}, Invalid
	}
	return Principal{Actor: actor, Roles: rolesOf(claim(claims, t.opts.Roles)), Via: "token:" + t.opts.Issuer}, nil
}

// maxToken is the greatest length of a token, in bytes.
const maxToken = 16 << 10

// verify returns the claims of a token that is good.
func (t *Tokens) verify(ctx context.Context, text string) (map[string]any, error) {
	if len(text) > maxToken {
		return nil, Malformed
	}
	token, err := jwt.ParseSigned(text, t.algs)
	if err != nil || len(token.Headers) != 1 {
		return nil, Malformed // also if the algorithm is not one of ours, "none" for example
	}
	head := token.Headers[0]
	keys, err := t.keys.find(ctx, head.KeyID)
	if err != nil {
		return nil, err
	}
	var standard jwt.Claims
	var all map[string]any
	verified := slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool {
		return (k.Algorithm == "" || k.Algorithm == head.Algorithm) && token.Claims(k.Key, &standard, &all) == nil
	})
	if !verified {
		return nil, Invalid
	}
	return all, t.check(standard)
}

// check says whether a token is from the issuer, for this server and for now.
func (t *Tokens) check(c jwt.Claims) error {
	want := jwt.Expected{Issuer: t.opts.Issuer, AnyAudience: jwt.Audience{t.opts.Audience}, Time: time.Now()}
	err := c.ValidateWithLeeway(want, Leeway)
	switch {
	case c.Expiry == nil: // a token for ever could never be taken back
		return Invalid
	case errors.Is(err, jwt.ErrExpired):
		return Expired
	case err != nil:
		return Invalid
	}
	return nil
}

// claim returns the value at a dotted path. A name with dots in it that stands
// at the top is found too: some issuers use URLs.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	var at any = claims
	for name := range strings.SplitSeq(path, ".") {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	return at
}

// rolesOf reads a list of roles, or a text with blanks between them.
func rolesOf(v any) (roles []string) {
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				roles = append(roles, s)
			}
		}
	}
	return roles
}

// parseKeySet reads the public keys of a JSON Web Key Set that are for
// signatures. Keys of kinds that nobody here knows are left out, and so are
// secret ones: they have no business there.
func parseKeySet(data []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("it is no JSON Web Key Set")
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.Valid() && k.IsPublic() && (k.Use == "" || k.Use == "sig") && strong(k) {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it has no public key for signatures")
	}
	return out, nil
}
