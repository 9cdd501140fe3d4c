// Package delivery brings public events to those who have subscribed to them:
// in order for each key, many keys at once, with a pause for a place that is
// away. A place is a [Target]; a kind of places is a [Kind].
package delivery

import (
	"encoding/json"
	"time"
)

// An Event is a public event as others get it, CloudEvents 1.0 with JSON data.
// Its JSON form is that of the structured mode.
type Event struct {
	SpecVersion string    `json:"specversion"` // "1.0"
	ID          string    `json:"id"`          // the same whenever it is sent: stream, version and, if an event becomes several, a number
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"` // the stream of the event, for example "order/o-17"
	Time        time.Time `json:"time"`    // when the event was recorded
	DataSchema  string    `json:"dataschema,omitempty"`
	ContentType string    `json:"datacontenttype"` // "application/json"

	Aggregate    string `json:"aggregate,omitempty"` // id of the entity
	Correlation  string `json:"correlationid,omitempty"`
	Causation    string `json:"causationid,omitempty"`
	PartitionKey string `json:"partitionkey"` // events with the same key reach a subscriber in order
	Sequence     string `json:"sequence"`     // grows with the version of the stream, also when compared as text
	TraceParent  string `json:"traceparent,omitempty"`

	Data json.RawMessage `json:"data"`
}

// Attributes returns the attributes of the event by their CloudEvents names;
// those that it does not have are missing.
func (e Event) Attributes() map[string]string {
	all := map[string]string{}
	for _, name := range attributes {
		if v := e.Attribute(name); v != "" {
			all[name] = v
		}
	}
	return all
}

// attributes are the names of the attributes that an event may have.
var attributes = []string{
	"specversion", "id", "source", "type", "subject", "time", "dataschema", "datacontenttype",
	"aggregate", "correlationid", "causationid", "partitionkey", "sequence", "traceparent",
}

// Attribute returns one attribute, "" if the event does not have it.
func (e *Event) Attribute(name string) string {
	switch name {
	case "specversion":
		return e.SpecVersion
	case "id":
		return e.ID
	case "source":
		return e.Source
	case "type":
		return e.Type
	case "subject":
		return e.Subject
	case "time":
		return e.Time.Format(time.RFC3339Nano)
	case "dataschema":
		return e.DataSchema
	case "datacontenttype":
		return e.ContentType
	case "aggregate":
		return e.Aggregate
	case "correlationid":
		return e.Correlation
	case "causationid":
		return e.Causation
	case "partitionkey":
		return e.PartitionKey
	case "sequence":
		return e.Sequence
	case "traceparent":
		return e.TraceParent
	}
	return ""
}
