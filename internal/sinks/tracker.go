package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/deed-dev/deed"
)

// Webhook returns the event handler "error-webhook". For each command that goes
// wrong it posts an entry to a tracker, once: that the command goes wrong again
// after somebody has resumed it is news to nobody.
func Webhook(address string, start Start) (deed.EventHandler, error) {
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return deed.EventHandler{}, fmt.Errorf("%q is no address of a tracker: one is like https://tracker.example/new", address)
	}
	t := tracker{address, newClient(net.Dialer{})}
	return deed.EventHandler{
		Name: "error-webhook", Doc: "Posts what goes wrong with commands to a tracker.",
		On:    []deed.Reaction{deed.HandleCommand(t.open, wrong...)},
		Retry: patience, FromNow: bool(start),
	}, nil
}

// A tracker takes entries by HTTP. The operator has chosen it, so it may be
// anywhere.
type tracker struct {
	address string
	client  *http.Client
}

// An Entry is what a tracker gets. It says the same of every kind of command,
// so that a small adapter can make a ticket of it.
type Entry struct {
	ID     string            `json:"id"`    // the command's, which is also the Idempotency-Key
	Title  string            `json:"title"` // for example "order.submit was rejected: out_of_stock"
	Text   string            `json:"text"`  // a sentence
	Fields map[string]string `json:"fields"`
}

func (t tracker) open(ctx context.Context, _ *deed.Tx, e deed.CommandEvent) error {
	life, err := e.Life(ctx)
	if err != nil || life.Error.Times > 1 {
		return err
	}
	body, err := json.Marshal(entryOf(*life.Error))
	if err != nil {
		return deed.Permanent(err)
	}
	return post(ctx, t.client, t.address, e.ID, body)
}

func entryOf(r deed.CommandError) Entry {
	e := Entry{ID: r.ID, Text: r.Reason, Fields: map[string]string{}}
	switch r.State {
	case deed.CommandRejected:
		e.Title = r.Command + " was rejected: " + r.Code
	case deed.CommandInvalid:
		e.Title = r.Command + " is invalid"
	default:
		e.Title = r.Command + " has failed"
	}
	for name, v := range map[string]string{
		"command": r.Command, "stream": r.Stream, "state": string(r.State), "code": r.Code, "step": r.Step,
		"actor": r.Actor, "source": r.Source, "correlation": r.Correlation, "causation": r.Causation,
		"at": r.Time.Format(time.RFC3339Nano),
	} {
		if v != "" {
			e.Fields[name] = v
		}
	}
	if r.Attempts > 0 {
		e.Fields["attempts"] = strconv.Itoa(r.Attempts)
	}
	return e
}
