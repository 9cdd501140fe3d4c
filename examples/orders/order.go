// Package orders is an example domain: orders of a shop, from draft to
// shipment. It shows an aggregate with rules, views, a unique value (a payment
// transaction pays one order only), a saga over several aggregates and services
// outside, and scenarios.
package orders

import (
	"slices"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// A Status is how far an order has come. The zero Status is that of an order
// nobody has created.
type Status string

const (
	Draft     Status = "Draft"     // items may still change
	Submitted Status = "Submitted" // waits to be paid
	Paid      Status = "Paid"      // waits to be shipped
	Confirmed Status = "Confirmed" // the same, and its checkout is done with
	Shipped   Status = "Shipped"   // on its way to the customer
	Cancelled Status = "Cancelled" // nothing more can happen to it
)

// An Item is a line of an order.
type Item struct {
	Product   string      `json:"product"`
	Name      string      `json:"name"`
	UnitPrice money.Money `json:"unit_price"`
	Quantity  int         `json:"quantity"`
}

// Order is what a decision about an order depends on.
type Order struct {
	Status   Status      `json:"status"`
	Customer string      `json:"customer"`
	Items    []Item      `json:"items"`
	Total    money.Money `json:"total"`
}

// What can happen to an order.
type (
	Created struct {
		Customer string `json:"customer"`
	}
	// ItemAdded adds a line, also if the product is in the order already.
	ItemAdded struct {
		Item
	}
	// ItemRemoved says what was removed: all lines of the product.
	ItemRemoved struct {
		Product  string      `json:"product"`
		Lines    int         `json:"lines"`
		Quantity int         `json:"quantity"`
		Value    money.Money `json:"value"`
	}
	OrderSubmitted struct {
		Customer string      `json:"customer"`
		Total    money.Money `json:"total"`
	}
	PaymentReceived struct {
		Amount      money.Money `json:"amount"`
		Method      string      `json:"method"`
		Transaction string      `json:"transaction"`
	}
	OrderConfirmed struct{}
	OrderShipped   struct {
		Tracking          string    `json:"tracking"`
		Carrier           string    `json:"carrier"`
		EstimatedDelivery time.Time `json:"estimated_delivery"`
	}
	OrderCancelled struct {
		Reason string `json:"reason"`
		By     string `json:"by"`
	}
)

func (e Created) Apply(o *Order) { o.Status, o.Customer = Draft, e.Customer }
func (e ItemAdded) Apply(o *Order) {
	o.Items = append(o.Items, e.Item)
	o.Total = o.Total.Plus(e.UnitPrice.Times(e.Quantity))
}
func (e ItemRemoved) Apply(o *Order) {
	o.Items = slices.DeleteFunc(slices.Clone(o.Items), func(i Item) bool { return i.Product == e.Product })
	o.Total = o.Total.Minus(e.Value)
}
func (e OrderSubmitted) Apply(o *Order)  { o.Status = Submitted }
func (e PaymentReceived) Apply(o *Order) { o.Status = Paid }
func (e OrderConfirmed) Apply(o *Order)  { o.Status = Confirmed }
func (e OrderShipped) Apply(o *Order)    { o.Status = Shipped }
func (e OrderCancelled) Apply(o *Order)  { o.Status = Cancelled }

// Claims makes a payment transaction pay one order only.
func (e PaymentReceived) Claims() []deed.Claim {
	return []deed.Claim{{Scope: "payment-transaction", Value: e.Transaction, Taken: ErrTransactionUsed}}
}

// Orders is the vocabulary of orders, as stored and as called.
var Orders = deed.Aggregate[Order]{
	Name: "order",
	Doc:  "An order of a customer, from draft to shipment.",
	Events: map[string]deed.Event[Order]{
		"created":      Created{},
		"item-added":   ItemAdded{},
		"item-removed": ItemRemoved{},
		"submitted":    OrderSubmitted{},
		"paid":         PaymentReceived{},
		"confirmed":    OrderConfirmed{},
		"shipped":      OrderShipped{},
		"cancelled":    OrderCancelled{},
	},
	Commands: map[string]deed.Command[Order]{
		"create":      Create{},
		"add-item":    AddItem{},
		"remove-item": RemoveItem{},
		"submit":      Submit{},
		"pay":         Pay{},
		"ship":        Ship{},
		"cancel":      Cancel{},
	},
	Internal: map[string]deed.Command[Order]{
		"confirm":  confirm{},
		"call-off": callOff{},
	},
	Snapshot: deed.Snapshot{Every: 200, Version: 1},
}
