package credits

import (
	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// RoleFraudCheck may judge transfers.
const RoleFraudCheck = "fraud-check"

type (
	// TransferJudged is what the fraud check says of a transfer.
	TransferJudged struct {
		Suspicious bool   `json:"suspicious"`
		Reason     string `json:"reason,omitempty"`
	}
	// ValidationRequired is why somebody has to validate a transfer that nobody
	// would have to for its amount.
	ValidationRequired struct {
		Reason string `json:"reason"`
	}
)

func (TransferJudged) Apply(t *Transfer)     { t.Judged = true }
func (ValidationRequired) Apply(t *Transfer) { t.Status = PendingValidation }

type (
	// Judge says whether a transfer is suspicious. The first judgement counts.
	Judge             TransferJudged
	requireValidation ValidationRequired
)

// Validate implements the check of what is asked.
func (c Judge) Validate() error {
	if c.Suspicious {
		return deed.Required("reason", c.Reason)
	}
	return nil
}

func (c Judge) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	switch err := t.mustGoOn(); {
	case t.Status == "":
		return nil, deed.ErrNotFound
	case t.Judged:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []deed.Event[Transfer]{TransferJudged(c)}, nil
}

func (c requireValidation) Decide(t Transfer) ([]deed.Event[Transfer], error) {
	if err := t.mustGoOn(); err != nil {
		return nil, err
	}
	return []deed.Event[Transfer]{ValidationRequired(c)}, nil
}

// check has a transfer wait for the fraud check, if there is one.
func (c Credits) check(m *Moving) []deed.Action {
	if c.FraudCheck <= 0 {
		return c.goOn(m)
	}
	m.Unchecked = true
	return []deed.Action{deed.After("fraud-check", c.FraudCheck)}
}

// judged goes on with what was waited for.
func (c Credits) judged(m *Moving, e TransferJudged) []deed.Action {
	if !m.Unchecked { // it was too late
		return nil
	}
	m.Unchecked = false
	actions := []deed.Action{deed.Unset("fraud-check")}
	if e.Suspicious {
		return append(actions, c.validate(m, "The fraud check says: "+e.Reason)...)
	}
	return append(actions, c.goOn(m)...)
}

// unjudged goes on without a fraud check, which is away: a person decides. So
// nothing suspicious passes, and nobody waits for ever.
func (c Credits) unjudged(m *Moving) []deed.Action {
	m.Unchecked = false
	return c.validate(m, "The fraud check has not answered in time")
}

// What others know of transfers: the fraud check, and whoever does the books.
type (
	PublicTransfer struct {
		Transfer string      `json:"transfer"`
		From     string      `json:"from"`
		To       string      `json:"to"`
		Amount   money.Money `json:"amount"`
	}
	PublicOutcome struct {
		Transfer string `json:"transfer"`
		Code     string `json:"code,omitempty"` // why it failed
	}
)

// CreditEvents makes public what becomes of transfers.
var CreditEvents = deed.Publication{
	Topic: "credit-events", Doc: "What becomes of transfers.", Source: "/credits",
	Events: []deed.Publishing{
		deed.Publish("credit-transfer.requested.v1", func(e deed.Recorded[TransferRequested]) PublicTransfer {
			return PublicTransfer{e.ID, e.Event.From, e.Event.To, e.Event.Amount}
		}),
		deed.Publish("credit-transfer.succeeded.v1", func(e deed.Recorded[TransferSucceeded]) PublicOutcome { return PublicOutcome{e.ID, ""} }),
		deed.Publish("credit-transfer.failed.v1", func(e deed.Recorded[TransferFailed]) PublicOutcome { return PublicOutcome{e.ID, e.Event.Code} }),
	},
}
