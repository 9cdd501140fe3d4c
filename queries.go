package deed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Queries asks queries by their names, and looks after their runs. Who asks, and
// under which id it is recorded, the context's [Call] says.
type Queries struct{ rt *Runtime }

// Queries returns the means to ask queries by name.
func (rt *Runtime) Queries() Queries { return Queries{rt} }

// An Asking says how a query is asked. The zero Asking asks for what is so now.
type Asking struct {
	Of      Reader        // of what; nil = of now
	MaxAge  time.Duration // as old may the answer be; 0 = it knows all that was recorded when it was asked
	Wait    time.Duration // for views that have fallen behind; default 5 s, then the error is [ErrBehind]
	Deliver []string      // where the answer goes, as far as the program allows it, see Config.Deliveries and Query.Topic
}

// MaxDeliveries is to how many places the answer of one run can go.
const MaxDeliveries = 4

// Ask asks a query with parameters given as JSON, and returns the answer. If the
// context's Call has an id, or the query says so, that is recorded. Where there is
// no answer the run says why, and so does the error.
func (q Queries) Ask(ctx context.Context, name string, body []byte, a Asking) (Run, error) {
	x, p, err := q.decode(name, body)
	if err != nil {
		return Run{}, err
	}
	if len(a.Deliver) > 0 {
		return Run{}, Invalid{Detail: "an answer that is delivered is asked for with Start"}
	}
	return q.rt.askNow(ctx, x, p, q.of(a), a)
}

// Start records that a query is asked, to be answered in the background by
// whichever node gets to it: of what had been recorded when it was asked. Asking
// again under the same id gives the run there is.
func (q Queries) Start(ctx context.Context, name string, body []byte, a Asking) (Run, error) {
	x, p, err := q.decode(name, body)
	if err != nil {
		return Run{}, err
	}
	if err := q.rt.checkDeliveries(x, a.Deliver); err != nil {
		return Run{}, err
	}
	return q.rt.startRun(ctx, x, p, q.of(a), a)
}

// IsAsync reports whether a query says that it is answered in the background.
func (q Queries) IsAsync(name string) bool {
	x, ok := q.rt.questions[name]
	return ok && x.async
}

// Get returns a run as it stands, or [ErrNotFound].
func (q Queries) Get(ctx context.Context, id string) (Run, error) {
	x, err := q.open(ctx, id)
	if err != nil {
		return Run{}, err
	}
	return x.run, nil
}

func (q Queries) open(ctx context.Context, id string) (*runExecution, error) {
	if err := store.CheckName("id", id); err != nil || len(id) > MaxKey {
		return nil, Invalid{Detail: "that is no id of a run"}
	}
	return q.rt.openRun(ctx, id)
}

// Wait returns when a run is over. If ctx ends first it returns the run as it
// stands, with the error of ctx.
func (q Queries) Wait(ctx context.Context, id string) (Run, error) {
	stream := runStream(id)
	w := q.rt.waiters.enter(stream)
	defer q.rt.waiters.leave(stream, w)
	for look := firstLook; ; look = min(2*look, lastLook) {
		run, err := q.Get(context.WithoutCancel(ctx), id)
		if err != nil || run.State.Over() {
			return run, err
		}
		select {
		case <-w:
		case <-time.After(look):
		case <-ctx.Done():
			return run, ctx.Err()
		}
	}
}

// Next asks a query, and returns as soon as what it comes to is not the same as
// last: at once if last is the zero Run. That there is no answer is no error.
// Nothing is recorded.
func (q Queries) Next(ctx context.Context, name string, body []byte, a Asking, last Run) (Run, error) {
	x, p, err := q.decode(name, body)
	if err != nil {
		return Run{}, err
	}
	data, err := x.check(p)
	if err != nil {
		return Run{}, err
	}
	for {
		// What is recorded after this look ends the wait below.
		at, err := q.rt.changes.now(ctx)
		if err != nil {
			return Run{}, err
		}
		run, err := q.rt.askOnce(ctx, x, p, data, q.of(a), a)
		if err != nil && run.State != RunRejected {
			return run, err
		}
		if run.State != last.State || run.Code != last.Code || !bytes.Equal(run.Result, last.Result) {
			return run, nil
		}
		if err := store.Wait(ctx, q.rt.store, at.cursor, q.rt.cfg.Poll); err != nil {
			return run, err
		}
	}
}

// Stats says how queries were answered by this process.
func (q Queries) Stats() QueryStats { return q.rt.answers.stats() }

func (q Queries) of(a Asking) Reader {
	if a.Of == nil {
		return q.rt
	}
	return a.Of
}

func (q Queries) decode(name string, body []byte) (*question, any, error) {
	x, ok := q.rt.questions[name]
	if !ok {
		return nil, nil, unknown("no query", name, maps.Keys(q.rt.questions))
	}
	p, err := x.decode(body)
	return x, p, err
}

// keyOf says what is asked: equal askings have equal keys.
func (x *question) keyOf(params []byte, of limit) string {
	then := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	return digest(fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%d\x00%s", x.name, params, then(of.time), of.position, of.version, then(of.effective)))
}

// askOnce answers a query, and records nothing.
func (rt *Runtime) askOnce(ctx context.Context, x *question, p any, data []byte, r Reader, a Asking) (Run, error) {
	in := &inquiry{rt: rt, q: x, past: r.limit(), wait: a.Wait, maxAge: a.MaxAge}
	in.ask = func(ctx context.Context, r Reader) ([]byte, error) { return x.answer(ctx, r, p) }
	if in.wait == 0 {
		in.wait = freshWait
	}
	run := Run{Query: x.name, State: RunCompleted, Parameters: data}
	found, cached, err := rt.answers.find(ctx, in, x.keyOf(data, in.past))
	if err != nil {
		return run, err
	}
	run.Result, run.Position, run.Inexact, run.Cached, run.Age = found.body, found.at.cursor, !found.exact, cached, found.age
	if reason, no := saysNo(found.no); no {
		run.State, run.Code, run.Reason = RunRejected, reason.Code, clip(reason.Text)
		return run, x.refusal(found.no)
	}
	return run, nil
}

// refusal is the error of a query to which the domain has no answer.
func (x *question) refusal(err error) error {
	if _, ok := errors.AsType[Reason](err); !ok {
		return err
	}
	if _, ok := errors.AsType[Rejected](err); ok {
		return err
	}
	return Rejected{Stream: queryCategory + "/" + x.name, Command: x.name, Err: err}
}

// askNow answers a query, and records that if it is to be.
func (rt *Runtime) askNow(ctx context.Context, x *question, p any, r Reader, a Asking) (Run, error) {
	k, err := rt.newRun(ctx, x, p, r)
	if err != nil {
		return Run{}, err
	}
	recorded := x.record || k.call.ID != ""
	if k.call.ID != "" {
		if run, found, err := rt.sameRun(ctx, k); found || err != nil {
			return run, err
		}
	}
	if k.invalid != nil {
		if !recorded {
			return Run{}, k.invalid
		}
		run, err := rt.recordRun(ctx, k, k.asInvalid())
		return run, errors.Join(k.invalid, err)
	}
	run, no := rt.askOnce(ctx, x, p, k.params, r, a)
	if !recorded || no != nil && run.State != RunRejected {
		return run, no
	}
	written, err := rt.recordRun(ctx, k, k.asAnswered(run))
	if err != nil {
		return run, err
	}
	written.Age = run.Age
	return written, no
}

// A newRun is an asking that is about to be recorded, or could be.
type newRun struct {
	q       *question
	call    Call
	id      string
	params  []byte
	of      limit
	hash    string
	invalid error // what is wrong with the parameters
}

func (rt *Runtime) newRun(ctx context.Context, x *question, p any, r Reader) (*newRun, error) {
	k := &newRun{q: x, call: callOf(ctx), of: r.limit()}
	if err := k.call.check(); err != nil {
		return nil, err
	}
	if k.id = k.call.ID; k.id == "" {
		k.id = uuid.Must(uuid.NewV7()).String()
	}
	if k.params, k.invalid = x.check(p); k.invalid != nil && k.params == nil {
		return nil, k.invalid
	}
	k.hash = x.keyOf(k.params, k.of)
	return k, nil
}

// meta is the circumstances of what is recorded of the run.
func (k *newRun) meta(deliveries int) ([]byte, error) {
	correlation := k.call.Correlation
	if correlation == "" {
		correlation = k.id
	}
	return wire.Marshal(meta{Actor: k.call.Actor, Correlation: correlation, Causation: k.call.Causation, Source: k.call.Source, Callbacks: deliveries})
}

func (k *newRun) past() *askedOf {
	if k.of.none() {
		return nil
	}
	return &askedOf{k.of.time, k.of.position, k.of.version, k.of.effective}
}

func (k *newRun) asInvalid() queryInvalid {
	first, count := toRecord(findingsOf(k.invalid))
	return queryInvalid{Query: k.q.name, Hash: k.hash, Parameters: k.params, Findings: first, Count: count}
}

func (k *newRun) asAnswered(run Run) queryAnswered {
	e := queryAnswered{
		Query: k.q.name, Hash: k.hash, Parameters: k.params, Of: k.past(), Cached: run.Cached, Position: run.Position, Inexact: run.Inexact,
		Result: run.Result, Code: run.Code, Reason: run.Reason,
	}
	if len(e.Result) > maxRecordedResult {
		e.Result, e.Code, e.Reason = nil, typeFailed, errTooLarge.Error()
	}
	return e
}

// recordRun records the first event of a run. If there is a run with its id, that
// is returned.
func (rt *Runtime) recordRun(ctx context.Context, k *newRun, first any) (Run, error) {
	name, data, err := rt.codec.Encode(first)
	if err != nil {
		return Run{}, err
	}
	deliveries := 0
	if asked, ok := first.(queryAsked); ok {
		deliveries = len(asked.Deliver)
	}
	m, err := k.meta(deliveries)
	if err != nil {
		return Run{}, err
	}
	event := store.Event{ID: newEventID(), Type: name.Type, Data: data, Meta: m}
	written, err := rt.append(ctx, store.Write{Stream: runStream(k.id), Expect: store.None, Events: []store.Event{event}})
	if isConflict(err) {
		run, found, err := rt.sameRun(ctx, k)
		if err == nil && !found {
			err = ErrInProgress
		}
		return run, err
	}
	if err != nil {
		return Run{}, err
	}
	rec := store.Record{
		ID: event.ID, Stream: runStream(k.id), Version: 1, Position: written[0].Position,
		Type: event.Type, Time: written[0].Time, Data: data, Meta: m,
	}
	x, err := rt.openRunAt(rec)
	if err != nil {
		return Run{}, err
	}
	return x.run, nil
}

// sameRun returns the run that was recorded under an id before, if it asked the
// same.
func (rt *Runtime) sameRun(ctx context.Context, k *newRun) (Run, bool, error) {
	x, err := rt.openRun(ctx, k.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Run{}, false, nil
	case err != nil:
		return Run{}, false, err
	case x.hash != k.hash:
		return Run{}, true, ErrMismatch
	}
	return x.run, true, nil
}

// startRun records that a query is asked.
func (rt *Runtime) startRun(ctx context.Context, x *question, p any, r Reader, a Asking) (Run, error) {
	k, err := rt.newRun(ctx, x, p, r)
	if err != nil {
		return Run{}, err
	}
	if k.invalid != nil {
		if !x.record && k.call.ID == "" {
			return Run{}, k.invalid
		}
		run, err := rt.recordRun(ctx, k, k.asInvalid())
		return run, errors.Join(k.invalid, err)
	}
	head, err := rt.store.Head(ctx)
	if err != nil {
		return Run{}, storeError(err)
	}
	return rt.recordRun(ctx, k, queryAsked{Query: x.name, Hash: k.hash, Parameters: k.params, Head: head, Of: k.past(), Deliver: a.Deliver})
}

// checkDeliveries reports whether the caller may have answers delivered there.
func (rt *Runtime) checkDeliveries(x *question, all []string) error {
	if len(all) > MaxDeliveries {
		return Invalid{Detail: fmt.Sprintf("an answer goes to at most %d places", MaxDeliveries)}
	}
	for i, to := range all {
		scheme, rest, ok := strings.Cut(to, ":")
		if !ok || scheme == "" || rest == "" || len(to) > maxURL || !printable(to) || slices.Contains(all[:i], to) {
			return Invalid{Detail: `a delivery goes to an address like https://host/path, file:name or topic:name, each once`}
		}
		if scheme+":" == topicScheme {
			if err := x.mayPublish(rest); err != nil {
				return err
			}
			continue
		}
		if rt.cfg.Deliveries == nil {
			return Invalid{Detail: "deliveries are not allowed: this program delivers no answers"}
		}
		if err := rt.cfg.Deliveries(to); err != nil {
			return asInvalid(err)
		}
	}
	return nil
}
