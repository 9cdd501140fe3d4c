// Package bank is an example domain: customers, their accounts, transfers
// between them, and interest. It shows claims, a process that gives money back
// when it cannot be delivered, something that is done every night for every
// account, by a schedule and a saga, queries that put together what several
// views know, public events that say no more than others need, and mails to
// customers.
package bank

import (
	"cmp"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/notify"
)

// A Bank is how a bank is run. The zero Bank has the usual rates.
type Bank struct {
	Clearing   time.Duration // how long money of a transfer is on its way; 0 = no time
	CreditRate int64         // hundredths of a percent a year on money in accounts; 0 = 1.00 %
	DebitRate  int64         // hundredths of a percent a year on overdrafts; 0 = 12.00 %
	InterestAt string        // when interest accrues, as in Schedule.Cron; "" = every day at 01:30
	Zone       string        // in which that is meant, and in which days begin; "" = UTC
	Rates      Rates         // at which money is exchanged; zero = Par
	Mails      notify.Sender // of what customers are told; nil = the view "mails" has it
}

// RoleTeller may look after accounts.
const RoleTeller = "teller"

// Domain is all of it.
func (b Bank) Domain() deed.Domain {
	return deed.Domain{
		Name: "bank",
		Doc:  "Customers of a bank, their accounts, transfers and interest.",
		Parts: []deed.Part{
			Customers, b.accounts(), OpenAccount, Transfers, b.TransferProcess(),
			b.AccrueInterest(), b.Interest(), b.DailyInterest(),
			CustomerDetails, AccountDetails, TransferDetails, Movements,
			b.Overview(), b.Richest(), b.Poor(), b.Statements(),
			BankEvents, Mails, b.Notifications(),
		},
		Scenarios: []deed.Scenario{transact},
	}
}

// Domain is that of the zero Bank.
var Domain = Bank{}.Domain()

// zone is where days begin. What New accepts as the zone of a schedule is one.
func (b Bank) zone() *time.Location {
	loc, err := time.LoadLocation(cmp.Or(b.Zone, "UTC"))
	if err != nil {
		return time.UTC
	}
	return loc
}
