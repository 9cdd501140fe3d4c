package broker

import (
	"fmt"
	"strings"

	"github.com/deed-dev/deed/internal/delivery"
)

// How an event becomes a message.
const (
	Structured = "structured" // the event as JSON is the body
	Binary     = "binary"     // the data is the body, the attributes are headers
)

// ContentType is that of the body of a structured message.
const ContentType = "application/cloudevents+json; charset=utf-8"

// Body returns the body of a structured message.
func Body(e *delivery.Event) ([]byte, error) {
	return e.AppendJSON(make([]byte, 0, RoomFor(e)))
}

// RoomFor is how long the body of a message is at most for most events, in bytes.
func RoomFor(e *delivery.Event) int { return 384 + len(e.Data) }

// A Template is a text with attributes of events in braces, "events.{type}".
type Template struct {
	texts []string // one more than names
	names []string
}

// ParseTemplate reads a template.
func ParseTemplate(text string) (t Template, err error) {
	for {
		before, rest, more := strings.Cut(text, "{")
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !more:
			t.texts = append(t.texts, before)
			return t, nil
		case !closed:
			return t, fmt.Errorf("has a { without }: %q", text)
		case !delivery.IsAttribute(name):
			return t, fmt.Errorf("has {%s}, which is no attribute of events, as type, subject, partitionkey and aggregate are", name)
		}
		t.texts, t.names, text = append(t.texts, before), append(t.names, name), after
	}
}

// Of returns the text for an event. Values of attributes are made fit first.
func (t Template) Of(e *delivery.Event, fit func(string) string) string {
	if len(t.names) == 0 {
		return t.texts[0]
	}
	var b strings.Builder
	for i, name := range t.names {
		b.WriteString(t.texts[i])
		b.WriteString(fit(e.Attribute(name)))
	}
	b.WriteString(t.texts[len(t.names)])
	return b.String()
}
