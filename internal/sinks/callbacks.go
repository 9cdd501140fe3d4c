package sinks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/deed-dev/deed"
)

// Callbacks returns the event handlers that call back the senders of commands,
// one for the first callback of each command, one for the second, and so on:
// so each callback gets its messages in order, and one that does not answer
// holds up no other of its command.
func Callbacks(hosts *Hosts) []deed.Part {
	var parts []deed.Part
	for i := range deed.MaxCallbacks {
		c := caller{hosts, i}
		parts = append(parts, deed.EventHandler{
			Name: fmt.Sprintf("callbacks-%d", i+1), Doc: "Tells the senders of commands what becomes of them.",
			On:         []deed.Reaction{deed.HandleCommand(c.tell, "rejected", "failed", "invalid", "step-completed", "completed", "cancelled")},
			Partitions: 2, Retry: patience,
		})
	}
	return parts
}

// A caller calls one of each command's callbacks.
type caller struct {
	hosts *Hosts
	which int
}

// A Message is what a callback gets.
type Message struct {
	ID      string             `json:"id"`      // of the event, as STREAM:VERSION; also the Idempotency-Key
	On      string             `json:"on"`      // error, step or completion
	Event   Event              `json:"event"`   // what happened
	Command deed.CommandStatus `json:"command"` // how the command stood then
}

// An Event is an event of a command's stream.
type Event struct {
	Stream  string          `json:"stream"`
	Version uint64          `json:"version"`
	Type    string          `json:"type"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`
}

func (c caller) tell(ctx context.Context, _ *deed.Tx, e deed.CommandEvent) error {
	if e.Callbacks <= c.which {
		return nil
	}
	life, err := e.Life(ctx)
	if err != nil {
		return err
	}
	m := messageOf(e, life.Status)
	if c.which >= len(life.Callbacks) || !slices.Contains(life.Callbacks[c.which].On, m.On) {
		return nil
	}
	address := life.Callbacks[c.which].URL
	client, err := c.hosts.Client(address) // the server may have become stricter since
	if err != nil {
		return deed.Permanent(err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return deed.Permanent(err)
	}
	return post(ctx, client, address, m.ID, body)
}

func messageOf(e deed.CommandEvent, status deed.CommandStatus) Message {
	stream := e.Aggregate + "/" + e.ID
	m := Message{ID: fmt.Sprintf("%s:%d", stream, e.Version), Command: status, On: deed.OnCompletion}
	m.Event = Event{stream, e.Version, e.Type, e.Time, e.Data}
	switch {
	case slices.Contains(wrong, e.Type):
		m.On = deed.OnError
	case e.Type == "step-completed":
		m.On = deed.OnStep
	}
	return m
}
