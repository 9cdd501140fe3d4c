package deed

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Publication makes events public: it says which events of a domain others
// may know of, under which name, and how much of them. What it publishes on a
// topic is derived from the log, so an event that is recorded is public, and a
// topic can be read from its beginning at any time.
//
//	deed.Publication{
//		Topic:  "orders",
//		Source: "https://shop.example/orders",
//		Events: []deed.Publishing{
//			deed.Publish("order.placed.v1", func(e deed.Recorded[Placed]) OrderPlaced { ... }),
//		},
//	}
//
// What others know stays as it is: a new form of a public event is a new type
// beside the old one, at the end of Events. The ids of public events depend on
// the place of their Publishing among those of the same event; one that is to
// end keeps its place with a nil function.
type Publication struct {
	Topic   string
	Doc     string // one sentence for people
	Source  string // of its events, a URI reference; default "/" and the topic
	Schemas string // an address under which each type's schema is found, ending in "/"; "" = nowhere
	Events  []Publishing
}

// A Publishing makes one type of public event of one type of event. Make one
// with [Publish] or [PublishEach].
type Publishing struct {
	typ   string
	event reflect.Type
	meta  bool
	data  reflect.Type
	of    func(Meta, any) []any // nil = it is not published any more
}

// Publish makes each event of type E, or [Recorded] of such, public as an event
// of the given CloudEvents type, with what f returns as its data. Say as little
// as others need.
//
// Public events of the same partition key reach a subscriber in order; the key
// is the stream of the event, unless D has
//
//	PartitionKey() string
//
// The correlation id is that of the flow, unless D has
//
//	CorrelationID() string
func Publish[E, D any](typ string, f func(E) D) Publishing {
	p := publishing[E, D](typ)
	if f != nil {
		_, _, unwrap := eventType[E]()
		p.of = func(m Meta, e any) []any { return []any{f(unwrap(m, e))} }
	}
	return p
}

// PublishEach is [Publish] for events of which none, one or several public
// events are made.
func PublishEach[E, D any](typ string, f func(E) []D) Publishing {
	p := publishing[E, D](typ)
	if f != nil {
		_, _, unwrap := eventType[E]()
		p.of = func(m Meta, e any) []any {
			all := f(unwrap(m, e))
			out := make([]any, len(all))
			for i, d := range all {
				out[i] = d
			}
			return out
		}
	}
	return p
}

func publishing[E, D any](typ string) Publishing {
	event, wants, _ := eventType[E]()
	return Publishing{typ: typ, event: event, meta: wants, data: reflect.TypeFor[D]()}
}

func (p Publication) order() int { return 4 }

func (p Publication) register(rt *Runtime) error {
	if err := checkName("topic", p.Topic); err != nil {
		return err
	}
	if p.Source == "" {
		p.Source = "/" + p.Topic
	}
	for what, address := range map[string]string{"source": p.Source, "schemas": p.Schemas} {
		if _, err := url.Parse(address); err != nil {
			return fmt.Errorf("topic %s: its %s %q is no URI reference", p.Topic, what, address)
		}
	}
	if len(p.Events) == 0 {
		return fmt.Errorf("topic %s: a publication publishes nothing: give it Events", p.Topic)
	}
	t := rt.makeTopic(p.Topic)
	if t.doc == "" {
		t.doc = p.Doc
	}
	own := map[wire.Name]bool{}
	for _, e := range p.Events {
		if err := t.add(rt, p, e, own); err != nil {
			return fmt.Errorf("topic %s: %w", p.Topic, err)
		}
	}
	return nil
}

// add has a topic carry what a Publishing makes. own are the names that the
// same publication has published before.
func (t *topic) add(rt *Runtime, p Publication, e Publishing, own map[wire.Name]bool) error {
	if err := checkPublicType(e.typ); err != nil {
		return err
	}
	names := rt.codec.NamesOf(e.event)
	if len(names) == 0 {
		return fmt.Errorf("%s is made of %v, which no aggregate declares", e.typ, e.event)
	}
	if other, known := rt.publicTypes[e.typ]; known && other != e.data {
		return fmt.Errorf("%s is both %v and %v: give a new form a type of its own, for example with another version at its end", e.typ, other, e.data)
	}
	rt.publicTypes[e.typ] = e.data
	for _, n := range names {
		if slices.ContainsFunc(t.by[n], func(p published) bool { return p.typ == e.typ }) {
			return fmt.Errorf("%s is made of %s twice: one event may become several with PublishEach", e.typ, n)
		}
		if len(t.by[n]) > 0 && !own[n] {
			return fmt.Errorf("two publications publish %s: put what they make of it into one", n)
		}
		own[n] = true
		t.by[n] = append(t.by[n], published{Publishing: e, source: p.Source, schema: schemaOf(p, e)})
	}
	t.filter.Categories = unique(append(t.filter.Categories, categoriesOf(names)...))
	t.filter.Types = unique(append(t.filter.Types, typesOf(names)...))
	return nil
}

// makeTopic returns the topic of a name, which need not be there yet.
func (rt *Runtime) makeTopic(name string) *topic {
	t := rt.topics[name]
	if t == nil {
		t = &topic{name: name, by: map[wire.Name][]published{}}
		rt.topics[name] = t
	}
	return t
}

func schemaOf(p Publication, e Publishing) string {
	if p.Schemas == "" {
		return ""
	}
	return p.Schemas + e.typ
}

func categoriesOf(names []wire.Name) (out []string) {
	for _, n := range names {
		out = append(out, n.Category)
	}
	return out
}

func typesOf(names []wire.Name) (out []string) {
	for _, n := range names {
		out = append(out, n.Type)
	}
	return out
}

// checkPublicType reports whether a type of public events can be written in a
// header, an address and a filter alike.
func checkPublicType(typ string) error {
	ok := typ != "" && len(typ) <= 128 && !strings.ContainsFunc(typ, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_", r))
	})
	if !ok {
		return fmt.Errorf("the type %q of a public event: use letters, digits, dots, hyphens and underscores, at most 128", typ)
	}
	return nil
}

// A topic is what publications publish under one name.
type topic struct {
	name, doc string
	by        map[wire.Name][]published
	answers   []string // queries whose answers may be published on it
	filter    store.Filter
}

// published is a Publishing with what its publication says.
type published struct {
	Publishing
	source, schema string
}

// makes returns the public types of a topic, in order.
func (t *topic) makes() map[string][]string {
	out := map[string][]string{}
	for n, all := range t.by {
		for _, p := range all {
			if p.of != nil {
				out[p.typ] = append(out[p.typ], n.String())
			}
		}
	}
	for _, query := range t.answers {
		out[answerType(query)] = []string{answerEvent.String()}
	}
	for typ := range out {
		slices.Sort(out[typ])
	}
	return out
}

// checkTypes reports a type that somebody wants and the topic never had; those
// that it has no more are no error, as who wants them had them once.
func (t *topic) checkTypes(field string, types []string) error {
	makes := t.makes()
	for _, typ := range types {
		if makes[typ] == nil && !t.ended(typ) {
			return Invalid{Field: field, Detail: fmt.Sprintf("has %q, which is not published on %s; there is %s", typ, t.name, strings.Join(slices.Sorted(maps.Keys(makes)), ", "))}
		}
	}
	return nil
}

func (t *topic) ended(typ string) bool {
	for _, all := range t.by {
		if slices.ContainsFunc(all, func(p published) bool { return p.typ == typ }) {
			return true
		}
	}
	return false
}

// publish returns the public events that a record becomes, of the types that are
// wanted (none = all).
func (t *topic) publish(rt *Runtime, rec *store.Record, types []string) ([]CloudEvent, error) {
	name := wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}
	all, answers := t.by[name], name == answerEvent
	if len(all) == 0 && !answers {
		return nil, nil
	}
	m, e, err := rt.understand(*rec)
	if err != nil {
		return nil, err
	}
	if answers {
		return t.publishAnswer(rec.Stream, m, e.(queryPublished), types)
	}
	var out []CloudEvent
	for place, p := range all {
		if p.of == nil || len(types) > 0 && !slices.Contains(types, p.typ) {
			continue
		}
		for i, d := range p.of(m, e) {
			data, err := wire.Marshal(d)
			if err != nil {
				return nil, fmt.Errorf("deed: %s of %s@%d: %w", p.typ, rec.Stream, rec.Version, err)
			}
			out = append(out, newCloudEvent(rec.Stream, m, p, number(place, i), data, d))
		}
	}
	return out, nil
}

// tryPublish is publish for those that a function which panics must not end.
func (t *topic) tryPublish(rt *Runtime, rec *store.Record, types []string) (events []CloudEvent, err error) {
	defer func() {
		if v := recover(); v != nil {
			rt.cfg.Logger.Error("publication panicked", slog.String("topic", t.name), slog.String("stream", rec.Stream),
				slog.Uint64("version", rec.Version), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("the function that makes it public panicked: %v", v)
		}
	}()
	return t.publish(rt, rec, types)
}

// ErrNotPublic reports that an event cannot be made public: a function of a
// publication panicked, or what it returned cannot be encoded.
var ErrNotPublic = errors.New("deed: an event cannot be made public")
