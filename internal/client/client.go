// Package client talks to the HTTP API: for the command line, the simulator
// and tests.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/deed-dev/deed/httpapi"
)

// A Client asks one server.
type Client struct {
	Base string // for example "http://localhost:8080"
	Key  string // API key or token; "" = none
	HTTP *http.Client
}

// New returns a client of the server at base.
func New(base string) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 256
	return &Client{Base: strings.TrimRight(base, "/"), HTTP: &http.Client{Transport: t}}
}

// In returns a client of a handler in this process.
func In(h http.Handler) *Client {
	return &Client{Base: "http://deed", HTTP: &http.Client{Transport: direct{h}}}
}

type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	d.h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// Unreachable is the error of a server that does not answer.
type Unreachable struct{ Err error }

func (u Unreachable) Error() string { return "the server does not answer: " + u.Err.Error() }

// Unwrap returns Err.
func (u Unreachable) Unwrap() error { return u.Err }

// Do asks the server. Body, unless nil, is made into JSON; the answer's JSON
// goes into out, unless that is nil. An answer that is no success is returned
// as an httpapi.Problem.
func (c *Client) Do(ctx context.Context, method, path string, headers map[string]string, body, out any) (http.Header, error) {
	_, h, err := c.Send(ctx, method, path, headers, body, out)
	return h, err
}

// Send is Do that also returns the status of the answer; 0 = there was none.
func (c *Client) Send(ctx context.Context, method, path string, headers map[string]string, body, out any) (int, http.Header, error) {
	var b []byte
	switch x := body.(type) {
	case nil:
	case []byte:
		b = x
	default:
		var err error
		if b, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	c.show(r)
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return 0, nil, Unreachable{err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, Unreachable{err}
	}
	if resp.StatusCode >= 400 {
		var p httpapi.Problem
		if err := json.Unmarshal(data, &p); err != nil || p.Code == "" {
			return resp.StatusCode, resp.Header, fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return resp.StatusCode, resp.Header, p
	}
	if out == nil || len(data) == 0 {
		return resp.StatusCode, resp.Header, nil
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = data
		return resp.StatusCode, resp.Header, nil
	}
	return resp.StatusCode, resp.Header, json.Unmarshal(data, out)
}

// show shows the client's key.
func (c *Client) show(r *http.Request) {
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
}

// Path makes a path of parts, escaping each, and appends a query.
func Path(query url.Values, parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	path := "/" + strings.Join(parts, "/")
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// Tail follows the live tail after a cursor ("" = from now), through any
// number of lost connections, and hands each event and its cursor to f, until
// ctx ends or f returns an error.
func (c *Client) Tail(ctx context.Context, query url.Values, f func(cursor string, e httpapi.Event) error) error {
	return c.tail(ctx, Path(query, "v1", "events", "live"), query.Get("after"), f)
}

// TailCommand follows the stream of a command until the command is over.
func (c *Client) TailCommand(ctx context.Context, id string, f func(version string, e httpapi.Event) error) error {
	return c.tail(ctx, Path(nil, "v1", "commands", id, "live"), "", f)
}

// TailInstance follows the stream of a process or saga until it is over. The
// kind is that of routes: "processes" or "sagas".
func (c *Client) TailInstance(ctx context.Context, kind, name, id string, f func(version string, e httpapi.Event) error) error {
	return c.tail(ctx, Path(nil, "v1", kind, name, id, "live"), "", f)
}

// TailRun follows the stream of a recorded asking until it is over and delivered.
func (c *Client) TailRun(ctx context.Context, query, id string, f func(version string, e httpapi.Event) error) error {
	return c.tail(ctx, Path(nil, "v1", "queries", query, "runs", id, "live"), "", f)
}

// errOver reports that the server says there will be no more.
var errOver = errors.New("over")

func (c *Client) tail(ctx context.Context, path, after string, f func(string, httpapi.Event) error) error {
	failures := 0
	for {
		err := c.tailOnce(ctx, path, &after, &failures, f)
		var stop stopped
		switch {
		case err == errOver:
			return nil
		case errors.As(err, &stop):
			return stop.error
		}
		if err := waitFor(ctx, err, &failures); err != nil {
			return err
		}
	}
}

// Persist calls ask until the server has answered it, be it with a problem: a
// server that is started again is away for a moment.
func Persist(ctx context.Context, ask func() error) error {
	failures := 0
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if err := waitFor(ctx, err, &failures); err != nil {
			return err
		}
	}
}

// waitFor waits for a server that has not answered, ten times in a row, ever
// longer; it returns other errors, and the eleventh.
func waitFor(ctx context.Context, err error, failures *int) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.As(err, new(Unreachable)) {
		return err
	}
	if *failures++; *failures > 10 {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(*failures-1) * 200 * time.Millisecond):
		return nil
	}
}

// stopped is an error of the receiver, not of the connection.
type stopped struct{ error }

func (c *Client) tailOnce(ctx context.Context, path string, after *string, failures *int, f func(string, httpapi.Event) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+path, nil)
	if err != nil {
		return err
	}
	c.show(r)
	if *after != "" {
		r.Header.Set("Last-Event-ID", *after)
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return Unreachable{err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p httpapi.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
			return fmt.Errorf("live tail: %s", resp.Status)
		}
		return p
	}
	lines := bufio.NewReader(resp.Body)
	id := ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return Unreachable{err}
		}
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		switch name {
		case "event":
			if value == "over" {
				return errOver
			}
		case "id":
			id = value
		case "data":
			var e httpapi.Event
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return err
			}
			if err := f(id, e); err != nil {
				return stopped{err}
			}
			*after, *failures = id, 0
		case "": // the end of an event, or of the first line, which only has an id
			if id != "" {
				*after = id
			}
		}
	}
}
