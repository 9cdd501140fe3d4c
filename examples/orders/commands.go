package orders

import (
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// What can be asked of an order.
type (
	// Create makes an order, with its first items in the same breath.
	Create struct {
		Customer string `json:"customer"`
		Items    []Item `json:"items"`
	}
	AddItem    struct{ Item }
	RemoveItem struct {
		Product string `json:"product"`
	}
	Submit struct{}
	Pay    struct {
		Amount      money.Money `json:"amount"` // the order's total, exactly
		Method      string      `json:"method"`
		Transaction string      `json:"transaction"` // the payment provider's id
	}
	Ship struct {
		Tracking          string    `json:"tracking"`
		Carrier           string    `json:"carrier"`
		EstimatedDelivery time.Time `json:"estimated_delivery"`
	}
	Cancel struct {
		Reason string `json:"reason"`
		By     string `json:"by"`
	}
)

// Why an order may say no.
var (
	ErrSubmitted       = deed.Reason{Code: "order_submitted", Text: "Cannot modify a submitted order"}
	ErrEmpty           = deed.Reason{Code: "order_empty", Text: "Cannot submit empty order"}
	ErrNoSuchItem      = deed.Reason{Code: "no_such_item", Text: "The order has no such product"}
	ErrTooManyItems    = deed.Reason{Code: "too_many_items", Text: fmt.Sprintf("An order has at most %d items", maxItems)}
	ErrCurrency        = deed.Reason{Code: "currency_mismatch", Text: "All prices of an order are in one currency"}
	ErrNotSubmitted    = deed.Reason{Code: "order_not_submitted", Text: "Only a submitted order can be paid"}
	ErrWrongAmount     = deed.Reason{Code: "wrong_amount", Text: "The payment must be the order's total"}
	ErrTransactionUsed = deed.Reason{Code: "transaction_used", Text: "This payment transaction has paid another order"}
	ErrNotPaid         = deed.Reason{Code: "order_not_paid", Text: "Only a paid order can be shipped"}
	ErrShipped         = deed.Reason{Code: "order_shipped", Text: "A shipped order cannot be cancelled"}
	ErrCancelled       = deed.Reason{Code: "order_cancelled", Text: "The order is cancelled"}
)

// Bounds that keep every total far from overflow.
const (
	maxItems    = 500
	maxPrice    = 100_000_000_000
	maxQuantity = 100_000
)

func (c Create) Validate() error {
	errs := []error{deed.Required("customer", c.Customer)}
	for i, item := range c.Items {
		errs = append(errs, item.check(fmt.Sprintf("items.%d.", i)))
	}
	return errors.Join(errs...)
}

func (c Create) Decide(o Order) ([]deed.Event[Order], error) {
	if o.Status != "" {
		return nil, deed.ErrExists
	}
	events := []deed.Event[Order]{Created{c.Customer}}
	o.Status = Draft
	for _, item := range c.Items {
		added, err := AddItem{item}.Decide(o)
		if err != nil {
			return nil, err
		}
		events = append(events, added...)
		o.Items = append(o.Items, item)
	}
	return events, nil
}

func (c AddItem) Validate() error { return c.Item.check("") }

func (c AddItem) Decide(o Order) ([]deed.Event[Order], error) {
	if err := o.mustBeDraft(); err != nil {
		return nil, err
	}
	if len(o.Items) >= maxItems {
		return nil, ErrTooManyItems
	}
	if len(o.Items) > 0 && o.Items[0].UnitPrice.Currency != c.UnitPrice.Currency {
		return nil, ErrCurrency
	}
	return []deed.Event[Order]{ItemAdded(c)}, nil
}

func (c RemoveItem) Validate() error { return deed.Required("product", c.Product) }

func (c RemoveItem) Decide(o Order) ([]deed.Event[Order], error) {
	if err := o.mustBeDraft(); err != nil {
		return nil, err
	}
	removed := ItemRemoved{Product: c.Product}
	for _, item := range o.Items {
		if item.Product == c.Product {
			removed.Lines++
			removed.Quantity += item.Quantity
			removed.Value = removed.Value.Plus(item.UnitPrice.Times(item.Quantity))
		}
	}
	if removed.Lines == 0 {
		return nil, ErrNoSuchItem
	}
	return []deed.Event[Order]{removed}, nil
}

func (c Submit) Decide(o Order) ([]deed.Event[Order], error) {
	if err := o.mustBeDraft(); err != nil {
		return nil, err
	}
	if len(o.Items) == 0 {
		return nil, ErrEmpty
	}
	return []deed.Event[Order]{OrderSubmitted{o.Customer, o.Total}}, nil
}

func (c Pay) Validate() error {
	return errors.Join(
		c.Amount.Check("amount", 0, maxItems*maxPrice*maxQuantity),
		deed.Required("method", c.Method), deed.Required("transaction", c.Transaction))
}

func (c Pay) Decide(o Order) ([]deed.Event[Order], error) {
	switch {
	case o.Status == "":
		return nil, deed.ErrNotFound
	case o.Status == Cancelled:
		return nil, ErrCancelled
	case o.Status != Submitted:
		return nil, ErrNotSubmitted
	case c.Amount != o.Total:
		return nil, fmt.Errorf("%w, which is %v", ErrWrongAmount, o.Total)
	}
	return []deed.Event[Order]{PaymentReceived(c)}, nil
}

func (c Ship) Validate() error {
	return errors.Join(deed.Required("tracking", c.Tracking), deed.Required("carrier", c.Carrier),
		deed.Required("estimated_delivery", c.EstimatedDelivery))
}

func (c Ship) Decide(o Order) ([]deed.Event[Order], error) {
	switch o.Status {
	case "":
		return nil, deed.ErrNotFound
	case Cancelled:
		return nil, ErrCancelled
	case Paid, Confirmed:
		return []deed.Event[Order]{OrderShipped(c)}, nil
	}
	return nil, ErrNotPaid
}

func (c Cancel) Validate() error { return deed.Required("reason", c.Reason) }

func (c Cancel) Decide(o Order) ([]deed.Event[Order], error) {
	switch o.Status {
	case "":
		return nil, deed.ErrNotFound
	case Cancelled:
		return nil, ErrCancelled
	case Shipped:
		return nil, ErrShipped
	}
	return []deed.Event[Order]{OrderCancelled(c)}, nil
}

// Stamp fills in who cancels, if the caller did not say.
func (c Cancel) Stamp(s deed.Stamp) deed.Command[Order] {
	if c.By == "" {
		c.By = s.Actor
	}
	return c
}

func (o Order) mustBeDraft() error {
	switch o.Status {
	case "":
		return deed.ErrNotFound
	case Draft:
		return nil
	case Cancelled:
		return ErrCancelled
	}
	return ErrSubmitted
}

func (i Item) check(prefix string) error {
	errs := []error{
		deed.Required(prefix+"product", i.Product),
		deed.Required(prefix+"name", i.Name),
		i.UnitPrice.Check(prefix+"unit_price", 0, maxPrice),
	}
	if i.Quantity < 1 || i.Quantity > maxQuantity {
		errs = append(errs, deed.Invalid{Field: prefix + "quantity", Detail: fmt.Sprintf("must be from 1 to %d", maxQuantity)})
	}
	return errors.Join(errs...)
}
