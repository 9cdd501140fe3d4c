// Package conference is an example domain: people register for a conference,
// change their e-mail address, which they must confirm, and unregister. It
// shows a unique value (an address belongs to one attendee), an event handler
// that writes mails to an outbox, and a secret nobody can guess.
package conference

import (
	"net/mail"
	"strings"

	"github.com/deed-dev/deed"
)

// Attendee is what a decision about an attendee depends on.
type Attendee struct {
	Registered   bool   `json:"registered"`
	Unregistered bool   `json:"unregistered"`
	Email        string `json:"email"`
	Pending      string `json:"pending_email,omitempty"` // asked for, not yet confirmed
	Confirmation string `json:"-"`                       // the secret that confirms Pending
}

// What can happen to an attendee.
type (
	Registered struct {
		Email string `json:"email"`
	}
	// EmailChangeRequested makes every earlier confirmation void.
	EmailChangeRequested struct {
		Email        string `json:"email"`
		Confirmation string `json:"confirmation"`
	}
	EmailConfirmed struct {
		Email    string `json:"email"`
		Previous string `json:"previous"`
	}
	Unregistered struct {
		Email  string `json:"email"`
		Reason string `json:"reason"`
	}
)

func (e Registered) Apply(a *Attendee) { a.Registered, a.Email = true, e.Email }
func (e EmailChangeRequested) Apply(a *Attendee) {
	a.Pending, a.Confirmation = e.Email, e.Confirmation
}
func (e EmailConfirmed) Apply(a *Attendee) { a.Email, a.Pending, a.Confirmation = e.Email, "", "" }
func (e Unregistered) Apply(a *Attendee) {
	a.Unregistered, a.Pending, a.Confirmation = true, "", ""
}

func address(email string) deed.Claim {
	return deed.Claim{Scope: "attendee-email", Value: strings.ToLower(email), Taken: ErrEmailTaken}
}

func release(email string) deed.Claim {
	c := address(email)
	c.Release = true
	return c
}

// Claims makes an address belong to one attendee at a time.
func (e Registered) Claims() []deed.Claim { return []deed.Claim{address(e.Email)} }

// Claims hands the old address back when the new one is confirmed.
func (e EmailConfirmed) Claims() []deed.Claim {
	if strings.EqualFold(e.Previous, e.Email) {
		return nil
	}
	return []deed.Claim{release(e.Previous), address(e.Email)}
}

// Claims hands the address back.
func (e Unregistered) Claims() []deed.Claim { return []deed.Claim{release(e.Email)} }

// What can be asked of an attendee.
type (
	Register struct {
		Email string `json:"email"`
	}
	// ChangeEmail asks for another address. It counts once it is confirmed
	// with the secret that is mailed to it.
	ChangeEmail struct {
		Email        string `json:"email"`
		confirmation string // made by Stamp: callers must not choose it
	}
	ConfirmEmail struct {
		Confirmation string `json:"confirmation"`
	}
	Unregister struct {
		Reason string `json:"reason"`
	}
)

// Why an attendee may say no.
var (
	ErrEmailTaken        = deed.Reason{Code: "email_taken", Text: "this e-mail address belongs to another attendee"}
	ErrWrongConfirmation = deed.Reason{Code: "wrong_confirmation", Text: "the confirmation id does not match the latest change of address"}
	ErrUnregistered      = deed.Reason{Code: "unregistered", Text: "the attendee is already unregistered"}
)

func (c Register) Validate() error { return checkEmail(c.Email) }

func (c Register) Decide(a Attendee) ([]deed.Event[Attendee], error) {
	if a.Registered {
		return nil, deed.ErrExists
	}
	return []deed.Event[Attendee]{Registered{strings.TrimSpace(c.Email)}}, nil
}

func (c ChangeEmail) Validate() error { return checkEmail(c.Email) }

// Stamp makes the secret that confirms the change.
func (c ChangeEmail) Stamp(s deed.Stamp) deed.Command[Attendee] {
	c.confirmation = s.Secret
	return c
}

func (c ChangeEmail) Decide(a Attendee) ([]deed.Event[Attendee], error) {
	if err := a.mustBeActive(); err != nil {
		return nil, err
	}
	return []deed.Event[Attendee]{EmailChangeRequested{strings.TrimSpace(c.Email), c.confirmation}}, nil
}

func (c ConfirmEmail) Validate() error { return deed.Required("confirmation", c.Confirmation) }

func (c ConfirmEmail) Decide(a Attendee) ([]deed.Event[Attendee], error) {
	if err := a.mustBeActive(); err != nil {
		return nil, err
	}
	if a.Confirmation == "" || c.Confirmation != a.Confirmation {
		return nil, ErrWrongConfirmation
	}
	return []deed.Event[Attendee]{EmailConfirmed{Email: a.Pending, Previous: a.Email}}, nil
}

func (c Unregister) Decide(a Attendee) ([]deed.Event[Attendee], error) {
	if err := a.mustBeActive(); err != nil {
		return nil, err
	}
	return []deed.Event[Attendee]{Unregistered{a.Email, c.Reason}}, nil
}

func (a Attendee) mustBeActive() error {
	switch {
	case !a.Registered:
		return deed.ErrNotFound
	case a.Unregistered:
		return ErrUnregistered
	}
	return nil
}

func checkEmail(email string) error {
	email = strings.TrimSpace(email)
	if err := deed.Required("email", email); err != nil {
		return err
	}
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > 254 {
		return deed.Invalid{Field: "email", Detail: "is not an e-mail address"}
	}
	return nil
}

// Attendees is the vocabulary of attendees, as stored and as called.
var Attendees = deed.Aggregate[Attendee]{
	Name: "attendee",
	Doc:  "Somebody who registers for the conference.",
	Events: map[string]deed.Event[Attendee]{
		"registered":             Registered{},
		"email-change-requested": EmailChangeRequested{},
		"email-confirmed":        EmailConfirmed{},
		"unregistered":           Unregistered{},
	},
	Commands: map[string]deed.Command[Attendee]{
		"register":      Register{},
		"change-email":  ChangeEmail{},
		"confirm-email": ConfirmEmail{},
		"unregister":    Unregister{},
	},
}
