package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// consentTime is how long a receiver has to consent.
const consentTime = 30 * time.Second

// consent asks a receiver whether it wants deliveries.
func (k *Kind) consent(ctx context.Context, name string, s settings) error {
	c, err := k.hosts.Client(s.URL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, consentTime)
	defer cancel()
	c = patient(c, consentTime)
	if s.handshake() == "eventgrid" {
		err = k.consentGrid(ctx, c, name, s)
	} else {
		err = k.consentCloudEvents(ctx, c, s)
	}
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	if err != nil {
		return fmt.Errorf("the receiver has not consented: %w", err)
	}
	return nil
}

// consentCloudEvents is the validation of HTTP 1.1 Web Hooks for CloudEvents:
// the status of the answer is no consent, its headers are.
func (k *Kind) consentCloudEvents(ctx context.Context, c *http.Client, s settings) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, s.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("WebHook-Request-Origin", k.origin)
	setHeaders(req, s)
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, maxAnswer)
	if res.StatusCode < 200 || res.StatusCode >= 300 {
		return fmt.Errorf("it answered %s to OPTIONS", res.Status)
	}
	allowed := res.Header.Get("WebHook-Allowed-Origin")
	if allowed != "*" && !strings.EqualFold(allowed, k.origin) {
		return fmt.Errorf("its WebHook-Allowed-Origin is %q, and has to be %s or *", allowed, k.origin)
	}
	return nil
}

// consentGrid is the validation of Event Grid: the receiver sends a code back.
func (k *Kind) consentGrid(ctx context.Context, c *http.Client, name string, s settings) error {
	code := rand.Text()
	data, err := json.Marshal(map[string]string{"validationCode": code})
	if err != nil {
		return err
	}
	body, err := json.Marshal([]gridEvent{{
		ID: uuid.NewString(), Topic: "/" + name, EventType: "Microsoft.EventGrid.SubscriptionValidationEvent",
		EventTime: k.now().UTC(), Data: data, DataVersion: "2", MetadataVersion: "1",
	}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Aeg-Event-Type", "SubscriptionValidation")
	req.Header.Set("Aeg-Subscription-Name", name)
	setHeaders(req, s)
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	var got struct {
		Response string `json:"validationResponse"`
	}
	switch {
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("it answered %s to the validation event, and has to answer 200", res.Status)
	case json.Unmarshal(answer, &got) != nil || got.Response != code:
		return errors.New(`it did not send the code back, as in {"validationResponse":"..."}`)
	}
	return nil
}

func setHeaders(req *http.Request, s settings) {
	req.Header.Set("User-Agent", "deed")
	for name, v := range s.Headers {
		req.Header.Set(name, v)
	}
}
