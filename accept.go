package deed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Accepted says what became of messages that were accepted: each is one of these.
type Accepted struct {
	Stored   int `json:"stored"`
	Repeated int `json:"repeated"`    // were accepted before, under the same source and id
	Passed   int `json:"passed_over"` // are of a type that the reception passes over; they are not stored
}

// Accept takes messages in for a [Reception], and returns when they are stored:
// then they are turned into commands sooner or later, each once, also if the
// sender repeats it. The actor and the source of what follows are those of the
// context's [Call].
//
// [Invalid] says that one of the messages can never be taken, and [ErrUnknown]
// that there is no such reception; nothing was stored then. After any other error
// the sender has to repeat them all: some may be stored.
func (rt *Runtime) Accept(ctx context.Context, reception string, messages ...InboundMessage) (Accepted, error) {
	var out Accepted
	r, err := rt.reception(reception)
	if err != nil {
		return out, err
	}
	var arrivals []arrival
	known := map[string]bool{}
	for i := range messages {
		m := &messages[i]
		if err := m.check(); err != nil {
			return Accepted{}, ofMessage(i, len(messages), err)
		}
		if r.Others == PassOver && r.by[m.Type].run == nil {
			out.Passed++
			continue
		}
		a, err := rt.arrival(callOf(ctx), reception, m)
		if err != nil {
			return Accepted{}, ofMessage(i, len(messages), err)
		}
		if known[a.Stream] {
			out.Repeated++
			continue
		}
		known[a.Stream] = true
		arrivals = append(arrivals, a)
	}
	for len(arrivals) > 0 {
		n := oneAppend(arrivals)
		stored, err := rt.take(ctx, arrivals[:n])
		if err != nil {
			return out, err
		}
		out.Stored += stored
		out.Repeated += n - stored
		arrivals = arrivals[n:]
	}
	return out, nil
}

// ofMessage says which of several messages an error is about.
func ofMessage(i, of int, err error) error {
	inv, ok := errors.AsType[Invalid](err)
	if !ok || of == 1 {
		return err
	}
	inv.Field = strings.TrimSuffix(fmt.Sprintf("%d.%s", i, inv.Field), ".")
	return inv
}

// An arrival is a message that is to be stored.
type arrival struct {
	store.Write
	message *InboundMessage
}

// arrival says how a message is stored. What follows from it is of the flow that
// it says, or else of one of its own.
func (rt *Runtime) arrival(call Call, reception string, m *InboundMessage) (a arrival, err error) {
	stream := messageStream(reception, m)
	circumstances := Call{Actor: call.Actor, Source: call.Source, Causation: call.Causation, Trace: m.trace()}
	for _, id := range []string{m.correlation(), call.Correlation, messageID(stream)} {
		if circumstances.Correlation == "" {
			circumstances.Correlation = id
		}
	}
	if err := circumstances.check(); err != nil {
		return a, err
	}
	data, err := wire.Marshal(storedMessageOf(m))
	if err != nil {
		return a, Invalid{Detail: err.Error()}
	}
	about, err := wire.Marshal(meta{Actor: circumstances.Actor, Correlation: circumstances.Correlation, Causation: circumstances.Causation, Source: circumstances.Source, Trace: circumstances.Trace})
	return arrival{store.Write{
		Stream: stream, Expect: store.None,
		Events: []store.Event{{ID: newEventID(), Type: typeReceived, Data: data, Meta: about}},
	}, m}, err
}

// messageID is the id of the command that a message is.
func messageID(stream string) string { return uuid.NewSHA1(stepSpace, []byte(stream)).String() }

// maxArriving is how many bytes of messages go into one append.
const maxArriving = 8 << 20

// oneAppend returns how many of some arrivals, at least one, go into one append.
func oneAppend(all []arrival) int {
	size := 0
	for i, a := range all {
		if size += len(a.Events[0].Data); i == maxTogether || i > 0 && size > maxArriving {
			return i
		}
	}
	return len(all)
}

// take stores those of some arrivals that are not stored yet, in one append, and
// returns how many these were.
func (rt *Runtime) take(ctx context.Context, all []arrival) (int, error) {
	for {
		writes := make([]store.Write, len(all))
		for i, a := range all {
			writes[i] = a.Write
		}
		_, err := rt.append(ctx, writes...)
		if err == nil {
			return len(all), nil
		}
		if !isConflict(err) || ctx.Err() != nil {
			return 0, err
		}
		if all, err = rt.unknown(ctx, all); err != nil || len(all) == 0 {
			return 0, err
		}
	}
}

// unknown returns those of some arrivals that are not stored yet.
func (rt *Runtime) unknown(ctx context.Context, all []arrival) (out []arrival, err error) {
	for _, a := range all {
		found := false
		for rec, err := range rt.store.Read(ctx, a.Stream, store.Range{Limit: 1}) {
			if err != nil {
				return nil, storeError(err)
			}
			found = true
			rt.compare(a, &rec)
		}
		if !found {
			out = append(out, a)
		}
	}
	return out, nil
}

// compare tells the log of a message that repeats the id of another one. It is
// taken for the same: ids are the sender's business.
func (rt *Runtime) compare(a arrival, rec *store.Record) {
	was, err := messageOf(rec)
	if err == nil && was.Type == a.message.Type && was.Subject == a.message.Subject && bytes.Equal(was.Data, storedMessageOf(a.message).message().Data) {
		return
	}
	rt.cfg.Logger.Warn("a message has the source and id of another one, and is passed over as its repetition",
		slog.String("stream", a.Stream), slog.String("source", a.message.Source), slog.String("id", a.message.ID), slog.String("type", a.message.Type))
}

func (rt *Runtime) reception(name string) (*reception, error) {
	r, ok := rt.receptions[name]
	if !ok {
		return nil, fmt.Errorf("%w: reception %q; there is %v", ErrUnknown, name, slices.Sorted(maps.Keys(rt.receptions)))
	}
	return r, nil
}
