package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

// A hook is one address that events are delivered to.
type hook struct {
	settings
	name    string // of the subscription
	origin  string
	client  *http.Client
	signers []signer
	now     func() time.Time
}

// Deliver implements delivery.Target.
func (h *hook) Deliver(ctx context.Context, events []delivery.Event) error {
	if h.format() == binary {
		for i := range events { // such a body has one
			if err := h.post(ctx, events[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return h.post(ctx, events)
}

// post makes one request.
func (h *hook) post(ctx context.Context, events []delivery.Event) error {
	body, header, err := h.encode(events)
	if err != nil {
		return engine.Permanent(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return engine.Permanent(errors.New("the address cannot be called"))
	}
	req.Header = header
	id, at := idOf(events), h.now()
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	signed, err := signatures(h.signers, id, at, body)
	if err != nil {
		return engine.Permanent(err)
	}
	if signed != "" {
		header.Set("Webhook-Signature", signed)
	}
	header.Set("User-Agent", "deed")
	header.Set("Webhook-Request-Origin", h.origin)
	for name, v := range h.Headers {
		header.Set(name, v)
	}
	return send(h.client, req)
}

// encode returns the body of a request, and the headers that belong to it.
func (h *hook) encode(events []delivery.Event) (body []byte, header http.Header, err error) {
	header = http.Header{}
	is := func(contentType string, v any) {
		header.Set("Content-Type", contentType)
		body, err = json.Marshal(v)
	}
	switch {
	case h.format() == binary:
		header.Set("Content-Type", events[0].ContentType)
		for name, v := range events[0].Attributes() {
			if name != "datacontenttype" {
				header.Set("Ce-"+name, delivery.Escaped(v))
			}
		}
		return events[0].Data, header, nil
	case h.format() == eventGrid:
		header.Set("Aeg-Event-Type", "Notification")
		header.Set("Aeg-Subscription-Name", h.name)
		is("application/json; charset=utf-8", gridEvents(events))
	case h.format() == batch || len(events) > 1:
		is("application/cloudevents-batch+json; charset=utf-8", events)
	default:
		is("application/cloudevents+json; charset=utf-8", events[0])
	}
	return body, header, err
}

// idOf is the id of a delivery, which is the same whenever the same is delivered.
func idOf(events []delivery.Event) string {
	if len(events) == 1 {
		return delivery.Escaped(events[0].ID)
	}
	sum := sha256.New()
	for i := range events {
		io.WriteString(sum, events[i].ID+"\n")
	}
	return "batch-" + hex.EncodeToString(sum.Sum(nil)[:16])
}

// gridEvent is an event in the schema of Event Grid.
type gridEvent struct {
	ID              string          `json:"id"`
	Topic           string          `json:"topic"`
	Subject         string          `json:"subject"`
	EventType       string          `json:"eventType"`
	EventTime       time.Time       `json:"eventTime"`
	Data            json.RawMessage `json:"data"`
	DataVersion     string          `json:"dataVersion"`
	MetadataVersion string          `json:"metadataVersion"`
}

func gridEvents(events []delivery.Event) []gridEvent {
	out := make([]gridEvent, len(events))
	for i, e := range events {
		out[i] = gridEvent{e.ID, e.Source, e.Subject, e.Type, e.Time, e.Data, versionOf(e.Type), "1"}
	}
	return out
}

// versionOf is the version at the end of a type: "2" of "order.placed.v2".
func versionOf(typ string) string {
	if i := strings.LastIndex(typ, ".v"); i >= 0 {
		if _, err := strconv.ParseUint(typ[i+2:], 10, 32); err == nil {
			return typ[i+2:]
		}
	}
	return "1"
}

const (
	// maxAnswer is how much of an answer is read: nobody needs it, but a
	// connection can only be used again when its answer was read.
	maxAnswer = 64 << 10
	// maxAnswerTime is how long that may take.
	maxAnswerTime = time.Second
)

// send makes a request. What counts is the status of the answer.
func send(c *http.Client, req *http.Request) error {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	res, err := c.Do(req.WithContext(ctx))
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err // the address may hold a secret, and errors are shown to people
		if inner.Timeout() {
			err = fmt.Errorf("the receiver did not answer within %s", c.Timeout)
		}
	}
	if err != nil {
		return err
	}
	late := time.AfterFunc(maxAnswerTime, cancel)
	io.CopyN(io.Discard, res.Body, maxAnswer) // only for the connection's sake
	late.Stop()
	res.Body.Close()
	return verdict(res, time.Now())
}

// verdict is what the status of an answer means.
func verdict(res *http.Response, now time.Time) error {
	err := fmt.Errorf("the receiver answered %s", res.Status)
	after, said := retryAfter(res.Header.Get("Retry-After"), now)
	switch s := res.StatusCode; {
	case s >= 200 && s < 300:
		return nil
	case s == http.StatusGone:
		return delivery.Gone{Err: err}
	case s == http.StatusTooManyRequests, said && s >= 500:
		return delivery.Busy{Err: err, After: after}
	case s == http.StatusRequestEntityTooLarge, s == http.StatusUnprocessableEntity:
		return engine.Permanent(err)
	case s >= 300 && s < 400:
		return fmt.Errorf("%w: redirects are not followed", err)
	}
	return err
}

// retryAfter reads a Retry-After header: seconds, or a time.
func retryAfter(v string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}
