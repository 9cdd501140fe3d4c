package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// An execution is a stored command in the hands of this process. Another
// process may have it in its hands too, after partitions have changed nodes:
// every record states how many there are before it, so only one of them gets
// anywhere.
type execution struct {
	rt      *Runtime
	id      string
	entity  string    // id of what it is about
	call    Call      // the circumstances of the commands it asks
	def     *stepwise // nil: a command of one entity
	command any       // the command of def
	again   bool      // the store has kept this process from going on before

	mu        sync.Mutex // guards what follows while steps run beside each other
	status    CommandStatus
	version   uint64 // of the command's stream
	hash      string
	foreign   int     // records that were read and are no requests to cancel
	ifVersion *uint64 // of the entity that the command is for; nil = any
	meta      []byte
	trace     string          // of who has asked it
	checked   bool            // nothing fatal was found since it was received or corrected
	cancel    *string         // why somebody wants it cancelled
	cause     *commandUndoing // why its steps are being undone
	outputs   map[string]json.RawMessage
	requeued  int            // how often somebody has asked for it to be tried again
	attempts  map[string]int // of a step, since the command was received or resumed, or began to be undone
}

// errOvertaken reports that another process has recorded something about the
// command.
var errOvertaken = errors.New("deed: the command is in other hands")

// open reads what is recorded of a command. It returns [ErrNotFound] if that
// is nothing.
func (rt *Runtime) open(ctx context.Context, id string) (*execution, error) {
	x := &execution{rt: rt, id: id, outputs: map[string]json.RawMessage{}, attempts: map[string]int{}}
	if err := x.read(ctx); err != nil {
		return nil, err
	}
	if x.version == 0 {
		return nil, ErrNotFound
	}
	x.identify()
	return x, nil
}

// openAt is like open for a command that has no other record than its first.
func (rt *Runtime) openAt(first store.Record) (*execution, error) {
	x := &execution{rt: rt, id: strings.TrimPrefix(first.Stream, commandCategory+"/"), outputs: map[string]json.RawMessage{}, attempts: map[string]int{}}
	err := x.takeRecord(first)
	x.identify()
	return x, err
}

// identify fills in what does not change.
func (x *execution) identify() {
	s := &x.status
	x.def = x.rt.stepwise[s.Command]
	_, x.entity, _ = strings.Cut(s.Stream, "/")
	x.call = Call{Actor: s.Actor, Correlation: s.Correlation, Causation: s.ID, Source: "command", Trace: x.trace}
}

// read takes in what was recorded since it read last.
func (x *execution) read(ctx context.Context) error {
	for rec, err := range x.rt.store.Read(ctx, commandStream(x.id), store.Range{From: x.version + 1}) {
		if err != nil {
			return storeError(err)
		}
		if err := x.takeRecord(rec); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) takeRecord(rec store.Record) error {
	m, e, err := x.rt.understand(rec)
	if err != nil {
		return err
	}
	if x.version == 0 {
		x.meta, x.trace = rec.Meta, m.Trace
	}
	x.take(m, e)
	x.version = rec.Version
	if rec.Type != typeCancel {
		x.foreign++
	}
	return nil
}

// take folds an event of the command's stream.
func (x *execution) take(m Meta, e any) {
	x.status.take(m, e)
	switch e := e.(type) {
	case commandReceived:
		x.hash, x.ifVersion = e.Hash, e.IfVersion
	case commandCorrected:
		x.checked = false
	case commandValidated:
		x.checked = true
	case stepStarted:
		x.attempts[e.Step] = e.Attempt
	case stepFailed:
		x.attempts[e.Step] = e.Attempt
	case stepCompleted:
		if !e.Undo {
			x.outputs[e.Step] = e.Output
		}
	case commandUndoing:
		x.cause = &e
		clear(x.attempts)
	case cancelRequested:
		x.cancel = &e.Reason
	case commandRequeued:
		x.requeued++
		clear(x.attempts)
	}
}

// record appends events to the command's stream, and folds them.
func (x *execution) record(ctx context.Context, events ...any) error {
	return x.recordAll(ctx, events, 0)
}

// recordAll is record for events of which the last so many do not happen if
// somebody wants the command cancelled.
func (x *execution) recordAll(ctx context.Context, events []any, follow int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := store.Write{Stream: commandStream(x.id)}
	for _, e := range events {
		name, data, err := x.rt.codec.Encode(e)
		if err != nil {
			return err
		}
		w.Events = append(w.Events, store.Event{ID: newEventID(), Type: name.Type, Data: data, Meta: x.meta})
	}
	for {
		w.Expect = store.Exactly(x.version)
		written, err := x.rt.append(ctx, w)
		if err == nil {
			for _, e := range events {
				x.take(Meta{ID: x.id, Time: written[0].Time}, e)
			}
			x.version = written[0].Version
			return nil
		}
		if !isConflict(err) {
			return err
		}
		// A request to cancel may come at any time, and changes nothing about
		// what was done. Anything else means that somebody else does it, or did
		// so long ago that nothing is left of the command.
		if c, ok := errors.AsType[*store.ConflictError](err); ok && c.Version < x.version {
			return errOvertaken
		}
		before := x.foreign
		if err := x.read(ctx); err != nil {
			return err
		}
		if x.foreign != before || x.status.State.stands() {
			return errOvertaken
		}
		w.Events = w.Events[:len(w.Events)-follow]
		events = events[:len(events)-follow]
		follow = 0
	}
}

// run does what there is to do about the command, and returns when to come
// back; zero: when somebody asks for something.
func (x *execution) run(ctx context.Context) (time.Time, error) {
	s := &x.status
	switch {
	case s.State.Over(), s.State.stands() && x.cancel == nil:
		return time.Time{}, nil
	case x.cancel == nil && s.Next.After(x.rt.cfg.Now()):
		return s.Next, nil
	case x.def == nil && x.cancel != nil && len(s.Steps) == 0: // nothing was done
		return time.Time{}, x.record(ctx, commandCancelled{Reason: clip(*x.cancel)})
	case x.def == nil:
		return x.perform(ctx)
	}
	var err error
	if name, ok := x.stranger(); ok {
		return x.stuck(ctx, checking, fmt.Errorf("this program's %s has no step %s, which the command has begun: give it that name again", s.Command, name))
	}
	if x.command, err = x.def.decode(s.Parameters); err != nil {
		return x.stuck(ctx, checking, fmt.Errorf("the stored parameters are not those of this program's %s: %w", s.Command, err))
	}
	switch {
	case x.cause != nil:
		return x.undo(ctx)
	case x.cancel != nil:
		return x.turnBack(ctx, commandUndoing{Code: typeCancelled, Reason: clip(*x.cancel)})
	}
	return x.steps(ctx)
}

// stranger returns a step that was begun and that the program does not have.
func (x *execution) stranger() (string, bool) {
	for _, p := range x.status.Steps {
		if !slices.ContainsFunc(x.def.steps, func(st step) bool { return st.name == p.Name }) {
			return p.Name, true
		}
	}
	return "", false
}

// perform asks the command of its one entity.
func (x *execution) perform(ctx context.Context) (time.Time, error) {
	s := &x.status
	noun, verb, _ := strings.Cut(s.Command, ".")
	k, ok := x.rt.kinds[noun]
	if !ok || !k.has(verb) {
		return x.stuck(ctx, step{}, fmt.Errorf("this program has no command %s", s.Command))
	}
	a := &asked{
		Call: Call{ID: s.ID, Actor: s.Actor, Correlation: s.Correlation, Causation: s.Causation, Source: s.Source, Trace: x.trace, IfVersion: x.ifVersion},
		name: s.Command, stream: s.Stream, hash: x.hash, keyed: true, journal: true, meta: x.meta, recorded: x.version,
	}
	r, err := k.handle(ctx, x.rt, x.entity, verb, s.Parameters, a)
	if r.Replay {
		return time.Time{}, errOvertaken
	}
	o := outcome{Command: s.Command, Stream: s.Stream, Version: r.Version, Events: r.Events}
	if err == nil {
		x.take(Meta{ID: x.id, Time: x.rt.cfg.Now().UTC()}, commandCompleted{o})
		return time.Time{}, nil
	}
	if rejected, ok := errors.AsType[Rejected](err); ok {
		o.Code, o.Reason = rejected.Reason().Code, rejected.Reason().Text
		x.take(Meta{ID: x.id, Time: x.rt.cfg.Now().UTC()}, commandRejected{o})
		return time.Time{}, nil
	}
	if conflict, ok := errors.AsType[Conflict](err); ok && x.ifVersion != nil {
		o.Code, o.Reason, o.Hash = codeConflict, conflict.reason(*x.ifVersion), x.hash
		return time.Time{}, x.record(ctx, commandRejected{o})
	}
	if found := findingsOf(err); len(found) > 0 {
		return time.Time{}, x.record(ctx, x.invalid(found...))
	}
	if errors.Is(err, ErrInProgress) || errors.Is(err, ErrMismatch) {
		return time.Time{}, errOvertaken
	}
	return x.stuck(ctx, step{retry: k.rulesOf(verb).Retry}, err)
}

// stuck records that a step failed, and whether it will be tried again, and
// returns when. An error of the store is nothing to do with the step, and is
// returned.
func (x *execution) stuck(ctx context.Context, st step, err error) (time.Time, error) {
	if isOurs(ctx, err) {
		return time.Time{}, err
	}
	events, next := x.failure(st, false, err)
	return next, x.record(ctx, events...)
}

// isOurs reports whether an error says more about this process or its store
// than about the step that returned it.
func isOurs(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errOvertaken) || IsUnavailable(err) || errors.Is(err, ErrOutcomeUnknown)
}

// failure is what is recorded of a failed attempt at a step, and when to come
// back to it; zero: not by itself.
func (x *execution) failure(st step, undo bool, err error) ([]any, time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := stepFailed{Step: st.name, Attempt: max(x.attempts[st.name], 1), Error: clip(err.Error()), Undo: undo}
	if st.name == "" || st.name == checking.name { // these are not said to begin
		f.Attempt = x.attempts[st.name] + 1
	}
	if retry := st.retry.engine(); !IsPermanent(err) && f.Attempt < retry.Limit() {
		f.Next = x.rt.cfg.Now().Add(retry.Wait(f.Attempt)).UTC()
		return []any{f}, f.Next
	}
	return []any{f, commandFailed{Command: x.status.Command, Stream: x.status.Stream, Step: st.name, Attempts: f.Attempt, Reason: f.Error}}, time.Time{}
}

// invalid is what is recorded of a command that cannot be done as it is.
func (x *execution) invalid(found ...Finding) commandInvalid {
	first, count := toRecord(found)
	return commandInvalid{Command: x.status.Command, Stream: x.status.Stream, Findings: first, Count: count}
}

// maxReason is how much of an error is recorded.
const maxReason = 2000

func clip(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "..."
	}
	return s
}
