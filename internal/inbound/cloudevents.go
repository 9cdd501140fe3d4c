package inbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
)

// cloudEvents reads CloudEvents 1.0: one or a batch as JSON, or one whose
// attributes are headers.
func cloudEvents(h http.Header, body []byte) ([]deed.InboundMessage, error) {
	contentType := h.Get("Content-Type")
	media, params, err := mime.ParseMediaType(contentType)
	if charset := params["charset"]; err == nil && charset != "" && !strings.EqualFold(charset, "utf-8") && strings.HasPrefix(media, "application/cloudevents") {
		return nil, Refusal{http.StatusUnsupportedMediaType, "the text is in " + short(charset) + ": use UTF-8"}
	}
	switch {
	case media == "application/cloudevents+json":
		m, err := structured(body)
		return []deed.InboundMessage{m}, err
	case media == "application/cloudevents-batch+json":
		return batch(body)
	case strings.HasPrefix(media, "application/cloudevents"):
		return nil, Refusal{http.StatusUnsupportedMediaType, "CloudEvents are taken as JSON, not as " + short(media)}
	case h.Get("Ce-Specversion") != "" || h.Get("Ce-Id") != "" || h.Get("Ce-Type") != "":
		m, err := binaryEvent(h, body)
		return []deed.InboundMessage{m}, err
	}
	return nil, Refusal{http.StatusUnsupportedMediaType, "this is no CloudEvent: send it as application/cloudevents+json, as application/cloudevents-batch+json, or with its attributes as ce- headers"}
}

// batch reads a JSON list of events.
func batch(body []byte) ([]deed.InboundMessage, error) {
	var list []json.RawMessage
	if err := decodeJSON(body, &list, '['); err != nil {
		return nil, err
	}
	if len(list) > maxMessages {
		return nil, deed.Invalid{Detail: fmt.Sprintf("the batch has more than %d events", maxMessages)}
	}
	out := make([]deed.InboundMessage, len(list))
	for i, raw := range list {
		m, err := structured(raw)
		if err != nil {
			return nil, within(i, err)
		}
		out[i] = m
	}
	return out, nil
}

// within says which entry of a list an error is about.
func within(i int, err error) error {
	inv, ok := errors.AsType[deed.Invalid](err)
	if !ok {
		return err
	}
	inv.Field = strings.TrimSuffix(fmt.Sprintf("%d.%s", i, inv.Field), ".")
	return inv
}

// decodeJSON reads JSON that begins with a certain letter.
func decodeJSON(body []byte, into any, begins byte) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != begins {
		what := map[byte]string{'[': "list", '{': "object"}[begins]
		return deed.Invalid{Detail: "it must be a JSON " + what}
	}
	if err := wire.CheckDepth(body); err != nil {
		return deed.Invalid{Detail: err.Error()}
	}
	if err := wire.Unmarshal(body, into); err != nil {
		return deed.Invalid{Detail: "it is no proper JSON: " + err.Error()}
	}
	return nil
}

// structured reads an event as JSON.
func structured(body []byte) (m deed.InboundMessage, err error) {
	var members map[string]json.RawMessage
	if err := decodeJSON(body, &members, '{'); err != nil {
		return m, err
	}
	data, encoded := members["data"], members["data_base64"]
	delete(members, "data")
	delete(members, "data_base64")
	all := map[string]string{}
	for name, raw := range members {
		v, there, err := attribute(raw)
		if err != nil {
			return m, deed.Invalid{Field: name, Detail: err.Error()}
		}
		if there {
			all[name] = v
		}
	}
	if m, err = message(all); err != nil {
		return m, err
	}
	if isNull(data) {
		data = nil
	}
	switch {
	case data != nil && !isNull(encoded):
		return m, deed.Invalid{Field: "data_base64", Detail: "is there beside data: an event has one of them"}
	case !isNull(encoded):
		if err := wire.Unmarshal(encoded, &m.Data); err != nil {
			return m, deed.Invalid{Field: "data_base64", Detail: "is no text in base64"}
		}
	case data != nil && data[0] == '"' && !isJSON(m.ContentType): // the text is the data
		var text string
		if err := wire.Unmarshal(data, &text); err != nil {
			return m, deed.Invalid{Field: "data", Detail: err.Error()}
		}
		m.Data = []byte(text)
	default:
		m.Data = data
	}
	return m, nil
}

func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json"))
}

// attribute is the text of an attribute, unless it is null.
func attribute(raw json.RawMessage) (text string, there bool, err error) {
	switch raw[0] {
	case 'n':
		return "", false, nil
	case '"':
		return text, true, wire.Unmarshal(raw, &text)
	case '{', '[':
		return "", false, errors.New("is an object or a list: an attribute is text, a whole number or true or false")
	}
	return string(raw), true, nil
}

// message makes a message of the attributes of an event.
func message(all map[string]string) (m deed.InboundMessage, err error) {
	version, there := all["specversion"]
	switch {
	case !there:
		return m, deed.Invalid{Field: "specversion", Detail: `is missing: "1.0" is taken`}
	case version != "1.0":
		return m, deed.Invalid{Field: "specversion", Detail: `is ` + short(version) + `: "1.0" is taken`}
	}
	m = deed.InboundMessage{ID: all["id"], Source: all["source"], Type: all["type"], Subject: all["subject"], ContentType: all["datacontenttype"], Schema: all["dataschema"]}
	if at := all["time"]; at != "" {
		if m.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return m, deed.Invalid{Field: "time", Detail: "is no time like 2026-02-03T04:05:06Z"}
		}
	}
	for _, known := range []string{"specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time"} {
		delete(all, known)
	}
	if len(all) > 0 {
		m.Attributes = all
	}
	return m, nil
}

// binaryEvent reads an event whose attributes are headers, and whose data is the body.
func binaryEvent(h http.Header, body []byte) (m deed.InboundMessage, err error) {
	all := map[string]string{}
	for name, values := range h {
		attr, is := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !is {
			continue
		}
		if len(values) > 1 {
			return m, deed.Invalid{Field: "ce-" + attr, Detail: "is given twice"}
		}
		v, err := url.PathUnescape(unquoted(values[0]))
		if err != nil {
			return m, deed.Invalid{Field: "ce-" + attr, Detail: "has a % that is no escape"}
		}
		all[attr] = v
	}
	if _, there := all["datacontenttype"]; there {
		return m, deed.Invalid{Field: "ce-datacontenttype", Detail: "is not taken: it is the Content-Type"}
	}
	if m, err = message(all); err != nil {
		return m, err
	}
	m.ContentType = h.Get("Content-Type")
	if len(body) > 0 {
		m.Data = body
	}
	return m, nil
}

// unquoted is a header's value without the quotes of a quoted string.
func unquoted(v string) string {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return v
	}
	var b strings.Builder
	for i := 1; i < len(v)-1; i++ {
		if v[i] == '\\' && i+1 < len(v)-1 {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
