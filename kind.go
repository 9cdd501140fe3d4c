package deed

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"

	"github.com/deed-dev/deed/internal/wire"
)

// kind is an aggregate at work in a runtime, without the type S of its states:
// commands and events are any, and states are pointers to some S. What is generic is
// compiled anew for each S, in the programs of others, so only what has to be is.
type kind struct {
	name, doc      string
	state          reflect.Type // S
	typed          typed
	events, legacy map[string]any // prototypes
	upcasts        map[string]Upcast
	prototypes     map[string]any  // of commands
	internal       map[string]bool // commands that only Go code asks
	snapshots      Snapshot
	wrong          error // the first thing that is wrong with what is declared

	commands  map[reflect.Type]commandType // by the type of the command
	cells     cells[any]
	newcomers newcomers
}

// typed is what knows the type S of an aggregate's states.
type typed interface {
	zero() any                                       // a new state
	apply(state, event any) bool                     // false: that is no event of an S
	decide(state, cmd any) (events []any, err error) // cmd is a command of an S
	isCommand(cmd any) bool
	stamp(cmd any, with func() Stamp) any // tells a command that wants to know the circumstances
}

type typedBy[S any] struct{}

func (typedBy[S]) zero() any { return new(S) }

func (typedBy[S]) apply(state, event any) bool {
	e, ok := event.(Event[S])
	if ok {
		e.Apply(state.(*S))
	}
	return ok
}

func (typedBy[S]) decide(state, cmd any) ([]any, error) {
	events, err := cmd.(Command[S]).Decide(*state.(*S))
	out := make([]any, len(events))
	for i, e := range events {
		out[i] = e
	}
	return out, err
}

func (typedBy[S]) isCommand(cmd any) bool { _, ok := cmd.(Command[S]); return ok }

func (typedBy[S]) stamp(cmd any, with func() Stamp) any {
	if st, ok := cmd.(Stamper[S]); ok {
		return st.Stamp(with())
	}
	return cmd
}

// A kindRef names an aggregate to a runtime, and what its states are.
type kindRef struct {
	name  string
	state reflect.Type
}

func kindOf[S any](name string) kindRef { return kindRef{name, reflect.TypeFor[S]()} }

func (r kindRef) in(rt *Runtime) (*kind, error) {
	k, ok := rt.kinds[r.name]
	if !ok || k.state != r.state {
		return nil, fmt.Errorf("%w: the runtime has no aggregate %q of this type", ErrUnknown, r.name)
	}
	return k, nil
}

// declare makes a command known under its name.
func (k *kind) declare(name string, proto any, rules Rules) {
	t := reflect.TypeOf(proto)
	if err := k.checkCommand(name, proto, t); err != nil {
		k.wrong = cmp.Or(k.wrong, err)
		return
	}
	k.commands[t] = commandType{name, t, rules}
	k.prototypes[name] = proto
}

func (k *kind) checkCommand(name string, proto any, t reflect.Type) error {
	if err := checkName("command", name); err != nil {
		return err
	}
	if proto == nil {
		return fmt.Errorf("command %s.%s has no prototype", k.name, name)
	}
	if _, dup := k.prototypes[name]; dup {
		return fmt.Errorf("command %s.%s is declared twice", k.name, name)
	}
	if _, err := wire.New(proto); err != nil {
		return fmt.Errorf("command %s.%s: %w", k.name, name, err)
	}
	if t.Kind() == reflect.Pointer {
		return fmt.Errorf("command %s.%s: the prototype is a pointer, use the value", k.name, name)
	}
	if other, dup := k.commands[t]; dup {
		return fmt.Errorf("commands %s.%s and %s.%s have the same type %v", k.name, other.name, k.name, name, t)
	}
	return nil
}

func (k *kind) register(rt *Runtime) error {
	if err := checkAggregateName(k.name); err != nil {
		return err
	}
	if _, dup := rt.kinds[k.name]; dup {
		return fmt.Errorf("two aggregates are named %q", k.name)
	}
	if err := k.declareEvents(rt.codec); err != nil {
		return err
	}
	if k.wrong != nil {
		return k.wrong
	}
	if err := k.checkSnapshot(); err != nil {
		return err
	}
	k.cells = newCells[any](rt.cfg.CachedStates)
	rt.kinds[k.name] = k
	return nil
}

func (k *kind) declareEvents(c *wire.Codec) error {
	var errs []error
	for _, name := range names(k.events) {
		errs = append(errs, checkName("event", name), c.Declare(wire.Name{Category: k.name, Type: name}, k.events[name]))
	}
	for _, name := range names(k.legacy) {
		errs = append(errs, checkName("event", name), c.DeclareLegacy(wire.Name{Category: k.name, Type: name}, k.legacy[name]))
	}
	for _, name := range names(k.upcasts) {
		u := k.upcasts[name]
		up := wire.Upcast{To: u.To}
		if u.From != nil {
			up.From = func(old []byte) ([]byte, error) { return u.From(old) }
		}
		errs = append(errs, checkName("event", name), c.DeclareUpcast(wire.Name{Category: k.name, Type: name}, up))
	}
	return errors.Join(errs...)
}

// mine refuses what is no command of the aggregate. Of what compiles, that is nil.
func (k *kind) mine(cmd any) error {
	if !k.typed.isCommand(cmd) {
		return fmt.Errorf("%w: %T is no command of %s", ErrUnknown, cmd, k.name)
	}
	return nil
}

func (k *kind) stream(id string) string { return k.name + "/" + id }

// commandType returns what is declared of cmd, and the name under which it is
// called, for example "order.submit". A command that is not declared is known
// by its Go type.
func (k *kind) commandType(cmd any) (commandType, string) {
	if t, ok := k.commands[reflect.TypeOf(cmd)]; ok {
		return t, k.name + "." + t.name
	}
	return commandType{}, fmt.Sprintf("%s.%T", k.name, cmd)
}
