package orders

import (
	"context"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// A PaymentSettled is what a payment provider tells the shop when the money for an
// order has come: later than a checkout waits, by bank transfer for example.
type PaymentSettled struct {
	Order       string      `json:"order"`
	Amount      money.Money `json:"amount"`
	Method      string      `json:"method"`
	Transaction string      `json:"transaction"`
}

// PaymentMessages pays orders by what the provider tells. What does not fit the
// order is a dead letter: somebody has to look at it, for there is money.
var PaymentMessages = deed.Reception{
	Name: "payments", Doc: "What the payment provider tells.", Roles: []string{"provider"},
	Messages: []deed.Receiving{
		deed.Receive("payment.settled.v1", func(_ context.Context, m deed.Received[PaymentSettled]) ([]deed.Sending, error) {
			p := m.Data
			return []deed.Sending{deed.Send(Orders, p.Order, Pay{Amount: p.Amount, Method: p.Method, Transaction: p.Transaction})}, nil
		}),
	},
}
