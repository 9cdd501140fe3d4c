package schema_test

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/deed-dev/deed/internal/schema"
	"github.com/deed-dev/deed/internal/wire"
)

type (
	base struct {
		ID   string `json:"id"`
		Kind int    `json:"kind"` // hidden by that of whole
	}
	tree struct {
		Name     string          `json:"name"`
		Children []tree          `json:"children,omitempty"`
		ByName   map[string]tree `json:"by_name,omitempty"`
	}
	pair[A, B any] struct {
		First  A `json:"first"`
		Second B `json:"second"`
	}
	euros int64 // as text
	lines []line
	line  struct {
		Price euros `json:"price" doc:"What one costs."`
	}
	colour string
	whole  struct {
		base
		Kind    string             `json:"kind" enum:"a,b"`
		At      time.Time          `json:"at"`
		For     time.Duration      `json:"for"`
		Raw     json.RawMessage    `json:"raw"`
		Any     any                `json:"any"`
		Bytes   []byte             `json:"bytes"`
		Sum     [4]byte            `json:"sum"`
		Two     [2]int             `json:"two"`
		Count   uint               `json:"count"`
		Share   float64            `json:"share"`
		Big     int64              `json:"big,string"`
		Inner   struct{ X, Y int } `json:",embed"`
		Maybe   *string            `json:"maybe"`
		Perhaps *string            `json:"perhaps,omitempty"`
		Tree    tree               `json:"tree"`
		Other   *tree              `json:"other"`
		Pair    pair[tree, line]   `json:"pair"`
		Lines   lines              `json:"lines"`
		Nums    map[int]bool       `json:"nums"`
		Places  map[netip.Addr]int
		UUID    uuid.UUID `json:"uuid"`
		Colour  colour    `json:"colour"`
		Not     string    `json:"-"`
		hidden  int
	}
)

func (e euros) MarshalText() ([]byte, error) { return []byte("12.30 EUR"), nil }
func (colour) JSONSchema() string            { return `{"type":"string","enum":["red","blue"],"maxLength":4}` }
func (c colour) MarshalJSON() ([]byte, error) {
	if c == "" {
		return []byte(`"red"`), nil
	}
	return json.Marshal(string(c))
}

// compiled is a schema of a set, ready to be used by an independent library.
func compiled(t *testing.T, set *schema.Set, name string) *jsonschema.Schema {
	t.Helper()
	root := *set.Schemas[name]
	root.Dialect, root.Defs = schema.Dialect, set.Schemas
	text, err := schema.Text(&root)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///x.json", doc); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	s, err := c.Compile("mem:///x.json")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return s
}

func check(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return s.Validate(v)
}

// What is written of a value is what the schema of its type says, zero or not,
// and nothing else is.
func TestSchemasAreTrue(t *testing.T) {
	set := schema.NewSet("#/$defs/")
	set.Add("whole", reflect.TypeFor[whole]())
	s := compiled(t, set, "whole")
	text, small := "text", tree{Name: "leaf"}
	full := whole{
		base: base{"id", 1}, Kind: "b", At: time.Unix(0, 0), For: time.Hour, Raw: json.RawMessage(`[1]`), Any: 3, Bytes: []byte("b"), Big: 7, Maybe: &text, Perhaps: &text,
		Tree: tree{"root", []tree{small, {"branch", []tree{small}, nil}}, map[string]tree{"leaf": small}}, Other: &small, Pair: pair[tree, line]{small, line{1}},
		Lines: lines{{2}}, Nums: map[int]bool{-3: true}, Places: map[netip.Addr]int{netip.IPv6Loopback(): 1}, UUID: uuid.New(), Colour: "blue", hidden: 1,
	}
	for name, v := range map[string]whole{"full": full, "zero": {Kind: "a", Raw: json.RawMessage("null")}} {
		data, err := wire.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, s, data); err != nil {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
	data, err := wire.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ was, is string }{
		{`"id":"id"`, `"id":1`}, {`"id":"id",`, ``}, {`"kind":"b"`, `"kind":"c"`}, {`"for":3600000000000`, `"for":"1h"`}, {`"at":"19`, `"at":"x19`},
		{`"two":[0,0]`, `"two":[0]`}, {`"count":0`, `"count":-1`}, {`"big":"7"`, `"big":7`}, {`"maybe":"text",`, ``}, {`"perhaps":"text"`, `"perhaps":null`},
		{`{"name":"leaf"}`, `{"name":null}`}, {`{"-3":true}`, `{"x":true}`}, {`"12.30 EUR"`, `12`}, {`"colour":"blue"`, `"colour":"green"`},
	} {
		bad := strings.ReplaceAll(string(data), wrong.was, wrong.is)
		if bad == string(data) {
			t.Errorf("%s is not in %s", wrong.was, data)
		}
		if check(t, s, []byte(bad)) == nil {
			t.Errorf("it takes %s in place of %s", wrong.is, wrong.was)
		}
	}
	if _, there := set.Schemas["PairTreeLine"]; !there {
		t.Errorf("the names are %v", set.Schemas)
	}
}

type ordered struct {
	What   string `json:"what"`
	Pieces int    `json:"pieces"`
	Note   string `json:"note,omitempty"`
}

func TestInputs(t *testing.T) {
	set := schema.NewSet("#/$defs/")
	set.AddInput("order", ordered{Pieces: 1}, nil)
	set.AddInput("nothing", struct{ hidden int }{}, nil)
	set.AddInput("note", ordered{}, func(field string) bool { return field == "note" })
	s, nothing := compiled(t, set, "order"), compiled(t, set, "nothing")
	for text, ok := range map[string]bool{
		`{"what":"tea"}`: true, `{"what":"tea","pieces":2,"note":"hot"}`: true, `{"pieces":2}`: false, `{"what":"tea","colour":"green"}`: false, `[]`: false,
	} {
		if err := check(t, s, []byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if check(t, nothing, []byte(`{}`)) != nil || check(t, nothing, []byte(`{"hidden":1}`)) == nil {
		t.Error("a command without fields has fields")
	}
	if needs := set.Schemas["note"].Required; len(needs) != 1 || needs[0] != "note" {
		t.Errorf("it needs %v", needs)
	}
	if p := set.Schemas["order"].Properties["pieces"]; string(p.Default) != "1" {
		t.Errorf("the default is %s", p.Default)
	}
}

// Types of one name in two packages have two names.
func TestNames(t *testing.T) {
	type Addr struct{ Street string }
	set := schema.NewSet("#/$defs/")
	a := set.Of(reflect.TypeFor[struct {
		One url.Error
		Two exec.Error
	}]())
	if one, two := a.Properties["One"].Ref, a.Properties["Two"].Ref; one != "#/$defs/Error" || two != "#/$defs/ExecError" {
		t.Errorf("%s and %s", one, two)
	}
	if first, again := set.Add("addr", reflect.TypeFor[Addr]()), set.Add("home", reflect.TypeFor[Addr]()); first.Ref == again.Ref || set.Schemas["home"].Ref != first.Ref {
		t.Errorf("%v %v", first, set.Schemas["home"])
	}
}
