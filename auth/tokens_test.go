package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/deed-dev/deed/store/mem"
)

const (
	testIssuer = "https://id.example.com"
	testServer = "shop"
)

// An issuer is an identity provider that answers without a network.
type issuer struct {
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	name  string // as discovery tells it
	down  bool
	asked int // for its keys
	extra string
}

// RoundTrip implements http.RoundTripper.
func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		return nil, errors.New("no route to host")
	}
	var body any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		body = map[string]string{"issuer": i.name, "jwks_uri": testIssuer + "/keys"}
	case "/keys":
		i.asked++
		set := []any{json.RawMessage(`{"kty":"new","kid":"unheard of"}`), json.RawMessage(`{"kty":"oct","kid":"shared","k":"c2VjcmV0"}`)}
		for _, k := range i.keys {
			set = append(set, k.Public())
		}
		body = map[string]any{"keys": set, "padding": i.extra}
	}
	b, err := json.Marshal(body)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(b))), Request: r}, err
}

func (i *issuer) set(f func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	var keys []*rsa.PrivateKey
	for range 2 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

func keyNamed(id string, k crypto.PrivateKey) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: id, Key: k}
}

func newIssuer() *issuer {
	return &issuer{name: testIssuer, keys: []jose.JSONWebKey{keyNamed("k1", rsaKeys()[0])}}
}

func (i *issuer) tokens(t testing.TB, change func(*TokenOptions)) *Tokens {
	t.Helper()
	o := TokenOptions{Issuer: testIssuer, Audience: testServer, HTTP: &http.Client{Transport: i}}
	if change != nil {
		change(&o)
	}
	tokens, err := NewTokens(o)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

type claims map[string]any

// good are the claims of a token that is taken, with changes; nil removes one.
func good(changes claims) claims {
	now := time.Now().Unix()
	c := claims{"iss": testIssuer, "aud": testServer, "sub": "ann", "exp": now + 600, "nbf": now, "iat": now, "roles": []string{"reader"}}
	for k, v := range changes {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, key jose.JSONWebKey, c claims) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(map[string]any(c)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forge makes a token by hand.
func forge(head string, c claims, mac func(string) []byte) string {
	body, _ := json.Marshal(c)
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString(body)
	return text + "." + enc.EncodeToString(mac(text))
}

func macWith(secret []byte) func(string) []byte {
	return func(text string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
}

func TestTokens(t *testing.T) {
	i := newIssuer()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.keys = append(i.keys, keyNamed("ec", ec), keyNamed("", ec))
	k1, stranger := i.keys[0], keyNamed("k1", rsaKeys()[1])
	public := &rsaKeys()[0].PublicKey
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	asJWK, _ := json.Marshal(k1.Public())
	rs := func(changes claims) string { return sign(t, jose.RS256, k1, good(changes)) }
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"good":                  {rs(nil), nil},
		"PS256":                 {sign(t, jose.PS256, k1, good(nil)), nil},
		"elliptic":              {sign(t, jose.ES256, keyNamed("ec", ec), good(nil)), nil},
		"no key id":             {sign(t, jose.ES256, keyNamed("", ec), good(nil)), nil},
		"one of two audiences":  {rs(claims{"aud": []string{"other", testServer}}), nil},
		"expired within leeway": {rs(claims{"exp": now - 50}), nil},
		"clock ahead":           {rs(claims{"nbf": now + 50, "iat": now + 50}), nil},
		"expired":               {rs(claims{"exp": now - 70}), Expired},
		"not yet valid":         {rs(claims{"nbf": now + 70}), Invalid},
		"issued in the future":  {rs(claims{"iat": now + 70}), Invalid},
		"no expiry":             {rs(claims{"exp": nil}), Invalid},
		"expiry is text":        {rs(claims{"exp": "tomorrow"}), Invalid},
		"wrong audience":        {rs(claims{"aud": "other"}), Invalid},
		"no audience":           {rs(claims{"aud": nil}), Invalid},
		"wrong issuer":          {rs(claims{"iss": testIssuer + "/"}), Invalid},
		"no issuer":             {rs(claims{"iss": nil}), Invalid},
		"no actor":              {rs(claims{"sub": nil}), Invalid},
		"actor is a number":     {rs(claims{"sub": 7}), Invalid},
		"long actor":            {rs(claims{"sub": strings.Repeat("x", 129)}), Invalid},
		"line in the actor":     {rs(claims{"sub": "a\nb"}), Invalid},
		"unknown key":           {sign(t, jose.RS256, keyNamed("k9", rsaKeys()[0]), good(nil)), Invalid},
		"a stranger's key":      {sign(t, jose.RS256, stranger, good(nil)), Invalid},
		"no id of an RSA key":   {sign(t, jose.RS256, keyNamed("", rsaKeys()[0]), good(nil)), Invalid},
		"another kind of key":   {sign(t, jose.ES256, keyNamed("k1", ec), good(nil)), Invalid},
		"alg none":              {forge(`{"alg":"none","kid":"k1"}`, good(nil), func(string) []byte { return nil }), Malformed},
		"alg None":              {forge(`{"alg":"nOnE","kid":"k1"}`, good(nil), func(string) []byte { return nil }), Malformed},
		"HMAC with the PEM":     {forge(`{"alg":"HS256","kid":"k1"}`, good(nil), macWith(asPEM)), Malformed},
		"HMAC with the DER":     {forge(`{"alg":"HS256","kid":"k1"}`, good(nil), macWith(der)), Malformed},
		"HMAC with the JWK":     {forge(`{"alg":"HS256","kid":"k1"}`, good(nil), macWith(asJWK)), Malformed},
		"HMAC with the modulus": {forge(`{"alg":"HS256","kid":"k1"}`, good(nil), macWith(public.N.Bytes())), Malformed},
		"HMAC, shared key":      {forge(`{"alg":"HS256","kid":"shared"}`, good(nil), macWith([]byte("secret"))), Malformed},
		"HMAC said to be RSA":   {forge(`{"alg":"RS256","kid":"k1"}`, good(nil), macWith(asPEM)), Invalid},
		"key in the head":       {forge(`{"alg":"RS256","jwk":`+string(asJWK)+`}`, good(nil), macWith(asPEM)), Invalid},
		"crit nobody knows":     {forge(`{"alg":"RS256","kid":"k1","crit":["x"],"x":1}`, good(nil), macWith(asPEM)), Invalid},
		"cut off":               {rs(nil)[:300], Malformed},
		"four parts":            {rs(nil) + ".x", Malformed},
		"no parts":              {"hello", Malformed},
		"long":                  {strings.Repeat("a", maxToken+1), Malformed},
		"API key":               {keyText("a", "b"), Missing},
	} {
		tokens := i.tokens(t, nil)
		p, err := tokens.Authenticate(request("Authorization", "Bearer "+c.text))
		if err != c.want || (p.Actor == "ann") != (c.want == nil) {
			t.Errorf("%s: %+v, %v; want %v", name, p, err, c.want)
		}
	}
}

func TestRolesOfTokens(t *testing.T) {
	i := newIssuer()
	for _, c := range []struct {
		path   string
		claims claims
		want   []string
	}{
		{"", claims{"roles": []string{"a", "b"}}, []string{"a", "b"}},
		{"", claims{"roles": "a b"}, []string{"a", "b"}},
		{"", claims{"roles": nil}, nil},
		{"", claims{"roles": 7}, nil},
		{"", claims{"roles": []any{"a", 7, nil, []string{"admin"}}}, []string{"a"}},
		{"realm.access", claims{"realm": map[string]any{"access": []string{"a"}}}, []string{"a"}},
		{"realm.access", claims{"realm": "admin"}, nil},
		{"realm.access", claims{"roles": []string{"admin"}}, nil},
		{"https://x.example.com/roles", claims{"https://x.example.com/roles": []string{"a"}}, []string{"a"}},
	} {
		tokens := i.tokens(t, func(o *TokenOptions) { o.Roles, o.Actor = c.path, "email" })
		c.claims["email"] = "ann@example.com"
		p, err := tokens.Authenticate(request("Authorization", "Bearer "+sign(t, jose.RS256, i.keys[0], good(c.claims))))
		if err != nil || !slices.Equal(p.Roles, c.want) || p.Actor != "ann@example.com" {
			t.Errorf("%q %v: %+v, %v; want %q", c.path, c.claims, p, err, c.want)
		}
	}
}

// An issuer changes its keys: tokens of a new one are taken within seconds,
// those of one taken back no longer than an hour. Whatever strangers send, the
// issuer is asked at most every ten seconds.
func TestIssuerChangesItsKeys(t *testing.T) {
	rsaKeys() // not in fake time
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer()
		tokens := i.tokens(t, nil)
		old, fresh := i.keys[0], keyNamed("k2", rsaKeys()[1])
		is := func(asked int, key jose.JSONWebKey, want error) {
			t.Helper()
			if err := tried(tokens, sign(t, jose.RS256, key, good(nil))); err != want {
				t.Errorf("key %s: %v, want %v", key.KeyID, err, want)
			}
			for n := range 50 {
				if err := tried(tokens, sign(t, jose.RS256, keyNamed(fmt.Sprint("s", n), rsaKeys()[1]), good(nil))); err != Invalid {
					t.Errorf("a stranger's key: %v", err)
				}
			}
			if i.asked != asked {
				t.Errorf("the issuer was asked %d times, want %d", i.asked, asked)
			}
		}
		is(1, old, nil)
		time.Sleep(keysPause)
		is(2, old, nil)
		i.set(func(i *issuer) { i.keys = []jose.JSONWebKey{fresh} })
		is(2, old, nil)
		is(2, fresh, Invalid)
		time.Sleep(keysPause)
		is(3, fresh, nil)
		is(3, old, Invalid)

		i.set(func(i *issuer) { i.keys = []jose.JSONWebKey{old} }) // and nobody comes with an unknown key
		time.Sleep(keysFresh - time.Second)
		if err := tried(tokens, sign(t, jose.RS256, fresh, good(nil))); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		is(4, fresh, Invalid)
	})
}

// While the issuer is down tokens are good for a day; with no keys at all
// nobody can tell.
func TestIssuerIsDown(t *testing.T) {
	rsaKeys()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer()
		i.down = true
		tokens := i.tokens(t, nil)
		token := func() string { return sign(t, jose.RS256, i.keys[0], good(nil)) }
		if err := tried(tokens, token()); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		i.set(func(i *issuer) { i.down = false })
		time.Sleep(keysPause)
		if err := tried(tokens, token()); err != nil {
			t.Error(err)
		}
		i.set(func(i *issuer) { i.down = true })
		time.Sleep(keysStale - time.Second)
		if err := tried(tokens, token()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if err := tried(tokens, token()); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
}

// Keys are not taken from whoever answers in the issuer's place.
func TestKeysOfSomebodyElse(t *testing.T) {
	for name, change := range map[string]func(*issuer){
		"another name": func(i *issuer) { i.name = "https://evil.example.com" },
		"no end":       func(i *issuer) { i.extra = strings.Repeat("x", maxKeySet) },
		"no keys":      func(i *issuer) { i.keys = nil },
	} {
		i := newIssuer()
		key := i.keys[0]
		change(i)
		if err := tried(i.tokens(t, nil), sign(t, jose.RS256, key, good(nil))); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	key := keyNamed("k1", rsaKeys()[0])
	tokens, err := NewTokens(TokenOptions{Issuer: "anything", Audience: testServer, JWKS: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Load(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	data, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	tokens.keys.tried = time.Time{}
	if err := tried(tokens, sign(t, jose.RS256, key, good(claims{"iss": "anything"}))); err != nil {
		t.Error(err)
	}
}

// Keys that anybody could have made or changed are not used.
func TestWeakKeys(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k crypto.PublicKey, use string) jose.JSONWebKey {
		return jose.JSONWebKey{KeyID: "k1", Key: k, Use: use}
	}
	for name, k := range map[string]jose.JSONWebKey{
		"1024 bits": public(&short.PublicKey, ""), "private": keyNamed("k1", rsaKeys()[0]), "for encryption": public(&rsaKeys()[0].PublicKey, "enc"), "shared": keyNamed("k1", []byte("secret")),
	} {
		data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := parseKeySet(data); err == nil {
			t.Errorf("%s: %+v", name, keys)
		}
	}
}

func TestTokenOptions(t *testing.T) {
	for name, o := range map[string]TokenOptions{
		"nothing":     {},
		"no audience": {Issuer: testIssuer},
		"no issuer":   {Audience: "a", JWKS: "keys.json"},
		"no URL":      {Issuer: "id", Audience: "a"},
		"plain http":  {Issuer: "http://id.example.com", Audience: "a"},
		"plain keys":  {Issuer: testIssuer, Audience: "a", JWKS: "http://id.example.com/keys"},
		"HMAC":        {Issuer: testIssuer, Audience: "a", Algs: []string{"HS256"}},
		"none":        {Issuer: testIssuer, Audience: "a", Algs: []string{"none"}},
	} {
		if _, err := NewTokens(o); err == nil {
			t.Errorf("%s is fine", name)
		}
	}
	if _, err := NewTokens(TokenOptions{Issuer: "http://127.0.0.1:4711", Audience: "a", Algs: []string{"ES256"}}); err != nil {
		t.Error(err)
	}
}

func TestChain(t *testing.T) {
	i, k := newIssuer(), NewKeys(mem.New())
	_, text := create(t, k, NewKey{Actor: "bob"})
	c := Chain(k, i.tokens(t, nil))
	for text, want := range map[string]struct {
		actor string
		err   error
	}{
		text:     {"bob", nil},
		text[1:]: {"", Malformed},
		sign(t, jose.RS256, i.keys[0], good(nil)):             {"ann", nil},
		keyText(randomText(idBytes), randomText(secretBytes)): {"", Invalid},
	} {
		if p, err := c.Authenticate(request("Authorization", "Bearer "+text)); p.Actor != want.actor || err != want.err {
			t.Errorf("%.20s: %+v, %v", text, p, err)
		}
	}
	if _, err := c.Authenticate(request()); err != Missing {
		t.Error(err)
	}
	if _, err := Chain().Authenticate(request("X-Api-Key", text)); err != Missing {
		t.Error(err)
	}
}

func TestRoles(t *testing.T) {
	for _, c := range []struct {
		has  []string
		is   string
		want bool
	}{
		{nil, RoleReader, false}, {[]string{RoleReader}, RoleReader, true}, {[]string{RoleReader}, RoleOperator, false},
		{[]string{RoleOperator}, RoleReader, true}, {[]string{RoleOperator}, RoleAdmin, false}, {[]string{RoleOperator}, "saver", false},
		{[]string{RoleAdmin}, RoleOperator, true}, {[]string{RoleAdmin}, "saver", true}, {[]string{"saver"}, RoleReader, false},
	} {
		if got := (Principal{Roles: c.has}).Is(c.is); got != c.want {
			t.Errorf("%q is %q: %v", c.has, c.is, got)
		}
	}
}

func FuzzToken(f *testing.F) {
	i := newIssuer()
	tokens := i.tokens(f, nil)
	if err := tokens.Load(context.Background()); err != nil {
		f.Fatal(err)
	}
	good := sign(f, jose.RS256, i.keys[0], good(claims{"exp": time.Now().Unix() + 1e6}))
	for _, s := range []string{good, good[:100], "a.b.c", "..", forge(`{"alg":"none"}`, nil, macWith(nil)), forge(`{"alg":["RS256"]}`, nil, macWith(nil)), forge(`{"alg":"RS256","kid":{}}`, nil, macWith(nil))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := tokens.Authenticate(request("Authorization", "Bearer "+s))
		var refusal Refusal
		if s != good && !errors.As(err, &refusal) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	i := newIssuer()
	tokens := i.tokens(b, nil)
	r := request("Authorization", "Bearer "+sign(b, jose.RS256, i.keys[0], good(nil)))
	for b.Loop() {
		if _, err := tokens.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
