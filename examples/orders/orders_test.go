package orders_test

import (
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/money"
	"github.com/deed-dev/deed/examples/orders"
)

type given = []deed.Event[orders.Order]

func eur(cents int64) money.Money { return money.Money{Amount: cents, Currency: "EUR"} }

var (
	keyboard  = orders.Item{Product: "p-1", Name: "Keyboard", UnitPrice: eur(50_00), Quantity: 1}
	monitor   = orders.Item{Product: "p-2", Name: "Monitor", UnitPrice: eur(100_00), Quantity: 2}
	draft     = given{orders.Created{Customer: "cust_789"}, orders.ItemAdded{Item: keyboard}, orders.ItemAdded{Item: monitor}}
	submitted = append(draft[:3:3], orders.OrderSubmitted{Customer: "cust_789", Total: eur(250_00)})
	pay       = orders.Pay{Amount: eur(250_00), Method: "card", Transaction: "tx-1"}
	paid      = append(submitted[:4:4], orders.PaymentReceived(pay))
	ship      = orders.Ship{Tracking: "t", Carrier: "c", EstimatedDelivery: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	shipped   = append(paid[:5:5], orders.OrderShipped(ship))
	cancelled = append(draft[:3:3], orders.OrderCancelled{Reason: "no", By: "ann"})
)

func TestOrder(t *testing.T) {
	deedtest.Run(t, []deedtest.Case[orders.Order]{
		{Name: "create with items in one batch", When: orders.Create{Customer: "cust_789", Items: []orders.Item{keyboard, monitor}}, Then: draft},
		{Name: "create needs a customer", When: orders.Create{}, Err: deedtest.ErrInvalid},
		{Name: "create twice", Given: draft, When: orders.Create{Customer: "x"}, Err: deed.ErrExists},
		{Name: "create with two currencies", When: orders.Create{Customer: "c", Items: []orders.Item{keyboard,
			{Product: "p", Name: "n", UnitPrice: money.Money{Amount: 1, Currency: "USD"}, Quantity: 1}}}, Err: orders.ErrCurrency},
		{Name: "add an item", Given: draft, When: orders.AddItem{Item: keyboard}, Then: given{orders.ItemAdded{Item: keyboard}}},
		{Name: "add to nothing", When: orders.AddItem{Item: keyboard}, Err: deed.ErrNotFound},
		{Name: "add none of something", Given: draft, When: orders.AddItem{Item: orders.Item{Product: "p", Name: "n", UnitPrice: eur(1)}}, Err: deedtest.ErrInvalid},
		{Name: "add at a negative price", Given: draft, When: orders.AddItem{Item: orders.Item{Product: "p", Name: "n", UnitPrice: eur(-1), Quantity: 1}}, Err: deedtest.ErrInvalid},
		{Name: "add in another currency", Given: draft, When: orders.AddItem{Item: orders.Item{Product: "p", Name: "n", UnitPrice: money.Money{Amount: 1, Currency: "USD"}, Quantity: 1}}, Err: orders.ErrCurrency},
		{Name: "frozen after submit", Given: submitted, When: orders.AddItem{Item: keyboard}, Err: orders.ErrSubmitted},
		{Name: "remove every line of a product", Given: append(draft[:3:3], orders.ItemAdded{Item: monitor}), When: orders.RemoveItem{Product: "p-2"},
			Then: given{orders.ItemRemoved{Product: "p-2", Lines: 2, Quantity: 4, Value: eur(400_00)}}},
		{Name: "remove what is not there", Given: draft, When: orders.RemoveItem{Product: "p-9"}, Err: orders.ErrNoSuchItem},
		{Name: "remove after submit", Given: submitted, When: orders.RemoveItem{Product: "p-1"}, Err: orders.ErrSubmitted},
		{Name: "submit", Given: draft, When: orders.Submit{}, Then: given{submitted[3]}},
		{Name: "submit nothing", Given: draft[:1], When: orders.Submit{}, Err: orders.ErrEmpty},
		{Name: "submit twice", Given: submitted, When: orders.Submit{}, Err: orders.ErrSubmitted},
		{Name: "pay", Given: submitted, When: pay, Then: given{paid[4]}},
		{Name: "pay too little", Given: submitted, When: orders.Pay{Amount: eur(1), Method: "card", Transaction: "tx"}, Err: orders.ErrWrongAmount},
		{Name: "pay in another currency", Given: submitted, When: orders.Pay{Amount: money.Money{Amount: 250_00, Currency: "USD"}, Method: "card", Transaction: "tx"}, Err: orders.ErrWrongAmount},
		{Name: "pay a draft", Given: draft, When: pay, Err: orders.ErrNotSubmitted},
		{Name: "pay twice", Given: paid, When: pay, Err: orders.ErrNotSubmitted},
		{Name: "pay without a transaction", Given: submitted, When: orders.Pay{Amount: eur(250_00), Method: "card"}, Err: deedtest.ErrInvalid},
		{Name: "ship", Given: paid, When: ship, Then: given{orders.OrderShipped(ship)}},
		{Name: "ship before it is paid", Given: submitted, When: ship, Err: orders.ErrNotPaid},
		{Name: "ship twice", Given: shipped, When: ship, Err: orders.ErrNotPaid},
		{Name: "cancel", Given: draft, When: orders.Cancel{Reason: "no"}, By: deed.Stamp{Actor: "ann"}, Then: given{cancelled[3]}},
		{Name: "cancel what is shipped", Given: shipped, When: orders.Cancel{Reason: "no"}, Err: orders.ErrShipped},
		{Name: "cancel twice", Given: cancelled, When: orders.Cancel{Reason: "no"}, Err: orders.ErrCancelled},
		{Name: "cancel nothing", When: orders.Cancel{Reason: "no"}, Err: deed.ErrNotFound},
		{Name: "add after cancel", Given: cancelled, When: orders.AddItem{Item: keyboard}, Err: orders.ErrCancelled},
	})
}

func TestSummary(t *testing.T) {
	got := orders.Summaries.Fold(
		orders.Created{Customer: "c"}, orders.ItemAdded{Item: keyboard}, orders.ItemAdded{Item: monitor},
		orders.ItemRemoved{Product: "p-1", Lines: 1, Quantity: 1, Value: eur(50_00)})
	if got.Status != orders.Draft || got.ItemCount != 1 || got.Total != eur(200_00) {
		t.Errorf("got %+v", got)
	}
}

func TestDomain(t *testing.T) {
	deedtest.Check(t, orders.Domain)
	deedtest.CheckSchemas(t, orders.Domain)
	if !strings.Contains(orders.ErrTooManyItems.Text, "500") {
		t.Error(orders.ErrTooManyItems.Text)
	}
}

func TestViewsFollow(t *testing.T) {
	ctx, rt := t.Context(), deedtest.Start(t, orders.Domain)
	r, err := orders.Orders.Execute(ctx, rt, "o-1", orders.Create{Customer: "c", Items: []orders.Item{keyboard, monitor}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.WaitFor(ctx, r); err != nil {
		t.Fatal(err)
	}
	s, err := orders.Summaries.Get(ctx, rt, "o-1")
	if err != nil || s.ItemCount != 2 || s.Total != eur(250_00) {
		t.Errorf("got %+v, %v", s, err)
	}
}
