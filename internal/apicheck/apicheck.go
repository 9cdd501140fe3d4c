// Package apicheck holds requests and answers of a server against its OpenAPI
// document, in tests: what a client of that document would have to rely on is
// true. It reads the document as any JSON, and leaves schemas to a library.
package apicheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/deed-dev/deed/internal/httptry"
)

const resource = "mem:///openapi.json"

// A Contract is an OpenAPI document. Several goroutines may use one.
type Contract struct {
	mu       sync.Mutex // of all but the root: what is valid is compiled when it is needed
	root     map[string]any
	mux      *http.ServeMux
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by place
	asked    map[string]bool               // operations, by id
}

// Of reads a document.
func Of(t testing.TB, text []byte) *Contract {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	root, _ := doc.(map[string]any)
	c := &Contract{root: root, mux: http.NewServeMux(), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}, asked: map[string]bool{}}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(resource, doc); err != nil {
		t.Fatal(err)
	}
	paths, _ := root["paths"].(map[string]any)
	for path, methods := range paths {
		for method := range methods.(map[string]any) {
			pattern := strings.ToUpper(method) + " " + path
			if path == "/v1/streams/{category}/{id}" {
				pattern = strings.Replace(pattern, "{id}", "{id...}", 1) // a client may leave slashes as they are
			}
			c.mux.Handle(pattern, http.NotFoundHandler())
		}
	}
	return c
}

// An Exchange is a request and its answer. A body that has no end is nil.
type Exchange struct {
	Method, Target string // the target is a path with a query string
	Body           string
	Status         int
	Header         http.Header // of the answer
	Answer         []byte
}

// Check fails the test if an exchange is not as the document says: an operation
// or a parameter that it does not have, a request with a success that does not
// fit its schema, an answer that does not.
func (c *Contract) Check(t testing.TB, e Exchange) {
	t.Helper()
	if err := c.check(e); err != nil {
		t.Errorf("the OpenAPI document is not true of %s %s %s, answered %d %s:\n%v", e.Method, e.Target, e.Body, e.Status, e.Answer, err)
	}
}

// Asked are the ids of the operations that were checked.
func (c *Contract) Asked() map[string]bool { return c.asked }

func (c *Contract) check(e Exchange) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := httptest.NewRequest(e.Method, e.Target, nil)
	_, pattern := c.mux.Handler(r)
	_, path, _ := strings.Cut(strings.Replace(pattern, "...}", "}", 1), " ")
	switch {
	case pattern == "" && e.Status >= http.StatusBadRequest:
		return nil // it is not there, in either
	case pattern == "":
		return fmt.Errorf("there is no such operation")
	}
	at := "/paths/" + escape(path) + "/" + strings.ToLower(e.Method)
	op, _ := c.value(at).(map[string]any)
	c.asked[fmt.Sprint(op["operationId"])] = true
	if e.Status < http.StatusMultipleChoices {
		if err := c.request(r, at, op, e.Body); err != nil {
			return err
		}
	}
	return c.answer(at, op, e)
}

// request checks parameters and the body.
func (c *Contract) request(r *http.Request, at string, op map[string]any, body string) error {
	list, _ := op["parameters"].([]any)
	schemas := map[string]string{}
	for i := range list {
		place := c.follow(at + "/parameters/" + strconv.Itoa(i))
		p := c.value(place).(map[string]any)
		if p["in"] == "query" {
			schemas[p["name"].(string)] = place + "/schema"
		}
	}
	for name, values := range r.URL.Query() {
		place, known := schemas[name]
		if !known {
			return fmt.Errorf("the parameter %s is not described", name)
		}
		if err := c.parameter(place, values); err != nil {
			return fmt.Errorf("the parameter %s: %w", name, err)
		}
	}
	if _, described := op["requestBody"]; !described || body == "" {
		return nil
	}
	return c.valid(at+"/requestBody/content/application~1json/schema", []byte(body))
}

// parameter checks the values of a parameter, which are text.
func (c *Contract) parameter(place string, values []string) error {
	s, _ := c.value(place).(map[string]any)
	var v any = values[0]
	switch s["type"] {
	case "array":
		all := make([]any, len(values))
		for i := range values {
			all[i] = values[i]
		}
		v = all
	case "integer", "number":
		v = json.Number(values[0])
	case "boolean":
		v = values[0] == "true" || values[0] == ""
	}
	schema, err := c.schema(place)
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

func (c *Contract) answer(at string, op map[string]any, e Exchange) error {
	answers, _ := op["responses"].(map[string]any)
	key := strconv.Itoa(e.Status)
	if answers[key] == nil {
		if e.Status < http.StatusBadRequest {
			return fmt.Errorf("the status is not described")
		}
		key = "default"
	}
	place := c.follow(at + "/responses/" + key)
	content, _ := c.value(place).(map[string]any)["content"].(map[string]any)
	if len(e.Answer) == 0 && e.Header.Get("Content-Type") == "" && len(content) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(e.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if content[media] == nil {
		return fmt.Errorf("a body of the type %s is not described", media)
	}
	if e.Answer == nil || !strings.HasSuffix(media, "json") {
		return nil
	}
	return c.valid(place+"/content/"+escape(media)+"/schema", e.Answer)
}

func (c *Contract) valid(place string, text []byte) error {
	schema, err := c.schema(place)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

func (c *Contract) schema(place string) (*jsonschema.Schema, error) {
	if s := c.schemas[place]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile(resource + "#" + place)
	c.schemas[place] = s
	return s, err
}

// value is what stands at a place, a JSON pointer.
func (c *Contract) value(place string) any {
	var v any = c.root
	for part := range strings.SplitSeq(strings.TrimPrefix(place, "/"), "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// follow is the place that a reference at a place leads to.
func (c *Contract) follow(place string) string {
	m, _ := c.value(place).(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		return strings.TrimPrefix(ref, "#")
	}
	return place
}

func escape(part string) string {
	return strings.ReplaceAll(strings.ReplaceAll(part, "~", "~0"), "/", "~1")
}

// A Server is one whose OpenAPI document is held against all that it is asked.
type Server struct {
	Base string // its address
	once sync.Once
	api  *Contract
}

// Ask sends a request, see [httptry.Ask], and checks it and its answer.
func (s *Server) Ask(t testing.TB, method, target, body string, headers ...string) httptry.Answer {
	t.Helper()
	s.once.Do(func() { s.api = Of(t, httptry.Ask(t, http.MethodGet, s.Base+"/v1/openapi.json", "").Text) })
	a := httptry.Ask(t, method, s.Base+target, body, headers...)
	s.api.Check(t, Exchange{Method: method, Target: target, Body: body, Status: a.Status, Header: a.Header, Answer: a.Text})
	return a
}
