// Package wire translates between the names under which things are stored or
// called and the Go types that stand for them, and between Go values and
// JSON. It knows nothing about what the values mean.
package wire

import (
	"errors"
	"fmt"
	"reflect"
	"sort"
)

// A Name is the stored name of an event: a category and a type within it.
type Name struct{ Category, Type string }

func (n Name) String() string { return n.Category + "." + n.Type }

// An Upcast turns the JSON of an event of an old shape into that of a newer
// event type of the same category.
type Upcast struct {
	To   string
	From func(old []byte) ([]byte, error)
}

// ErrUnknown reports a stored event type that nothing declares.
var ErrUnknown = errors.New("unknown event type")

// A Codec knows every event type of a program. Declare everything first;
// afterwards it may be used by many goroutines.
type Codec struct {
	kinds   map[Name]kind
	names   map[reflect.Type]Name
	upcasts map[Name]Upcast
}

type kind struct {
	typ   reflect.Type
	proto reflect.Value
	plain bool // the prototype is the zero value
}

// NewCodec returns a Codec that knows nothing.
func NewCodec() *Codec {
	return &Codec{kinds: map[Name]kind{}, names: map[reflect.Type]Name{}, upcasts: map[Name]Upcast{}}
}

// Declare makes events of the prototype's type be written and read under n.
// Fields a stored event lacks keep the prototype's values.
func (c *Codec) Declare(n Name, proto any) error {
	t := reflect.TypeOf(proto)
	if other, dup := c.names[t]; dup {
		return fmt.Errorf("%v is both %q and %q: keep one name and move the other to Legacy", t, other, n)
	}
	if err := c.DeclareLegacy(n, proto); err != nil {
		return err
	}
	c.names[t] = n
	return nil
}

// DeclareLegacy makes events stored under n be read as the prototype's type.
func (c *Codec) DeclareLegacy(n Name, proto any) error {
	if proto == nil {
		return fmt.Errorf("event %q has no prototype", n)
	}
	if _, dup := c.kinds[n]; dup {
		return fmt.Errorf("two events are named %q", n)
	}
	v := reflect.ValueOf(proto)
	if v.Kind() == reflect.Pointer {
		return fmt.Errorf("event %q: the prototype is a pointer, use the value (%v)", n, v.Type().Elem())
	}
	if field := shared(v); field != "" {
		return fmt.Errorf("event %q: the prototype's %s would be shared by all events: leave it nil", n, field)
	}
	if Opaque(v.Type()) {
		return fmt.Errorf("event %q: no field of %v is exported, so nothing of it would be stored", n, v.Type())
	}
	c.kinds[n] = kind{typ: v.Type(), proto: v, plain: v.IsZero()}
	return nil
}

// DeclareUpcast makes events stored under n pass through u before they are
// read as u.To. Upcasts may be chained.
func (c *Codec) DeclareUpcast(n Name, u Upcast) error {
	if _, dup := c.kinds[n]; dup {
		return fmt.Errorf("event %q has an upcast and a prototype: give the new shape a new name", n)
	}
	if u.From == nil || u.To == n.Type {
		return fmt.Errorf("upcast of %q must name another type and a function", n)
	}
	c.upcasts[n] = u
	return nil
}

// Check reports upcasts that lead nowhere.
func (c *Codec) Check() error {
	for n := range c.upcasts {
		if _, err := c.target(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *Codec) target(n Name) (Name, error) {
	to := n
	for range len(c.upcasts) + 1 {
		u, ok := c.upcasts[to]
		if !ok {
			if _, ok := c.kinds[to]; !ok {
				return to, fmt.Errorf("upcast of %q leads to %q, which is not declared", n, to)
			}
			return to, nil
		}
		to.Type = u.To
	}
	return to, fmt.Errorf("upcasts of %q go round in a circle", n)
}

// NameOf returns the name under which events of a type are written.
func (c *Codec) NameOf(t reflect.Type) (Name, bool) {
	n, ok := c.names[t]
	return n, ok
}

// TypeOf returns the Go type as which events stored under n are read.
func (c *Codec) TypeOf(n Name) (reflect.Type, bool) {
	to, err := c.target(n)
	if err != nil {
		return nil, false
	}
	return c.kinds[to].typ, true
}

// NamesOf returns every name, old ones included, whose events are read as t,
// sorted.
func (c *Codec) NamesOf(t reflect.Type) []Name {
	var out []Name
	for n, k := range c.kinds {
		if k.typ == t {
			out = append(out, n)
		}
	}
	for n := range c.upcasts {
		if to, err := c.target(n); err == nil && c.kinds[to].typ == t {
			out = append(out, n)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].String() < out[j].String() })
	return out
}

// Encode returns the stored name and JSON of an event.
func (c *Codec) Encode(e any) (Name, []byte, error) {
	n, ok := c.names[reflect.TypeOf(e)]
	if !ok {
		return n, nil, fmt.Errorf("%T is not declared by any aggregate: add it to Events", e)
	}
	data, err := Marshal(e)
	if err != nil {
		return n, nil, fmt.Errorf("event %s: %w", n, err)
	}
	return n, data, nil
}

// Decode returns the event stored under n.
func (c *Codec) Decode(n Name, data []byte) (any, error) {
	for range len(c.upcasts) {
		u, ok := c.upcasts[n]
		if !ok {
			break
		}
		var err error
		if data, err = u.From(data); err != nil {
			return nil, fmt.Errorf("upcast of %s to %s: %w", n, u.To, err)
		}
		n.Type = u.To
	}
	k, ok := c.kinds[n]
	if !ok {
		return nil, fmt.Errorf("%w %s", ErrUnknown, n)
	}
	v := reflect.New(k.typ)
	if !k.plain {
		v.Elem().Set(k.proto)
	}
	if err := Unmarshal(data, v.Interface()); err != nil {
		return nil, fmt.Errorf("event %s: %w", n, err)
	}
	return v.Elem().Interface(), nil
}

// Accepts reports what is wrong with data that somebody wrote by hand for an event
// under n. Beside what Decode refuses, a member that the event does not have is a
// mistake.
func (c *Codec) Accepts(n Name, data []byte) error {
	if k, ok := c.kinds[n]; ok { // else it passes through an upcast
		if err := UnmarshalStrict(data, reflect.New(k.typ).Interface()); err != nil {
			return err
		}
	}
	_, err := c.Decode(n, data)
	return err
}

// New returns a pointer to a copy of a prototype, to decode into.
func New(proto any) (reflect.Value, error) {
	v := reflect.ValueOf(proto)
	if field := shared(v); field != "" {
		return v, fmt.Errorf("the prototype's %s would be shared: leave it nil", field)
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p, nil
}

// shared names a part of v that copies of v would have in common.
func shared(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Func:
		if !v.IsNil() && v.Type().String() != "*time.Location" {
			return v.Type().String()
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if s := shared(v.Field(i)); s != "" {
				return v.Type().Field(i).Name
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			if s := shared(v.Index(i)); s != "" {
				return s
			}
		}
	}
	return ""
}
