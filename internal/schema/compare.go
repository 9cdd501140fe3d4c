package schema

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// A Promise is what has to stay true of a schema that changes.
type Promise int

// The promises. Under both a field stays, keeps its type, and is not required
// if it was not; a field may be added that is not required.
const (
	Stored Promise = iota // whatever was valid is valid: a program reads what others have written before
	Public                // and nothing else becomes valid, added fields apart: others read what a program writes, now and before
)

// A Change is something that breaks a promise.
type Change struct {
	Kind  Kind   `json:"kind"`
	Field string `json:"field,omitempty"` // its path, for example "lines[].price"; "" = the whole
	Text  string `json:"text"`            // what has changed
}

// A Kind is a kind of change.
type Kind string

// The kinds of changes that break a promise.
const (
	Gone     Kind = "gone"     // a type of events
	Removed  Kind = "removed"  // a field
	Added    Kind = "added"    // a field that is required
	Required Kind = "required" // a field that was optional
	Optional Kind = "optional" // a field that was required; of public events
	Type     Kind = "type"     // of a field
	Values   Kind = "values"   // that a field can have
)

// Breaks compares two schemas, each with its $defs, and returns what has
// changed in a way that breaks a promise.
func Breaks(was, is *Schema, p Promise) []Change {
	c := comparison{was: was, is: is, promise: p, seen: map[[2]*Schema]bool{}}
	c.compare("", was, is)
	return c.changes
}

type comparison struct {
	was, is *Schema // where references lead
	promise Promise
	seen    map[[2]*Schema]bool
	changes []Change
}

func (c *comparison) add(kind Kind, field, format string, args ...any) {
	c.changes = append(c.changes, Change{kind, field, fmt.Sprintf(format, args...)})
}

func (c *comparison) compare(field string, was, is *Schema) {
	was, is = resolve(c.was, was), resolve(c.is, is)
	if pair := [2]*Schema{was, is}; c.seen[pair] {
		return
	} else {
		c.seen[pair] = true
	}
	if !c.types(field, was, is) {
		return
	}
	c.values(field, was, is)
	c.fields(field, was, is)
	c.within(field+"[]", was.Items, is.Items)
	c.within(field+".*", was.AdditionalProperties, is.AdditionalProperties)
}

// within compares what lists and dictionaries have.
func (c *comparison) within(field string, was, is *Schema) {
	field = strings.TrimPrefix(field, ".")
	switch {
	case was == nil && is == nil:
	case was == nil:
		if !is.nothing {
			c.compare(field, &Schema{}, is)
		}
	case is == nil:
		if !was.nothing {
			c.compare(field, was, &Schema{})
		}
	case was.nothing || is.nothing:
	default:
		c.compare(field, was, is)
	}
}

// resolve follows references, and makes of a schema or null one that has null
// among its types.
func resolve(root, s *Schema) *Schema {
	for range len(root.Defs) + 1 {
		_, name, ok := strings.Cut(s.Ref, "#/$defs/")
		next := root.Defs[name]
		if !ok || next == nil {
			break
		}
		s = next
	}
	if len(s.AnyOf) == 2 && slices.Equal(s.AnyOf[1].Types, Types{"null"}) {
		return nullable(resolve(root, s.AnyOf[0]))
	}
	return s
}

// types compares types and formats; it reports false if there is nothing more
// to compare.
func (c *comparison) types(field string, was, is *Schema) bool {
	reads := func(typ string) bool {
		return len(is.Types) == 0 || slices.Contains(is.Types, typ) || c.promise == Stored && typ == "integer" && slices.Contains(is.Types, "number")
	}
	same := len(was.Types) > 0 || len(is.Types) == 0
	for _, typ := range was.Types {
		same = same && reads(typ)
	}
	if c.promise == Public {
		same = same && len(is.Types) == len(was.Types)
	}
	if !same {
		c.add(Type, field, "is %s, and was %s", typeOf(is), typeOf(was))
		return false
	}
	if was.Format != is.Format || was.ContentEncoding != is.ContentEncoding {
		wider := c.promise == Stored && was.ContentEncoding == is.ContentEncoding && (is.Format == "" || was.Format == "int32" && is.Format == "int64" || was.Format == "uint32" && is.Format == "uint64")
		if !wider {
			c.add(Type, field, "is %s, and was %s", typeOf(is), typeOf(was))
			return false
		}
	}
	return true
}

// typeOf is what people call the type of a schema.
func typeOf(s *Schema) string {
	t := strings.Join(s.Types, " or ")
	if t == "" {
		t = "anything"
	}
	for _, more := range []string{s.Format, s.ContentEncoding} {
		if more != "" {
			t += " (" + more + ")"
		}
	}
	return t
}

// values compares which values of a type a schema takes.
func (c *comparison) values(field string, was, is *Schema) {
	missing := difference(was.Enum, is.Enum)
	switch {
	case len(was.Enum) == 0 && len(is.Enum) > 0:
		c.add(Values, field, "can only be %s, and could be anything", list(is.Enum))
	case len(is.Enum) > 0 && len(missing) > 0:
		c.add(Values, field, "cannot be %s any more", list(missing))
	case c.promise == Public && len(was.Enum) > 0 && len(is.Enum) == 0:
		c.add(Values, field, "can be anything, and could only be %s", list(was.Enum))
	case c.promise == Public && len(difference(is.Enum, was.Enum)) > 0:
		c.add(Values, field, "can also be %s, which nobody who reads it knows", list(difference(is.Enum, was.Enum)))
	}
	for _, b := range []struct {
		what    string
		was, is *int
		least   bool
	}{
		{"the least value", was.Minimum, is.Minimum, true}, {"the greatest value", was.Maximum, is.Maximum, false},
		{"the least number of entries", was.MinItems, is.MinItems, true}, {"the greatest number of entries", was.MaxItems, is.MaxItems, false},
	} {
		if c.bound(b.was, b.is, b.least) {
			c.add(Values, field, "%s is %s, and was %s", b.what, number(b.is), number(b.was))
		}
	}
	// Of rules that are not compared one by one, another one may be narrower.
	if !sameRules(was, is) {
		c.add(Values, field, "has other rules for its values")
	}
}

func sameRules(was, is *Schema) bool {
	return was.Pattern == is.Pattern && reflect.DeepEqual(was.Const, is.Const) && sameText(was.PropertyNames, is.PropertyNames) &&
		sameText(was.AllOf, is.AllOf) && sameText(was.AnyOf, is.AnyOf) && sameText(was.Other, is.Other)
}

// bound reports whether a bound has changed in a way that matters.
func (c *comparison) bound(was, is *int, least bool) bool {
	switch {
	case was == nil && is == nil:
		return false
	case is == nil:
		return c.promise == Public
	case was == nil:
		return true
	case c.promise == Public:
		return *was != *is
	}
	return least && *is > *was || !least && *is < *was
}

func number(n *int) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}

// fields compares the fields of objects.
func (c *comparison) fields(field string, was, is *Schema) {
	for _, name := range slices.Sorted(maps.Keys(was.Properties)) {
		at := strings.TrimPrefix(field+"."+name, ".")
		now, there := is.Properties[name]
		if !there {
			c.add(Removed, at, "is gone")
			continue
		}
		c.compare(at, was.Properties[name], now)
		needed, needs := slices.Contains(was.Required, name), slices.Contains(is.Required, name)
		switch {
		case needs && !needed:
			c.add(Required, at, "is required, and was not always there")
		case needed && !needs && c.promise == Public:
			c.add(Optional, at, "may be missing, and was always there")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is.Properties)) {
		if _, there := was.Properties[name]; !there && slices.Contains(is.Required, name) {
			c.add(Added, strings.TrimPrefix(field+"."+name, "."), "is new and required, and missing in what was written before")
		}
	}
}

func difference(of, from []any) (rest []any) {
	for _, v := range of {
		if !slices.ContainsFunc(from, func(w any) bool { return sameText(v, w) }) {
			rest = append(rest, v)
		}
	}
	return rest
}

func list(values []any) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprint(v))
	}
	return strings.Join(all, ", ")
}

func sameText(a, b any) bool {
	x, err := json.Marshal(a, json.Deterministic(true))
	if err != nil {
		return false
	}
	y, err := json.Marshal(b, json.Deterministic(true))
	return err == nil && bytes.Equal(x, y)
}
