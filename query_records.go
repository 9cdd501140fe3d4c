package deed

import (
	"encoding/json"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// The events of the stream of one asking of a query, "$query/<id>".
type (
	queryAsked struct {
		Query      string          `json:"query"`
		Hash       string          `json:"hash"` // of the query, its parameters and what it is asked of
		Parameters json.RawMessage `json:"parameters"`
		Head       store.Cursor    `json:"head,omitempty"` // of the log, when it was asked
		Of         *askedOf        `json:"of,omitempty"`   // what it is asked of, if it is not that
		Deliver    []string        `json:"deliver,omitempty"`
	}
	// queryAnswered is the only record of an asking that was answered at once.
	queryAnswered struct {
		Query      string          `json:"query"`
		Hash       string          `json:"hash"`
		Parameters json.RawMessage `json:"parameters"`
		Of         *askedOf        `json:"of,omitempty"`
		Cached     bool            `json:"cached,omitzero"`
		Position   store.Cursor    `json:"position,omitempty"`
		Inexact    bool            `json:"inexact,omitzero"`
		Result     json.RawMessage `json:"result,omitempty"`
		Code       string          `json:"code,omitempty"` // why there is no answer
		Reason     string          `json:"reason,omitempty"`
	}
	// queryInvalid is the only record of an asking that is malformed.
	queryInvalid struct {
		Query      string          `json:"query"`
		Hash       string          `json:"hash"`
		Parameters json.RawMessage `json:"parameters"`
		Findings   []Finding       `json:"findings"`
		Count      int             `json:"count,omitzero"` // of the findings, if that is more than are listed
	}
	// partsRequested may be recorded several times, if there are very many keys.
	partsRequested struct {
		Keys []string `json:"keys"`
		More bool     `json:"more,omitzero"` // these are not all
	}
	partsAnswered struct {
		Parts []partAnswer `json:"parts"`
	}
	partAnswer struct {
		Key    string          `json:"key"`
		Answer json.RawMessage `json:"answer"`
	}
	attemptFailed struct {
		Attempt int       `json:"attempt"`
		Error   string    `json:"error"`
		Next    time.Time `json:"next_at"`
	}
	queryCompleted struct {
		Position store.Cursor    `json:"position,omitempty"` // the answer is as of it
		Inexact  bool            `json:"inexact,omitzero"`   // or near it
		Result   json.RawMessage `json:"result"`
	}
	queryRejected struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
	queryFailed struct {
		Attempts int    `json:"attempts"`
		Reason   string `json:"reason"`
	}
	queryCancelled struct {
		Reason string `json:"reason,omitempty"`
	}
	queryDelivered struct {
		To string `json:"to"`
	}
	// queryPublished is the delivery of an answer to a topic: what is public of it.
	queryPublished struct {
		Topic    string          `json:"topic"`
		Query    string          `json:"query"`
		State    RunState        `json:"state"`
		Position store.Cursor    `json:"position,omitempty"`
		Inexact  bool            `json:"inexact,omitzero"`
		Result   json.RawMessage `json:"result,omitempty"`
		Code     string          `json:"code,omitempty"`
		Reason   string          `json:"reason,omitempty"`
	}
	queryUndeliverable struct {
		To     string `json:"to"`
		Reason string `json:"reason"`
	}
)

// askedOf is the past that a query is asked of.
type askedOf struct {
	Time      time.Time    `json:"time,omitzero"`
	Position  store.Cursor `json:"position,omitempty"`
	Version   uint64       `json:"version,omitzero"`
	Effective time.Time    `json:"effective,omitzero"`
}

// The names of the events that others than the codec know.
const (
	typeAsked          = "asked"
	typeAnswered       = "answered"
	typePartsRequested = "parts-requested"
	typePartsAnswered  = "parts-answered"
	typeAttemptFailed  = "attempt-failed"
	typeDelivered      = "delivered"
	typeUndeliverable  = "undeliverable"
	typePublished      = "published"
)

const queryCategory = "$query"

func runStream(id string) string { return queryCategory + "/" + id }

// runEvents are the events of askings under the names by which they are stored,
// for ever.
func runEvents() map[string]any {
	return map[string]any{
		typeAsked: queryAsked{}, typeAnswered: queryAnswered{}, typeInvalid: queryInvalid{}, typePartsRequested: partsRequested{}, typePartsAnswered: partsAnswered{},
		typeAttemptFailed: attemptFailed{}, typeCompleted: queryCompleted{}, typeRejected: queryRejected{}, typeFailed: queryFailed{},
		typeCancelled: queryCancelled{}, typeDelivered: queryDelivered{}, typeUndeliverable: queryUndeliverable{},
		typePublished: queryPublished{},
	}
}

func declareRunEvents(c *wire.Codec) error {
	for name, proto := range runEvents() {
		if err := c.Declare(wire.Name{Category: queryCategory, Type: name}, proto); err != nil {
			return err
		}
	}
	return nil
}
