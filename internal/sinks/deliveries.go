package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/durable"
)

// Deliveries delivers the answers of recorded queries to where their senders want
// them: web addresses that hosts allows ("https://host/path"), and files of a
// folder ("file:name"). Either may be nothing.
type Deliveries struct {
	hosts  *Hosts
	folder folder // "" = none
}

// NewDeliveries delivers to hosts, nil = none, and to files of a folder, "" =
// none, which it makes.
func NewDeliveries(hosts *Hosts, dir string) (*Deliveries, error) {
	d := &Deliveries{hosts, folder(dir)}
	if dir == "" {
		return d, nil
	}
	return d, durable.Folder(dir, time.Now())
}

// A delivery delivers a message to one place. The receiver recognises a
// repetition by its key.
type delivery func(ctx context.Context, key string, body []byte) error

// to returns what delivers to a place, if that is allowed. A further kind of place
// is a further scheme.
func (d *Deliveries) to(place string) (delivery, error) {
	scheme, rest, _ := strings.Cut(place, ":")
	switch scheme {
	case "http", "https":
		return d.toHost(place)
	case "file":
		return d.toFile(rest)
	}
	return nil, deed.Invalid{Detail: fmt.Sprintf("nothing is delivered to %s: by this server: use http, https or file", scheme)}
}

// Allow reports whether answers may be delivered to a place.
func (d *Deliveries) Allow(place string) error {
	_, err := d.to(place)
	return err
}

func (d *Deliveries) toHost(address string) (delivery, error) {
	if d.hosts == nil {
		return nil, deed.Invalid{Detail: "answers are delivered to no host by this server"}
	}
	if err := (deed.Callback{URL: address, On: []string{deed.OnCompletion}}).Check(); err != nil {
		return nil, err
	}
	client, err := d.hosts.Client(address)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, key string, body []byte) error { return post(ctx, client, address, key, body) }, nil
}

func (d *Deliveries) toFile(name string) (delivery, error) {
	if d.folder == "" {
		return nil, deed.Invalid{Detail: "answers are written to no files by this server"}
	}
	if name == "" || strings.ContainsAny(name, `/\`) {
		return nil, deed.Invalid{Detail: "the name of a file has no slash or backslash, for example file:report"}
	}
	path := filepath.Join(string(d.folder), durable.Name(name))
	return func(_ context.Context, _ string, body []byte) error {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, body) {
			return nil
		}
		return durable.Replace(path, body)
	}, nil
}

// Parts returns the event handlers that deliver, one for the first place of each
// run, one for the second, and so on: one that does not answer holds up no other
// of its run.
func (d *Deliveries) Parts() []deed.Part {
	var parts []deed.Part
	for i := range deed.MaxDeliveries {
		parts = append(parts, deed.EventHandler{
			Name: fmt.Sprintf("deliveries-%d", i+1), Doc: "Delivers the answers of queries.",
			On:         []deed.Reaction{deed.HandleRun(func(ctx context.Context, _ *deed.Tx, e deed.RunEvent) error { return d.deliver(ctx, e, i) })},
			Partitions: 2, Retry: patience,
		})
	}
	return parts
}

// An Answered is what is delivered.
type Answered struct {
	ID    string   `json:"id"`    // of the delivery, as STREAM:N; also the Idempotency-Key
	Query string   `json:"query"` // its name
	Run   deed.Run `json:"run"`   // with the answer, or why there is none
}

// deliver delivers to one of the places of a run, unless that was done.
func (d *Deliveries) deliver(ctx context.Context, e deed.RunEvent, which int) error {
	if e.Deliveries <= which {
		return nil
	}
	run, err := e.Run(ctx)
	if err != nil || which >= len(run.Deliveries) {
		return err
	}
	place := run.Deliveries[which]
	if !place.Done.IsZero() {
		return nil
	}
	run.Deliveries = nil // where else it goes is nobody's business
	err = d.send(ctx, place.To, Answered{fmt.Sprintf("$query/%s:%d", run.ID, which+1), run.Query, run})
	if err == nil {
		return e.Delivered(ctx, place.To)
	}
	if deed.IsPermanent(err) && place.Reason == "" {
		if err := e.Undeliverable(ctx, place.To, err.Error()); err != nil {
			return err
		}
	}
	return err
}

func (d *Deliveries) send(ctx context.Context, place string, m Answered) error {
	to, err := d.to(place) // the server may have become stricter since
	if err != nil {
		return deed.Permanent(err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return deed.Permanent(err)
	}
	return to(ctx, m.ID, append(body, '\n'))
}
