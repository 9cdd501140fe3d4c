package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// topicScheme begins the places of deliveries that are topics.
const topicScheme = "topic:"

// answerEvent is the event that an answer is published by. It is recorded together
// with the end of the run, so there is one of each run, or none.
var answerEvent = wire.Name{Category: queryCategory, Type: typePublished}

// answerType is the CloudEvents type of the published answers of a query.
func answerType(query string) string { return query + ".answered" }

// A publicAnswer is the data of a published answer.
type publicAnswer struct {
	Run      string          `json:"run"`
	Query    string          `json:"query"`
	State    RunState        `json:"state"` // completed, or why there is no answer: rejected, failed
	Result   json.RawMessage `json:"result,omitempty"`
	Position store.Cursor    `json:"position,omitempty"`
	Inexact  bool            `json:"inexact,omitzero"`
	Code     string          `json:"code,omitempty"`
	Reason   string          `json:"reason,omitempty"`
}

// publishesAnswers has the topic of a query carry its answers.
func (rt *Runtime) publishesAnswers(x *question) error {
	if x.topic == "" {
		return nil
	}
	if err := checkName("topic", x.topic); err != nil {
		return fmt.Errorf("query %s: %w", x.name, err)
	}
	typ := answerType(x.name)
	if _, dup := rt.publicTypes[typ]; dup {
		return fmt.Errorf("query %s: its answers are published as %s, and so is something else", x.name, typ)
	}
	rt.publicTypes[typ] = reflect.TypeFor[publicAnswer]()
	t := rt.makeTopic(x.topic)
	t.answers = append(t.answers, x.name)
	t.filter.Categories = unique(append(t.filter.Categories, answerEvent.Category))
	t.filter.Types = unique(append(t.filter.Types, answerEvent.Type))
	return nil
}

// mayPublish reports whether answers of the query may be published on a topic.
func (x *question) mayPublish(topic string) error {
	switch x.topic {
	case topic:
		return nil
	case "":
		return Invalid{Detail: fmt.Sprintf("answers of the query %s are published on no topic", x.name)}
	}
	return Invalid{Detail: fmt.Sprintf("answers of the query %s are published on the topic %s only", x.name, x.topic)}
}

// end records how the run ends, and publishes that where it is to be.
func (x *runExecution) end(ctx context.Context, how any) error {
	run := x.run
	run.take(Meta{ID: x.id}, how)
	events := []any{how}
	for _, d := range run.Deliveries {
		if topic, ok := strings.CutPrefix(d.To, topicScheme); ok {
			events = append(events, queryPublished{
				Topic: topic, Query: run.Query, State: run.State, Position: run.Position, Inexact: run.Inexact,
				Result: run.Result, Code: run.Code, Reason: run.Reason,
			})
		}
	}
	return x.record(ctx, events...)
}

// publishAnswer returns the public event of an answer, if it is of this topic and
// of a type that is wanted.
func (t *topic) publishAnswer(stream string, m Meta, e queryPublished, types []string) ([]CloudEvent, error) {
	if e.Topic != t.name || len(types) > 0 && !slices.Contains(types, answerType(e.Query)) {
		return nil, nil
	}
	a := publicAnswer{Run: m.ID, Query: e.Query, State: e.State, Result: e.Result, Position: e.Position, Inexact: e.Inexact, Code: e.Code, Reason: e.Reason}
	if e.State == RunCompleted {
		a.Result = jsonOf(e.Result)
	}
	data, err := wire.Marshal(a)
	if err != nil {
		return nil, err
	}
	p := published{Publishing: Publishing{typ: answerType(e.Query)}, source: "/" + t.name}
	return []CloudEvent{newCloudEvent(stream, m, p, "", data, a)}, nil
}
