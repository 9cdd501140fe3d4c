package deed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Journal level says of which commands the outcome is recorded, in a stream
// "$command/<id>" and in the same append as the events. What is recorded can
// be asked again with the same id, and is done once.
type Journal int

const (
	JournalAll   Journal = iota // every command
	JournalKeyed                // commands whose caller chose the id
	JournalNone                 // none: asking again does it again
)

// outcome is the data of the events of a command stream.
type outcome struct {
	Command string     `json:"command"` // for example "order.submit"
	Stream  string     `json:"stream"`
	Hash    string     `json:"hash"`
	Version uint64     `json:"version,omitzero"` // of the stream, after a completed command
	Events  []EventRef `json:"events,omitempty"`
	// Entities are the streams of a command that concerned several.
	Entities []string `json:"entities,omitempty"`
	Code     string   `json:"code,omitempty"` // why a rejected command was
	Reason   string   `json:"reason,omitempty"`
	Step     string   `json:"step,omitempty"`    // of a rejected command in steps: the one that was refused
	Attempts int      `json:"attempts,omitzero"` // at it
}

// hashOf identifies what is asked: the same command, with the same contents,
// of the same entity.
func hashOf(name, stream string, cmd any) (string, error) {
	body, err := bodyOf(cmd)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", name, stream)
	h.Write(body)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}

// bodyOf is a command as JSON. There is nothing to one whose fields are all
// filled in by Stamp.
func bodyOf(cmd any) ([]byte, error) {
	if wire.Opaque(reflect.TypeOf(cmd)) {
		return []byte("{}"), nil
	}
	return wire.Marshal(cmd)
}

// outcome returns the write that journals o.
func (a *asked) outcome(o outcome) (store.Write, error) {
	o.Command, o.Stream, o.Hash = a.name, a.stream, a.hash
	typ := typeCompleted
	switch {
	case o.Code != "":
		typ = typeRejected
	case a.recorded == 0:
		typ = typeAccepted
	}
	data, err := wire.Marshal(o)
	return store.Write{
		Stream: commandStream(a.ID), Expect: store.Exactly(a.recorded),
		Events: []store.Event{{ID: newEventID(), Type: typ, Data: data, Meta: a.meta}},
	}, err
}

// refuse journals that the domain said no, and returns a [Rejected].
func (rt *Runtime) refuse(ctx context.Context, a *asked, why error) (Receipt, error) {
	rejected := Rejected{Stream: a.stream, Command: a.name, Err: why}
	if !a.journal {
		return Receipt{}, rejected
	}
	reason := rejected.Reason()
	w, err := a.outcome(outcome{Code: reason.Code, Reason: reason.Text})
	if err != nil {
		return Receipt{}, err
	}
	_, err = rt.append(ctx, w)
	if isConflict(err) {
		r, found, err := rt.replay(ctx, a)
		if err == nil && !found {
			err = ErrInProgress
		}
		return r, err
	}
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{}, rejected
}

// replay returns the answer that a command with the same id was given, if
// there was one. If that command is stored and nobody can tell yet what comes
// of it, or it is more than an answer can say, the receipt is pending.
func (rt *Runtime) replay(ctx context.Context, a *asked) (Receipt, bool, error) {
	var last store.Record
	for rec, err := range rt.store.Read(ctx, commandStream(a.ID), store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return Receipt{}, false, storeError(err)
		}
		last = rec
	}
	switch last.Type {
	case "":
		return Receipt{}, false, nil
	case typeAccepted, typeCompleted, typeRejected:
		return a.answered(last)
	}
	for rec, err := range rt.store.Read(ctx, commandStream(a.ID), store.Range{Limit: 1}) {
		if err != nil {
			return Receipt{}, false, storeError(err)
		}
		e, err := rt.decode(rec)
		if err != nil {
			return Receipt{}, false, err
		}
		if first, ok := e.(commandReceived); !ok || first.Hash != a.hash {
			return Receipt{}, true, ErrMismatch
		}
	}
	return Receipt{Command: a.ID, Stream: a.stream, Events: []EventRef{}, Pending: true, Replay: true}, true, nil
}

// answered makes an answer of the record of an outcome.
func (a *asked) answered(rec store.Record) (Receipt, bool, error) {
	var o outcome
	if err := wire.Unmarshal(rec.Data, &o); err != nil {
		return Receipt{}, false, fmt.Errorf("deed: %s@%d: %w", rec.Stream, rec.Version, err)
	}
	if o.Hash != a.hash {
		return Receipt{}, true, ErrMismatch
	}
	if rec.Type == typeRejected {
		return Receipt{}, true, Rejected{Stream: o.Stream, Command: o.Command, Err: o.reason(), Replay: true}
	}
	if o.Events == nil {
		o.Events = []EventRef{}
	}
	return Receipt{
		Command: a.ID, Stream: o.Stream, Version: o.Version, Events: o.Events, Replay: true, streams: o.Entities,
		Position: string(store.CursorAt(rec.Position)),
	}, true, nil
}

func (o outcome) reason() error {
	switch o.Code {
	case codeNotFound:
		return ErrNotFound
	case codeExists:
		return ErrExists
	case "rejected":
		return errors.New(o.Reason)
	}
	return Reason{o.Code, o.Reason}
}

// begin notes that a command is being handled; it reports false if it is
// already.
func (rt *Runtime) begin(id string) bool {
	_, busy := rt.inFlight.LoadOrStore(id, struct{}{})
	return !busy
}

func (rt *Runtime) end(id string) { rt.inFlight.Delete(id) }
