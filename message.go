package deed

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/deed-dev/deed/internal/wire"
)

// An InboundMessage is a message of others: a CloudEvent with data of any kind.
// Its source and its id together tell it from every other one.
type InboundMessage struct {
	ID          string
	Source      string // who says so, a URI reference
	Type        string
	Subject     string    // what it is about, in the sender's words
	Time        time.Time // when it happened; zero = nobody said
	ContentType string    // of Data; "" = application/json
	Schema      string    // of Data: its dataschema

	// Attributes are its extension attributes, for example correlationid,
	// partitionkey and traceparent.
	Attributes map[string]string
	Data       []byte
}

// typeUnreadable is the type of messages of a broker that are none: their attribute
// "reason" says why, and no reception knows them.
const typeUnreadable = "deed.unreadable"

// Bounds of a message of others.
const (
	maxMessageData       = 1 << 20 // bytes
	maxMessageText       = 1024    // bytes in an attribute that every message may have
	maxMessageAttributes = 64
	maxMessageAttribute  = 4096 // bytes in an extension attribute
)

// check reports why a message can never be taken.
func (m *InboundMessage) check() error {
	for _, a := range []struct {
		name, value string
		must        bool
	}{
		{"id", m.ID, true}, {"source", m.Source, true}, {"type", m.Type, true},
		{"subject", m.Subject, false}, {"datacontenttype", m.ContentType, false}, {"dataschema", m.Schema, false},
	} {
		switch {
		case a.value == "" && a.must:
			return Invalid{Field: a.name, Detail: "is missing"}
		case len(a.value) > maxMessageText:
			return Invalid{Field: a.name, Detail: fmt.Sprintf("is longer than %d bytes", maxMessageText)}
		case !printable(a.value):
			return Invalid{Field: a.name, Detail: "must be UTF-8 without control characters"}
		}
	}
	if y := m.Time.UTC().Year(); y < 0 || y > 9999 {
		return Invalid{Field: "time", Detail: "must be of a year up to 9999"}
	}
	if len(m.Data) > maxMessageData {
		return Invalid{Field: "data", Detail: fmt.Sprintf("is larger than %d bytes", maxMessageData)}
	}
	return m.checkAttributes()
}

func (m *InboundMessage) checkAttributes() error {
	if len(m.Attributes) > maxMessageAttributes {
		return Invalid{Detail: fmt.Sprintf("it has more than %d extension attributes", maxMessageAttributes)}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		if !isAttributeName(name) {
			return Invalid{Detail: fmt.Sprintf("it has the attribute %.70q: names of attributes are lower-case letters and digits, at most 64", name)}
		}
		if v := m.Attributes[name]; len(v) > maxMessageAttribute || !utf8.ValidString(v) {
			return Invalid{Field: name, Detail: fmt.Sprintf("must be UTF-8 of at most %d bytes", maxMessageAttribute)}
		}
	}
	return nil
}

func isAttributeName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') })
}

// correlation is the id of the flow that a message says it belongs to; "" if it
// says nothing that a command could carry on.
func (m *InboundMessage) correlation() string {
	if id := m.Attributes["correlationid"]; id != "" && len(id) <= MaxKey && printable(id) {
		return id
	}
	return traceID(m.Attributes["traceparent"])
}

// trace is the traceparent of a message, if it has one.
func (m *InboundMessage) trace() string {
	if p := m.Attributes["traceparent"]; len(p) == len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") && traceID(p) != "" && printable(p) {
		return p
	}
	return ""
}

// traceID returns the trace id of a traceparent (W3C Trace Context), or "".
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return parts[1]
}

// order is what messages share that are to be handled one after the other.
func (m *InboundMessage) order() string {
	for _, key := range []string{m.Attributes["partitionkey"], m.Subject} {
		if key != "" {
			return key
		}
	}
	return m.Source
}

// Received is a message of others whose data are a D.
type Received[D any] struct {
	InboundMessage
	Data   D
	Reader Reader // reads everything recorded so far, for example a view that knows what their ids are here
}

// decodeData reads the data of a message. Fields that D does not have are
// ignored: others may add some. Data of the type []byte are taken as they are.
func decodeData[D any](m InboundMessage) (d D, err error) {
	if raw, is := any(&d).(*[]byte); is {
		*raw = m.Data
		return d, nil
	}
	if len(m.Data) == 0 {
		return d, Invalid{Field: "data", Detail: "is missing"}
	}
	if err := wire.Unmarshal(m.Data, &d); err != nil {
		return d, fmt.Errorf("its data are not those of %s: %w", m.Type, err)
	}
	if v, ok := any(d).(validator); ok {
		return d, v.Validate()
	}
	return d, nil
}
