package orders

import (
	"slices"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Summary is what a shop sees of an order.
type Summary struct {
	Customer    string      `json:"customer"`
	Status      Status      `json:"status"`
	CreatedAt   time.Time   `json:"created_at"`
	ItemCount   int         `json:"item_count"` // lines, not pieces
	Items       []Line      `json:"items,omitempty"`
	Total       money.Money `json:"total"`
	SubmittedAt time.Time   `json:"submitted_at,omitzero"`
	Transaction string      `json:"transaction,omitempty"`
	Tracking    string      `json:"tracking,omitempty"`
	ShippedAt   time.Time   `json:"shipped_at,omitzero"`
	Reason      string      `json:"cancel_reason,omitempty"`
}

// A Line is what was ordered of a product.
type Line struct {
	Product  string `json:"product"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
}

// Summaries has one Summary per order. Who does not know its number finds it by
// what was ordered, or where it is on its way.
var Summaries = deed.Projection[Summary]{
	Name:    "order-summaries",
	Doc:     "What a shop sees of each order.",
	Indexes: []string{"customer", "status", "total.amount", "created_at"},
	Search:  []string{"customer", "items.product", "items.name", "transaction", "tracking", "cancel_reason"},
	Version: 1, // it has the lines of the order
	On: []deed.Handler[Summary]{
		deed.On(func(s *Summary, e deed.Recorded[Created]) {
			s.Customer, s.Status, s.CreatedAt = e.Event.Customer, Draft, e.Time
		}),
		deed.On(func(s *Summary, e ItemAdded) {
			s.ItemCount++
			s.Items = append(slices.Clip(s.Items), Line{e.Product, e.Name, e.Quantity})
			s.Total = s.Total.Plus(e.UnitPrice.Times(e.Quantity))
		}),
		deed.On(func(s *Summary, e ItemRemoved) {
			s.ItemCount -= e.Lines
			s.Items = slices.DeleteFunc(slices.Clone(s.Items), func(l Line) bool { return l.Product == e.Product })
			s.Total = s.Total.Minus(e.Value)
		}),
		deed.On(func(s *Summary, e deed.Recorded[OrderSubmitted]) { s.Status, s.SubmittedAt = Submitted, e.Time }),
		deed.On(func(s *Summary, e PaymentReceived) { s.Status, s.Transaction = Paid, e.Transaction }),
		deed.On(func(s *Summary, _ OrderConfirmed) { s.Status = Confirmed }),
		deed.On(func(s *Summary, e deed.Recorded[OrderShipped]) {
			s.Status, s.Tracking, s.ShippedAt = Shipped, e.Event.Tracking, e.Time
		}),
		deed.On(func(s *Summary, e OrderCancelled) { s.Status, s.Reason = Cancelled, e.Reason }),
	},
}

// Customer is what a shop sees of a customer.
type Customer struct {
	Orders    int         `json:"orders"`    // created
	Submitted int         `json:"submitted"` // of those
	Value     money.Money `json:"value"`     // of the submitted ones, in the currency of the first
}

// Customers has one document per customer: its key comes from the events, not
// from the stream they are in.
var Customers = deed.Projection[Customer]{
	Name:    "customers",
	Doc:     "How much each customer orders.",
	Indexes: []string{"orders", "value.amount"},
	On: []deed.Handler[Customer]{
		deed.OnBy(func(e Created) string { return e.Customer }, func(c *Customer, e Created) { c.Orders++ }),
		deed.OnBy(func(e OrderSubmitted) string { return e.Customer }, func(c *Customer, e OrderSubmitted) {
			c.Submitted++
			if c.Value.Currency == "" || c.Value.Currency == e.Total.Currency {
				c.Value = c.Value.Plus(e.Total)
			}
		}),
	},
}

// Domain is all of it, as this shop runs it.
func (s Shop) Domain() deed.Domain {
	return deed.Domain{
		Name:      "orders",
		Doc:       "Orders of a shop, from draft to shipment.",
		Parts:     []deed.Part{Orders, Stocks, Summaries, Customers, Levels, s.Checkout(), DomainEvents, PaymentMessages},
		Scenarios: []deed.Scenario{buy, changeOfMind, checkout},
	}
}

// Domain is that of the zero Shop.
var Domain = Shop{}.Domain()
