package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// A Target is a place that public events are delivered to. It is used by many
// goroutines at once.
type Target interface {
	// Deliver brings events to the place, in their order, and returns when it
	// has them: whatever happens then, they are not delivered again. If it
	// returns an error none is known to be there, and all are delivered again:
	// later, or never if the error is permanent (engine.Permanent). Besides, the
	// error may be [Busy] or [Gone].
	Deliver(ctx context.Context, events []Event) error
}

// A Kind is a kind of places, for example those that are reached by HTTP. Its
// settings are a JSON object, and are stored with each subscription.
type Kind interface {
	// Prepare checks the settings of a subscription that somebody makes, or
	// changes: then former are what is stored. It returns what is to be stored,
	// with what it has made itself, such as secrets; and what of that whoever
	// asks is to see, once. An error says what is wrong with the settings.
	Prepare(ctx context.Context, name string, settings, former json.RawMessage) (stored json.RawMessage, once map[string]string, err error)
	// Shown returns stored settings without what nobody is to see.
	Shown(stored json.RawMessage) json.RawMessage
	// Open returns the place that stored settings describe. It tries nothing.
	Open(name string, stored json.RawMessage) (Target, error)
}

// A Rotator is a Kind whose places have secrets that can be replaced. The former
// ones are good for a while.
type Rotator interface {
	Kind
	Rotate(stored json.RawMessage) (rotated json.RawMessage, once map[string]string, err error)
}

// Busy is the error of a place that asks for a pause: it gets nothing before
// that is over.
type Busy struct {
	Err   error
	After time.Duration // 0 = it did not say
}

func (b Busy) Error() string { return b.Err.Error() }

// Unwrap returns Err.
func (b Busy) Unwrap() error { return b.Err }

// Gone is the error of a place that wants nothing more, ever: the subscription
// is disabled.
type Gone struct{ Err error }

func (g Gone) Error() string { return g.Err.Error() }

// Unwrap returns Err.
func (g Gone) Unwrap() error { return g.Err }

// An Attempt is one try to deliver something, as it is shown to people.
type Attempt struct {
	At     time.Time `json:"at"`
	Event  string    `json:"event"`           // id of the event, or of the first of several
	Events int       `json:"events,omitzero"` // how many, if several
	Millis int64     `json:"millis"`          // how long it took
	Error  string    `json:"error,omitempty"` // why it was in vain
}

// maxText bounds what an attempt repeats of an error.
const maxText = 300

func isGone(err error) bool {
	_, ok := errors.AsType[Gone](err)
	return ok
}
