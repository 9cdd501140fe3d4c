// Package notify tells people and programs outside what has happened: by mails
// and by files. It is for event handlers, which may do the same again after a
// crash; so whatever is sent has a key, and can be recognised by it.
//
//	deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[AccountOpened]) error {
//		return mails.Send(ctx, notify.Mail{Key: tx.Key(), To: "ann@example.org", Subject: "Your account", Text: "...", At: e.Time})
//	})
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// A Mail is a text for one person.
type Mail struct {
	Key     string    `json:"key"` // the same whenever this is sent again, for example [deed.Tx.Key]
	To      string    `json:"to"`  // an address, which may have a name: "Ann <ann@example.org>"
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	At      time.Time `json:"at"` // when that happened which it tells of
}

// A Sender sends mails. It returns when a mail is in the hands of somebody else,
// and is used by many goroutines at once. An error is [deed.Permanent] if the
// same mail would be refused again.
type Sender interface {
	Send(ctx context.Context, m Mail) error
}

// Check reports what is wrong with a mail.
func (m Mail) Check() error {
	var errs []error
	for field, v := range map[string]string{"key": m.Key, "to": m.To, "subject": m.Subject} {
		if strings.TrimSpace(v) == "" {
			errs = append(errs, fmt.Errorf("the mail has no %s", field))
		}
	}
	if _, err := mail.ParseAddress(m.To); err != nil && m.To != "" {
		errs = append(errs, fmt.Errorf("%q is no address of a mail", m.To))
	}
	if strings.ContainsFunc(m.Subject, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		errs = append(errs, errors.New("the subject of the mail is more than one line of text"))
	}
	if err := errors.Join(errs...); err != nil {
		return deed.Permanent(err)
	}
	return nil
}
