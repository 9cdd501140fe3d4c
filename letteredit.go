package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A LetterEdit is what somebody put in the place of an event's data, for the
// follower of a dead letter alone.
type LetterEdit = engine.LetterEdit

// ErrNotEditable reports that a dead letter of this follower cannot be edited.
var ErrNotEditable = engine.ErrNotEditable

// Edit has the follower of a dead letter, and nobody else, see other data than that
// of the event when it is redriven, under the same id and at the same place. The
// event stays as it is, and so does with the letter what was there before, and why.
// Event handlers, receptions and subscriptions can do with that, and consumers of
// queues; for others the error is [ErrNotEditable], because what they make of events has to be
// what the log says. The data has to be what the event's type takes.
func (d DeadLetters) Edit(ctx context.Context, id string, data json.RawMessage, why string) (DeadLetter, error) {
	if why == "" {
		return DeadLetter{}, Invalid{Field: "reason", Detail: "is missing: say why the data may be other than the event's"}
	}
	if text := strings.TrimSpace(string(data)); text == "" || text == "null" {
		return DeadLetter{}, Invalid{Field: "data", Detail: "is missing: give all of the event's data as it is to be seen"}
	}
	p, key, err := d.placeOf(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	edit := LetterEdit{Data: data, By: callOf(ctx).Actor, Why: clip(why)}
	audit := "$audit/followers"
	if key != "" {
		audit = "$audit/subscriptions"
		err = d.editMessage(ctx, *p.queue, key, edit)
	} else {
		err = d.editEvent(ctx, id, edit)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	if err := d.rt.audit(ctx, audit, "dead-letter-edited", id, why); err != nil {
		return DeadLetter{}, err
	}
	return d.Get(ctx, id)
}

// receivedMessage is what a reception sees: the message of somebody else, as it is
// stored.
var receivedMessage = wire.Name{Category: messageCategory, Type: typeReceived}

func (d DeadLetters) editEvent(ctx context.Context, id string, edit LetterEdit) error {
	l, err := d.rt.engine.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	if err := d.rt.engine.CanEdit(l.Follower); err != nil {
		return fmt.Errorf("%w: correct it with an event that says what is right, or have old events read differently with an upcast, then redrive it", err)
	}
	name := wire.Name{Category: store.Category(l.Stream), Type: l.Type}
	if strings.HasPrefix(name.Category, "$") && name != receivedMessage {
		return Invalid{Detail: fmt.Sprintf("%s is no event of yours, but one of deed's own: it cannot be edited", name)}
	}
	if len(edit.Data) > maxEdits {
		return Invalid{Field: "data", Detail: fmt.Sprintf("is too much: the edits of a dead letter may have %d bytes together", maxEdits)}
	}
	if err := d.rt.codec.Accepts(name, edit.Data); err != nil {
		return invalidData(name.String(), err)
	}
	return d.rt.engine.Edit(ctx, id, edit)
}

func (d DeadLetters) editMessage(ctx context.Context, q Queue, key string, edit LetterEdit) error {
	m, err := q.letter(ctx, key)
	if err != nil {
		return err
	}
	typ, ok := d.rt.publicTypes[m.Event.Type]
	if !ok {
		return Invalid{Detail: fmt.Sprintf("this program does not publish %s any more: nobody knows what it takes", m.Event.Type)}
	}
	if err := wire.UnmarshalStrict(edit.Data, reflect.New(typ).Interface()); err != nil {
		return invalidData(m.Event.Type, err)
	}
	return q.edit(ctx, m, edit)
}

// invalidData says that data is none for an event of a type.
func invalidData(typ string, err error) error {
	field := "data"
	detail := err.Error()
	if f, ok := errors.AsType[*wire.FieldError](err); ok {
		detail = f.Detail
		if f.Field != "" {
			field += "." + f.Field
		}
	}
	return Invalid{Field: field, Detail: fmt.Sprintf("is not what %s takes: %s", typ, detail)}
}
