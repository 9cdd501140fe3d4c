package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"time"

	"code.dny.dev/ssrf"

	"github.com/deed-dev/deed"
)

const (
	// patienceOnce is how long one attempt at a delivery may take.
	patienceOnce = 10 * time.Second
	// maxAnswer is how much of an answer is read: nobody needs it, but a
	// connection can only be used again when its answer was read.
	maxAnswer = 64 << 10
)

// newClient returns a client that connects with a dialer. It follows no
// redirect, which could lead anywhere, and asks no proxy, which would look names
// up by itself.
func newClient(d net.Dialer) *http.Client {
	d.Timeout = patienceOnce / 2
	return &http.Client{
		Timeout:       patienceOnce,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: d.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: patienceOnce / 2,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: maxAnswer,
		},
	}
}

// post delivers a message. The receiver recognises a repetition by its key.
func post(ctx context.Context, c *http.Client, url, key string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return deed.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("User-Agent", "deed")
	res, err := c.Do(req)
	if errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedPort) || errors.Is(err, ssrf.ErrProhibitedNetwork) {
		return deed.Permanent(fmt.Errorf("the address is none that may be called: %w", err))
	}
	if inner, ok := errors.AsType[*neturl.Error](err); ok {
		err = inner.Err // the address may hold a secret, and errors are shown to people
	}
	if err != nil {
		return err
	}
	io.CopyN(io.Discard, res.Body, maxAnswer) // only for the connection's sake
	res.Body.Close()
	return accepted(res)
}

// accepted reports whether a delivery has succeeded. An answer that says that
// the same message would be refused again is final.
func accepted(res *http.Response) error {
	err := fmt.Errorf("the receiver answered %s", res.Status)
	switch s := res.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s >= 300 && s < 400:
		return deed.Permanent(fmt.Errorf("%w: redirects are not followed", err))
	case s == http.StatusRequestTimeout, s == http.StatusConflict, s == http.StatusTooEarly, s == http.StatusTooManyRequests, s >= 500:
		return err
	}
	return deed.Permanent(err)
}
