package deed

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// asked is one asking of a command.
type asked struct {
	Call
	name    string
	rules   Rules
	stream  string
	hash    string // of the command, its name and its entity
	keyed   bool   // the caller chose the command id
	journal bool   // the outcome is recorded
	stored  bool   // it is stored first
	meta    []byte

	recorded uint64 // how many events the command's own stream has; 0 unless it was stored first
}

// execute is the way of a command: seen before? load, decide, claim, append.
func (k *kind) execute(ctx context.Context, rt *Runtime, id string, cmd any) (r Receipt, err error) {
	a, err := k.ask(ctx, rt, id, cmd)
	if err != nil {
		return Receipt{}, err
	}
	if a.stored {
		return rt.receive(ctx, a, cmd)
	}
	if a.keyed {
		if !rt.begin(a.ID) {
			return Receipt{}, ErrInProgress
		}
		defer rt.end(a.ID)
		if r, found, err := rt.replay(ctx, a); found || err != nil {
			return r, err
		}
	}
	return k.perform(ctx, rt, id, cmd, a)
}

// perform does what is asked, once it is known that it has not been done.
func (k *kind) perform(ctx context.Context, rt *Runtime, id string, cmd any, a *asked) (r Receipt, err error) {
	c := k.cells.of(id)
	if err := c.lock(ctx); err != nil {
		return Receipt{}, err
	}
	defer c.unlock()
	defer func() {
		if p := recover(); p != nil {
			c.forget()
			rt.cfg.Logger.Error("command panicked", slog.String("command", a.name), slog.String("stream", a.stream),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			r, err = Receipt{}, fmt.Errorf("deed: %s on %s panicked: %v", a.name, a.stream, p)
		}
	}()
	return k.attempt(ctx, rt, id, c, k.stamped(rt, a, id, cmd), a)
}

// stamped is a command that knows the circumstances, if it wants to.
func (k *kind) stamped(rt *Runtime, a *asked, id string, cmd any) any {
	return k.typed.stamp(cmd, func() Stamp {
		return Stamp{ID: id, Time: rt.cfg.Now().UTC(), Actor: a.Actor, Command: a.ID, Secret: rand.Text(), Why: a.why}
	})
}

// ask checks a command before anything else is done with it.
func (k *kind) ask(ctx context.Context, rt *Runtime, id string, cmd any) (*asked, error) {
	if err := cmp.Or(k.mine(cmd), checkID(id)); err != nil {
		return nil, err
	}
	typ, name := k.commandType(cmd)
	return rt.ask(ctx, name, typ.rules, k.stream(id), cmd)
}

// ask checks who asks for what.
func (rt *Runtime) ask(ctx context.Context, name string, rules Rules, stream string, cmd any) (*asked, error) {
	a := &asked{Call: callOf(ctx), name: name, rules: rules, stream: stream}
	if err := a.check(); err != nil {
		return nil, err
	}
	a.keyed = a.ID != ""
	if !a.keyed {
		a.ID = uuid.Must(uuid.NewV7()).String()
	}
	if a.Correlation == "" {
		a.Correlation = a.ID
	}
	var err error
	if a.meta, err = wire.Marshal(meta{Actor: a.Actor, Command: a.ID, Correlation: a.Correlation, Causation: a.Causation, Source: a.Source, Trace: a.Trace, Callbacks: len(a.Callbacks)}); err != nil {
		return nil, err
	}
	if err := rt.authorise(ctx, a); err != nil {
		return nil, err
	}
	if err := rt.checkCallbacks(a.Callbacks); err != nil {
		return nil, err
	}
	if v, ok := cmd.(validator); ok {
		if err := v.Validate(); err != nil {
			return nil, asInvalid(err)
		}
	}
	a.stored = !a.direct && (a.Async || rules.Async || len(a.Callbacks) > 0)
	a.journal = a.stored || rt.cfg.Journal == JournalAll || rt.cfg.Journal == JournalKeyed && a.keyed
	if a.journal || a.rules.Window > 0 {
		if a.hash, err = hashOf(name, stream, cmd); err != nil {
			return nil, fmt.Errorf("deed: %s: %w", name, err)
		}
	}
	return a, nil
}

// asInvalid makes sure that what a Validate returns is recognised.
func asInvalid(err error) error {
	if _, ok := errors.AsType[Invalid](err); ok {
		return err
	}
	return Invalid{Detail: err.Error()}
}

// attempt decides and appends until no other writer gets in between.
func (k *kind) attempt(ctx context.Context, rt *Runtime, id string, c *cell[any], cmd any, a *asked) (Receipt, error) {
	fresh := false // the state was read from the store for this very command
	for try := 0; ; try++ {
		if !fresh && (!c.loaded || try > 0) {
			if _, err := k.refresh(ctx, rt, id, c); err != nil {
				return Receipt{}, err
			}
			fresh = true
		}
		if a.IfVersion != nil && *a.IfVersion != c.version {
			if again, err := k.again(ctx, rt, id, c, &fresh); again || err != nil {
				if err != nil {
					return Receipt{}, err
				}
				continue
			}
			return Receipt{}, Conflict{Stream: a.stream, Version: c.version}
		}
		events, err := k.typed.decide(c.state, cmd)
		if err != nil || len(events) == 0 {
			// A refusal must not rest on a state that is out of date.
			again, readErr := k.again(ctx, rt, id, c, &fresh)
			if readErr != nil {
				return Receipt{}, readErr
			}
			if again {
				continue
			}
		}
		if err != nil {
			return rt.refuse(ctx, a, err)
		}
		before := c.version
		k.advance(&c.folded, events) // an Apply that panics leaves nothing behind
		r, err := k.record(ctx, rt, before, events, a)
		if err == nil {
			k.takeSnapshot(rt, id, c, before)
			return r, nil
		}
		c.forget()
		switch {
		case a.conflictsAt(commandStream(a.ID), err):
			r, found, err := rt.replay(ctx, a)
			if err == nil && !found {
				err = ErrInProgress
			}
			return r, err
		case overtaken(err) && ctx.Err() == nil:
			fresh, try = false, try-1
			continue
		case isConflict(err) && try < rt.cfg.Retries && ctx.Err() == nil:
			fresh = false
			continue
		case isConflict(err):
			if _, err := k.refresh(ctx, rt, id, c); err != nil {
				return Receipt{}, err
			}
			return Receipt{}, Conflict{Stream: a.stream, Version: c.version}
		}
		if rejected, ok := errors.AsType[Rejected](err); ok { // a claim is taken, or it is a repetition
			return rt.refuse(ctx, a, rejected.Err)
		}
		if _, ok := errors.AsType[QuotaExceeded](err); ok {
			rt.poison(ctx, a, "quota_exceeded", err)
		}
		return Receipt{}, err
	}
}

// again looks whether the store knows more than the cell, once.
func (k *kind) again(ctx context.Context, rt *Runtime, id string, c *cell[any], fresh *bool) (bool, error) {
	if *fresh {
		return false, nil
	}
	*fresh = true
	return k.refresh(ctx, rt, id, c)
}

// written is what events come to when they are to be recorded.
type written struct {
	store.Write
	events []EventRef
	facts  []any // the same, before they were encoded
	claims bool  // some of them touch claims
}

// write encodes events that follow on a version of a stream.
func (k *kind) write(rt *Runtime, a *asked, stream string, version uint64, events []any) (written, error) {
	w := written{
		Write:  store.Write{Stream: stream, Expect: store.Exactly(version), Events: make([]store.Event, len(events))},
		events: make([]EventRef, len(events)), facts: events,
	}
	for i, e := range events {
		name, data, err := rt.codec.Encode(e)
		if err != nil {
			return w, fmt.Errorf("deed: %s: %w", a.name, err)
		}
		if name.Category != k.name { // its state is of the same type; nobody could read the entity any more
			return w, fmt.Errorf("deed: %s: %T is an event of %s: declare one of %s", a.name, e, name.Category, k.name)
		}
		w.events[i] = EventRef{Type: name.Type, Version: version + uint64(i) + 1}
		w.Events[i] = store.Event{ID: newEventID(), Type: name.Type, Data: data, Meta: a.meta}
		if eff, ok := e.(effective); ok {
			if w.Events[i].Meta, err = a.metaEffective(eff.Effective()); err != nil {
				return w, err
			}
		}
		_, isClaimer := e.(claimer)
		w.claims = w.claims || isClaimer
	}
	return w, nil
}

// record appends events, the claims they touch and the command's outcome, all
// or nothing.
func (k *kind) record(ctx context.Context, rt *Runtime, version uint64, events []any, a *asked) (Receipt, error) {
	r := Receipt{Command: a.ID, Stream: a.stream, Version: version + uint64(len(events))}
	w, err := k.write(rt, a, a.stream, version, events)
	if err != nil {
		return r, err
	}
	r.Events = w.events
	var writes []store.Write
	if len(events) > 0 || a.IfVersion != nil {
		writes = append(writes, w.Write)
	}
	if w.claims {
		var c claims
		if err := rt.claim(ctx, &c, a.stream, w.facts, a.meta); err != nil {
			return r, err
		}
		writes = append(writes, c.writes...)
	}
	var guards []guard
	if a.recorded == 0 { // else they have had their say
		var err error
		if guards, err = rt.guards(ctx, a); err != nil {
			return r, err
		}
	}
	for _, g := range guards {
		writes = append(writes, g.write(a))
	}
	if a.journal {
		w, err := a.outcome(outcome{Version: r.Version, Events: r.Events})
		if err != nil {
			return r, err
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return r, nil
	}
	written, err := rt.append(ctx, writes...)
	if err != nil {
		return r, err
	}
	if last := written[len(written)-1].Position; last.Seq > 0 {
		r.Position = string(store.CursorAt(last))
	}
	return r, nil
}

func (a *asked) metaEffective(t time.Time) ([]byte, error) {
	if t.IsZero() {
		return a.meta, nil
	}
	return wire.Marshal(meta{Actor: a.Actor, Command: a.ID, Correlation: a.Correlation, Causation: a.Causation, Source: a.Source, Trace: a.Trace, Effective: t.UTC()})
}

// advance moves a state past events that are about to be recorded. If they are
// not, it must be forgotten.
func (k *kind) advance(f *folded[any], events []any) {
	for _, e := range events {
		k.typed.apply(f.state, e)
	}
	f.version += uint64(len(events))
}

// append appends, and settles a lost answer by asking again: the same events
// at the same place are recorded once.
func (rt *Runtime) append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	for try := 0; ; try++ {
		written, err := rt.appendInline(ctx, writes)
		if !errors.Is(err, store.ErrUnknown) || try == 3 || ctx.Err() != nil {
			return written, storeError(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond << try):
		}
	}
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*store.ConflictError](err)
	return ok
}

// overtakenTooOften gives callers a [Conflict] if others were faster every time.
func overtakenTooOften(err error) error {
	if c, ok := errors.AsType[*store.ConflictError](err); ok {
		return Conflict{Stream: c.Stream, Version: c.Version}
	}
	return err
}

func (a *asked) conflictsAt(stream string, err error) bool {
	c, ok := errors.AsType[*store.ConflictError](err)
	return ok && c.Stream == stream
}

// storeError gives an error of the store its meaning for a caller.
func storeError(err error) error {
	if errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("%w (%w)", ErrOutcomeUnknown, err)
	}
	return err
}

func newEventID() store.ID { return store.ID(uuid.Must(uuid.NewV7())) }
