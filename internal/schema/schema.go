// Package schema says what the JSON of Go types looks like, as JSON Schemas
// (2020-12), and whether a schema that has changed still holds for what was
// written before.
//
// It follows the rules by which package wire writes and reads, which are those
// of the second version of Go's JSON; libraries that make schemas of Go types
// know the first one.
package schema

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Dialect is that of all schemas.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// A Schema is a JSON Schema. The zero Schema takes anything.
type Schema struct {
	Dialect     string `json:"$schema,omitempty"`
	Ref         string `json:"$ref,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`

	Types           Types          `json:"type,omitempty"`
	Format          string         `json:"format,omitempty"`
	ContentEncoding string         `json:"contentEncoding,omitempty"`
	Pattern         string         `json:"pattern,omitempty"`
	Const           any            `json:"const,omitzero"`
	Enum            []any          `json:"enum,omitempty"`
	Default         jsontext.Value `json:"default,omitempty"`
	Minimum         *int           `json:"minimum,omitzero"`
	Maximum         *int           `json:"maximum,omitzero"`
	MinItems        *int           `json:"minItems,omitzero"`
	MaxItems        *int           `json:"maxItems,omitzero"`

	Items                *Schema            `json:"items,omitzero"`
	Required             []string           `json:"required,omitempty"`
	Properties           map[string]*Schema `json:"properties,omitempty"`
	PropertyNames        *Schema            `json:"propertyNames,omitzero"`
	AdditionalProperties *Schema            `json:"additionalProperties,omitzero"`
	AllOf                []*Schema          `json:"allOf,omitempty"`
	AnyOf                []*Schema          `json:"anyOf,omitempty"`
	Defs                 map[string]*Schema `json:"$defs,omitempty"`

	Other jsontext.Value `json:",embed"` // keywords of schemas that types declare themselves

	nothing bool // it takes nothing: false
}

// Nothing is the schema that takes nothing.
func Nothing() *Schema { return &Schema{nothing: true} }

// Of is a schema of one of the types of JSON.
func Of(typ string) *Schema { return &Schema{Types: Types{typ}} }

// plain is a Schema that is neither true nor false.
type plain Schema

// MarshalJSONTo implements json.MarshalerTo.
func (s *Schema) MarshalJSONTo(enc *jsontext.Encoder) error {
	if s.nothing {
		return enc.WriteToken(jsontext.False)
	}
	return json.MarshalEncode(enc, (*plain)(s), json.Deterministic(true))
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (s *Schema) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	switch dec.PeekKind() {
	case 't', 'f':
		tok, err := dec.ReadToken()
		*s = Schema{nothing: err == nil && !tok.Bool()}
		return err
	}
	return json.UnmarshalDecode(dec, (*plain)(s))
}

// Types are the types of JSON that a schema takes; none = all.
type Types []string

// MarshalJSONTo implements json.MarshalerTo: one is written without a list.
func (t Types) MarshalJSONTo(enc *jsontext.Encoder) error {
	if len(t) == 1 {
		return enc.WriteToken(jsontext.String(t[0]))
	}
	return json.MarshalEncode(enc, []string(t))
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *Types) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		*t = Types{tok.String()}
		return err
	}
	return json.UnmarshalDecode(dec, (*[]string)(t))
}

// nullable is a schema that also takes null.
func nullable(s *Schema) *Schema {
	switch {
	case s.Ref != "":
		return &Schema{AnyOf: []*Schema{s, Of("null")}}
	case len(s.Types) == 0 || slices.Contains(s.Types, "null"):
		return s
	}
	n := *s
	n.Types = append(slices.Clip(s.Types), "null")
	return &n
}

// Text is a document as it is printed and stored: the same document is always
// the same text.
func Text(document any) ([]byte, error) {
	b, err := json.Marshal(document, json.Deterministic(true), jsontext.WithIndent("  "))
	return append(bytes.TrimSpace(b), '\n'), err
}
