package httpapi

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/deed-dev/deed"
)

// maxSelected bounds how many fields a request selects.
const maxSelected = 50

// A selection is the fields of documents that an answer has; nil = all. Of a
// field it has, a field within it may be selected.
type selection map[string]selection

// selected reads which fields of a view's documents a request wants.
func (a *api) selected(view string, q url.Values) (selection, error) {
	if !q.Has("fields") {
		return nil, nil
	}
	if _, err := a.rt.ViewPosition(view); err != nil { // there is none
		return nil, err
	}
	wanted := strings.Split(q.Get("fields"), ",")
	if len(wanted) > maxSelected {
		return nil, deed.Invalid{Field: "fields", Detail: "at most 50 fields"}
	}
	all := selection{}
	for _, field := range wanted {
		if field == "" {
			return nil, deed.Invalid{Field: "fields", Detail: "are names of fields, separated by commas, for example status,total.amount"}
		}
		if a.rt.ViewField(view, field) == "" {
			return nil, deed.Invalid{Field: "fields", Detail: "the documents of the view " + view + " have no field " + short(field)}
		}
		all.add(field)
	}
	return all, nil
}

// add selects a field, given as a path. What has been selected as a whole stays so.
func (s selection) add(path string) {
	name, rest, deeper := strings.Cut(path, ".")
	within, known := s[name]
	switch {
	case !deeper:
		s[name] = nil
	case known && within == nil:
	case !known:
		within = selection{}
		s[name] = within
		within.add(rest)
	default:
		within.add(rest)
	}
}

// of returns what a document has of the fields selected.
func (s selection) of(doc []byte) (rawJSON, error) {
	if s == nil {
		return rawJSON(doc), nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(doc, &all); err != nil {
		return nil, err
	}
	return json.Marshal(s.pick(all))
}

// pick leaves out what was not selected. What has no fields of its own (null, a
// list) has none of those wanted.
func (s selection) pick(all map[string]json.RawMessage) map[string]json.RawMessage {
	some := map[string]json.RawMessage{}
	for name, within := range s {
		value, there := all[name]
		if !there {
			continue
		}
		if within != nil {
			var inner map[string]json.RawMessage
			if json.Unmarshal(value, &inner) != nil || inner == nil {
				continue
			}
			part, err := json.Marshal(within.pick(inner))
			if err != nil {
				continue
			}
			value = part
		}
		some[name] = value
	}
	return some
}
