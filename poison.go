package deed

import (
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// The poison log is the streams "$poison/<id>", of one event each.
const (
	poisonCategory = "$poison"
	typeRefused    = "refused"
)

// poisoned is the data of the event of a stream "$poison/<id>".
type poisoned struct {
	Command string   `json:"command"` // its name
	Stream  string   `json:"stream"`
	Code    string   `json:"code"` // forbidden or quota_exceeded
	Reason  string   `json:"reason"`
	Roles   []string `json:"roles,omitempty"` // the actor's
}

// A refusal is a document of the view "poison".
type refusal struct {
	poisoned
	ID          string    `json:"id"` // of the command
	Actor       string    `json:"actor,omitempty"`
	Source      string    `json:"source,omitempty"`
	Correlation string    `json:"correlation,omitempty"`
	Time        time.Time `json:"at"`
}

// refusals has the commands that were refused because of who asked them.
func refusals() Projection[refusal] {
	return Projection[refusal]{
		Name:    "poison",
		Doc:     "Commands that were refused because of who asked them, or how often.",
		Indexes: []string{"code", "command", "actor", "stream", "at"},
		On: []Handler[refusal]{
			On(func(r *refusal, e Recorded[poisoned]) {
				*r = refusal{e.Event, e.Command, e.Actor, e.Source, e.Correlation, e.Time}
			}),
			forgets[refusal](givenUp.poison),
		},
	}
}

func declareRefusal(c *wire.Codec) error {
	return c.Declare(wire.Name{Category: poisonCategory, Type: typeRefused}, poisoned{})
}
