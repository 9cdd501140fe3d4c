package orders

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

var catalogue = []Item{
	{Product: "p-1", Name: "Keyboard", UnitPrice: money.Money{Amount: 50_00, Currency: "EUR"}},
	{Product: "p-2", Name: "Monitor", UnitPrice: money.Money{Amount: 100_00, Currency: "EUR"}},
	{Product: "p-3", Name: "Cable", UnitPrice: money.Money{Amount: 10_00, Currency: "EUR"}},
	{Product: "p-4", Name: "Mouse", UnitPrice: money.Money{Amount: 25_50, Currency: "EUR"}},
}

// buy is a customer who fills an order, pays for it and gets it.
var buy = deed.Scenario{Name: "buy", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	id := fmt.Sprintf("o-%08x", r.Uint32())
	order := Order{}
	create := Create{Customer: fmt.Sprintf("cust-%03d", r.IntN(200))}
	for range 1 + r.IntN(3) {
		create.Items = append(create.Items, pick(r))
	}
	for _, item := range create.Items {
		ItemAdded{item}.Apply(&order)
	}
	if err := v.Ask(ctx, "order", id, "create", create); err != nil {
		return err
	}
	more := pick(r)
	ItemAdded{more}.Apply(&order)
	if err := v.Ask(ctx, "order", id, "add-item", AddItem{more}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "order", id, "submit", Submit{}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "order", id, "add-item", AddItem{pick(r)}); err != nil { // too late: refused
		return err
	}
	pay := Pay{Amount: order.Total, Method: "card", Transaction: fmt.Sprintf("tx-%016x", r.Uint64())}
	if err := v.Ask(ctx, "order", id, "pay", pay); err != nil {
		return err
	}
	return v.Ask(ctx, "order", id, "ship", Ship{
		Tracking: fmt.Sprintf("trk-%08x", r.Uint32()), Carrier: "Parcel Post",
		EstimatedDelivery: time.Now().AddDate(0, 0, 3).UTC().Truncate(24 * time.Hour),
	})
}}

// changeOfMind is a customer who takes things out again and gives up.
var changeOfMind = deed.Scenario{Name: "change of mind", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	id := fmt.Sprintf("o-%08x", r.Uint32())
	item := pick(r)
	if err := v.Ask(ctx, "order", id, "create", Create{Customer: fmt.Sprintf("cust-%03d", r.IntN(200)), Items: []Item{item}}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "order", id, "remove-item", RemoveItem{item.Product}); err != nil {
		return err
	}
	if err := v.Ask(ctx, "order", id, "submit", Submit{}); err != nil { // empty: refused
		return err
	}
	return v.Ask(ctx, "order", id, "cancel", Cancel{Reason: "found it cheaper", By: "customer"})
}}

// checkout is a customer who buys all at once: now and then the card is declined,
// or somebody else was faster. Sometimes goods arrive.
var checkout = deed.Scenario{Name: "check out", Play: func(ctx context.Context, v deed.Visitor) error {
	r := v.Rand()
	if r.IntN(3) == 0 {
		if err := v.Ask(ctx, "stock", pick(r).Product, "receive", Receive{20 + r.IntN(20)}); err != nil {
			return err
		}
	}
	cart := Cart{Customer: fmt.Sprintf("cust-%03d", r.IntN(200)), Method: "card", Token: "ok"}
	for range 1 + r.IntN(3) {
		cart.Items = append(cart.Items, pick(r))
	}
	if r.IntN(5) == 0 {
		cart.Token = "declined"
	}
	return v.Begin(ctx, "checkout", fmt.Sprintf("o-%08x", r.Uint32()), cart)
}}

func pick(r *rand.Rand) Item {
	item := catalogue[r.IntN(len(catalogue))]
	item.Quantity = 1 + r.IntN(3)
	return item
}
