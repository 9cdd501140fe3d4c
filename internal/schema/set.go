package schema

import (
	"cmp"
	"encoding"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/deed-dev/deed/internal/wire"
)

// A Set is the schemas of some Go types, each under a name of its own.
type Set struct {
	Schemas map[string]*Schema

	at    string // where a reference finds them, for example "#/$defs/"
	known map[reflect.Type]*Schema
	names map[reflect.Type]string
	taken map[string]bool // by names, as [folded]
}

// NewSet returns a set without schemas; at is where references find them, for
// example "#/components/schemas/".
func NewSet(at string) *Set {
	return &Set{Schemas: map[string]*Schema{}, at: at, known: map[reflect.Type]*Schema{}, names: map[reflect.Type]string{}, taken: map[string]bool{}}
}

// Reserve keeps names for what is added later: no other type gets a name that
// differs from one of them in its punctuation only, because programs that make
// code of schemas leave that out.
func (s *Set) Reserve(names ...string) {
	for _, name := range names {
		s.taken[folded(name)] = true
	}
}

func folded(name string) string {
	return strings.ToLower(plainName(strings.NewReplacer(".", "", "-", "").Replace(name)))
}

// Know sets the schema of a type of which Go does not say enough, for example
// which texts it can be.
func (s *Set) Know(t reflect.Type, is *Schema) { s.known[t] = is }

// Ref is a reference to a schema of the set.
func (s *Set) Ref(name string) *Schema { return &Schema{Ref: s.at + name} }

// Add gives the schema of a type a name, and returns a reference to it. A type
// that has one already is then known under both.
func (s *Set) Add(name string, t reflect.Type) *Schema {
	t = pointed(t)
	s.Reserve(name)
	if other, known := s.names[t]; known && other != name {
		s.Schemas[name] = s.Ref(other)
		return s.Ref(name)
	}
	if named(t) {
		s.names[t] = name
	}
	s.define(name, t)
	return s.Ref(name)
}

// AddInput is Add for what comes from outside. It takes no other fields than
// those of the prototype, whose values are the defaults. Needs says which fields
// have to be there; nil: those that are not left out when they are empty.
func (s *Set) AddInput(name string, prototype any, needs func(field string) bool) *Schema {
	v := reflect.ValueOf(prototype)
	s.Reserve(name)
	if v.Kind() != reflect.Struct {
		s.Schemas[name] = s.inline(v.Type())
		return s.Ref(name)
	}
	if wire.Opaque(v.Type()) {
		s.Schemas[name] = &Schema{Types: Types{"object"}, AdditionalProperties: Nothing()}
		return s.Ref(name)
	}
	x := s.object(v.Type())
	s.Schemas[name] = x
	if x.Properties == nil {
		return s.Ref(name) // it says itself what it looks like
	}
	x.AdditionalProperties, x.Required = Nothing(), nil
	for _, m := range wire.Members(v.Type()) {
		field, err := v.FieldByIndexErr(m.Index)
		given := err == nil && !field.IsZero()
		if needs != nil && needs(m.Name) || needs == nil && !m.Optional && !given {
			x.Required = append(x.Required, m.Name)
		}
		if !given {
			continue
		}
		if data, err := wire.Marshal(field.Interface()); err == nil {
			p := *x.Properties[m.Name]
			p.Default = data
			x.Properties[m.Name] = &p
		}
	}
	return s.Ref(name)
}

// With adds a schema that is as another one of the set, but for one field.
func (s *Set) With(name, as, field string, is *Schema) *Schema {
	x := *s.Schemas[as]
	x.Properties = maps.Clone(x.Properties)
	x.Properties[field] = is
	s.Schemas[name] = &x
	s.Reserve(name)
	return s.Ref(name)
}

// NameOf is the name that a type has in the set.
func (s *Set) NameOf(t reflect.Type) string { return strings.TrimPrefix(s.Of(t).Ref, s.at) }

// Of is the schema of a type: a reference if the type has a name and fields.
func (s *Set) Of(t reflect.Type) *Schema {
	if t.Kind() == reflect.Pointer {
		return nullable(s.Of(t.Elem()))
	}
	if !named(t) {
		return s.inline(t)
	}
	name, known := s.names[t]
	if !known {
		name = s.newName(t)
		s.names[t] = name
		s.define(name, t)
	}
	return s.Ref(name)
}

// define makes the schema of a name. It is known before it is complete: types
// may contain themselves.
func (s *Set) define(name string, t reflect.Type) {
	x := &Schema{}
	s.Schemas[name] = x
	*x = *s.inline(t)
}

// named reports whether the schema of a type has a name: whether it may contain
// itself, or is worth a name.
func named(t reflect.Type) bool {
	if t.Name() == "" || t.PkgPath() == "" {
		return false
	}
	if t.Implements(reflect.TypeFor[declares]()) {
		return true
	}
	if knownType(t) != nil || marshals(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return true
	case reflect.Slice, reflect.Array:
		return t.Elem().Kind() != reflect.Uint8
	}
	return false
}

// newName makes a name of that of the Go type, with that of its package if there
// is another of that name.
func (s *Set) newName(t reflect.Type) string {
	own := plainName(t.Name())
	pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
	name := own
	for n := 1; s.taken[folded(name)]; n++ {
		name = upper(plainName(pkg)) + own
		if n > 1 {
			name += strconv.Itoa(n)
		}
	}
	s.Reserve(name)
	return name
}

// plainName leaves letters and digits of the name of a type; of type arguments
// only the names.
func plainName(name string) string {
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return strings.ContainsRune("[],", r) }) {
		part = part[strings.LastIndexAny(part, "./")+1:]
		b.WriteString(upper(strings.Map(func(r rune) rune {
			if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
				return r
			}
			return -1
		}, part)))
	}
	return cmp.Or(b.String(), "Type")
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// A type that declares its schema writes its JSON by itself; the text is that
// of a JSON Schema.
type declares interface{ JSONSchema() string }

// inline is the schema of a type, without a name.
func (s *Set) inline(t reflect.Type) *Schema {
	if x := s.known[t]; x != nil {
		return x
	}
	if d, ok := reflect.Zero(t).Interface().(declares); ok {
		x := &Schema{}
		if err := json.Unmarshal([]byte(d.JSONSchema()), x); err == nil {
			return x
		}
	}
	if x := knownType(t); x != nil {
		return x
	}
	if marshals(t) {
		return sampled(t, "")
	}
	switch t.Kind() {
	case reflect.Bool:
		return Of("boolean")
	case reflect.String:
		return Of("string")
	case reflect.Float32, reflect.Float64:
		return Of("number")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return integer(t)
	case reflect.Pointer:
		return s.Of(t)
	case reflect.Slice, reflect.Array:
		return s.list(t)
	case reflect.Map:
		return s.dictionary(t)
	case reflect.Struct:
		return s.object(t)
	}
	return &Schema{}
}

// knownType is the schema of types that the JSON package knows by name.
func knownType(t reflect.Type) *Schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &Schema{Types: Types{"string"}, Format: "date-time"}
	case reflect.TypeFor[time.Duration]():
		return &Schema{Types: Types{"integer"}, Format: "int64", Description: "Nanoseconds."}
	}
	return nil
}

func integer(t reflect.Type) *Schema {
	x := Of("integer")
	switch t.Kind() {
	case reflect.Int64, reflect.Int32, reflect.Uint64, reflect.Uint32:
		x.Format = t.Kind().String()
	}
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uintptr {
		x.Minimum = new(int)
	}
	return x
}

func (s *Set) list(t reflect.Type) *Schema {
	if t.Elem().Kind() == reflect.Uint8 && !marshals(t.Elem()) {
		return &Schema{Types: Types{"string"}, ContentEncoding: "base64"}
	}
	x := &Schema{Types: Types{"array"}, Items: s.Of(t.Elem())}
	if t.Kind() == reflect.Array {
		n := t.Len()
		x.MinItems, x.MaxItems = &n, &n
	}
	return x
}

func (s *Set) dictionary(t reflect.Type) *Schema {
	x := &Schema{Types: Types{"object"}, AdditionalProperties: s.Of(t.Elem())}
	switch k := t.Key().Kind(); {
	case marshals(t.Key()):
	case k >= reflect.Int && k <= reflect.Uintptr:
		x.PropertyNames = &Schema{Pattern: "^-?[0-9]+$"}
	}
	return x
}

// object is the schema of a struct. A field that may be left out is not
// required; the tags doc and enum say more about a field.
func (s *Set) object(t reflect.Type) *Schema {
	if marshals(t) || knownType(t) != nil || t.Implements(reflect.TypeFor[declares]()) {
		return s.inline(t)
	}
	x := &Schema{Types: Types{"object"}, Properties: map[string]*Schema{}}
	for _, m := range wire.Members(t) {
		x.Properties[m.Name] = s.member(m)
		if !m.Optional {
			x.Required = append(x.Required, m.Name)
		}
	}
	return x
}

func (s *Set) member(m wire.Member) *Schema {
	typ := m.Field.Type
	if m.Optional {
		typ = pointed(typ) // null would be left out
	}
	p := s.Of(typ)
	if m.Text {
		p = sampled(typ, m.Field.Tag)
	}
	doc, enum := m.Field.Tag.Get("doc"), m.Field.Tag.Get("enum")
	if doc == "" && enum == "" {
		return p
	}
	q := *p
	q.Description = cmp.Or(doc, q.Description)
	if enum != "" {
		on := &q
		if q.Items != nil {
			items := *q.Items
			q.Items, on = &items, &items
		}
		for v := range strings.SplitSeq(enum, ",") {
			on.Enum = append(on.Enum, v)
		}
	}
	return &q
}

func pointed(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// marshals reports whether a type writes its JSON by itself.
func marshals(t reflect.Type) bool {
	for _, i := range []reflect.Type{
		reflect.TypeFor[json.MarshalerTo](), reflect.TypeFor[json.Marshaler](),
		reflect.TypeFor[encoding.TextAppender](), reflect.TypeFor[encoding.TextMarshaler](),
	} {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// sampled is the schema of a type of which only what it writes is known: of the
// zero value, as a field with the given tag.
func sampled(t reflect.Type, tag reflect.StructTag) *Schema {
	tag = reflect.StructTag(strings.NewReplacer(",omitzero", "", ",omitempty", "").Replace(string(tag)))
	kind := jsontext.KindNull
	sample := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "V", Type: t, Tag: tag}})).Elem()
	if data, err := wire.Marshal(sample.Interface()); err == nil {
		var fields map[string]jsontext.Value
		if json.Unmarshal(data, &fields) == nil {
			for _, v := range fields {
				kind = v.Kind()
			}
		}
	}
	switch kind {
	case '"':
		return Of("string")
	case '0':
		return Of("number")
	case 't', 'f':
		return Of("boolean")
	case '{':
		return Of("object")
	case '[':
		return Of("array")
	}
	return &Schema{}
}
