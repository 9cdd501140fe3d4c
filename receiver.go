package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A receiver asks the commands of the messages of a reception. It keeps nothing
// between records, so one serves all partitions.
type receiver struct {
	rt *Runtime
	*reception
}

func (r receiver) Keys(rec store.Record) []string {
	if !r.Ordered {
		return []string{rec.Stream}
	}
	m, err := messageOf(&rec)
	if err != nil || !r.mine(&rec) {
		return []string{rec.Stream}
	}
	return []string{m.order()}
}

func (r receiver) mine(rec *store.Record) bool {
	return strings.HasPrefix(rec.Stream, messagesOf(r.Name))
}

// receiveHold is how long messages begin to be handled before what came of them is
// committed.
const receiveHold = 250 * time.Millisecond

// receiveTime is how long one message may take.
const receiveTime = 30 * time.Second

// HandleAll implements [engine.BatchHandler]: many messages are handled at once, those
// of the same order one after the other.
func (r receiver) HandleAll(ctx context.Context, _ *engine.Tx, recs []store.Record) []error {
	errs, ended := make([]error, len(recs)), make([]chan struct{}, len(recs))
	last := map[string]int{} // of an order, the one before
	var hands errgroup.Group
	hands.SetLimit(cmp.Or(r.Parallel, usualParallel))
	start := time.Now()
	for i := range recs {
		if i > 0 && time.Since(start) > receiveHold || ctx.Err() != nil {
			errs[i] = engine.ErrNotYet
			continue
		}
		if !r.mine(&recs[i]) {
			continue
		}
		key := r.Keys(recs[i])[0]
		before, behind := last[key]
		last[key], ended[i] = i, make(chan struct{})
		hands.Go(func() error {
			defer close(ended[i])
			if behind {
				if <-ended[before]; errs[before] != nil {
					errs[i] = engine.ErrBehind
					return nil
				}
			}
			ctx, cancel := context.WithTimeout(ctx, receiveTime)
			defer cancel()
			errs[i] = engine.Safely(func() error { return r.receive(ctx, recs[i]) })
			return nil
		})
	}
	hands.Wait()
	return errs
}

// Handle implements [engine.Handler].
func (r receiver) Handle(ctx context.Context, tx *engine.Tx, rec store.Record) error {
	return r.HandleAll(ctx, tx, []store.Record{rec})[0]
}

// receive asks the commands of one message.
func (r receiver) receive(ctx context.Context, rec store.Record) error {
	m, err := messageOf(&rec)
	if err != nil {
		return engine.Permanent(err)
	}
	about, err := metaOf(rec)
	if err != nil {
		return engine.Permanent(err)
	}
	of, ok := r.by[m.Type]
	switch {
	case !ok && r.Others == PassOver: // an earlier program has stored it
		return r.rt.passOver(ctx, &rec, Reason{"unknown_type", "the reception passes over messages of its type"})
	case !ok && m.Type == typeUnreadable:
		return engine.Permanent(fmt.Errorf("it could not be read: %s", m.Attributes["reason"]))
	case !ok:
		return engine.Permanent(r.unknown(m.Type))
	}
	call := Call{ID: messageID(rec.Stream), Actor: about.Actor, Correlation: about.Correlation, Causation: rec.ID.String(), Source: receptionKind, Trace: about.Trace}
	sends, err := of.run(With(ctx, call), r.rt, m)
	if err != nil {
		return err
	}
	return r.verdict(ctx, &rec, r.rt.receiveAll(ctx, &rec, call, r.Name, sends))
}

// PreviewMessage says which commands a [Reception] would ask because of a message,
// for example "order.pay on order/o-17". Nothing is stored, and none is asked.
func (rt *Runtime) PreviewMessage(ctx context.Context, reception string, m InboundMessage) (commands []string, err error) {
	r, err := rt.reception(reception)
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	of, ok := r.by[m.Type]
	if !ok {
		return nil, r.unknown(m.Type)
	}
	defer func() {
		if v := recover(); v != nil {
			commands, err = nil, fmt.Errorf("%w: the function of %s panicked: %v", ErrNoCommands, m.Type, v)
		}
	}()
	sends, err := of.run(ctx, rt, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCommands, err)
	}
	commands = []string{}
	for _, s := range sends {
		if s.empty() {
			return nil, fmt.Errorf("%w: an empty Sending: make one with Send", ErrNoCommands)
		}
		commands = append(commands, s.called(rt)+" on "+s.stream)
	}
	return commands, nil
}

// ErrNoCommands reports that no commands can be made of a message.
var ErrNoCommands = errors.New("deed: no commands can be made of the message")

// unknown is the error of a message of another type than the reception knows.
func (r *reception) unknown(typ string) error {
	// Not in quotation marks: the type is part of the cause, see the fingerprints of dead letters.
	return fmt.Errorf("%w: the reception %s does not know messages of the type %s: it knows %v", ErrNoCommands, r.Name, typ, slices.Sorted(maps.Keys(r.by)))
}

// verdict says what follows from why the commands of a message were not accepted.
func (r receiver) verdict(ctx context.Context, rec *store.Record, err error) error {
	_, refused := errors.AsType[Rejected](err)
	_, malformed := errors.AsType[Invalid](err)
	switch {
	case refused && r.Refused == TryAgain:
		return err
	case refused && r.Refused == PassOver:
		why, _ := saysNo(err)
		return r.rt.passOver(ctx, rec, why)
	case refused, malformed, errors.Is(err, ErrUnknown), errors.Is(err, store.ErrInvalid):
		return engine.Permanent(err)
	}
	return err
}

func (r receiver) Flush(context.Context, *engine.Tx) error { return nil }
func (r receiver) Reset()                                  {}

// receiveAll asks the commands of a message, unless that has been done. That it
// is done is recorded with what they decide on.
func (rt *Runtime) receiveAll(ctx context.Context, rec *store.Record, call Call, reception string, sends []Sending) error {
	for _, s := range sends {
		if s.empty() {
			return engine.Permanent(errors.New("deed: an empty Sending: make one with Send"))
		}
	}
	a := &asked{Call: call, name: reception, stream: rec.Stream}
	var err error
	if a.meta, err = wire.Marshal(meta{Actor: a.Actor, Command: a.ID, Correlation: a.Correlation, Causation: a.Causation, Source: a.Source, Trace: a.Trace}); err != nil {
		return engine.Permanent(err)
	}
	_, err = rt.allOrNone(ctx, a, sends, func(streams []string) (store.Write, error) {
		return handled(rec, a.meta, messageHandled{Entities: streams})
	})
	if a.conflictsAt(rec.Stream, err) { // it was done before
		return nil
	}
	return err
}

// passOver records that nothing is going to come of a message.
func (rt *Runtime) passOver(ctx context.Context, rec *store.Record, why Reason) error {
	w, err := handled(rec, rec.Meta, messageHandled{Code: why.Code, Reason: clip(why.Text)})
	if err != nil {
		return engine.Permanent(err)
	}
	if _, err = rt.append(ctx, w); isConflict(err) {
		return nil
	}
	return err
}

// handled is the write that says that a message is done.
func handled(rec *store.Record, about []byte, what messageHandled) (store.Write, error) {
	data, err := wire.Marshal(what)
	return store.Write{
		Stream: rec.Stream, Expect: store.Exactly(rec.Version),
		Events: []store.Event{{ID: newEventID(), Type: typeHandled, Data: data, Meta: about}},
	}, err
}
