package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/deed-dev/deed/store"
)

// rawJSON is JSON as it was stored. Bytes that are not JSON become a string:
// an old or damaged event must not make a whole page unreadable.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) {
	switch {
	case len(r) == 0:
		return []byte("null"), nil
	case json.Valid(r):
		return r, nil
	}
	return json.Marshal(string(r))
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *rawJSON) UnmarshalJSON(b []byte) error { *r = bytes.Clone(b); return nil }

// An Event is a stored event as the API shows it.
type Event struct {
	ID       store.ID `json:"id"`
	Stream   string   `json:"stream"`
	Version  uint64   `json:"version"`
	Position string   `json:"position"`
	Type     string   `json:"type"`
	Time     string   `json:"time"`
	Data     rawJSON  `json:"data"`
	Meta     rawJSON  `json:"meta,omitempty"`
}

func eventOf(rec store.Record) Event {
	return Event{
		ID: rec.ID, Stream: rec.Stream, Version: rec.Version, Position: rec.Position.String(), Type: rec.Type,
		Time: rec.Time.Format(time.RFC3339Nano), Data: rawJSON(rec.Data), Meta: rawJSON(rec.Meta),
	}
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // the caller may be gone: then nobody minds
	return nil
}
