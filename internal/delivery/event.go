// Package delivery brings public events to those who have subscribed to them:
// in order for each key, many keys at once, with a pause for a place that is
// away. A place is a [Target]; a kind of places is a [Kind].
package delivery

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
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

// AppendJSON appends the event as JSON: what [json.Marshal] returns, in a
// fraction of the time.
func (e *Event) AppendJSON(b []byte) ([]byte, error) {
	var err error
	text := func(name, v string, always bool) {
		if err == nil && (v != "" || always) {
			b = append(append(b, name...), ':')
			b, err = jsontext.AppendQuote(b, v)
		}
	}
	text(`{"specversion"`, e.SpecVersion, true)
	text(`,"id"`, e.ID, true)
	text(`,"source"`, e.Source, true)
	text(`,"type"`, e.Type, true)
	text(`,"subject"`, e.Subject, true)
	b = append(b, `,"time":"`...)
	b = e.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	text(`,"dataschema"`, e.DataSchema, false)
	text(`,"datacontenttype"`, e.ContentType, true)
	text(`,"aggregate"`, e.Aggregate, false)
	text(`,"correlationid"`, e.Correlation, false)
	text(`,"causationid"`, e.Causation, false)
	text(`,"partitionkey"`, e.PartitionKey, true)
	text(`,"sequence"`, e.Sequence, true)
	text(`,"traceparent"`, e.TraceParent, false)
	b = append(b, `,"data":`...)
	if b = append(b, e.Data...); len(e.Data) == 0 {
		b = append(b, "null"...)
	}
	return append(b, '}'), err
}

// Attributes returns the attributes of the event by their CloudEvents names;
// those that it does not have are missing.
func (e Event) Attributes() map[string]string { return maps.Collect(e.All()) }

// All yields the attributes that the event has, by their CloudEvents names.
func (e *Event) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, name := range attributes {
			if v := e.Attribute(name); v != "" && !yield(name, v) {
				return
			}
		}
	}
}

// IsAttribute reports whether events may have an attribute of that name.
func IsAttribute(name string) bool { return slices.Contains(attributes, name) }

// Escaped is a value of an attribute as it stands in a header of HTTP or NATS:
// what is not printable ASCII is percent-encoded, and so are spaces, quotes and
// percent signs.
func Escaped(v string) string {
	plain := func(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' }
	i := 0
	for i < len(v) && plain(v[i]) {
		i++
	}
	if i == len(v) {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		if c := v[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
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
