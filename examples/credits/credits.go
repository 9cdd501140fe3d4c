// Package credits is an example domain: prepaid accounts whose owners send each
// other credits and spend them in shops. It shows commands that are stored first
// and then asked of several entities at once, a process that moves money and asks
// a person about large amounts, with a deadline, and about those that another
// program finds suspicious, and how people are told what became of what they asked
// for.
package credits

import (
	"cmp"
	"time"

	"github.com/deed-dev/deed"
)

// Credits is how an issuer runs it. The zero Credits has the usual limits.
type Credits struct {
	Significant int64         // minor units from which on somebody validates a transfer; 0 = 1,000.00
	Deadline    time.Duration // to validate a transfer; 0 = 24 hours
	Retry       deed.Retry    // of handling requests for transfers
	FraudCheck  time.Duration // how long a transfer waits for the fraud check; 0 = there is none
	Inline      bool          // Balances is right as soon as a command is answered; on SQLite and PostgreSQL
}

// RoleValidator may decide about significant transfers.
const RoleValidator = "validator"

func (c Credits) significant() int64      { return cmp.Or(c.Significant, 1_000_00) }
func (c Credits) deadline() time.Duration { return cmp.Or(c.Deadline, 24*time.Hour) }

// Domain is all of it.
func (c Credits) Domain() deed.Domain {
	balances := Balances
	balances.Inline = c.Inline
	return deed.Domain{
		Name: "credits",
		Doc:  "Prepaid credits: load them, send them, spend them.",
		Parts: []deed.Part{
			Accounts, Transfers, Merchants, c.RequestTransfer(), c.Process(), Sell,
			balances, History, Earnings, Notices, Notifier, CreditEvents,
		},
		Scenarios: []deed.Scenario{share, shop},
	}
}

// Domain is that of the zero Credits.
var Domain = Credits{}.Domain()
