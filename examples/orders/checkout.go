package orders

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// A Shop is what the saga of a checkout needs around it. The zero Shop has a
// warehouse of its own, and takes no real money.
type Shop struct {
	Payments  Payments   // who charges customers; nil: a sandbox that only looks at the token
	Warehouse Warehouse  // who keeps the goods; nil: stock is an aggregate of this program
	Retry     deed.Retry // of asking them; zero: six times, the first wait a second, doubled each time
	UndoRetry deed.Retry // of asking them to undo something; zero: for half a day
}

// Cart is what a customer buys and pays with: the state of a checkout.
type Cart struct {
	Customer string `json:"customer"`
	Items    []Item `json:"items"`
	Method   string `json:"method"`                // of payment, for example "card"
	Token    string `json:"token"`                 // what the payment program gave the customer for this purchase
	Payment  string `json:"transaction,omitempty"` // the payment program's id, once it is charged
}

// Validate implements the check of what a checkout is begun with.
func (c Cart) Validate() error {
	errs := []error{
		Create{c.Customer, c.Items}.Validate(),
		deed.Required("method", c.Method), deed.Required("token", c.Token),
	}
	if len(c.Items) == 0 {
		errs = append(errs, deed.Invalid{Field: "items", Detail: "are missing"})
	}
	if c.Payment != "" {
		errs = append(errs, deed.Invalid{Field: "transaction", Detail: "comes from the payment program"})
	}
	return errors.Join(errs...)
}

// total is what there is to pay.
func (c Cart) total() (sum money.Money) {
	for _, i := range c.Items {
		sum = sum.Plus(i.UnitPrice.Times(i.Quantity))
	}
	return sum
}

// pieces are the products of a cart, each once, in order.
func (c Cart) pieces() (products []string, quantity map[string]int) {
	quantity = map[string]int{}
	for _, i := range c.Items {
		quantity[i.Product] += i.Quantity
	}
	return slices.Sorted(maps.Keys(quantity)), quantity
}

// ofEach sends something about each product.
func (c Cart) ofEach(cmd func(quantity int) deed.Command[Stock]) (all []deed.Sending) {
	products, quantity := c.pieces()
	for _, p := range products {
		all = append(all, deed.Send(Stocks, p, cmd(quantity[p])))
	}
	return all
}

// Checkout sees an order through: it is created, its goods are reserved, it is
// paid, it is confirmed. If one of that cannot be, what was done is undone, the
// last thing first: the money is given back, the goods are released, the order
// is cancelled. The id of the saga is that of the order.
func (s Shop) Checkout() deed.Saga[Cart] {
	return deed.Saga[Cart]{
		Name:  "checkout",
		Doc:   "Creates an order, reserves its goods, has it paid and confirms it.",
		Roles: []string{"customer"},
		Steps: s.steps(),
	}
}

func (s Shop) steps() []deed.SagaStep[Cart] {
	if s.Warehouse == nil {
		return []deed.SagaStep[Cart]{s.create(), s.reserve(), s.pay(), s.confirm()}
	}
	return []deed.SagaStep[Cart]{s.create(), s.look(), s.reserveThere(), s.pay(), s.confirm()}
}

func (s Shop) create() deed.SagaStep[Cart] {
	return deed.SagaStep[Cart]{
		Name: "create",
		Send: func(id string, c Cart) []deed.Sending {
			return []deed.Sending{deed.Send(Orders, id, Create{c.Customer, c.Items}), deed.Send(Orders, id, Submit{})}
		},
		Undo: func(id string, _ Cart) []deed.Sending { return []deed.Sending{deed.Send(Orders, id, callOff{})} },
	}
}

// reserve shares the append of create: the stock is part of this program.
func (s Shop) reserve() deed.SagaStep[Cart] {
	return deed.SagaStep[Cart]{
		Name: "reserve",
		Send: func(id string, c Cart) []deed.Sending {
			return c.ofEach(func(n int) deed.Command[Stock] { return Reserve{id, n} })
		},
		Undo: func(id string, c Cart) []deed.Sending {
			return c.ofEach(func(int) deed.Command[Stock] { return Release{id} })
		},
	}
}

// look finds out whether the warehouse is there and has what is wanted. It
// changes nothing, so a checkout that gets no further has nothing to release.
func (s Shop) look() deed.SagaStep[Cart] {
	return deed.SagaStep[Cart]{
		Name: "look", Retry: s.retry(),
		Do: func(ctx context.Context, _ *deed.Work, c *Cart) error {
			products, quantity := c.pieces()
			for _, p := range products {
				switch n, err := s.Warehouse.Available(ctx, p); {
				case err != nil:
					return err
				case n < quantity[p]:
					return fmt.Errorf("%s: %w: %d", p, ErrOutOfStock, n)
				}
			}
			return nil
		},
	}
}

// reserveThere asks a warehouse that is a program of its own.
func (s Shop) reserveThere() deed.SagaStep[Cart] {
	return deed.SagaStep[Cart]{
		Name: "reserve", Retry: s.retry(), UndoRetry: s.undoRetry(),
		Do: func(ctx context.Context, w *deed.Work, c *Cart) error {
			products, quantity := c.pieces()
			for _, p := range products {
				if err := s.Warehouse.Reserve(ctx, w.Key(), p, Pieces{w.ID, quantity[p]}); err != nil {
					return err
				}
				w.Unclear = true // if a later one is sold out, this one has to be released
			}
			return nil
		},
		UndoDo: func(ctx context.Context, w *deed.Work, c *Cart) error {
			products, _ := c.pieces()
			for _, p := range products {
				if err := s.Warehouse.Release(ctx, w.Key(), p, w.ID); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (s Shop) pay() deed.SagaStep[Cart] {
	payments := s.Payments
	if payments == nil {
		payments = sandbox{}
	}
	return deed.SagaStep[Cart]{
		Name: "pay", Retry: s.retry(), UndoRetry: s.undoRetry(),
		Do: func(ctx context.Context, w *deed.Work, c *Cart) (err error) {
			c.Payment, err = payments.Charge(ctx, w.Key(), Charge{w.ID, c.Token, c.total()})
			return err
		},
		UndoDo: func(ctx context.Context, w *deed.Work, _ *Cart) error {
			return payments.Refund(ctx, w.Key(), w.ID)
		},
	}
}

func (s Shop) confirm() deed.SagaStep[Cart] {
	return deed.SagaStep[Cart]{
		Name: "confirm",
		Send: func(id string, c Cart) []deed.Sending {
			all := []deed.Sending{deed.Send(Orders, id, Pay{c.total(), c.Method, c.Payment}), deed.Send(Orders, id, confirm{})}
			if s.Warehouse == nil {
				all = append(all, c.ofEach(func(int) deed.Command[Stock] { return Take{id} })...)
			}
			return all
		},
		Undo: func(id string, c Cart) []deed.Sending {
			all := []deed.Sending{deed.Send(Orders, id, callOff{})}
			if s.Warehouse == nil {
				all = append(all, c.ofEach(func(n int) deed.Command[Stock] { return putBack{id, n} })...)
			}
			return all
		},
	}
}

func (s Shop) retry() deed.Retry {
	return deed.Retry{Attempts: cmp.Or(s.Retry.Attempts, 6), First: cmp.Or(s.Retry.First, time.Second), Max: s.Retry.Max}
}

func (s Shop) undoRetry() deed.Retry {
	return deed.Retry{Attempts: cmp.Or(s.UndoRetry.Attempts, 80), First: cmp.Or(s.UndoRetry.First, time.Second), Max: cmp.Or(s.UndoRetry.Max, 10*time.Minute)}
}

// What only a checkout asks of an order.
type (
	// confirm says that everything about a paid order is settled.
	confirm struct{}
	// callOff cancels an order for the reason for which its checkout turned back.
	callOff struct{ why deed.Reason }
)

func (c confirm) Decide(o Order) ([]deed.Event[Order], error) {
	switch o.Status {
	case "":
		return nil, deed.ErrNotFound
	case Cancelled:
		return nil, ErrCancelled
	case Paid:
		return []deed.Event[Order]{OrderConfirmed{}}, nil
	}
	return nil, ErrNotPaid
}

// Stamp fills in the reason.
func (c callOff) Stamp(s deed.Stamp) deed.Command[Order] { return callOff{s.Why} }

// Decide has nothing to do if somebody else has cancelled the order.
func (c callOff) Decide(o Order) ([]deed.Event[Order], error) {
	if o.Status == "" || o.Status == Cancelled {
		return nil, nil
	}
	return Cancel{Reason: c.why.Text, By: "checkout"}.Decide(o)
}
