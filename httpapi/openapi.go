package httpapi

import (
	"cmp"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/asyncapi"
	"github.com/deed-dev/deed/internal/openapi"
	"github.com/deed-dev/deed/internal/schema"
)

// OpenAPI returns the OpenAPI 3.1 document of a runtime's HTTP API, as JSON:
// its commands, states, views, queries and sagas with their Go types, and
// everything that the API has for any program. The runtime need not run.
func OpenAPI(rt *deed.Runtime, version string) ([]byte, error) {
	return newAPI(rt, Options{Version: version}).openapi()
}

// openAPI answers the document.
func (a *api) openAPI(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return document(w, a.openapi)
}

// document answers a text in JSON that is the same for as long as the program
// runs.
func document(w http.ResponseWriter, of func() ([]byte, error)) error {
	text, err := of()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(text) // the caller may be gone: then nobody minds
	return nil
}

// A describer writes the OpenAPI document.
type describer struct {
	api   *api
	info  deed.Info
	types *schema.Set
	doc   *openapi.Document
}

func newDescriber(a *api) *describer {
	d := &describer{api: a, info: a.rt.Describe(), types: schema.NewSet("#/components/schemas/")}
	d.doc = &openapi.Document{
		OpenAPI: openapi.Version,
		Info: openapi.Info{
			Title: d.title(), Version: cmp.Or(a.opts.Version, "(devel)"),
			Description: "Errors are problems (RFC 9457) with a stable code. A parameter that an operation does not know is refused.",
		},
		Security: []map[string][]string{{}, {"key": {}}, {"token": {}}},
		Paths:    map[string]openapi.Path{},
		Components: openapi.Components{
			Parameters: map[string]*openapi.Parameter{},
			Security:   map[string]openapi.Security{"key": {Type: "apiKey", Name: "X-Api-Key", In: "header"}, "token": {Type: "http", Scheme: "bearer"}},
		},
	}
	return d
}

func (d *describer) title() string {
	var names []string
	for _, domain := range d.info.Domains {
		names = append(names, domain.Name)
	}
	return cmp.Or(strings.Join(names, ", "), "deed")
}

func (d *describer) document() *openapi.Document {
	d.types.Know(reflect.TypeFor[deed.CommandState](), oneOfThese(commandStates))
	d.types.Know(reflect.TypeFor[deed.RunState](), oneOfThese(runStates))
	d.types.Know(reflect.TypeFor[deed.InstanceState](), oneOfThese(instanceStates))
	d.types.Add("Problem", reflect.TypeFor[Problem]())
	d.types.Schemas["Problem"].Properties["code"] = oneOfThese(codes)
	d.types.Add("CloudEvent", reflect.TypeFor[deed.CloudEvent]())
	d.types.Add("EventFilter", reflect.TypeFor[deed.EventFilter]())
	d.types.Add("CommandLife", reflect.TypeFor[CommandStatus]())
	d.problems()
	for _, r := range d.api.routes() {
		if op, fixed := operations[r.pattern]; fixed {
			d.fixed(r.pattern, op)
		}
	}
	d.domains()
	d.tags()
	d.doc.Components.Schemas = d.types.Schemas
	return d.doc
}

// oneOfThese is the schema of text that is one of some.
func oneOfThese[S ~string](all []S) *schema.Schema {
	s := schema.Of("string")
	for _, v := range all {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// fixed describes a route that is the same in every program.
func (d *describer) fixed(pattern string, op operation) {
	method, path, _ := strings.Cut(pattern, " ")
	o := d.operation(op.id, op.summary, op.tag)
	d.parametersOf(o, path, op.query, op.headers)
	if op.body != nil {
		o.Body = &openapi.Body{Content: openapi.JSON(d.types.AddInput(upperFirst(op.id)+"Body", op.body, nil))}
		for _, media := range op.takes {
			o.Body.Content[media] = openapi.Media{Schema: &schema.Schema{}}
		}
	}
	for _, r := range op.answers {
		d.answer(o, r.status, d.reply(r))
	}
	d.add(method, path, o)
}

// reply is an answer of a fixed route.
func (d *describer) reply(r reply) openapi.Response {
	switch {
	case r.of == nil && r.media == "":
		return openapi.Response{Description: http.StatusText(r.status)}
	case r.of == nil:
		return openapi.Response{Description: http.StatusText(r.status), Content: map[string]openapi.Media{r.media: {Schema: schema.Of("string")}}}
	}
	media, is := cmp.Or(r.media, "application/json"), d.types.Of(reflect.TypeOf(r.of))
	if r.or != nil {
		is = &schema.Schema{AnyOf: []*schema.Schema{is, d.types.Of(reflect.TypeOf(r.or))}}
	}
	return openapi.Response{Description: http.StatusText(r.status), Content: map[string]openapi.Media{media: {Schema: is}}}
}

func (d *describer) operation(id, summary, tag string) *openapi.Operation {
	return &openapi.Operation{
		ID: id, Summary: summary, Tags: []string{tag},
		Answers: map[string]openapi.Response{"default": {Ref: "#/components/responses/Problem"}},
	}
}

func (d *describer) add(method, path string, o *openapi.Operation) {
	path = strings.Replace(path, "...}", "}", 1)
	if d.doc.Paths[path] == nil {
		d.doc.Paths[path] = openapi.Path{}
	}
	d.doc.Paths[path][strings.ToLower(method)] = o
}

func (d *describer) answer(o *openapi.Operation, status int, r openapi.Response, headers ...string) {
	for _, name := range headers {
		if r.Headers == nil {
			r.Headers = map[string]openapi.Header{}
		}
		r.Headers[name] = openapi.Header{Description: answerHeaders[name], Schema: schema.Of("string")}
	}
	key := strconv.Itoa(status)
	for media, m := range o.Answers[key].Content {
		r.Content[media] = m // the same status with another body
	}
	o.Answers[key] = r
}

// answerJSON says what the body of an answer is.
func (d *describer) answerJSON(o *openapi.Operation, status int, of *schema.Schema, headers ...string) {
	d.answer(o, status, openapi.Response{Description: http.StatusText(status), Content: openapi.JSON(of)}, headers...)
}

// problems describes what answers that are no success have in common.
func (d *describer) problems() {
	problem := map[string]openapi.Media{"application/problem+json": {Schema: d.types.Ref("Problem")}}
	d.doc.Components.Responses = map[string]openapi.Response{"Problem": {Description: "What went wrong.", Content: problem}}
	for _, status := range slices.Sorted(maps.Keys(refusals)) {
		d.doc.Components.Responses[refusals[status].name] = openapi.Response{Description: refusals[status].text, Content: problem}
	}
}

// refuse says that an operation answers with some of the problems that have a
// name.
func (d *describer) refuse(o *openapi.Operation, statuses ...int) {
	for _, status := range statuses {
		o.Answers[strconv.Itoa(status)] = openapi.Response{Ref: "#/components/responses/" + refusals[status].name}
	}
}

// parametersOf describes the parameters of an operation: those in its path, and
// others by their names.
func (d *describer) parametersOf(o *openapi.Operation, path string, query, headers []string) {
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
			o.Parameters = append(o.Parameters, &openapi.Parameter{Name: name, In: "path", Required: true, Schema: schema.Of("string")})
		}
	}
	for _, name := range query {
		o.Parameters = append(o.Parameters, d.shared("query", name))
	}
	for _, name := range headers {
		o.Parameters = append(o.Parameters, d.shared("header", name))
	}
}

// shared refers to a parameter that several operations have.
func (d *describer) shared(in, name string) *openapi.Parameter {
	key := in + "-" + name
	if d.doc.Components.Parameters[key] == nil {
		s := *sharedParameters[name].schema
		d.doc.Components.Parameters[key] = &openapi.Parameter{Name: name, In: in, Description: sharedParameters[name].text, Schema: &s}
	}
	return &openapi.Parameter{Ref: "#/components/parameters/" + key}
}

// tags describes the tags that operations have.
func (d *describer) tags() {
	used := map[string]string{}
	for _, path := range d.doc.Paths {
		for _, o := range path {
			used[o.Tags[0]] = ""
		}
	}
	for _, domain := range d.info.Domains {
		if _, there := used[domain.Name]; there {
			used[domain.Name] = domain.Doc
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		d.doc.Tags = append(d.doc.Tags, openapi.Tag{Name: name, Description: used[name]})
	}
}

func upperFirst(s string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(s, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// AsyncAPI returns the AsyncAPI 3.0 document of a runtime's topics, as JSON. The
// runtime need not run.
func AsyncAPI(rt *deed.Runtime, version string) ([]byte, error) {
	return schema.Text(asyncapi.Of(rt.Describe(), cmp.Or(version, "(devel)")))
}

// asyncAPI answers the document.
func (a *api) asyncAPI(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return document(w, a.asyncapi)
}
