package deed

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A message of others is a stream "$message/<reception>/<digest>": first that it
// was received, and then, in the append of what came of it, that it was handled.
const (
	messageCategory = "$message"
	typeHandled     = "handled"
)

// messageStream is the stream of a message, which whoever sends it again meets.
func messageStream(reception string, m *InboundMessage) string {
	return messagesOf(reception) + digest(m.Source+"\x00"+m.ID)
}

func messagesOf(reception string) string { return messageCategory + "/" + reception + "/" }

type (
	messageReceived struct {
		ID          string            `json:"id"`
		Source      string            `json:"source"`
		Type        string            `json:"type"`
		Subject     string            `json:"subject,omitempty"`
		Time        time.Time         `json:"time,omitzero"`
		ContentType string            `json:"datacontenttype,omitempty"`
		Schema      string            `json:"dataschema,omitempty"`
		Attributes  map[string]string `json:"attributes,omitempty"`
		Data        json.RawMessage   `json:"data,omitzero"`
		Base64      []byte            `json:"data_base64,omitempty"` // what is no JSON
	}
	messageHandled struct {
		Entities []string `json:"entities,omitempty"` // to which its commands have gone
		Code     string   `json:"code,omitempty"`     // why it was passed over
		Reason   string   `json:"reason,omitempty"`
	}
)

func declareMessages(c *wire.Codec) error {
	if err := c.Declare(wire.Name{Category: messageCategory, Type: typeReceived}, messageReceived{}); err != nil {
		return err
	}
	return c.Declare(wire.Name{Category: messageCategory, Type: typeHandled}, messageHandled{})
}

func storedMessageOf(m *InboundMessage) messageReceived {
	s := messageReceived{
		ID: m.ID, Source: m.Source, Type: m.Type, Subject: m.Subject, Time: m.Time.UTC(), ContentType: m.ContentType, Schema: m.Schema, Attributes: m.Attributes,
	}
	switch {
	case len(m.Data) == 0:
	case isJSON(m.ContentType) && wire.Valid(m.Data):
		s.Data = m.Data
	default:
		s.Base64 = m.Data
	}
	return s
}

func isJSON(contentType string) bool {
	typ, _, _ := strings.Cut(contentType, ";")
	typ = strings.ToLower(strings.TrimSpace(typ))
	return typ == "" || typ == "application/json" || typ == "text/json" || strings.HasSuffix(typ, "+json")
}

func (s messageReceived) message() InboundMessage {
	m := InboundMessage{
		ID: s.ID, Source: s.Source, Type: s.Type, Subject: s.Subject, Time: s.Time, ContentType: s.ContentType, Schema: s.Schema, Attributes: s.Attributes, Data: s.Base64,
	}
	if len(s.Data) > 0 {
		m.Data = s.Data
	}
	return m
}

// messageOf reads the message that a record says was received.
func messageOf(rec *store.Record) (InboundMessage, error) {
	var s messageReceived
	if err := wire.Unmarshal(rec.Data, &s); err != nil {
		return InboundMessage{}, fmt.Errorf("deed: message %s: %w", rec.Stream, err)
	}
	return s.message(), nil
}
