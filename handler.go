package deed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// An EventHandler reacts to events in this process: it sends a mail, asks
// another command, writes documents to a [View]. It sees every event it
// handles at least once, the events of one stream in order. What it writes
// through its [Tx] happens exactly once; anything else it does may happen
// again after a crash, so give it [Tx.Key] as a key to recognise it by.
type EventHandler struct {
	Name       string
	Doc        string // one sentence for people
	On         []Reaction
	Partitions int   // so many workers share the streams; default 1
	Retry      Retry // of a reaction that returned an error
	FromNow    bool  // it sees only what is recorded after it was first run; default: everything
}

// A Retry says how often and when a reaction that failed is tried again,
// before the event is parked as a dead letter. Later events of the same
// stream wait; others go on. The zero Retry is a sensible default.
type Retry struct {
	Attempts int           // in all; default 8
	First    time.Duration // wait before the second attempt; doubled each time, with jitter; default 100 ms
	Max      time.Duration // longest wait; default 1 minute
}

// A Reaction handles one type of event. Make one with [Handle].
type Reaction struct {
	event reflect.Type
	meta  bool
	run   func(ctx context.Context, tx *Tx, m Meta, e any) error

	command func(ctx context.Context, tx *Tx, e CommandEvent) error // else: it handles what happens to commands
	runs    func(ctx context.Context, tx *Tx, e RunEvent) error     // else: it handles runs that are over
	types   []string                                                // such events
}

// Handle reacts to events of type E, or [Recorded] of such. An error makes
// the runtime try again later, unless it is [Permanent]; a panic does not.
func Handle[E any](f func(ctx context.Context, tx *Tx, e E) error) Reaction {
	typ, wants, unwrap := eventType[E]()
	return Reaction{event: typ, meta: wants, run: func(ctx context.Context, tx *Tx, m Meta, e any) error { return f(ctx, tx, unwrap(m, e)) }}
}

// Permanent wraps the error of a reaction that would fail the same way again:
// the event is parked at once.
func Permanent(err error) error { return engine.Permanent(err) }

// IsPermanent reports whether an error is [Permanent].
func IsPermanent(err error) bool { return engine.IsPermanent(err) }

// NotYet says that a reaction has to wait, for example for a view that does not
// show yet what it needs. The event is tried again after some time, and that is
// no attempt: for a day it does not become a dead letter. Later events of its
// stream wait, others go on.
func NotYet(err error, after time.Duration) error { return engine.Ongoing(err, after) }

// A Tx collects the documents that a reaction writes, see View.Put. They are
// stored together with the handler's cursor, or not at all. It is a [Reader],
// too: it sees what there is now, but not what the reaction writes.
type Tx struct {
	rt  *Runtime
	tx  *engine.Tx
	key string
}

// Key is what is done outside for this event is recognised by, if it is done
// again: each reaction of each handler has its own for each event, and it is the
// same at every attempt, after restarts too.
func (tx *Tx) Key() string { return tx.key }

func (tx *Tx) runtime() *Runtime { return tx.rt }
func (tx *Tx) limit() limit      { return limit{} }
func (tx *Tx) reads() *reads     { return nil }

func (h EventHandler) order() int { return 3 }

// handlerKind is the kind of followers that event handlers are.
const handlerKind = "handler"

func (h EventHandler) register(rt *Runtime) error {
	if len(h.On) == 0 {
		return fmt.Errorf("event handler %s handles no events", h.Name)
	}
	w := &reactor{rt: rt, name: h.Name, reactions: map[wire.Name][]Reaction{}}
	categories, types := []string{}, []string{}
	for _, r := range h.On {
		names, err := r.names(rt.codec)
		if err != nil {
			return fmt.Errorf("event handler %s %w", h.Name, err)
		}
		for _, n := range names {
			rt.handled[n] = true
			w.reactions[n] = append(w.reactions[n], r)
			categories, types = append(categories, n.Category), append(types, n.Type)
		}
	}
	return rt.addFollower(engine.Follower{
		Name: h.Name, Kind: handlerKind, Partitions: h.Partitions, FromNow: h.FromNow, Editable: true,
		Filter: store.Filter{Categories: unique(categories), Types: unique(types)},
		Retry:  engine.Retry{Attempts: h.Retry.Attempts, First: h.Retry.First, Max: h.Retry.Max},
		New:    func(uint64) engine.Handler { return w }, Elsewhere: rt.cfg.Guest,
	})
}

// reactor runs the reactions of an event handler. It keeps nothing between
// records, so one serves all partitions.
type reactor struct {
	rt        *Runtime
	name      string
	reactions map[wire.Name][]Reaction
}

func (w *reactor) Keys(rec store.Record) []string { return []string{rec.Stream} }

func (w *reactor) Handle(ctx context.Context, tx *engine.Tx, rec store.Record) error {
	reactions := w.reactions[wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}]
	if len(reactions) == 0 {
		return nil
	}
	m, e, err := w.rt.understand(rec)
	if err != nil {
		return engine.Permanent(err)
	}
	// Commands that a reaction asks belong to the same flow.
	ctx = With(ctx, Call{Actor: m.Actor, Correlation: m.Correlation, Causation: rec.ID.String(), Source: "handler", Trace: m.Trace})
	for i, r := range reactions {
		key := w.name + "/" + rec.ID.String()
		if i > 0 {
			key += "." + strconv.Itoa(i+1)
		}
		if err := r.react(ctx, &Tx{w.rt, tx, key}, m, e, rec); err != nil {
			return err
		}
	}
	return nil
}

func (r Reaction) react(ctx context.Context, tx *Tx, m Meta, e any, rec store.Record) error {
	var err error
	switch {
	case r.command != nil:
		err = r.command(ctx, tx, CommandEvent{Meta: m, Type: rec.Type, Data: rec.Data, Callbacks: m.callbacks, rt: tx.rt})
	case r.runs != nil:
		err = r.runs(ctx, tx, runEvent(tx.rt, m, rec))
	default:
		return r.run(ctx, tx, m, e)
	}
	if errors.Is(err, errGivenUp) { // there is nothing to tell of it any more
		return nil
	}
	return err
}

func (w *reactor) Flush(context.Context, *engine.Tx) error { return nil }
func (w *reactor) Reset()                                  {}
