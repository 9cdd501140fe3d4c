package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store/mem"
)

var signingKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// keyFile is a file with the public key of signingKey.
func keyFile(t testing.TB) string {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{KeyID: "k", Key: signingKey().Public()}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// token is a token of the issuer "i" for the audience "a", but for changes.
func token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "i", "aud": "a", "sub": "ann", "exp": time.Now().Unix() + 600, "realm": map[string]any{"roles": []string{"clerk"}}}
	for k, v := range changes {
		claims[k] = v
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{KeyID: "k", Key: signingKey()}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Tokens are taken beside keys; one that is not good is refused, with a code
// and not a word about what was wrong with it.
func TestTokensOverHTTP(t *testing.T) {
	s := mem.New()
	tokens, err := auth.NewTokens(auth.TokenOptions{Issuer: "i", Audience: "a", JWKS: keyFile(t), Roles: "realm.roles"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, s, deedtest.StartOn(t, s, jars()), tokens)
	_, key := g.key(t, "bob", "clerk")
	enc := base64.RawURLEncoding.EncodeToString
	none := enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(`{"iss":"i","aud":"a","sub":"ann","exp":9999999999,"realm":{"roles":["admin"]}}`)) + "."
	for name, c := range map[string]struct {
		text   string
		status int
	}{
		"good": {token(t, nil), 200}, "key": {key, 200}, "alg none": {none, 401},
		"no roles": {token(t, map[string]any{"realm": nil}), 403}, "other roles": {token(t, map[string]any{"realm": map[string]any{"roles": "reader"}}), 403},
		"expired": {token(t, map[string]any{"exp": 1}), 401}, "audience": {token(t, map[string]any{"aud": "b"}), 401}, "issuer": {token(t, map[string]any{"iss": "j"}), 401},
		"not yet": {token(t, map[string]any{"nbf": time.Now().Unix() + 600}), 401}, "nobody": {token(t, map[string]any{"sub": ""}), 401},
	} {
		status, h, body := ask(t, g.base, "GET", "/v1/views/books", "", c.text)
		if status != c.status || status == 401 && h.Get("WWW-Authenticate") != `Bearer realm="deed", error="invalid_token"` {
			t.Errorf("%s: %d %q %s, want %d", name, status, h.Get("WWW-Authenticate"), body, c.status)
		}
	}
}
