// Package openapi has the parts of an OpenAPI 3.1 document that deed's have.
package openapi

import "github.com/deed-dev/deed/internal/schema"

// Version is that of the specification.
const Version = "3.1.0"

// A Document describes an API.
type Document struct {
	OpenAPI    string                `json:"openapi"`
	Info       Info                  `json:"info"`
	Tags       []Tag                 `json:"tags,omitempty"`
	Security   []map[string][]string `json:"security,omitempty"` // one of which is enough
	Paths      map[string]Path       `json:"paths"`
	Components Components            `json:"components"`
}

// Info says what an API is.
type Info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

// A Tag is what some operations have in common.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// A Path has operations by their methods, in lower case.
type Path map[string]*Operation

// An Operation is what a method of a path does.
type Operation struct {
	ID          string                `json:"operationId"`
	Summary     string                `json:"summary,omitempty"`
	Description string                `json:"description,omitempty"`
	Tags        []string              `json:"tags,omitempty"`
	Parameters  []*Parameter          `json:"parameters,omitempty"`
	Body        *Body                 `json:"requestBody,omitzero"`
	Answers     map[string]Response   `json:"responses"` // by status, or default
	Security    []map[string][]string `json:"security,omitzero"`
}

// A Parameter is in the path, the query string or a header.
type Parameter struct {
	Ref         string         `json:"$ref,omitempty"`
	Name        string         `json:"name,omitempty"`
	In          string         `json:"in,omitempty"`
	Description string         `json:"description,omitempty"`
	Required    bool           `json:"required,omitzero"`
	Schema      *schema.Schema `json:"schema,omitzero"`
}

// A Body is that of a request.
type Body struct {
	Required bool             `json:"required,omitzero"`
	Content  map[string]Media `json:"content"`
}

// A Response is an answer.
type Response struct {
	Ref         string            `json:"$ref,omitempty"`
	Description string            `json:"description,omitempty"`
	Headers     map[string]Header `json:"headers,omitempty"`
	Content     map[string]Media  `json:"content,omitempty"`
}

// A Header is one of an answer.
type Header struct {
	Description string         `json:"description,omitempty"`
	Schema      *schema.Schema `json:"schema"`
}

// A Media is a body of a type of media.
type Media struct {
	Schema *schema.Schema `json:"schema"`
}

// Components are what other parts refer to.
type Components struct {
	Schemas    map[string]*schema.Schema `json:"schemas"`
	Responses  map[string]Response       `json:"responses,omitempty"`
	Parameters map[string]*Parameter     `json:"parameters,omitempty"`
	Security   map[string]Security       `json:"securitySchemes,omitempty"`
}

// A Security is a way to show who asks.
type Security struct {
	Type   string `json:"type"`
	Scheme string `json:"scheme,omitempty"`
	Name   string `json:"name,omitempty"`
	In     string `json:"in,omitempty"`
}

// JSON is content of the type application/json.
func JSON(s *schema.Schema) map[string]Media { return map[string]Media{"application/json": {s}} }
