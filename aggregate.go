package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/deed-dev/deed/internal/wire"
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
	return f.state, f.version, err
}

// States is the projection whose documents are the states of the entities: what
// a [Classifier] of states looks at, or a view to find entities by. Its name is
// that of the aggregate and "-states".
func (a Aggregate[S]) States(indexes ...string) Projection[S] {
	p := Projection[S]{Name: a.Name + "-states", Doc: a.Doc, Indexes: indexes}
	for _, name := range names(a.Events) {
		p.On = append(p.On, Handler[S]{event: reflect.TypeOf(a.Events[name]), apply: func(s *S, _ Meta, e any) { e.(Event[S]).Apply(s) }})
	}
	return p
}

func (a Aggregate[S]) kind(rt *Runtime) (*kind[S], error) {
	k, ok := rt.kinds[a.Name].(*kind[S])
	if !ok {
		return nil, fmt.Errorf("%w: the runtime has no aggregate %q of this type", ErrUnknown, a.Name)
	}
	return k, nil
}

func (a Aggregate[S]) order() int { return 0 }

func (a Aggregate[S]) register(rt *Runtime) error {
	if err := checkAggregateName(a.Name); err != nil {
		return err
	}
	if _, dup := rt.kinds[a.Name]; dup {
		return fmt.Errorf("two aggregates are named %q", a.Name)
	}
	k := &kind[S]{Aggregate: a, commands: map[reflect.Type]commandType{}, cells: newCells[S](rt.cfg.CachedStates)}
	k.Commands = map[string]Command[S]{}
	if err := a.declareEvents(rt.codec); err != nil {
		return err
	}
	if err := errors.Join(k.declare(a.Commands), k.declare(a.Internal)); err != nil {
		return err
	}
	if err := k.checkSnapshot(); err != nil {
		return err
	}
	rt.kinds[a.Name] = k
	return nil
}

// declare makes commands known under their names.
func (k *kind[S]) declare(commands map[string]Command[S]) error {
	for name, proto := range commands {
		if err := checkName("command", name); err != nil {
			return err
		}
		if proto == nil {
			return fmt.Errorf("command %s.%s has no prototype", k.Name, name)
		}
		if _, dup := k.Commands[name]; dup {
			return fmt.Errorf("command %s.%s is declared twice", k.Name, name)
		}
		proto, rules := plainly(proto)
		if _, err := wire.New(proto); err != nil {
			return fmt.Errorf("command %s.%s: %w", k.Name, name, err)
		}
		t := reflect.TypeOf(proto)
		if t.Kind() == reflect.Pointer {
			return fmt.Errorf("command %s.%s: the prototype is a pointer, use the value", k.Name, name)
		}
		if other, dup := k.commands[t]; dup {
			return fmt.Errorf("commands %s.%s and %s.%s have the same type %v", k.Name, other.name, k.Name, name, t)
		}
		k.commands[t] = commandType{name, t, rules}
		k.Commands[name] = proto
	}
	return nil
}

func (a Aggregate[S]) declareEvents(c *wire.Codec) error {
	var errs []error
	for name, proto := range a.Events {
		errs = append(errs, checkName("event", name), c.Declare(wire.Name{Category: a.Name, Type: name}, proto))
	}
	for name, proto := range a.Legacy {
		errs = append(errs, checkName("event", name), c.DeclareLegacy(wire.Name{Category: a.Name, Type: name}, proto))
	}
	for name, u := range a.Upcasts {
		up := wire.Upcast{To: u.To}
		if u.From != nil {
			up.From = func(old []byte) ([]byte, error) { return u.From(old) }
		}
		errs = append(errs, checkName("event", name), c.DeclareUpcast(wire.Name{Category: a.Name, Type: name}, up))
	}
	return errors.Join(errs...)
}
