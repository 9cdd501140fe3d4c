package inbound

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
)

// A Locator says where in a request something is: "header:NAME" for a header,
// a JSON pointer like "/data/id" into the body, or "text:..." for the text itself.
type Locator string

// check reports what is wrong with a locator.
func (l Locator) check(field string) error {
	name, header := strings.CutPrefix(string(l), "header:")
	text, literal := strings.CutPrefix(string(l), "text:")
	switch {
	case l == "", header && isToken(name), literal && text != "", strings.HasPrefix(string(l), "/") && jsontext.Pointer(l).IsValid():
		return nil
	}
	return deed.Invalid{Field: field, Detail: `is "header:NAME", a JSON pointer like "/data/id", or "text:..."`}
}

// plainMessage makes a message of a request whose body is somebody's own JSON.
func (s Settings) plainMessage(h http.Header, body []byte) (m deed.InboundMessage, err error) {
	m = deed.InboundMessage{Source: s.source, ContentType: h.Get("Content-Type")}
	if len(body) > 0 {
		m.Data = body
	}
	for _, part := range []struct {
		name string
		at   Locator
		to   *string
		must bool
	}{
		{"id", s.idAt(), &m.ID, true}, {"type", s.typeAt(), &m.Type, true}, {"subject", s.Subject, &m.Subject, false},
	} {
		v, ok := part.at.in(h, body)
		if !ok && part.must {
			return m, deed.Invalid{Field: part.name, Detail: "is missing: it is expected at " + string(part.at)}
		}
		*part.to = v
	}
	return m, nil
}

// in returns what is at the place, and whether there is something.
func (l Locator) in(h http.Header, body []byte) (string, bool) {
	if name, is := strings.CutPrefix(string(l), "header:"); is {
		return h.Get(name), h.Get(name) != ""
	}
	if text, is := strings.CutPrefix(string(l), "text:"); is {
		return text, true
	}
	if l == "" || wire.CheckDepth(body) != nil {
		return "", false
	}
	raw := json.RawMessage(body)
	for token := range jsontext.Pointer(l).Tokens() {
		var members map[string]json.RawMessage
		if decodeJSON(raw, &members, '{') != nil {
			return "", false
		}
		raw = members[token]
	}
	if len(raw) == 0 {
		return "", false
	}
	v, there, err := attribute(raw)
	return v, there && err == nil && v != ""
}
