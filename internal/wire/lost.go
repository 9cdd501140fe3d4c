package wire

import (
	"encoding"
	"reflect"

	"github.com/go-json-experiment/json"
)

// Lost names a field, somewhere in values of a type, of which JSON keeps nothing;
// "" if there is none, as far as types tell.
func Lost(t reflect.Type) string { return lost(t, map[reflect.Type]bool{}) }

func lost(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen[t] || writesItself(t) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return lost(t.Elem(), seen)
	case reflect.Struct:
	default:
		return ""
	}
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "_":
			continue
		case f.Tag.Get("json") == "-", !f.IsExported() && !f.Anonymous:
			return t.String() + "." + f.Name
		}
		if name := lost(f.Type, seen); name != "" {
			return name
		}
	}
	return ""
}

// writesItself reports whether a type says how it is written as JSON.
func writesItself(t reflect.Type) bool {
	for _, self := range []reflect.Type{
		reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.MarshalerTo](), reflect.TypeFor[encoding.TextMarshaler](),
	} {
		if t.Implements(self) || reflect.PointerTo(t).Implements(self) {
			return true
		}
	}
	return false
}
