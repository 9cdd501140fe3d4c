package deed

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// A Stepwise is a command that is handled in steps: one that concerns several
// entities, or does something outside. It is stored first. Each step is
// recorded when it is done, and never done again: after a crash, or when
// whatever was in the way is gone, the command goes on at the first step that
// is not done.
//
// No code is run again to find out where a command was, so steps may do what
// they like. But a step that was interrupted is done again from its beginning,
// see [Work] for how to make that harmless.
type Stepwise[C any] struct {
	Name    string // two words joined by a dot, for example "league.create": asked with POST /v1/league/{id}/create
	Doc     string // one sentence for people
	Command C      // the prototype; its fields are the defaults for what an arriving command does not have
	Rules   Rules  // Async goes without saying

	// Check looks at the command before the first step, and again when it has
	// been corrected. The id is that of what the command is about. What it finds
	// is recorded, the first hundred findings. A fatal one makes the command
	// invalid, and so does a warning if Strict. If it returns a [Reason], or
	// [ErrNotFound], the command is rejected; if it returns an [Invalid], that is
	// a fatal finding; after any other error it is called again, see Rules.Retry.
	Check  func(ctx context.Context, r Reader, id string, c C) ([]Finding, error)
	Strict bool

	Steps []Step[C]
}

// A Step is part of a [Stepwise] command.
type Step[C any] struct {
	Name string // lower-case words joined by hyphens; stored

	// Do does the step. If it returns a [Reason], or what a command that it
	// asked was rejected for, the whole command is rejected, and what its steps
	// did is undone. Any other error is something in the way: the step is tried
	// again, see Retry, unless it is [Permanent].
	Do func(ctx context.Context, w *Work, c C) error

	// Undo makes what Do did undone, in the reverse order of the steps, if the
	// command is cancelled or rejected later. Nil: there is nothing to undo. It
	// is also called if nobody knows what Do did, see Work.Unclear; but not if the
	// one thing that Do asked was refused by the domain.
	Undo func(ctx context.Context, w *Work, c C) error

	Beside  bool          // it is done at the same time as the step before it
	Retry   Retry         // default: the command's, see Rules
	Timeout time.Duration // of one attempt; default 1 minute
}

// Submit stores c, to be handled by whichever node gets to it, and returns when
// it is stored. The id names what the command is about, if that is one thing;
// if it is "", the runtime makes one. What becomes of it, [Commands] tells.
func (s Stepwise[C]) Submit(ctx context.Context, rt *Runtime, id string, c C) (Receipt, error) {
	p, ok := rt.stepwise[s.Name]
	if !ok || p.typ != reflect.TypeFor[C]() {
		return Receipt{}, fmt.Errorf("%w: the runtime has no stepwise command %q of this type", ErrUnknown, s.Name)
	}
	return p.submit(ctx, rt, id, c)
}

func (s Stepwise[C]) order() int { return 1 }

func (s Stepwise[C]) register(rt *Runtime) error {
	noun, verb, ok := strings.Cut(s.Name, ".")
	if !ok {
		return fmt.Errorf("stepwise command %q: a name is two words joined by a dot, for example league.create", s.Name)
	}
	if err := checkAggregateName(noun); err != nil {
		return err
	}
	if err := checkName("command", verb); err != nil {
		return err
	}
	if _, dup := rt.stepwise[s.Name]; dup || rt.hasCommand(noun, verb) {
		return fmt.Errorf("two commands are named %q", s.Name)
	}
	if _, err := wire.New(s.Command); err != nil {
		return fmt.Errorf("stepwise command %s: %w", s.Name, err)
	}
	p := &stepwise{name: s.Name, noun: noun, verb: verb, doc: s.Doc, typ: reflect.TypeFor[C](), proto: s.Command, rules: s.Rules, strict: s.Strict}
	if s.Check != nil {
		p.check = func(ctx context.Context, r Reader, id string, c any) ([]Finding, error) {
			return s.Check(ctx, r, id, c.(C))
		}
	}
	if len(s.Steps) == 0 {
		return fmt.Errorf("stepwise command %s has no steps", s.Name)
	}
	for _, def := range s.Steps {
		if err := checkName("step", def.Name); err != nil {
			return fmt.Errorf("stepwise command %s: %w", s.Name, err)
		}
		if slices.ContainsFunc(p.steps, func(x step) bool { return x.name == def.Name }) {
			return fmt.Errorf("stepwise command %s: two steps are named %q", s.Name, def.Name)
		}
		if def.Do == nil {
			return fmt.Errorf("stepwise command %s: step %s does nothing: set Do", s.Name, def.Name)
		}
		p.steps = append(p.steps, def.plain(s.Rules.Retry))
	}
	rt.stepwise[s.Name] = p
	return nil
}

// plain is the step without the type of its command.
func (d Step[C]) plain(otherwise Retry) step {
	x := step{name: d.Name, beside: d.Beside, retry: d.Retry, timeout: d.Timeout}
	x.do = func(ctx context.Context, w *Work, c any) error { return d.Do(ctx, w, c.(C)) }
	if d.Undo != nil {
		x.undo = func(ctx context.Context, w *Work, c any) error { return d.Undo(ctx, w, c.(C)) }
	}
	if x.retry == (Retry{}) {
		x.retry = otherwise
	}
	if x.timeout <= 0 {
		x.timeout = time.Minute
	}
	return x
}

// stepwise is a Stepwise at work in a runtime.
type stepwise struct {
	name, noun, verb, doc string

	typ    reflect.Type
	proto  any
	rules  Rules
	strict bool
	check  func(ctx context.Context, r Reader, id string, c any) ([]Finding, error) // nil: nothing is checked
	steps  []step
}

type step struct {
	name    string
	beside  bool
	retry   Retry
	timeout time.Duration
	do      func(ctx context.Context, w *Work, c any) error
	undo    func(ctx context.Context, w *Work, c any) error // nil: there is nothing to undo
}

func (p *stepwise) submit(ctx context.Context, rt *Runtime, id string, c any) (Receipt, error) {
	call := callOf(ctx)
	call.Async = true
	if call.IfVersion != nil {
		return Receipt{}, Invalid{Detail: p.name + " is about no single entity, so there is no version for it to be asked of"}
	}
	if id == "" {
		id = makeID(p.noun, call.ID)
	}
	if err := checkID(id); err != nil {
		return Receipt{}, err
	}
	a, err := rt.ask(With(ctx, call), p.name, p.rules, p.noun+"/"+id, c)
	if err != nil {
		return Receipt{}, err
	}
	r, err := rt.receive(ctx, a, c)
	// Once it is over it is still a command to ask [Commands] about: there need
	// not be an entity that it is about.
	r.Pending = err == nil
	return r, err
}

// decode makes a command of JSON, strictly.
func (p *stepwise) decode(body []byte) (any, error) {
	v := reflect.New(p.typ)
	v.Elem().Set(reflect.ValueOf(p.proto))
	if err := decodeInto(body, v); err != nil {
		return nil, err
	}
	return v.Elem().Interface(), nil
}

func (rt *Runtime) hasCommand(aggregate, command string) bool {
	k, ok := rt.kinds[aggregate]
	return ok && k.has(command)
}
