package inbound

import (
	"cmp"
	"net/http"

	"github.com/deed-dev/deed"
)

// A Form says what messages look like that come from a broker. What such a message
// has beside its body stands in headers, so locators find it there.
type Form struct {
	Format  string   `json:"format,omitempty"`  // cloudevents (the default), eventgrid or json
	Sources []string `json:"sources,omitempty"` // that messages may be of; none = any

	// Of the format json: where in a message these are.
	ID      Locator `json:"id,omitempty"`      // default header:message-id
	Type    Locator `json:"type,omitempty"`    // default /type
	Subject Locator `json:"subject,omitempty"` // default nowhere
}

func (f Form) settings() Settings {
	s := Settings{Format: f.Format, Proof: Nothing, Sources: f.Sources, ID: f.ID, Type: f.Type, Subject: f.Subject}
	if s.format() == Plain {
		s.ID = cmp.Or(s.ID, "header:message-id")
	}
	return s
}

// Check reports what is wrong with a form.
func (f Form) Check() error { return f.settings().check() }

// Read reads what a message of a broker says; source is the source of what says
// none. Its errors are those of [Settings.Decode].
func (f Form) Read(source string, h http.Header, body []byte) ([]deed.InboundMessage, error) {
	s := f.settings()
	s.source = source
	return s.Decode(h, body)
}
