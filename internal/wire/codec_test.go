package wire

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type opened struct {
	Owner string `json:"owner"`
	Limit int    `json:"limit"`
}

type closed struct{}

func declared(t *testing.T) *Codec {
	t.Helper()
	c := NewCodec()
	for _, err := range []error{
		c.Declare(Name{"account", "opened"}, opened{Limit: 7}),
		c.Declare(Name{"account", "closed"}, closed{}),
		c.DeclareLegacy(Name{"account", "shut"}, closed{}),
		c.DeclareUpcast(Name{"account", "created"}, Upcast{"begun", func(old []byte) ([]byte, error) {
			return []byte(strings.Replace(string(old), "name", "holder", 1)), nil
		}}),
		c.DeclareUpcast(Name{"account", "begun"}, Upcast{"opened", func(old []byte) ([]byte, error) {
			return []byte(strings.Replace(string(old), "holder", "owner", 1)), nil
		}}),
		c.DeclareUpcast(Name{"account", "odd"}, Upcast{"opened", func([]byte) ([]byte, error) {
			return nil, errors.New("cannot be")
		}}),
		c.Check(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestCodec(t *testing.T) {
	c := declared(t)
	for _, test := range []struct {
		typ, data string
		want      any
		err       string
	}{
		{typ: "opened", data: `{"owner":"ann","limit":3}`, want: opened{"ann", 3}},
		{typ: "opened", data: `{"owner":"ann"}`, want: opened{"ann", 7}},                     // the prototype's
		{typ: "opened", data: `{"owner":"ann","limit":0,"new":[1]}`, want: opened{"ann", 0}}, // a newer program's
		{typ: "closed", data: `{}`, want: closed{}},
		{typ: "shut", data: `{}`, want: closed{}},
		{typ: "created", data: `{"name":"ann"}`, want: opened{"ann", 7}}, // two upcasts
		{typ: "begun", data: `{"holder":"ann"}`, want: opened{"ann", 7}},
		{typ: "odd", data: `{}`, err: "upcast of account.odd to opened: cannot be"},
		{typ: "opened", data: `{"owner":1}`, err: "event account.opened"},
		{typ: "opened", data: `{"owner":"ann"`, err: "event account.opened"},
		{typ: "renamed", data: `{}`, err: "unknown event type account.renamed"},
	} {
		got, err := c.Decode(Name{"account", test.typ}, []byte(test.data))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s %s: error %v, want %s", test.typ, test.data, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s %s: %+v, %v; want %+v", test.typ, test.data, got, err, test.want)
		}
	}
	if _, err := c.Decode(Name{"account", "nothing"}, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown event: %v", err)
	}
	n, data, err := c.Encode(opened{"ann", 3})
	if n != (Name{"account", "opened"}) || string(data) != `{"owner":"ann","limit":3}` || err != nil {
		t.Errorf("encoded as %s %s, %v", n, data, err)
	}
	if _, _, err := c.Encode(struct{}{}); err == nil {
		t.Error("an undeclared type was encoded")
	}
	want := []Name{{"account", "begun"}, {"account", "created"}, {"account", "odd"}, {"account", "opened"}}
	if got := c.NamesOf(reflect.TypeFor[opened]()); !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if typ, ok := c.TypeOf(Name{"account", "created"}); !ok || typ != reflect.TypeFor[opened]() {
		t.Errorf("created is read as %v", typ)
	}
}

func TestCodecRefuses(t *testing.T) {
	type names struct{ M map[string]int }
	identity := func(old []byte) ([]byte, error) { return old, nil }
	for _, test := range []struct {
		name string
		do   func(c *Codec) error
		want string
	}{
		{"one type, two names", func(c *Codec) error { return c.Declare(Name{"account", "o2"}, opened{}) }, "Legacy"},
		{"one name, two types", func(c *Codec) error { return c.Declare(Name{"account", "opened"}, names{}) }, "two events"},
		{"no prototype", func(c *Codec) error { return c.DeclareLegacy(Name{"account", "x"}, nil) }, "no prototype"},
		{"pointer", func(c *Codec) error { return c.DeclareLegacy(Name{"account", "x"}, &names{}) }, "pointer"},
		{"shared map", func(c *Codec) error { return c.DeclareLegacy(Name{"account", "x"}, names{map[string]int{}}) }, "prototype's M"},
		{"nothing exported", func(c *Codec) error { return c.DeclareLegacy(Name{"account", "x"}, struct{ limit int }{}) }, "nothing of it would be stored"},
		{"shape kept", func(c *Codec) error { return c.DeclareUpcast(Name{"account", "opened"}, Upcast{"closed", identity}) }, "new name"},
		{"to itself", func(c *Codec) error { return c.DeclareUpcast(Name{"account", "x"}, Upcast{"x", identity}) }, "another type"},
		{"no function", func(c *Codec) error { return c.DeclareUpcast(Name{"account", "x"}, Upcast{To: "opened"}) }, "function"},
		{"nowhere", func(c *Codec) error {
			return errors.Join(c.DeclareUpcast(Name{"account", "x"}, Upcast{"y", identity}), c.Check())
		}, "not declared"},
		{"circle", func(c *Codec) error {
			return errors.Join(c.DeclareUpcast(Name{"account", "x"}, Upcast{"y", identity}),
				c.DeclareUpcast(Name{"account", "y"}, Upcast{"x", identity}), c.Check())
		}, "circle"},
	} {
		if err := test.do(declared(t)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// Whatever a store holds, decoding answers with an event or an error.
func FuzzDecode(f *testing.F) {
	f.Add("opened", []byte(`{"owner":"ann","limit":3}`))
	f.Add("created", []byte(`{"name":"ann"}`))
	f.Add("odd", []byte("\x00\xff"))
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		c := declared(t)
		e, err := c.Decode(Name{"account", typ}, data)
		if err != nil {
			return
		}
		n, again, err := c.Encode(e)
		if err != nil {
			t.Skip() // what was read may hold text that is not UTF-8
		}
		same, err := c.Decode(n, again)
		if err != nil || same != e {
			t.Errorf("%+v became %s became %+v, %v", e, again, same, err)
		}
	})
}
