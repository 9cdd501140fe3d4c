package deed

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// The events of a command's stream, "$command/<id>".
type (
	commandReceived struct {
		Command   string          `json:"command"`
		Stream    string          `json:"stream,omitempty"`
		Hash      string          `json:"hash"`
		Body      json.RawMessage `json:"body"`
		Callbacks []Callback      `json:"callbacks,omitempty"`
		IfVersion *uint64         `json:"if_version,omitempty"` // of the entity that it is for; nil = any
	}
	commandCorrected struct {
		Hash string          `json:"hash"`
		Body json.RawMessage `json:"body"`
	}
	commandValidated struct {
		Warnings []Finding `json:"warnings,omitempty"`
		Count    int       `json:"count,omitzero"` // of the warnings, if that is more than are listed
	}
	commandInvalid struct {
		Command  string    `json:"command,omitempty"`
		Stream   string    `json:"stream,omitempty"`
		Findings []Finding `json:"findings"`
		Count    int       `json:"count,omitzero"` // of the findings, if that is more than are listed
	}
	stepStarted struct {
		Step    string `json:"step"`
		Attempt int    `json:"attempt"`
		Undo    bool   `json:"undo,omitzero"`
	}
	stepProgressed struct {
		Step     string   `json:"step"`
		Entities []string `json:"entities"`
	}
	stepCompleted struct {
		Step     string          `json:"step"`
		Entities []string        `json:"entities,omitempty"`
		Output   json.RawMessage `json:"output,omitzero"`
		Undo     bool            `json:"undo,omitzero"`
	}
	stepFailed struct {
		Step    string    `json:"step"`
		Attempt int       `json:"attempt"`
		Error   string    `json:"error"`
		Next    time.Time `json:"next_at,omitzero"` // zero: it is not tried again
		No      bool      `json:"no,omitzero"`      // the domain refused it, and nothing was done
		Undo    bool      `json:"undo,omitzero"`
	}
	commandUndoing struct {
		Code     string `json:"code"` // cancelled, or why it is rejected
		Reason   string `json:"reason,omitempty"`
		Step     string `json:"step,omitempty"`    // the one that was refused
		Attempts int    `json:"attempts,omitzero"` // at it
	}
	commandRequeued struct{}
	cancelRequested struct {
		Reason string `json:"reason,omitempty"`
	}
	commandCancelled struct {
		Reason string `json:"reason,omitempty"`
		Undone bool   `json:"undone"` // what was done had to be undone, and was
	}
	commandFailed struct {
		Command  string `json:"command,omitempty"`
		Stream   string `json:"stream,omitempty"`
		Step     string `json:"step,omitempty"`
		Attempts int    `json:"attempts,omitzero"`
		Reason   string `json:"reason"`
	}
	// commandAccepted is the only record of a command that was not stored first.
	// Those who look after stored commands need not see it.
	commandAccepted  struct{ outcome }
	commandCompleted struct{ outcome }
	commandRejected  struct{ outcome }
)

// The names of the events that others than the codec know.
const (
	typeReceived  = "received"
	typeAccepted  = "accepted"
	typeCompleted = "completed"
	typeRejected  = "rejected"
	typeFailed    = "failed"
	typeInvalid   = "invalid"
	typeCancelled = "cancelled"
	typeCorrected = "corrected"
	typeRequeued  = "requeued"
	typeCancel    = "cancel-requested"
)

const commandCategory = "$command"

func commandStream(id string) string { return commandCategory + "/" + id }

// commandEvents are the events of command streams under the names by which
// they are stored, for ever.
func commandEvents() map[string]any {
	return map[string]any{
		typeReceived: commandReceived{}, typeCorrected: commandCorrected{}, "validated": commandValidated{}, typeInvalid: commandInvalid{},
		"step-started": stepStarted{}, "step-progressed": stepProgressed{}, "step-completed": stepCompleted{}, "step-failed": stepFailed{},
		"undoing": commandUndoing{}, typeRequeued: commandRequeued{}, typeCancel: cancelRequested{}, typeCancelled: commandCancelled{},
		typeFailed: commandFailed{}, typeAccepted: commandAccepted{}, typeCompleted: commandCompleted{}, typeRejected: commandRejected{},
	}
}

// declareCommandEvents makes the codec know the events of command streams, of
// the poison log, and of what is given up of them.
func declareCommandEvents(c *wire.Codec) error {
	for name, proto := range commandEvents() {
		if err := c.Declare(wire.Name{Category: commandCategory, Type: name}, proto); err != nil {
			return err
		}
	}
	return errors.Join(declareRefusal(c), declareGivenUp(c))
}
