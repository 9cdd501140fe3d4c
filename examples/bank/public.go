package bank

import "github.com/deed-dev/deed"

// What others know of the bank: that something has happened, and to whom or what.
// Whoever may know more asks for it.
type (
	PublicCustomer struct {
		Customer string `json:"customer"`
	}
	PublicAccount struct {
		Account string `json:"account"`
	}
)

// CorrelationID lets others find all there is about an account in their own
// records, whatever it was part of here.
func (a PublicAccount) CorrelationID() string { return a.Account }

// BankEvents makes public that there are customers and accounts, and that money
// has moved.
var BankEvents = deed.Publication{
	Topic: "bank-events", Doc: "That there is a customer or an account, or that money has moved.", Source: "/bank",
	Events: []deed.Publishing{
		deed.Publish("customer.created.v1", func(e deed.Recorded[CustomerCreated]) PublicCustomer { return PublicCustomer{e.ID} }),
		deed.Publish("account.created.v1", func(e deed.Recorded[AccountOpened]) PublicAccount { return PublicAccount{e.ID} }),
		transaction[MoneyDeposited](), transaction[MoneyWithdrawn](), transaction[SentOff](), transaction[TakenIn](), transaction[Refunded](), transaction[InterestPaid](),
	},
}

func transaction[E deed.Event[Account]]() deed.Publishing {
	return deed.Publish("account.transaction.v1", func(e deed.Recorded[E]) PublicAccount { return PublicAccount{e.ID} })
}
