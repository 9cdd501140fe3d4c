package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
)

// An Aggregate is a kind of entity whose state S is the fold of its events,
// starting from the zero value. The map keys are the names under which events
// are stored and commands are called; the values are prototypes, whose fields
// are the defaults for what stored events or arriving commands do not have.
//
// Names are lower-case words joined by hyphens. Stored names are for ever:
// to rename an event, move the old name to Legacy.
type Aggregate[S any] struct {
	Name     string
	Doc      string // one sentence for people
	Events   map[string]Event[S]
	Commands map[string]Command[S]

	// Internal are commands that nobody can ask from outside: only Go code does,
	// which is to say steps, processes and sagas. What undoes a command of a
	// process has to be here or among Commands, because it is recorded by name.
	Internal map[string]Command[S]

	Legacy   map[string]Event[S] // old names whose events still have the shape of today's
	Upcasts  map[string]Upcast   // old names whose events have another shape
	Snapshot Snapshot            // zero: states are not snapshotted
}

// An Upcast says how stored events of an old shape become events of the type
// named To, old or new.
type Upcast struct {
	To   string
	From func(old json.RawMessage) (json.RawMessage, error)
}

// A Snapshot says when the state of an entity is stored, so that loading it
// need not fold all its events. It needs a state that survives JSON.
type Snapshot struct {
	Every   uint64 // every so many events; 0 = never
	Version int    // change it whenever the meaning of the state changes: older snapshots are ignored
}

// Execute asks cmd of the entity with the given id and records the events it
// decides on, in the circumstances given by [With]. It returns when they are
// durable. Its errors are [Rejected], [Invalid], [Conflict], [ErrMismatch],
// [ErrInProgress], [ErrOutcomeUnknown], or what the store says.
func (a Aggregate[S]) Execute(ctx context.Context, rt *Runtime, id string, cmd Command[S]) (Receipt, error) {
	k, err := a.kind(rt)
	if err != nil {
		return Receipt{}, err
	}
	return k.execute(ctx, rt, id, cmd)
}

// Load folds the events of one entity, as far as r sees them. It returns
// [ErrNotFound], with the zero state, if there are none.
func (a Aggregate[S]) Load(ctx context.Context, r Reader, id string) (state S, version uint64, err error) {
	k, err := a.kind(r.runtime())
	if err != nil {
		return state, 0, err
	}
	f, err := k.load(ctx, r, id)
	if err == nil && f.version == 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, k.stream(id))
	}
	if s, ok := f.state.(*S); ok {
		state = *s
	}
	return state, f.version, err
}

// States is the projection whose documents are the states of the entities: what
// a [Classifier] of states looks at, or a view to find entities by. Its name is
// that of the aggregate and "-states".
func (a Aggregate[S]) States(indexes ...string) Projection[S] {
	p := Projection[S]{Name: a.Name + "-states", Doc: a.Doc, Indexes: indexes}
	for _, name := range names(a.Events) {
		p.On = append(p.On, Handler[S]{handler: handler{event: reflect.TypeOf(a.Events[name]), apply: func(s any, _ Meta, e any) { e.(Event[S]).Apply(s.(*S)) }}})
	}
	return p
}

func (a Aggregate[S]) kind(rt *Runtime) (*kind, error) { return kindOf[S](a.Name).in(rt) }

func (a Aggregate[S]) order() int { return 0 }

func (a Aggregate[S]) register(rt *Runtime) error {
	k := &kind{
		name: a.Name, doc: a.Doc, state: reflect.TypeFor[S](), typed: typedBy[S]{}, upcasts: a.Upcasts, snapshots: a.Snapshot,
		events: map[string]any{}, legacy: map[string]any{}, prototypes: map[string]any{}, internal: map[string]bool{}, commands: map[reflect.Type]commandType{},
	}
	for name, e := range a.Events {
		k.events[name] = e
	}
	for name, e := range a.Legacy {
		k.legacy[name] = e
	}
	for _, name := range names(a.Commands) {
		proto, rules := plainly(a.Commands[name])
		k.declare(name, proto, rules)
	}
	for _, name := range names(a.Internal) {
		proto, rules := plainly(a.Internal[name])
		k.declare(name, proto, rules)
		k.internal[name] = true
	}
	return k.register(rt)
}
