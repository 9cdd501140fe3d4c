package orders

import (
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// What others know of orders: which one, how many pieces of what are in it, and
// what became of it. What they cost, and who pays how, is between the shop and
// its customer.
type (
	PublicOrder struct {
		Order string `json:"order"`
	}
	PublicItem struct {
		Order    string `json:"order"`
		Product  string `json:"product"`
		Quantity int    `json:"quantity,omitzero"` // how many more; 0 = there are none any more
	}
	PublicSubmission struct {
		Order    string      `json:"order"`
		Customer string      `json:"customer"`
		Total    money.Money `json:"total"`
	}
	PublicShipment struct {
		Order             string    `json:"order"`
		Carrier           string    `json:"carrier"`
		EstimatedDelivery time.Time `json:"estimated_delivery"`
	}
)

// DomainEvents makes the stations of an order public.
var DomainEvents = deed.Publication{
	Topic: "domain-events", Doc: "What becomes of orders.", Source: "/orders",
	Events: []deed.Publishing{
		deed.Publish("order.created.v1", func(e deed.Recorded[Created]) PublicOrder { return PublicOrder{e.ID} }),
		deed.Publish("order.submitted.v1", func(e deed.Recorded[OrderSubmitted]) PublicSubmission {
			return PublicSubmission{e.ID, e.Event.Customer, e.Event.Total}
		}),
		deed.Publish("order.paid.v1", func(e deed.Recorded[PaymentReceived]) PublicOrder { return PublicOrder{e.ID} }),
		deed.Publish("order.confirmed.v1", func(e deed.Recorded[OrderConfirmed]) PublicOrder { return PublicOrder{e.ID} }),
		deed.Publish("order.shipped.v1", func(e deed.Recorded[OrderShipped]) PublicShipment {
			return PublicShipment{e.ID, e.Event.Carrier, e.Event.EstimatedDelivery}
		}),
		deed.Publish("order.item-added.v1", func(e deed.Recorded[ItemAdded]) PublicItem {
			return PublicItem{e.ID, e.Event.Product, e.Event.Quantity}
		}),
		deed.Publish("order.item-removed.v1", func(e deed.Recorded[ItemRemoved]) PublicItem {
			return PublicItem{Order: e.ID, Product: e.Event.Product}
		}),
		deed.Publish("order.cancelled.v1", func(e deed.Recorded[OrderCancelled]) PublicOrder { return PublicOrder{e.ID} }),
	},
}
