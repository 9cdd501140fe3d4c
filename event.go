package deed

import (
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// An Event is a fact about an S. Apply folds it into the state. It cannot
// fail: what happened, happened. It must not keep references into the event
// that anyone changes later.
//
// An event may also have
//
//	Claims() []deed.Claim   // unique values it takes or releases, see [Claim]
//	Effective() time.Time   // when it takes effect, if not when it is recorded
type Event[S any] interface {
	Apply(*S)
}

// Fold is the state after the given events.
func Fold[S any](events ...Event[S]) (s S) {
	for _, e := range events {
		e.Apply(&s)
	}
	return s
}

// Meta is the circumstances in which an event was recorded.
type Meta struct {
	Aggregate   string         // category of the stream
	ID          string         // of the entity
	Version     uint64         // place in the stream
	Position    store.Position // place in the log
	Event       store.ID       // the event's own id
	Time        time.Time      // when it was recorded
	Effective   time.Time      // when it takes effect; the same as Time unless the event says otherwise
	Actor       string         // who asked; "" = nobody said
	Command     string         // id of the command it followed from
	Correlation string         // id of the flow it belongs to
	Causation   string         // id of what led directly to this
	Source      string         // where the command came from, for example "http"
	Trace       string         // traceparent of who asked, as in W3C Trace Context; "" = it had none

	callbacks int // of the command
}

// Recorded is an event of type E together with the circumstances in which it
// was recorded.
type Recorded[E any] struct {
	Meta
	Event E
}

// meta is what is stored of Meta beside the record's own fields.
type meta struct {
	Actor       string    `json:"actor,omitempty"`
	Command     string    `json:"command,omitempty"`
	Correlation string    `json:"correlation,omitempty"`
	Causation   string    `json:"causation,omitempty"`
	Source      string    `json:"source,omitempty"`
	Trace       string    `json:"trace,omitempty"`
	Effective   time.Time `json:"effective,omitzero"`
	Callbacks   int       `json:"callbacks,omitzero"` // that the command has: most have none, and need not be looked at by who calls back
}

// metaOf returns the circumstances of a record. A record written by other
// means than a command may have no meta.
func metaOf(rec store.Record) (Meta, error) {
	category := store.Category(rec.Stream)
	m := Meta{
		Aggregate: category, ID: rec.Stream[min(len(category)+1, len(rec.Stream)):],
		Version: rec.Version, Position: rec.Position, Event: rec.ID, Time: rec.Time, Effective: rec.Time,
	}
	if len(rec.Meta) == 0 {
		return m, nil
	}
	var stored meta
	if err := wire.Unmarshal(rec.Meta, &stored); err != nil {
		return m, fmt.Errorf("deed: meta of %s@%d: %w", rec.Stream, rec.Version, err)
	}
	m.Actor, m.Command, m.callbacks = stored.Actor, stored.Command, stored.Callbacks
	m.Correlation, m.Causation, m.Source, m.Trace = stored.Correlation, stored.Causation, stored.Source, stored.Trace
	if !stored.Effective.IsZero() {
		m.Effective = stored.Effective
	}
	return m, nil
}

type effective interface{ Effective() time.Time }
