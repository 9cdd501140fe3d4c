// Package asyncapi describes the topics of a program as an AsyncAPI 3.0
// document: a channel for each topic, a message for each type of public events,
// which are CloudEvents.
package asyncapi

import (
	"cmp"
	"maps"
	"reflect"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/schema"
)

// Version is that of the specification.
const Version = "3.0.0"

// A Document describes what is published where.
type Document struct {
	AsyncAPI    string               `json:"asyncapi"`
	Info        Info                 `json:"info"`
	ContentType string               `json:"defaultContentType"`
	Channels    map[string]Channel   `json:"channels"`
	Operations  map[string]Operation `json:"operations"`
	Components  Components           `json:"components"`
}

// Info says what publishes.
type Info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
}

// A Reference is where something is described.
type Reference struct {
	Ref string `json:"$ref"`
}

// A Channel is a topic.
type Channel struct {
	Address     string               `json:"address"`
	Title       string               `json:"title"`
	Description string               `json:"description,omitempty"`
	Messages    map[string]Reference `json:"messages"`
}

// An Operation is what the program does with a channel: it sends.
type Operation struct {
	Action   string      `json:"action"`
	Channel  Reference   `json:"channel"`
	Summary  string      `json:"summary"`
	Messages []Reference `json:"messages"`
}

// A Message is a type of public events.
type Message struct {
	Name          string         `json:"name"`
	Title         string         `json:"title"`
	Description   string         `json:"description,omitempty"`
	ContentType   string         `json:"contentType"`
	CorrelationID Location       `json:"correlationId"`
	Payload       *schema.Schema `json:"payload"`
}

// A Location is a place in a message.
type Location struct {
	Location string `json:"location"`
}

// Components are what other parts refer to.
type Components struct {
	Messages map[string]Message        `json:"messages"`
	Schemas  map[string]*schema.Schema `json:"schemas"`
}

// mediaType is that of events in structured mode.
const mediaType = "application/cloudevents+json"

// Of describes the topics of a program.
func Of(info deed.Info, version string) Document {
	d := Document{
		AsyncAPI: Version, ContentType: mediaType,
		Info: Info{
			Title: cmp.Or(domains(info), "deed"), Version: version,
			Description: "Public events are CloudEvents 1.0. A subscription delivers those of a topic to a web address, a broker or a queue; anybody who may can read them over HTTP, from the beginning or a cursor.",
		},
		Channels: map[string]Channel{}, Operations: map[string]Operation{},
		Components: Components{Messages: map[string]Message{}},
	}
	types := schema.NewSet("#/components/schemas/")
	types.Add("CloudEvent", reflect.TypeFor[deed.CloudEvent]())
	for _, t := range info.Topics {
		for _, p := range t.Types {
			types.Reserve(p.Type)
		}
	}
	for _, t := range info.Topics {
		c := Channel{Address: "/v1/topics/" + t.Name + "/events", Title: t.Name, Description: t.Doc, Messages: map[string]Reference{}}
		o := Operation{Action: "send", Channel: Reference{"#/channels/" + t.Name}, Summary: "The public events of the topic " + t.Name + ".", Messages: []Reference{}}
		for _, p := range t.Types {
			d.Components.Messages[p.Type] = message(types, p, info)
			c.Messages[p.Type] = Reference{"#/components/messages/" + p.Type}
			o.Messages = append(o.Messages, Reference{"#/channels/" + t.Name + "/messages/" + p.Type})
		}
		d.Channels[t.Name], d.Operations["send-"+t.Name] = c, o
	}
	d.Components.Schemas = types.Schemas
	return d
}

func domains(info deed.Info) string {
	var names []string
	for _, d := range info.Domains {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}

// message describes a type of public events.
func message(types *schema.Set, p deed.PublicTypeInfo, info deed.Info) Message {
	return Message{
		Name: p.Type, Title: p.Type, ContentType: mediaType, CorrelationID: Location{"$message.payload#/correlationid"},
		Description: "Made of " + strings.Join(p.Events, ", ") + ".",
		Payload:     envelope(types, p.Type, Data(types, p, info)),
	}
}

// Data adds the schema of the data of a type of public events to a set, under
// the name of the type. That of the answers of a query says what an answer is.
func Data(types *schema.Set, p deed.PublicTypeInfo, info deed.Info) *schema.Schema {
	for _, q := range info.Queries {
		if q.Topic != "" && p.Type == q.Name+".answered" {
			return types.With(p.Type, types.NameOf(p.Data), "result", types.Of(q.Result))
		}
	}
	return types.Add(p.Type, p.Data)
}

// envelope is the schema of a whole event.
func envelope(types *schema.Set, typ string, data *schema.Schema) *schema.Schema {
	e := *types.Schemas["CloudEvent"]
	e.Properties = maps.Clone(e.Properties)
	for name, is := range map[string]any{"specversion": "1.0", "type": typ, "datacontenttype": "application/json"} {
		e.Properties[name] = &schema.Schema{Types: schema.Types{"string"}, Const: is}
	}
	e.Properties["data"] = data
	return &e
}
