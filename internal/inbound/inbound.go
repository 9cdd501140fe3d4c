// Package inbound takes messages in that others send over HTTP: as CloudEvents,
// in the schema of Event Grid, or as any JSON of which it is said where id and type
// are. A [Sender] is one of those others, and how it proves who it is.
package inbound

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/deed-dev/deed"
)

// Formats of messages.
const (
	CloudEvents = "cloudevents" // structured, batch or binary, as the content type says
	EventGrid   = "eventgrid"   // an array in the schema of Event Grid
	Plain       = "json"        // any JSON: settings say where id and type are
)

// maxMessages is how many messages come in one request, at most: as many as Event
// Grid sends.
const maxMessages = 5000

// A Refusal is why a request is not taken that may be well-formed.
type Refusal struct {
	Status int // of the answer: 401, 403 or 415
	Detail string
}

func (r Refusal) Error() string { return r.Detail }

// Decode reads the messages of a request. Its error is [deed.Invalid], or a
// [Refusal] of what they come as.
func (s Settings) Decode(h http.Header, body []byte) ([]deed.InboundMessage, error) {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, Refusal{http.StatusUnsupportedMediaType, "the body is encoded as " + short(enc) + ": send it as it is"}
	}
	all, err := s.decode(h, body)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if !s.trusts(all[i].Source) {
			return nil, Refusal{http.StatusForbidden, "the sender may not speak for " + short(all[i].Source) + ": its sources are set"}
		}
	}
	return all, nil
}

func (s Settings) decode(h http.Header, body []byte) ([]deed.InboundMessage, error) {
	switch s.format() {
	case EventGrid:
		return gridMessages(body)
	case Plain:
		m, err := s.plainMessage(h, body)
		return []deed.InboundMessage{m}, err
	}
	return cloudEvents(h, body)
}

// trusts reports whether a sender may say that something comes from a source.
func (s Settings) trusts(source string) bool {
	if len(s.Sources) == 0 {
		return true
	}
	for _, known := range s.Sources {
		if strings.EqualFold(known, source) { // those of Event Grid vary in case
			return true
		}
	}
	return false
}

func short(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}
