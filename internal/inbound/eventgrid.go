package inbound

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// gridEvent is an event in the schema of Event Grid.
type gridEvent struct {
	ID          string          `json:"id"`
	Topic       string          `json:"topic"`
	Subject     string          `json:"subject"`
	EventType   string          `json:"eventType"`
	EventTime   string          `json:"eventTime"`
	Data        json.RawMessage `json:"data"`
	DataVersion string          `json:"dataVersion"`
}

func gridEvents(body []byte) ([]gridEvent, error) {
	var list []gridEvent
	if err := decodeJSON(body, &list, '['); err != nil {
		return nil, err
	}
	if len(list) > maxMessages {
		return nil, deed.Invalid{Detail: fmt.Sprintf("there are more than %d events", maxMessages)}
	}
	return list, nil
}

// gridMessages reads a list of events in the schema of Event Grid.
func gridMessages(body []byte) ([]deed.InboundMessage, error) {
	list, err := gridEvents(body)
	if err != nil {
		return nil, err
	}
	out := make([]deed.InboundMessage, len(list))
	for i, e := range list {
		m := deed.InboundMessage{ID: e.ID, Source: e.Topic, Type: e.EventType, Subject: e.Subject}
		if e.EventTime != "" {
			if m.Time, err = time.Parse(time.RFC3339Nano, e.EventTime); err != nil {
				return nil, within(i, deed.Invalid{Field: "eventTime", Detail: "is no time like 2026-02-03T04:05:06Z"})
			}
		}
		for field, v := range map[string]string{"id": e.ID, "topic": e.Topic, "eventType": e.EventType} {
			if v == "" {
				return nil, within(i, deed.Invalid{Field: field, Detail: "is missing"})
			}
		}
		if e.DataVersion != "" {
			m.Attributes = map[string]string{"dataversion": e.DataVersion}
		}
		if !isNull(e.Data) {
			m.Data = e.Data
		}
		out[i] = m
	}
	return out, nil
}

// validation is the type of the event that asks a receiver to consent.
const validation = "Microsoft.EventGrid.SubscriptionValidationEvent"

// Consent returns the answer to a request of Event Grid that asks whether its events
// are wanted; nil if it is no such request.
func (s Settings) Consent(h http.Header, body []byte) (map[string]string, error) {
	asks := strings.EqualFold(h.Get("Aeg-Event-Type"), "SubscriptionValidation")
	if s.format() != EventGrid {
		return nil, nil
	}
	list, err := gridEvents(body)
	if err != nil {
		return nil, err
	}
	if !asks && (len(list) != 1 || list[0].EventType != validation) {
		return nil, nil
	}
	var data struct {
		Code string `json:"validationCode"`
	}
	if len(list) != 1 || list[0].EventType != validation || isNull(list[0].Data) || decodeJSON(list[0].Data, &data, '{') != nil || data.Code == "" {
		return nil, deed.Invalid{Detail: "a validation is one event of the type " + validation + ", with a validationCode"}
	}
	if !s.trusts(list[0].Topic) {
		return nil, Refusal{http.StatusForbidden, "events of the topic " + short(list[0].Topic) + " are not wanted: the sources of the sender are set"}
	}
	return map[string]string{"validationResponse": data.Code}, nil
}

// ConsentTo says what to answer to a CloudEvents sender that asks, by OPTIONS,
// whether its events are wanted: headers, or a [Refusal].
func (s Settings) ConsentTo(h http.Header) (map[string]string, error) {
	origin := h.Get("Webhook-Request-Origin")
	if origin == "" {
		return nil, deed.Invalid{Field: "WebHook-Request-Origin", Detail: "is missing: it says who wants to send"}
	}
	for _, known := range s.Origins {
		if known != "*" && !strings.EqualFold(known, origin) {
			continue
		}
		return map[string]string{"Allow": "OPTIONS, POST", "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": s.rate()}, nil
	}
	return nil, Refusal{http.StatusForbidden, "messages of " + short(origin) + " are not wanted: its name is not among the origins of the sender"}
}
