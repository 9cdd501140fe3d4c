package deed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// The methods in this file let programs that know a domain only by its names
// (the HTTP API, the command line) do what Go code does with types.

// Dispatch asks a command, given as JSON, by name of the entity with the
// given id, in the circumstances given by [With]. If id is "", the runtime
// makes one: always the same for the same command id. An empty body is {}.
// Its errors are those of Aggregate.Execute, and [ErrUnknown]. A command that
// is handled in the background is only stored: its receipt is pending.
func (rt *Runtime) Dispatch(ctx context.Context, aggregate, id, command string, body []byte) (Receipt, error) {
	if p, ok := rt.stepwise[aggregate+"."+command]; ok {
		c, err := p.decode(body)
		if err != nil {
			return Receipt{}, err
		}
		return p.submit(ctx, rt, id, c)
	}
	k, ok := rt.kinds[aggregate]
	if !ok {
		return Receipt{}, rt.unknownAggregate(aggregate)
	}
	if id == "" {
		id = makeID(aggregate, callOf(ctx).ID)
	}
	return k.dispatch(ctx, rt, id, command, body)
}

// idSpace makes entity ids out of command ids.
var idSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/deed-dev/deed/entity"))

func makeID(aggregate, command string) string {
	if command == "" {
		return uuid.Must(uuid.NewV7()).String()
	}
	return uuid.NewSHA1(idSpace, []byte(aggregate+"\x00"+command)).String()
}

// unknown says that a name is not one of those there are.
func unknown(what, name string, all iter.Seq[string]) error {
	return fmt.Errorf("%w: %s %q; there is %s", ErrUnknown, what, name, cmp.Or(strings.Join(slices.Sorted(all), ", "), "none"))
}

func (rt *Runtime) unknownAggregate(name string) error {
	return unknown("no aggregate", name, maps.Keys(rt.kinds))
}

func (rt *Runtime) unknownView(name string) error {
	return unknown("no view", name, maps.Keys(rt.views))
}

func (k *kind) dispatch(ctx context.Context, rt *Runtime, id, command string, body []byte) (Receipt, error) {
	if k.internal[command] {
		return Receipt{}, k.unknownCommand(command)
	}
	cmd, err := k.decode(command, body)
	if err != nil {
		return Receipt{}, err
	}
	return k.execute(ctx, rt, id, cmd)
}

func (k *kind) unknownCommand(name string) error {
	return unknown(k.name+" has no command", name, k.public())
}

// public are the names of the commands that can be asked from outside.
func (k *kind) public() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range k.prototypes {
			if !k.internal[name] && !yield(name) {
				return
			}
		}
	}
}

func (k *kind) has(command string) bool { _, ok := k.prototypes[command]; return ok }

func (k *kind) rulesOf(command string) Rules {
	return k.commands[reflect.TypeOf(k.prototypes[command])].rules
}

// allRules yields the rules of every command, by its full name.
func (k *kind) allRules() iter.Seq2[string, Rules] {
	return func(yield func(string, Rules) bool) {
		for _, c := range k.commands {
			if !yield(k.name+"."+c.name, c.rules) {
				return
			}
		}
	}
}

// decode makes a command of JSON, strictly.
func (k *kind) decode(command string, body []byte) (any, error) {
	proto, ok := k.prototypes[command]
	if !ok {
		return nil, k.unknownCommand(command)
	}
	v := reflect.New(reflect.TypeOf(proto))
	v.Elem().Set(reflect.ValueOf(proto))
	if err := decodeInto(body, v); err != nil {
		return nil, err
	}
	return v.Elem().Interface(), nil
}

// decodeCommand makes a command, known by its full name, of JSON.
func (rt *Runtime) decodeCommand(name string, body []byte) (any, error) {
	if p, ok := rt.stepwise[name]; ok {
		return p.decode(body)
	}
	noun, verb, _ := strings.Cut(name, ".")
	if k, ok := rt.kinds[noun]; ok {
		return k.decode(verb, body)
	}
	return nil, rt.unknownAggregate(noun)
}

func (k *kind) sending(id, command string, body []byte) (Sending, error) {
	cmd, err := k.decode(command, body)
	return send(kindRef{k.name, k.state}, id, cmd), err
}

// decodeInto reads a JSON object into v, strictly. No bytes are {}.
func decodeInto(body []byte, v reflect.Value) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		body = []byte("{}")
	}
	if body[0] != '{' {
		return Invalid{Detail: "the body must be a JSON object"}
	}
	into := v.Interface()
	if wire.Opaque(v.Elem().Type()) {
		into = &struct{}{}
	}
	if err := wire.UnmarshalStrict(body, into); err != nil {
		return invalid(err)
	}
	return nil
}

// handle performs a command that was stored.
func (k *kind) handle(ctx context.Context, rt *Runtime, id, command string, body []byte, a *asked) (Receipt, error) {
	cmd, err := k.decode(command, body)
	if err != nil {
		return Receipt{}, err
	}
	return k.perform(ctx, rt, id, cmd, a)
}

// State returns the state of an entity as JSON, as far as r sees it, and its
// version. It returns [ErrNotFound] if it has none.
func (rt *Runtime) State(ctx context.Context, r Reader, aggregate, id string) (json.RawMessage, uint64, error) {
	k, ok := rt.kinds[aggregate]
	if !ok {
		return nil, 0, rt.unknownAggregate(aggregate)
	}
	if err := checkID(id); err != nil {
		return nil, 0, err
	}
	return k.stateOf(ctx, r, id)
}

func (k *kind) stateOf(ctx context.Context, r Reader, id string) (json.RawMessage, uint64, error) {
	f, err := k.load(ctx, r, id)
	if err != nil {
		return nil, 0, err
	}
	if f.version == 0 {
		return nil, 0, ErrNotFound
	}
	data, err := wire.Marshal(f.state)
	return data, f.version, err
}

// Document returns one document of a view as JSON, or [ErrNotFound].
func (rt *Runtime) Document(ctx context.Context, r Reader, viewName, key string) (json.RawMessage, error) {
	v, ok := rt.views[viewName]
	if !ok {
		return nil, rt.unknownView(viewName)
	}
	if err := store.CheckName("key", key); err != nil {
		return nil, Invalid{Detail: err.Error()}
	}
	return v.get(ctx, r, key)
}

// Documents returns the documents of a view that satisfy q, as JSON and in
// the order q asks for. Reading stops after q.Limit documents.
func (rt *Runtime) Documents(ctx context.Context, r Reader, viewName string, q store.Query) ([]Row[json.RawMessage], error) {
	v, ok := rt.views[viewName]
	if !ok {
		return nil, rt.unknownView(viewName)
	}
	return documents(ctx, v, r, q)
}

func documents(ctx context.Context, v *view, r Reader, q store.Query) ([]Row[json.RawMessage], error) {
	out := []Row[json.RawMessage]{}
	for d, err := range v.find(ctx, r, q) {
		if err != nil {
			return nil, err
		}
		out = append(out, Row[json.RawMessage]{d.Key, d.Data})
	}
	return out, nil
}

// CountDocuments returns how many documents of a view satisfy q, whatever its
// After and Limit.
func (rt *Runtime) CountDocuments(ctx context.Context, r Reader, viewName string, q store.Query) (int, error) {
	v, ok := rt.views[viewName]
	if !ok {
		return 0, rt.unknownView(viewName)
	}
	return v.count(ctx, r, q)
}

// WaitForView returns when a view has taken in everything up to a cursor,
// such as the position of a receipt. A view that event handlers write has no
// position of its own: then all followers are waited for.
func (rt *Runtime) WaitForView(ctx context.Context, viewName string, c store.Cursor) error {
	v, ok := rt.viewOrTables(viewName)
	if !ok {
		return rt.unknownView(viewName)
	}
	if v.follower == "" {
		return rt.WaitFor(ctx, Receipt{Position: string(c)})
	}
	for _, p := range c.Positions() {
		if err := rt.waitForFollower(ctx, v.follower, p); err != nil {
			return fmt.Errorf("deed: %w", err)
		}
	}
	return nil
}

// ViewPosition returns how far a view has read the log.
func (rt *Runtime) ViewPosition(viewName string) (store.Cursor, error) {
	v, ok := rt.viewOrTables(viewName)
	if !ok {
		return "", rt.unknownView(viewName)
	}
	if v.follower != "" {
		return rt.followerCursor(v.follower), nil
	}
	return "", nil
}

// ViewField reports whether fields of a view's documents are text, numbers,
// or booleans: "string", "number", "boolean", or "" if unknown.
func (rt *Runtime) ViewField(viewName, field string) string {
	v, ok := rt.views[viewName]
	if !ok {
		return ""
	}
	return fieldKind(v.typ, field)
}

// fieldKind is what ViewField says of a field of a type.
func fieldKind(t reflect.Type, field string) string {
	t, ok := wire.FieldType(t, field)
	if !ok {
		return ""
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return "number"
	}
	return "string"
}

// IsUnavailable reports whether err means that the store cannot serve at the
// moment: asking again later may succeed.
func IsUnavailable(err error) bool { return errors.Is(err, store.ErrUnavailable) }
