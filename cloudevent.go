package deed

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/deed-dev/deed/internal/delivery"
)

// A CloudEvent is a public event as others get it, CloudEvents 1.0 with JSON
// data. Its JSON form is that of the structured mode.
type CloudEvent = delivery.Event

func newCloudEvent(stream string, m Meta, p published, number string, data []byte, d any) CloudEvent {
	e := CloudEvent{
		SpecVersion: "1.0", ID: stream + ":" + strconv.FormatUint(m.Version, 10), Source: p.source, Type: p.typ, Subject: stream,
		Time: m.Time.UTC(), DataSchema: p.schema, ContentType: "application/json",
		Aggregate: m.ID, Correlation: m.Correlation, Causation: m.Causation,
		PartitionKey: stream, Sequence: fmt.Sprintf("%019d", m.Version), TraceParent: m.Trace, Data: data,
	}
	if number != "" {
		e.ID += ":" + number
		e.Sequence += ":" + sortable(number)
	}
	if keyed, ok := d.(interface{ PartitionKey() string }); ok {
		e.PartitionKey = cmp.Or(keyed.PartitionKey(), stream)
	}
	if own, ok := d.(interface{ CorrelationID() string }); ok {
		e.Correlation = cmp.Or(own.CorrelationID(), e.Correlation)
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
