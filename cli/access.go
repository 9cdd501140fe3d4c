package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/store"
)

// access is how a server is told to check access. The zero access checks
// nothing.
type access struct {
	auth  string // "keys" or "off"
	token auth.TokenOptions
}

func (w *access) flags(f *pflag.FlagSet) {
	f.StringVar(&w.auth, "auth", "off", "check access: with keys, whoever asks needs an API key, see deed key; off = only if --oidc-issuer is given")
	f.StringVar(&w.token.Issuer, "oidc-issuer", "", "take tokens (JWT) of this issuer, for example https://id.example.com")
	f.StringVar(&w.token.Audience, "oidc-audience", "", "the audience that tokens must be for; needed with --oidc-issuer")
	f.StringVar(&w.token.JWKS, "jwks", "", "URL or file of the issuer's public keys (default: where the issuer says)")
	f.StringVar(&w.token.Roles, "roles-claim", "roles", "the claim of a token that has the roles, for example realm_access.roles")
	f.StringVar(&w.token.Actor, "actor-claim", "sub", "the claim of a token that has the actor")
}

// tokens returns what checks tokens, or nil if none are taken.
func (w access) tokens() (*auth.Tokens, error) {
	switch {
	case w.auth != "" && w.auth != "off" && w.auth != "keys":
		return nil, usageError{fmt.Errorf("--auth %q: use keys or off", w.auth)}
	case w.token.Issuer == "" && w.token.Audience == "" && w.token.JWKS == "":
		return nil, nil
	case w.token.Issuer == "" || w.token.Audience == "":
		return nil, usageError{errors.New("tokens are taken of an issuer and for an audience: give both --oidc-issuer and --oidc-audience")}
	}
	t, err := auth.NewTokens(w.token)
	if err != nil {
		return nil, usageError{err}
	}
	return t, nil
}

// A guard is who stands at a server's door; nobody if the Authenticator is nil.
type guard struct {
	auth.Authenticator
	keys   *auth.Keys
	tokens *auth.Tokens
	takes  []string // for people
}

func (w access) guard(s store.Store, tokens *auth.Tokens) guard {
	g := guard{tokens: tokens}
	var all []auth.Authenticator
	if w.auth == "keys" {
		g.keys = auth.NewKeys(s)
		all = append(all, g.keys)
		g.takes = append(g.takes, "API keys")
	}
	if tokens != nil {
		all = append(all, tokens)
		g.takes = append(g.takes, fmt.Sprintf("tokens of %s for %s", w.token.Issuer, w.token.Audience))
	}
	if len(all) > 0 {
		g.Authenticator = auth.Chain(all...)
	}
	return g
}

const unchecked = "Access is not checked: anybody who reaches the address may ask anything. Keep it on a trusted network, or use deed serve --auth keys.\n"

// announce says whether access is checked, and what is missing.
func (a *app) announce(ctx context.Context, g guard, dsn string) {
	if g.Authenticator == nil {
		a.say("%s", unchecked)
		return
	}
	a.say("Access is checked: %s.\n", strings.Join(g.takes, ", "))
	if g.tokens != nil {
		if err := g.tokens.Load(ctx); err != nil {
			a.logger().Warn("no token can be checked yet", slog.Any("error", err))
		}
	}
	if g.keys == nil {
		return
	}
	if first, _, err := g.keys.List(ctx, "", 1); err == nil && len(first) == 0 {
		a.say("There is no key yet. Make one (a SQLite file can be opened while no server has it): deed key create --store %s --actor NAME --role admin\n", hidden(dsn))
	}
}

// secret is what the user shows to a server.
func (a *app) secret() (string, error) {
	path, isFile := strings.CutPrefix(a.key, "@")
	if !isFile {
		return a.key, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", usageError{fmt.Errorf("--key: %w", err)}
	}
	return strings.TrimSpace(string(b)), nil
}
