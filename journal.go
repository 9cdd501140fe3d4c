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

// The events of a command stream.
const (
	commandCompleted = "completed"
	commandRejected  = "rejected"
)

// outcome is the data of the events of a command stream.
type outcome struct {
	Command string     `json:"command"` // for example "order.submit"
	Stream  string     `json:"stream"`
	Hash    string     `json:"hash"`
	Version uint64     `json:"version,omitzero"` // of the stream, after a completed command
	Events  []EventRef `json:"events,omitempty"`
	Code    string     `json:"code,omitempty"` // why a rejected command was
	Reason  string     `json:"reason,omitempty"`
}

// hashOf identifies what is asked: the same command, with the same contents,
// of the same entity.
func hashOf(name, stream string, cmd any) (string, error) {
	body := []byte("{}") // all there is to a command whose fields are filled in by Stamp
	if !wire.Opaque(reflect.TypeOf(cmd)) {
		var err error
		if body, err = wire.Marshal(cmd); err != nil {
			return "", err
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", name, stream)
	h.Write(body)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}

// outcome returns the write that journals o.
func (a *asked) outcome(o outcome) (store.Write, error) {
	o.Command, o.Stream, o.Hash = a.name, a.stream, a.hash
	typ := commandCompleted
	if o.Code != "" {
		typ = commandRejected
	}
	data, err := wire.Marshal(o)
	return store.Write{
		Stream: "$command/" + a.ID, Expect: store.None,
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
// there was one.
func (rt *Runtime) replay(ctx context.Context, a *asked) (Receipt, bool, error) {
	for rec, err := range rt.store.Read(ctx, "$command/"+a.ID, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return Receipt{}, false, storeError(err)
		}
		var o outcome
		if err := wire.Unmarshal(rec.Data, &o); err != nil {
			return Receipt{}, false, fmt.Errorf("deed: %s@%d: %w", rec.Stream, rec.Version, err)
		}
		if o.Hash != a.hash {
			return Receipt{}, true, ErrMismatch
		}
		if rec.Type == commandRejected {
			return Receipt{}, true, Rejected{Stream: o.Stream, Command: o.Command, Err: o.reason(), Replay: true}
		}
		if o.Events == nil {
			o.Events = []EventRef{}
		}
		return Receipt{
			Command: a.ID, Stream: o.Stream, Version: o.Version, Events: o.Events, Replay: true,
			Position: string(store.CursorAt(rec.Position)),
		}, true, nil
	}
	return Receipt{}, false, nil
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
