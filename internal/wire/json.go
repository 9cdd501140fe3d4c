package wire

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// MaxDepth is how deep objects and lists of a document that comes from
// outside may be nested.
const MaxDepth = 64

var (
	// Maps are written in key order, so that equal values have equal bytes
	// and a body's hash means something.
	writing = json.JoinOptions(json.Deterministic(true), jsonv1.FormatDurationAsNano(true))
	reading = json.JoinOptions(jsonv1.FormatDurationAsNano(true))
	strict  = json.JoinOptions(reading, json.RejectUnknownMembers(true))
)

// Marshal returns v as compact JSON; equal values give equal bytes.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, writing) }

// sortable writes times so that their text has the order of time: all in UTC,
// and all with the same number of digits.
var sortable = json.JoinOptions(writing, json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, t time.Time) error {
	return enc.WriteToken(jsontext.String(SortableTime(t)))
})))

// SortableTime is a time as [MarshalDocument] writes it.
func SortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// MarshalDocument is Marshal for documents of views, which can be sorted and
// filtered by their fields, times included.
func MarshalDocument(v any) ([]byte, error) { return json.Marshal(v, sortable) }

// Opaque reports whether a type is a struct with fields, none of which is
// visible in JSON: as a command it has an empty body, as an event it would
// lose everything.
func Opaque(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.NumField() == 0 || t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() || f.Anonymous {
			return false
		}
	}
	return true
}

// Unmarshal reads what a store kept. It ignores fields that v does not have:
// a newer program may have written them.
func Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v, reading) }

// A FieldError says what is wrong with a document from outside, and where.
type FieldError struct {
	Field  string // JSON pointer without the leading slash; "" = the document itself
	Detail string
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

// UnmarshalStrict reads what came from outside: exactly one JSON value, no
// unknown or repeated fields, valid UTF-8, nested at most MaxDepth deep. Its
// error is a *[FieldError].
func UnmarshalStrict(data []byte, v any) error {
	if err := CheckDepth(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v, strict); err != nil {
		return explain(err)
	}
	return nil
}

// Valid reports whether data are JSON text that can be stored as such: no repeated
// fields, valid UTF-8, nested at most MaxDepth deep.
func Valid(data []byte) bool { return CheckDepth(data) == nil && jsontext.Value(data).IsValid() }

// CheckDepth reports whether JSON text is nested too deep, with a
// *[FieldError]. It looks at nothing else, so it is cheap and takes any bytes.
func CheckDepth(data []byte) error {
	depth, inString, escaped := 0, false, false
	for _, b := range data {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = b == '\\', b != '"'
		case b == '"':
			inString = true
		case b == '{' || b == '[':
			if depth++; depth > MaxDepth {
				return &FieldError{Detail: fmt.Sprintf("nested more than %d deep", MaxDepth)}
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return nil
}

func explain(err error) *FieldError {
	if sem, ok := errors.AsType[*json.SemanticError](err); ok {
		f := &FieldError{Field: field(sem.JSONPointer)}
		switch {
		case errors.Is(sem.Err, json.ErrUnknownName):
			f.Detail = "is not a field of this document"
		case sem.GoType != nil && sem.JSONKind != 0:
			f.Detail = fmt.Sprintf("is a JSON %s, and must be a %s", kindName(sem.JSONKind), typeName(sem.GoType))
			if sem.Err != nil {
				f.Detail += ": " + sem.Err.Error()
			}
		case sem.Err != nil:
			f.Detail = sem.Err.Error()
		default:
			f.Detail = "cannot be read"
		}
		return f
	}
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		f := &FieldError{Field: field(syn.JSONPointer)}
		switch {
		case errors.Is(syn.Err, jsontext.ErrDuplicateName):
			f.Detail = "is given twice"
		case errors.Is(syn.Err, io.ErrUnexpectedEOF):
			f.Detail = "the JSON ends too early"
		default:
			f.Detail = fmt.Sprintf("not JSON: %v at byte %d", syn.Err, syn.ByteOffset)
		}
		return f
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &FieldError{Detail: "the JSON ends too early"}
	}
	return &FieldError{Detail: "not JSON"}
}

func field(p jsontext.Pointer) string {
	var parts []string
	for tok := range p.Tokens() {
		if len(parts) == 8 || len(tok) > 100 { // an attacker chooses these
			break
		}
		parts = append(parts, tok)
	}
	return strings.Join(parts, ".")
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	}
	return "list"
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Struct, reflect.Map:
		if t.PkgPath() == "time" {
			return "time (RFC 3339)"
		}
		return "JSON object"
	case reflect.Slice, reflect.Array:
		return "list"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return "whole number"
}

// FieldType returns the Go type at a path of JSON field names into t, if
// there is one that is known beforehand.
func FieldType(t reflect.Type, path string) (reflect.Type, bool) {
	for name := range strings.SplitSeq(path, ".") {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
			continue
		case reflect.Struct:
		default:
			return nil, false
		}
		next, ok := member(t, name)
		if !ok {
			return nil, false
		}
		t = next
	}
	return t, true
}

// IsText reports whether a JSON field of a type is text, or a list of texts. Other
// than with FieldType, the path may go through lists.
func IsText(t reflect.Type, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		var ok bool
		if t, ok = FieldType(elements(t), name); !ok {
			return false
		}
	}
	return elements(t).Kind() == reflect.String
}

// elements is what a list has, or what a pointer points to.
func elements(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	return t
}

// Fields are the names of the JSON fields of a struct, in its order.
func Fields(t reflect.Type) (names []string) {
	for f := range fields(t) {
		names = append(names, f.name)
	}
	return names
}

// A Member is a member of the JSON object that a struct becomes.
type Member struct {
	Name     string
	Optional bool // it is left out if it is zero or empty
	Text     bool // numbers are written as text
	Field    reflect.StructField
	Index    []int // of the field, for reflect.Value.FieldByIndex
}

// Members are the members of the JSON object that a struct becomes, in their
// order. Of two with one name it is the one less deeply embedded.
func Members(t reflect.Type) (all []Member) {
	at := map[string]int{}
	for f := range fields(t) {
		i, dup := at[f.name]
		switch {
		case !dup:
			at[f.name] = len(all)
			all = append(all, memberOf(f))
		case len(f.index) < len(all[i].Index):
			all[i] = memberOf(f)
		}
	}
	return all
}

func memberOf(f structField) Member {
	m := Member{Name: f.name, Field: f.field, Index: f.index, Optional: f.maybe}
	for _, option := range options(f.field) {
		switch option {
		case "omitzero", "omitempty":
			m.Optional = true
		case "string":
			m.Text = true
		}
	}
	return m
}

func member(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range fields(t) {
		if f.name == name {
			return f.typ, true
		}
	}
	return nil, false
}

type structField struct {
	name  string
	typ   reflect.Type
	field reflect.StructField
	index []int
	maybe bool // it is of something that may not be there
}

// options are what the tag of a field says beside its name.
func options(f reflect.StructField) []string {
	return strings.Split(f.Tag.Get("json"), ",")[1:]
}

// fields yields the JSON members of a struct, those of embedded structs
// included.
func fields(t reflect.Type) func(yield func(structField) bool) {
	return func(yield func(structField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			tag := f.Tag.Get("json")
			name, _, _ := strings.Cut(tag, ",")
			if tag == "-" {
				continue
			}
			inside, maybe := f.Type, f.Type.Kind() == reflect.Pointer
			if maybe {
				inside = inside.Elem()
			}
			if embeds := f.Anonymous && name == "" || slices.Contains(options(f), "embed"); embeds && inside.Kind() == reflect.Struct {
				for inner := range fields(inside) {
					inner.index, inner.maybe = append([]int{i}, inner.index...), inner.maybe || maybe
					if !yield(inner) {
						return
					}
				}
				continue
			}
			if !f.IsExported() || slices.Contains(options(f), "embed") {
				continue // of an embedded map nobody knows the names
			}
			if name == "" {
				name = f.Name
			}
			if !yield(structField{name: name, typ: f.Type, field: f, index: []int{i}}) {
				return
			}
		}
	}
}
