package bank

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/notify"
)

// Mails has what customers would be told by a bank that sends no mails.
var Mails = deed.View[notify.Mail]{
	Name:    "mails",
	Doc:     "What customers are told, if the bank sends no mails: by account and version.",
	Indexes: []string{"to", "at"},
}

// Notifications tells customers of new accounts, and of whatever moves on them.
// An event may be there before the views know whose account it is: then the
// customer is told a moment later.
func (b Bank) Notifications() deed.EventHandler {
	return deed.EventHandler{
		Name: "notifications",
		Doc:  "Tells customers by mail of new accounts, and of what moves on them.",
		On: []deed.Reaction{
			deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[AccountOpened]) error {
				return b.tell(ctx, tx, e.Meta, e.Event.Customer, "Your new account", "a new account was created for you: %s")
			}),
			tellOf[MoneyDeposited](b), tellOf[MoneyWithdrawn](b), tellOf[SentOff](b), tellOf[TakenIn](b), tellOf[Refunded](b), tellOf[InterestPaid](b),
		},
		Partitions: 2,
		Retry:      deed.Retry{Attempts: 14, First: time.Second, Max: 10 * time.Minute}, // of mails: about an hour
	}
}

// tellOf tells of something that moves on an account.
func tellOf[E deed.Event[Account]](b Bank) deed.Reaction {
	return deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[E]) error {
		account, err := AccountDetails.Get(ctx, tx, e.ID)
		if err != nil {
			return notYet(err, "account", e.ID)
		}
		return b.tell(ctx, tx, e.Meta, account.Customer, "A transaction on your account", "a transaction occurred on your account %s")
	})
}

// tell tells a customer of what happened to an account.
func (b Bank) tell(ctx context.Context, tx *deed.Tx, m deed.Meta, customer, subject, text string) error {
	who, err := CustomerDetails.Get(ctx, tx, customer)
	if err != nil {
		return notYet(err, "customer", customer)
	}
	mail := notify.Mail{
		Key: tx.Key(), To: who.Email, Subject: subject, At: m.Time,
		Text: fmt.Sprintf("Dear %s,\n\n"+text+".\n", who.FirstName, m.ID),
	}
	if b.Mails == nil {
		return Mails.Put(tx, fmt.Sprintf("%s:%d", m.ID, m.Version), mail)
	}
	return b.Mails.Send(ctx, mail)
}

// lag is how long a view is waited for at a time.
const lag = 500 * time.Millisecond

// notYet has a mail wait for a view that lags.
func notYet(err error, what, id string) error {
	if errors.Is(err, deed.ErrNotFound) {
		return deed.NotYet(fmt.Errorf("the view does not know %s %s yet", what, id), lag)
	}
	return err
}
