package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

type order struct {
	Customer string         `json:"customer"`
	Lines    []line         `json:"lines"`
	Notes    map[string]int `json:"notes"`
	Due      time.Time      `json:"due"`
	Wait     time.Duration  `json:"wait"`
	Paid     *bool          `json:"paid"`
	base
}

type line struct {
	SKU string  `json:"sku"`
	N   uint8   `json:"n"`
	Per float64 `json:"per"`
}

type base struct {
	Region string `json:"region"`
}

// Every way in which a document from outside can be wrong names the field
// and says what must be there instead.
func TestStrict(t *testing.T) {
	for _, test := range []struct{ body, field, detail string }{
		{`{"customer":"ann","lines":[{"sku":"a","n":2}],"wait":5}`, "", ""},
		{`{"customer":1}`, "customer", "is a JSON number, and must be a string"},
		{`{"customer":null}`, "", ""}, // null leaves a field as it is
		{`{"lines":{}}`, "lines", "is a JSON object, and must be a list"},
		{`{"lines":[{"n":"2"}]}`, "lines.0.n", "is a JSON string, and must be a whole number"},
		{`{"lines":[{"n":256}]}`, "lines.0.n", "whole number"},
		{`{"lines":[{"n":9223372036854775808}]}`, "lines.0.n", "whole number"},
		{`{"lines":[{"per":[]}]}`, "lines.0.per", "is a JSON list, and must be a number"},
		{`{"paid":"yes"}`, "paid", "is a JSON string, and must be a boolean"},
		{`{"due":"soon"}`, "due", "must be a time (RFC 3339)"},
		{`{"region":true}`, "region", "is a JSON boolean, and must be a string"},
		{`{"notes":{"a":"b"}}`, "notes.a", "must be a whole number"},
		{`{"custmer":"ann"}`, "custmer", "is not a field of this document"},
		{`{"Customer":"ann"}`, "Customer", "is not a field of this document"},
		{`{"customer":"a","customer":"b"}`, "customer", "is given twice"},
		{`{"customer":"a"`, "", "the JSON ends too early"},
		{``, "", "the JSON ends too early"},
		{`{"customer":"a"} {}`, "", "not JSON"},
		{"{\"customer\":\"\xff\"}", "customer", "not JSON"},
		{`{"customer":'a'}`, "customer", "not JSON"},
		{strings.Repeat("[", MaxDepth+1), "", "nested more than 64 deep"},
		{strings.Repeat("[", 10000), "", "nested more than 64 deep"},
		{`[]`, "", "is a JSON list, and must be a JSON object"},
	} {
		err := UnmarshalStrict([]byte(test.body), new(order))
		if test.detail == "" {
			if err != nil {
				t.Errorf("%s: %v", test.body, err)
			}
			continue
		}
		f, ok := errors.AsType[*FieldError](err)
		if !ok || f.Field != test.field || !strings.Contains(f.Detail, test.detail) {
			t.Errorf("%.60s: %q, want %q %q", test.body, err, test.field, test.detail)
		}
	}
}

// Brackets in strings do not count, and neither does closing what was opened.
func TestDepth(t *testing.T) {
	for body, ok := range map[string]bool{
		`"` + strings.Repeat("[", 1000) + `"`:                         true,
		`"\"` + strings.Repeat("{", 1000) + `"`:                       true,
		strings.Repeat("[]", 1000):                                    true,
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth): true,
		`"\\"` + strings.Repeat("[", MaxDepth+1):                      false,
	} {
		if err := CheckDepth([]byte(body)); (err == nil) != ok {
			t.Errorf("%.20s...: %v", body, err)
		}
	}
}

// Equal values have equal bytes: the hash of a command's body means something.
func TestMarshalIsDeterministic(t *testing.T) {
	v := order{Notes: map[string]int{}, Wait: time.Second}
	for _, k := range strings.Fields("z y x w v u t s r q p o n m l k j i h g f e d c b a") {
		v.Notes[k] = len(k)
	}
	first, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if again, _ := Marshal(v); string(again) != string(first) {
			t.Fatalf("%s\n%s", first, again)
		}
	}
}

func TestFieldType(t *testing.T) {
	for path, want := range map[string]reflect.Kind{
		"customer": reflect.String, "region": reflect.String, "notes.any": reflect.Int, "wait": reflect.Int64,
		"paid": reflect.Pointer, "lines": reflect.Slice, "lines.sku": reflect.Invalid, "Customer": reflect.Invalid,
		"base": reflect.Invalid, "customer.x": reflect.Invalid, "": reflect.Invalid,
	} {
		got, ok := FieldType(reflect.TypeFor[order](), path)
		if ok != (want != reflect.Invalid) || ok && got.Kind() != want {
			t.Errorf("%q: %v, %v; want %v", path, got, ok, want)
		}
	}
}

func FuzzStrict(f *testing.F) {
	f.Add([]byte(`{"customer":"ann","lines":[{"sku":"a","n":2}],"due":"2026-02-03T00:00:00Z"}`))
	f.Add([]byte(`{"customer":"a","customer":"b"}`))
	f.Add([]byte(strings.Repeat(`{"notes":`, 100)))
	f.Add([]byte("{\"\xff\":\"\x00\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var v order
		err := UnmarshalStrict(body, &v)
		if err == nil {
			if _, err := Marshal(v); err != nil {
				t.Errorf("%q was read and cannot be written: %v", body, err)
			}
			return
		}
		if e, ok := errors.AsType[*FieldError](err); !ok || e.Detail == "" || len(e.Field) > 1000 {
			t.Errorf("%q: %#v", body, err)
		}
	})
}

// Times in documents have the order of their text, whatever their zone and
// however many digits they have.
func TestTimesSort(t *testing.T) {
	base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var last string
	for _, d := range []time.Duration{0, 1, 1000, 100_000_000, 100_001_000, 120_000_000, time.Second} {
		at := base.Add(d).In(time.FixedZone("", int(d%7)*3600))
		data, err := MarshalDocument(struct{ At time.Time }{at})
		if err != nil {
			t.Fatal(err)
		}
		if string(data) <= last {
			t.Errorf("%s is not after %s", data, last)
		}
		last = string(data)
		var back struct{ At time.Time }
		if err := Unmarshal(data, &back); err != nil || !back.At.Equal(at) {
			t.Errorf("%s is read as %v, %v", data, back.At, err)
		}
	}
	if data, err := MarshalDocument(struct {
		At time.Time `json:"at,omitzero"`
	}{}); err != nil || string(data) != "{}" {
		t.Errorf("no time is %s, %v", data, err)
	}
}
