package orders

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/money"
)

func TestStock(t *testing.T) {
	type given = []deed.Event[Stock]
	five := given{StockReceived{5}}
	reserved := append(five[:1:1], StockReserved{"o-1", 2})
	taken := append(reserved[:2:2], StockTaken{"o-1", 2})
	deedtest.Run(t, []deedtest.Case[Stock]{
		{Name: "receive", When: Receive{5}, Then: five},
		{Name: "receive nothing", When: Receive{}, Err: deedtest.ErrInvalid},
		{Name: "reserve", Given: five, When: Reserve{"o-1", 2}, Then: reserved[1:]},
		{Name: "reserve all", Given: five, When: Reserve{"o-1", 5}, Then: given{StockReserved{"o-1", 5}}},
		{Name: "reserve too many", Given: five, When: Reserve{"o-1", 6}, Err: ErrOutOfStock},
		{Name: "reserve what is reserved", Given: reserved, When: Reserve{"o-2", 4}, Err: ErrOutOfStock},
		{Name: "reserve what never was", When: Reserve{"o-1", 1}, Err: ErrOutOfStock},
		{Name: "reserve for nobody", Given: five, When: Reserve{"", 1}, Err: deedtest.ErrInvalid},
		{Name: "reserve none", Given: five, When: Reserve{"o-1", 0}, Err: deedtest.ErrInvalid},
		{Name: "reserve again", Given: reserved, When: Reserve{"o-1", 2}},
		{Name: "reserve more", Given: reserved, When: Reserve{"o-1", 3}, Err: ErrReserved},
		{Name: "release", Given: reserved, When: Release{"o-1"}, Then: given{StockReleased{"o-1", 2}}},
		{Name: "release what is not reserved", Given: five, When: Release{"o-1"}},
		{Name: "release for nobody", Given: five, When: Release{}, Err: deedtest.ErrInvalid},
		{Name: "take", Given: reserved, When: Take{"o-1"}, Then: taken[2:]},
		{Name: "take twice", Given: taken, When: Take{"o-1"}, Err: ErrNotReserved},
		{Name: "put back", Given: taken, When: putBack{"o-1", 2}, Then: given{StockReturned{"o-1", 2}}},
		{Name: "reserve what was put back", Given: append(taken[:3:3], StockReturned{"o-1", 2}), When: Reserve{"o-2", 5}, Then: given{StockReserved{"o-2", 5}}},
	})
	if l := Levels.Fold(five[0], reserved[1], taken[2], StockReserved{"o-2", 1}, StockReturned{"o-1", 2}); l != (Level{Available: 4, Reserved: 1, Taken: 0}) {
		t.Errorf("%+v", l)
	}
	if s := deed.Fold(taken...); len(s.Reserved) != 0 {
		t.Errorf("it still knows of %v", s.Reserved)
	}
}

// What only a checkout asks of an order.
func TestOrderInACheckout(t *testing.T) {
	type given = []deed.Event[Order]
	someDay := time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)
	item := Item{"p-1", "Keyboard", money.Money{Amount: 50_00, Currency: "EUR"}, 1}
	submitted := given{Created{"c"}, ItemAdded{item}, OrderSubmitted{"c", item.UnitPrice}}
	paid := append(submitted[:3:3], PaymentReceived{item.UnitPrice, "card", "tx"})
	confirmed := append(paid[:4:4], OrderConfirmed{})
	cancelled := append(paid[:4:4], OrderCancelled{"no", "ann"})
	shipped := append(confirmed[:5:5], OrderShipped{Tracking: "t"})
	why := deed.Stamp{Why: deed.Reason{Code: "payment_declined", Text: "declined"}}
	off := given{OrderCancelled{"declined", "checkout"}}
	deedtest.Run(t, []deedtest.Case[Order]{
		{Name: "confirm", Given: paid, When: confirm{}, Then: confirmed[4:]},
		{Name: "confirm before it is paid", Given: submitted, When: confirm{}, Err: ErrNotPaid},
		{Name: "confirm what is cancelled", Given: cancelled, When: confirm{}, Err: ErrCancelled},
		{Name: "confirm nothing", When: confirm{}, Err: deed.ErrNotFound},
		{Name: "ship what is confirmed", Given: confirmed, When: Ship{Tracking: "t", Carrier: "c", EstimatedDelivery: someDay},
			Then: given{OrderShipped{"t", "c", someDay}}},
		{Name: "call off", Given: submitted, When: callOff{}, By: why, Then: off},
		{Name: "call off what is confirmed", Given: confirmed, When: callOff{}, By: why, Then: off},
		{Name: "call off what is cancelled", Given: cancelled, When: callOff{}, By: why},
		{Name: "call off nothing", When: callOff{}, By: why},
		{Name: "call off what is shipped", Given: shipped, When: callOff{}, By: why, Err: ErrShipped},
	})
}

// What a checkout can be begun with.
func TestCart(t *testing.T) {
	good := Cart{Customer: "c", Method: "card", Token: "ok", Items: []Item{{"p-1", "Keyboard", money.Money{Amount: 50_00, Currency: "EUR"}, 1}}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for field, spoil := range map[string]func(*Cart){
		"customer": func(c *Cart) { c.Customer = "" }, "items": func(c *Cart) { c.Items = nil }, "token": func(c *Cart) { c.Token = "" },
		"method": func(c *Cart) { c.Method = "" }, "transaction": func(c *Cart) { c.Payment = "tx-1" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); !errors.As(err, &deed.Invalid{}) || !strings.Contains(err.Error(), field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
	good.Items = append(good.Items, Item{"p-0", "Mouse", money.Money{Amount: 1, Currency: "EUR"}, 3}, Item{"p-1", "Keyboard", money.Money{Amount: 49_00, Currency: "EUR"}, 2})
	if products, quantity := good.pieces(); strings.Join(products, " ") != "p-0 p-1" || quantity["p-1"] != 3 || good.total().Amount != 148_03 {
		t.Errorf("%v %v %v", products, quantity, good.total())
	}
}
