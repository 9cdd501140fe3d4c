package asyncapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/bank"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/credits"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/asyncapi"
	"github.com/deed-dev/deed/internal/schema"
	"github.com/deed-dev/deed/store"
)

// official is the JSON Schema of AsyncAPI.
func official(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/asyncapi-3.0.0.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, "mem:///official.json", doc, "")
}

func compiled(t *testing.T, name string, doc any, at string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name + at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// document is that of a runtime, as any JSON.
func document(t *testing.T, rt *deed.Runtime) any {
	t.Helper()
	text, err := schema.Text(asyncapi.Of(rt.Describe(), "v1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

type counted struct {
	By   map[string]int `json:"by"`
	Best *best          `json:"best,omitempty"`
}

type best struct {
	Name   string `json:"name"`
	Behind *best  `json:"behind,omitempty"`
}

// shop is the example with a query whose answers are published.
func shop() deed.Domain {
	d := orders.Domain
	d.Parts = append(slices.Clone(d.Parts), deed.Query[struct{}, counted]{
		Name: "count", Topic: "domain-events",
		Answer: func(context.Context, deed.Reader, struct{}) (counted, error) {
			return counted{map[string]int{"x": 1}, &best{"x", &best{Name: "y"}}}, nil
		},
	})
	return d
}

// The documents of the examples are what the specification wants, and broken
// ones are not.
func TestDocumentsAreValid(t *testing.T) {
	valid := official(t)
	for name, domains := range map[string][]deed.Domain{
		"all":    {bank.Domain, conference.Domain, credits.Domain, farm.Domain, league.Domain, orders.Domain},
		"shop":   {shop()},
		"nobody": {{Name: "nobody"}},
	} {
		if err := valid.Validate(document(t, deedtest.Start(t, domains...))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	doc := document(t, deedtest.Start(t, shop())).(map[string]any)
	doc["operations"].(map[string]any)["send-domain-events"].(map[string]any)["action"] = "publish"
	if valid.Validate(doc) == nil {
		t.Error("the official schema takes anything")
	}
}

// What is published is as the document says.
func TestDocumentIsTrue(t *testing.T) {
	rt := deedtest.Start(t, shop())
	ctx := deed.With(t.Context(), deed.Call{Actor: "ann"})
	for _, c := range []struct{ name, body string }{
		{"create", `{"customer":"ann"}`},
		{"add-item", `{"product":"p-3","name":"Cable","unit_price":{"amount":1000,"currency":"EUR"},"quantity":3}`},
		{"submit", `{}`}, {"cancel", `{"reason":"changed my mind","by":"ann"}`},
	} {
		if _, err := rt.Dispatch(ctx, "order", "o-1", c.name, []byte(c.body)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	run, err := rt.Queries().Start(ctx, "count", []byte(`{}`), deed.Asking{Deliver: []string{"topic:domain-events"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Queries().Wait(ctx, run.ID); err != nil {
		t.Fatal(err)
	}
	page, err := rt.ReadTopic(ctx, "domain-events", store.Start, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	doc := document(t, rt)
	var types []string
	for _, e := range page.Events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		of := compiled(t, "mem:///doc.json", doc, "#/components/messages/"+e.Type+"/payload")
		if err := check(of, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if check(of, bytes.Replace(text, []byte(`"data":{"`), []byte(`"data":{"not`), 1)) == nil {
			t.Errorf("the schema of %s takes other data", e.Type)
		}
		types = append(types, e.Type)
	}
	if want := []string{"order.created.v1", "order.item-added.v1", "order.submitted.v1", "order.cancelled.v1", "count.answered"}; !slices.Equal(types, want) {
		t.Errorf("published are %v", types)
	}
}

func check(s *jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}
