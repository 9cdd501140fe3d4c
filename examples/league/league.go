// Package league is an example domain: running leagues, their races and the
// runners in them. It shows a command that is handled in steps and can be
// resumed, with findings, roles and a quota; events that take effect on another
// day than they are recorded; and plain aggregates beside it.
package league

import (
	"errors"
	"net/mail"
	"regexp"
	"time"

	"github.com/deed-dev/deed"
)

// League is what a decision about a league depends on. Its name is its id.
type League struct {
	Formed  bool    `json:"formed"`
	Contact Contact `json:"contact"`
}

// Contact is how to reach a league.
type Contact struct {
	TwitterHandle string `json:"twitter_handle,omitempty"`
	EmailAddress  string `json:"email_address,omitempty"`
}

// What can happen to a league.
type (
	// Formed takes effect on the day of incorporation.
	Formed struct {
		DateIncorporated string `json:"date_incorporated"`
		Location         string `json:"location"`
		Notes            string `json:"notes"`
	}
	// ContactDetailsChanged says all of the contact details, changed or not.
	ContactDetailsChanged struct {
		EffectiveFrom time.Time `json:"effective_from"`
		Contact
		Notes string `json:"notes"`
	}
)

func (e Formed) Apply(l *League)                { l.Formed = true }
func (e ContactDetailsChanged) Apply(l *League) { l.Contact = e.Contact }

// Effective is the day of incorporation.
func (e Formed) Effective() time.Time {
	day, _ := time.Parse(time.DateOnly, e.DateIncorporated)
	return day
}

// Effective is when the new details hold.
func (e ContactDetailsChanged) Effective() time.Time { return e.EffectiveFrom }

// What can be asked of a league that is formed. To form one is asked with
// [Create].
type (
	// SetEmail changes the address and leaves the other details as they are.
	SetEmail struct {
		EmailAddress string `json:"email_address"`
		Notes        string `json:"notes"`

		now time.Time // filled in by Stamp
	}
	// SetHandle changes the Twitter handle and leaves the other details as they are.
	SetHandle struct {
		TwitterHandle string `json:"twitter_handle"` // "" = none
		Since         string `json:"since"`          // the day from which it holds, today at the latest; "" = now
		Notes         string `json:"notes"`

		now time.Time // filled in by Stamp
	}

	// The steps of Create ask these.
	form struct {
		DateIncorporated string
		Location         string
		Notes            string
	}
	setContact struct {
		EffectiveFrom time.Time
		Contact
		Notes string
	}
)

func (c SetEmail) Validate() error { return checkEmail("email_address", c.EmailAddress) }

// Stamp tells when the new address holds.
func (c SetEmail) Stamp(s deed.Stamp) deed.Command[League] {
	c.now = s.Time
	return c
}

func (c SetEmail) Decide(l League) ([]deed.Event[League], error) {
	contact := l.Contact
	contact.EmailAddress = c.EmailAddress
	return setContact{c.now, contact, c.Notes}.Decide(l)
}

// ErrToCome is why a handle may not be set.
var ErrToCome = deed.Reason{Code: "day_to_come", Text: "this day has not begun"}

// Validate refuses what is no handle, or no day.
func (c SetHandle) Validate() error {
	var errs []error
	if c.TwitterHandle != "" && !handleForm.MatchString(c.TwitterHandle) {
		errs = append(errs, deed.Invalid{Field: "twitter_handle", Detail: "must be like @blackrock_ach"})
	}
	if _, err := time.Parse(time.DateOnly, c.Since); err != nil && c.Since != "" {
		errs = append(errs, deed.Invalid{Field: "since", Detail: errNotADay.Error()})
	}
	return errors.Join(errs...)
}

var handleForm = regexp.MustCompile(`^@[A-Za-z0-9_]{1,15}$`)

// Stamp tells what time it is.
func (c SetHandle) Stamp(s deed.Stamp) deed.Command[League] {
	c.now = s.Time
	return c
}

func (c SetHandle) Decide(l League) ([]deed.Event[League], error) {
	since := c.now
	if c.Since != "" {
		since, _ = time.Parse(time.DateOnly, c.Since) // Validate has seen it
	}
	if since.After(c.now) {
		return nil, ErrToCome
	}
	contact := l.Contact
	contact.TwitterHandle = c.TwitterHandle
	return setContact{since, contact, c.Notes}.Decide(l)
}

func (c form) Decide(l League) ([]deed.Event[League], error) {
	if l.Formed {
		return nil, deed.ErrExists
	}
	return []deed.Event[League]{Formed(c)}, nil
}

func (c setContact) Decide(l League) ([]deed.Event[League], error) {
	if !l.Formed {
		return nil, deed.ErrNotFound
	}
	if c.Contact == l.Contact {
		return nil, nil
	}
	return []deed.Event[League]{ContactDetailsChanged(c)}, nil
}

func checkEmail(field, email string) error {
	if err := deed.Required(field, email); err != nil {
		return err
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > 254 {
		return deed.Invalid{Field: field, Detail: "is not an e-mail address"}
	}
	return nil
}

// Leagues is the vocabulary of leagues, as stored and as called.
var Leagues = deed.Aggregate[League]{
	Name:     "league",
	Doc:      "A league of runners, known by its name.",
	Events:   map[string]deed.Event[League]{"formed": Formed{}, "contact-details-changed": ContactDetailsChanged{}},
	Commands: map[string]deed.Command[League]{"set-email": SetEmail{}, "set-twitter-handle": SetHandle{}},
}

// Create asks for a league. Its name is the id of the league there will be.
type Create struct {
	Name             string `json:"name"`
	Location         string `json:"location"`
	DateIncorporated string `json:"date_incorporated"`
	Contact
	Notes string `json:"notes"`
}

// Validate refuses what is malformed. Whether the rest will do, the check of
// [CreateLeague] says.
func (c Create) Validate() error {
	if c.EmailAddress == "" {
		return nil
	}
	return checkEmail("email_address", c.EmailAddress)
}

var errNotADay = errors.New("must be a day like 2016-04-01")

// day returns the day of incorporation.
func (c Create) day() (time.Time, error) {
	if c.DateIncorporated == "" {
		return time.Time{}, errors.New("is missing")
	}
	day, err := time.Parse(time.DateOnly, c.DateIncorporated)
	if err != nil {
		return time.Time{}, errNotADay
	}
	return day, nil
}
