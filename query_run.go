package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// pendingRuns has a document for each recorded asking that is not answered, so
// that whoever takes a partition over knows what is to be done.
const pendingRuns = "$pending/queries"

// queryRunnerName is the follower that answers recorded askings.
const queryRunnerName = "query-runner"

var queryChores = chores{
	what: "recorded query", category: queryCategory, coll: pendingRuns,
	begins: []string{typeAsked}, stops: typeCancelled, handle: (*runner).handleRun,
}

// addQueries adds what all queries have in common, if there are any.
func (rt *Runtime) addQueries() error {
	if len(rt.questions) == 0 {
		return nil
	}
	view := runs()
	view.Partitions = rt.commandParts
	if err := view.register(rt); err != nil {
		return err
	}
	return rt.addFollower(engine.Follower{
		Name: queryRunnerName, Kind: "runner", Partitions: rt.commandParts, Pure: true, Fixed: true, Elsewhere: rt.cfg.Guest,
		Filter: store.Filter{Categories: []string{queryCategory}, Types: []string{typeAsked, typeCompleted, typeRejected, typeFailed, typeCancelled}},
		New:    func(uint64) engine.Handler { return rt.newRunner(queryChores) },
	})
}

// handleRun answers a recorded asking, as far as that is possible now, unless it is
// called off meanwhile.
func (r *runner) handleRun(ctx context.Context, id string) (time.Time, error) {
	doing, done := r.stoppable(ctx, id)
	defer done()
	next, err := r.goOnWithRun(doing, id)
	if doing.Err() != nil && ctx.Err() == nil {
		return time.Time{}, nil // it was called off
	}
	return next, err
}

func (r *runner) goOnWithRun(ctx context.Context, id string) (time.Time, error) {
	var x *runExecution
	var err error
	if rec, fresh := r.onlyRecord(id); fresh {
		x, err = r.rt.openRunAt(rec)
	} else {
		x, err = r.rt.openRun(ctx, id)
	}
	if err != nil {
		return time.Time{}, err
	}
	next, err := x.goOn(ctx)
	if err == nil {
		r.rt.waiters.tell(runStream(id))
	}
	return next, err
}

// A runExecution is a recorded asking in the hands of this process. Another
// process may have it in its hands too: every record states how many there are
// before it, so only one of them gets anywhere.
type runExecution struct {
	rt   *Runtime
	id   string
	q    *question
	meta []byte
	head store.Cursor // it is asked of what was recorded up to here
	of   limit        // or of this

	mu        sync.Mutex // guards what follows while parts are answered beside each other
	run       Run
	version   uint64
	hash      string
	keys      []string
	requested bool // all keys are known
	parts     map[string]json.RawMessage
	waiting   []partAnswer // to be recorded
	recording bool         // somebody does so
}

func (rt *Runtime) openRun(ctx context.Context, id string) (*runExecution, error) {
	x := &runExecution{rt: rt, id: id, parts: map[string]json.RawMessage{}}
	return x, x.catchUp(ctx)
}

// catchUp reads what was recorded since x was read.
func (x *runExecution) catchUp(ctx context.Context) error {
	for rec, err := range x.rt.store.Read(ctx, runStream(x.id), store.Range{From: x.version + 1}) {
		if err != nil {
			return storeError(err)
		}
		if err := x.takeRecord(rec); err != nil {
			return err
		}
	}
	if x.version == 0 {
		return ErrNotFound
	}
	return nil
}

// openRunAt is like openRun for a run that has no other record than its first.
func (rt *Runtime) openRunAt(first store.Record) (*runExecution, error) {
	x := &runExecution{rt: rt, id: strings.TrimPrefix(first.Stream, queryCategory+"/"), parts: map[string]json.RawMessage{}}
	return x, x.takeRecord(first)
}

func (x *runExecution) takeRecord(rec store.Record) error {
	m, e, err := x.rt.understand(rec)
	if err != nil {
		return err
	}
	if x.version == 0 {
		x.meta, x.head = rec.Meta, store.CursorAt(rec.Position)
	}
	x.take(m, e)
	x.version = rec.Version
	return nil
}

// take folds an event of the run's stream.
func (x *runExecution) take(m Meta, e any) {
	x.run.take(m, e)
	switch e := e.(type) {
	case queryAsked:
		x.hash, x.q, x.head = e.Hash, x.rt.questions[e.Query], x.head.Join(e.Head)
		if e.Of != nil {
			x.of = limit{time: e.Of.Time, position: e.Of.Position, version: e.Of.Version, effective: e.Of.Effective}
		}
	case queryAnswered:
		x.hash = e.Hash
	case queryInvalid:
		x.hash = e.Hash
	case partsRequested:
		x.keys, x.requested = append(x.keys, e.Keys...), !e.More
	case partsAnswered:
		for _, p := range e.Parts {
			x.parts[p.Key] = jsonOf(p.Answer)
		}
	}
}

// jsonOf is what was recorded as JSON: null is nothing when it is read.
func jsonOf(data json.RawMessage) json.RawMessage {
	if len(data) == 0 {
		return json.RawMessage("null")
	}
	return data
}

// record appends events to the run's stream, and folds them.
func (x *runExecution) record(ctx context.Context, events ...any) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := store.Write{Stream: runStream(x.id), Expect: store.Exactly(x.version)}
	for _, e := range events {
		name, data, err := x.rt.codec.Encode(e)
		if err != nil {
			return err
		}
		w.Events = append(w.Events, store.Event{ID: newEventID(), Type: name.Type, Data: data, Meta: x.meta})
	}
	written, err := x.rt.append(ctx, w)
	if isConflict(err) {
		return errOvertaken
	}
	if err != nil {
		return err
	}
	for _, e := range events {
		x.take(Meta{ID: x.id, Time: written[0].Time}, e)
		x.version++
	}
	return nil
}

// Bounds of what is recorded of a run.
const (
	maxRecordedResult = store.MaxData - 64<<10
	maxPartsSize      = 1 << 20 // of the parts in one event, unless it is one
	maxPartKeys       = 5000    // in one event
)

var errTooLarge = fmt.Errorf("the answer has more than %d bytes, and cannot be recorded: ask for less, or do not have it recorded", maxRecordedResult)

// goOn answers the query, and returns when to come back; zero: not by itself.
func (x *runExecution) goOn(ctx context.Context) (time.Time, error) {
	switch {
	case x.run.State.Over():
		return time.Time{}, nil
	case x.q == nil:
		return time.Time{}, fmt.Errorf("%w: this program has no query %q", ErrUnknown, x.run.Query)
	case x.run.Next.After(x.rt.cfg.Now()):
		return x.run.Next, nil
	}
	p, err := x.q.decode(x.run.Parameters)
	if err != nil {
		return time.Time{}, x.reject(ctx, err)
	}
	a, err := x.answer(ctx, p)
	switch {
	case err == nil && a.no != nil:
		return time.Time{}, x.reject(ctx, a.no)
	case err == nil && len(a.body) > maxRecordedResult:
		return time.Time{}, x.end(ctx, queryFailed{Attempts: x.run.Attempts + 1, Reason: errTooLarge.Error()})
	case err == nil:
		return time.Time{}, x.end(ctx, queryCompleted{Position: a.at.cursor, Inexact: !a.exact, Result: a.body})
	case isOurs(ctx, err):
		return time.Time{}, err
	}
	failed := attemptFailed{Attempt: x.run.Attempts + 1, Error: clip(err.Error())}
	if retry := x.q.retry.engine(); !IsPermanent(err) && failed.Attempt < retry.Limit() {
		failed.Next = x.rt.cfg.Now().Add(retry.Wait(failed.Attempt)).UTC()
		return failed.Next, x.record(ctx, failed)
	}
	return time.Time{}, x.end(ctx, queryFailed{Attempts: failed.Attempt, Reason: failed.Error})
}

func (x *runExecution) reject(ctx context.Context, err error) error {
	reason, _ := saysNo(err)
	return x.end(ctx, queryRejected{Code: reason.Code, Reason: clip(reason.Text)})
}

// answer gives the answer as of what the run is asked of.
func (x *runExecution) answer(ctx context.Context, p any) (*answer, error) {
	if x.q.fan == nil {
		return x.ask(ctx, func(ctx context.Context, r Reader) ([]byte, error) { return x.q.answer(ctx, r, p) })
	}
	exact := true
	if !x.requested {
		a, err := x.request(ctx, p)
		if err != nil || a.no != nil {
			return a, err
		}
		exact = a.exact
	}
	if a, err := x.answerParts(ctx, p, &exact); err != nil || a != nil {
		return a, err
	}
	parts := make([][]byte, len(x.keys))
	for i, key := range x.keys {
		parts[i] = x.parts[key]
	}
	a := &answer{exact: exact, at: moment{cursor: x.position()}}
	in := &inquiry{rt: x.rt, q: x.q, ask: func(context.Context, Reader) ([]byte, error) { return x.q.fan.collate(p, parts) }}
	a.reads = newReads(nil)
	return a, in.try(ctx, a, x.rt)
}

// position is that of the answer.
func (x *runExecution) position() store.Cursor {
	if x.of.position != "" {
		return x.of.position
	}
	return x.head
}

// ask asks something of what the run is asked of.
func (x *runExecution) ask(ctx context.Context, f func(context.Context, Reader) ([]byte, error)) (*answer, error) {
	in := &inquiry{rt: x.rt, q: x.q, ask: f, past: x.of, wait: freshWait}
	var a *answer
	var err error
	if x.of.none() {
		a, err = in.asOf(ctx, x.head)
	} else {
		a, err = in.ofPast(ctx)
	}
	if err == nil {
		a.at.cursor = x.position()
	}
	return a, err
}

// request finds out which parts there are, and records that.
func (x *runExecution) request(ctx context.Context, p any) (*answer, error) {
	x.keys = nil // of a request that was cut short nothing is recorded
	a, err := x.ask(ctx, func(ctx context.Context, r Reader) ([]byte, error) {
		keys, err := x.q.fan.keys(ctx, r, p)
		if err != nil {
			return nil, err
		}
		return wire.Marshal(keys)
	})
	if err != nil || a.no != nil {
		return a, err
	}
	var keys []string
	if err := wire.Unmarshal(a.body, &keys); err != nil {
		return nil, err
	}
	var events []any
	for len(keys) > maxPartKeys {
		events = append(events, partsRequested{Keys: keys[:maxPartKeys], More: true})
		keys = keys[maxPartKeys:]
	}
	return a, x.record(ctx, append(events, partsRequested{Keys: keys})...)
}

// answerParts answers the parts that are not answered, several at a time. It
// returns an answer if the domain has none for one of them.
func (x *runExecution) answerParts(ctx context.Context, p any, exact *bool) (*answer, error) {
	known := maps.Clone(x.parts)
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(x.q.fan.parallel)
	var mu sync.Mutex
	var no *answer
	for _, key := range x.keys {
		if _, done := known[key]; done {
			continue
		}
		all.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			a, err := x.ask(ctx, func(ctx context.Context, r Reader) ([]byte, error) { return x.q.fan.part(ctx, r, p, key) })
			if err != nil {
				return err
			}
			mu.Lock()
			*exact = *exact && a.exact
			mu.Unlock()
			switch {
			case a.no != nil:
				mu.Lock()
				no = a
				mu.Unlock()
				return a.no
			case len(a.body) > maxRecordedResult:
				return Permanent(fmt.Errorf("the part %s: %w", key, errTooLarge))
			}
			return x.answered(ctx, partAnswer{key, a.body})
		})
	}
	err := all.Wait()
	if no != nil {
		return no, nil
	}
	return nil, err
}

// answered records a part that is answered, together with those that are by the
// time it comes to that.
func (x *runExecution) answered(ctx context.Context, part partAnswer) error {
	x.mu.Lock()
	x.waiting = append(x.waiting, part)
	if x.recording {
		x.mu.Unlock()
		return nil // whoever records takes it along
	}
	x.recording = true
	for len(x.waiting) > 0 {
		n, size := 0, 0
		for n < len(x.waiting) && (n == 0 || size+len(x.waiting[n].Answer) <= maxPartsSize) {
			size += len(x.waiting[n].Answer)
			n++
		}
		some := x.waiting[:n:n]
		x.waiting = x.waiting[n:]
		x.mu.Unlock()
		err := x.record(ctx, partsAnswered{Parts: some})
		x.mu.Lock()
		if err != nil {
			x.recording = false
			x.mu.Unlock()
			return err
		}
	}
	x.recording = false
	x.mu.Unlock()
	return nil
}
