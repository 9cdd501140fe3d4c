package conference

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
)

// Entry is what the organisers see of an attendee.
type Entry struct {
	Email  string `json:"email"`
	Active bool   `json:"active"`
	Reason string `json:"reason,omitempty"` // why they unregistered
}

// Directory has one Entry per attendee. An address shows when it is confirmed.
var Directory = deed.Projection[Entry]{
	Name:    "attendees",
	Doc:     "Who attends, with the address that is confirmed.",
	Indexes: []string{"email", "active"},
	On: []deed.Handler[Entry]{
		deed.On(func(v *Entry, e Registered) { v.Email, v.Active = e.Email, true }),
		deed.On(func(v *Entry, e EmailConfirmed) { v.Email = e.Email }),
		deed.On(func(v *Entry, e Unregistered) { v.Active, v.Reason = false, e.Reason }),
	},
}

// A Mail is a message to be sent.
type Mail struct {
	To           string    `json:"to"`
	Subject      string    `json:"subject"`
	Text         string    `json:"text"`
	Attendee     string    `json:"attendee"`
	Confirmation string    `json:"confirmation"`
	At           time.Time `json:"at"`
}

// Outbox has one Mail per change of address, under the attendee's id: a later
// change makes an earlier one pointless.
var Outbox = deed.View[Mail]{
	Name:    "outbox",
	Doc:     "Mails to be sent: the latest confirmation for each attendee.",
	Indexes: []string{"to"},
}

// Confirmations writes a mail when somebody asks for another address.
var Confirmations = deed.EventHandler{
	Name: "confirmation-mails",
	Doc:  "Writes the mail that asks to confirm a change of address.",
	On: []deed.Reaction{
		deed.Handle(func(_ context.Context, tx *deed.Tx, e deed.Recorded[EmailChangeRequested]) error {
			return Outbox.Put(tx, e.ID, Mail{
				To: e.Event.Email, Subject: "Please confirm your address", Attendee: e.ID,
				Text:         fmt.Sprintf("Confirm with the id %s that this is your address.", e.Event.Confirmation),
				Confirmation: e.Event.Confirmation, At: e.Time,
			})
		}),
	},
}

// Domain is all of it.
var Domain = deed.Domain{
	Name:      "conference",
	Doc:       "Registration for a conference.",
	Parts:     []deed.Part{Attendees, Directory, Outbox, Confirmations, AttendeeEvents},
	Scenarios: []deed.Scenario{attend},
}

// attend is somebody who registers, moves to another address and may not come
// after all.
var attend = deed.Scenario{Name: "attend", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	id := fmt.Sprintf("a-%08x", r.Uint32())
	email := fmt.Sprintf("guest%d@example.org", r.IntN(100_000))
	if err := v.Ask(ctx, "attendee", id, "register", Register{email}); err != nil { // refused if the address is taken
		return err
	}
	if err := v.Ask(ctx, "attendee", id, "change-email", ChangeEmail{Email: fmt.Sprintf("  new-%s ", email)}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "attendee", id, "confirm-email", ConfirmEmail{"a guess"}); err != nil { // refused
		return err
	}
	var mail Mail
	if err := v.Look(ctx, "outbox", id, &mail); errors.Is(err, deed.ErrNotFound) {
		return nil // was not registered: nothing to confirm
	} else if err != nil {
		return err
	}
	if err := v.Ask(ctx, "attendee", id, "confirm-email", ConfirmEmail{mail.Confirmation}); err != nil {
		return err
	}
	if r.IntN(4) > 0 {
		return nil
	}
	return v.Ask(ctx, "attendee", id, "unregister", Unregister{"cannot come"})
}}
