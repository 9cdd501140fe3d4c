package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// maxKeySet is how much an issuer may answer, in bytes.
const maxKeySet = 1 << 20

// newSource returns how an issuer's keys are fetched: from a file, from a URL,
// or from the URL that discovery gives.
func newSource(o TokenOptions) (func(context.Context) ([]jose.JSONWebKey, error), error) {
	client := o.HTTP
	if client == nil {
		client = &http.Client{Timeout: 5 * time.Second}
	}
	client = bounded(client)
	isURL := strings.HasPrefix(o.JWKS, "http://") || strings.HasPrefix(o.JWKS, "https://")
	if o.JWKS != "" && !isURL {
		return func(context.Context) ([]jose.JSONWebKey, error) { return readKeySet(o.JWKS) }, nil
	}
	if err := private(cmp.Or(o.JWKS, o.Issuer)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]jose.JSONWebKey, error) {
		at := o.JWKS
		if at == "" {
			var err error
			if at, err = discover(ctx, client, o.Issuer); err != nil {
				return nil, err
			}
		}
		return getKeySet(ctx, client, at)
	}, nil
}

// private refuses to get keys in a way that others could change.
func private(at string) error {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" {
		return fmt.Errorf("auth: %q is no URL", at)
	}
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()) {
		return nil
	}
	return fmt.Errorf("auth: keys are fetched by https only, not from %q", at)
}

func readKeySet(path string) ([]jose.JSONWebKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// discover asks the issuer where its keys are.
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var found struct {
		At string `json:"jwks_uri"`
	}
	if err := p.Claims(&found); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	return found.At, private(found.At)
}

func getKeySet(ctx context.Context, client *http.Client, at string) ([]jose.JSONWebKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", at, resp.Status)
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	keys, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return keys, nil
}

// bounded returns a client that reads so much of an answer and no more, and
// goes where it is sent by https only.
func bounded(c *http.Client) *http.Client {
	limited := *c
	limited.Transport = limit{cmp.Or[http.RoundTripper](c.Transport, http.DefaultTransport)}
	limited.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) >= 3 {
			return errors.New("redirected too often")
		}
		return private(r.URL.String())
	}
	return &limited
}

type limit struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limit) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxKeySet)
	}
	return resp, err
}
