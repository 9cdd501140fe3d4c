package deed

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A CloudEvent is a public event as others get it, CloudEvents 1.0 with JSON
// data. Its JSON form is that of the structured mode.
type CloudEvent struct {
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
func (e CloudEvent) Attributes() map[string]string {
	all := map[string]string{
		"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject,
		"time": e.Time.Format(time.RFC3339Nano), "dataschema": e.DataSchema, "datacontenttype": e.ContentType,
		"aggregate": e.Aggregate, "correlationid": e.Correlation, "causationid": e.Causation,
		"partitionkey": e.PartitionKey, "sequence": e.Sequence, "traceparent": e.TraceParent,
	}
	for name, v := range all {
		if v == "" {
			delete(all, name)
		}
	}
	return all
}

// attribute returns one attribute, "" if the event does not have it.
func (e *CloudEvent) attribute(name string) string {
	switch name {
	case "type":
		return e.Type
	case "subject":
		return e.Subject
	case "partitionkey":
		return e.PartitionKey
	case "aggregate":
		return e.Aggregate
	}
	return e.Attributes()[name]
}

func newCloudEvent(stream string, m Meta, p published, number string, data []byte, d any) CloudEvent {
	e := CloudEvent{
		SpecVersion: "1.0", ID: fmt.Sprintf("%s:%d", stream, m.Version), Source: p.source, Type: p.typ, Subject: stream,
		Time: m.Time.UTC(), DataSchema: p.schema, ContentType: "application/json",
		Aggregate: m.ID, Correlation: m.Correlation, Causation: m.Causation,
		PartitionKey: stream, Sequence: fmt.Sprintf("%019d", m.Version), Data: data,
	}
	if number != "" {
		e.ID += ":" + number
		e.Sequence += ":" + sortable(number)
	}
	if keyed, ok := d.(interface{ PartitionKey() string }); ok {
		e.PartitionKey = cmp.Or(keyed.PartitionKey(), stream)
	}
	return e
}

// number tells the public events of one event apart: the first one that the
// first Publishing makes has none. It depends on nothing that is added later.
func number(place, i int) string {
	switch {
	case place == 0 && i == 0:
		return ""
	case i == 0:
		return strconv.Itoa(place + 1)
	}
	return fmt.Sprintf("%d.%d", place+1, i+1)
}

// sortable pads a number so that it can be compared as text.
func sortable(number string) string {
	place, i, several := strings.Cut(number, ".")
	if !several {
		i = "1"
	}
	return fmt.Sprintf("%04s.%06s", place, i)
}
