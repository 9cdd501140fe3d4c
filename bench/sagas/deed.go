package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

// What the aggregates are that steps of the data shape write to.
type (
	orderState   struct{ Created bool }
	stockState   struct{ Reserved int }
	paymentState struct{ Paid int }

	orderCreated  struct{ SKU string }
	stockReserved struct{ Order string }
	paymentTaken  struct{ Amount int }

	create  struct{ SKU string }
	reserve struct{ Order string }
	pay     struct{ Amount int }
)

func (e orderCreated) Apply(s *orderState)   { s.Created = true }
func (e stockReserved) Apply(s *stockState)  { s.Reserved++ }
func (e paymentTaken) Apply(s *paymentState) { s.Paid += e.Amount }

func (c create) Decide(s orderState) ([]deed.Event[orderState], error) {
	if s.Created {
		return nil, errors.New("it exists")
	}
	return []deed.Event[orderState]{orderCreated{c.SKU}}, nil
}

func (c reserve) Decide(stockState) ([]deed.Event[stockState], error) {
	return []deed.Event[stockState]{stockReserved{c.Order}}, nil
}

func (c pay) Decide(s paymentState) ([]deed.Event[paymentState], error) {
	if s.Paid > 0 {
		return nil, errors.New("it is paid")
	}
	return []deed.Event[paymentState]{paymentTaken{c.Amount}}, nil
}

var (
	orderAggregate = deed.Aggregate[orderState]{
		Name:   "order",
		Events: map[string]deed.Event[orderState]{"created": orderCreated{}}, Commands: map[string]deed.Command[orderState]{"create": create{}},
	}
	stockAggregate = deed.Aggregate[stockState]{
		Name:   "stock",
		Events: map[string]deed.Event[stockState]{"reserved": stockReserved{}}, Commands: map[string]deed.Command[stockState]{"reserve": reserve{}},
	}
	paymentAggregate = deed.Aggregate[paymentState]{
		Name:   "payment",
		Events: map[string]deed.Event[paymentState]{"taken": paymentTaken{}}, Commands: map[string]deed.Command[paymentState]{"take": pay{}},
	}
)

// checkout is the state of a saga.
type checkout struct {
	Order    order  `json:"order"`
	Created  string `json:"created,omitempty"`
	Reserved string `json:"reserved,omitempty"`
	Paid     string `json:"paid,omitempty"`
}

// do makes a step that returns a value.
func do(f func(order) string, into func(*checkout) *string) func(context.Context, *deed.Work, *checkout) error {
	return func(_ context.Context, _ *deed.Work, c *checkout) error {
		*into(c) = f(c.Order)
		return nil
	}
}

var bareSaga = deed.Saga[checkout]{
	Name: "checkout",
	Steps: []deed.SagaStep[checkout]{
		{Name: "create", Do: do(created, func(c *checkout) *string { return &c.Created })},
		{Name: "reserve", Do: do(reserved, func(c *checkout) *string { return &c.Reserved })},
		{Name: "pay", Do: do(paid, func(c *checkout) *string { return &c.Paid })},
	},
}

var dataSaga = deed.Saga[checkout]{
	Name: "checkout",
	Steps: []deed.SagaStep[checkout]{
		{Name: "create", Send: func(id string, c checkout) []deed.Sending {
			return []deed.Sending{deed.Send(orderAggregate, id, create{c.Order.SKU})}
		}},
		{Name: "reserve", Send: func(id string, c checkout) []deed.Sending {
			return []deed.Sending{deed.Send(stockAggregate, c.Order.SKU, reserve{id})}
		}},
		{Name: "pay", Send: func(id string, c checkout) []deed.Sending {
			return []deed.Sending{deed.Send(paymentAggregate, id, pay{c.Order.Amount})}
		}},
	},
}

type deedSystem struct {
	rt    *deed.Runtime
	store countedStore
	defs  deed.Saga[checkout]
	stop  func() error
}

func openDeed(ctx context.Context, c cell) (system, error) {
	d := &deedSystem{defs: bareSaga}
	if c.Shape == "data" {
		d.defs = dataSaga
	}
	switch c.Store {
	case "sqlite":
		s, err := sqlite.Open(filepath.Join(c.Dir, "deed.db"), nil)
		if err != nil {
			return nil, err
		}
		d.store = &onSQLite{Store: s}
	case "postgres":
		s, err := postgres.Open(ctx, c.DSN, nil)
		if err != nil {
			return nil, err
		}
		d.store = &onPostgres{Store: s}
	}
	domain := deed.Domain{Name: "shop", Parts: []deed.Part{orderAggregate, stockAggregate, paymentAggregate, d.defs}}
	rt, err := deed.New(d.store, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	d.rt = rt
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(running) }()
	d.stop = func() error { cancel(); return <-ended }
	return d, nil
}

func (d *deedSystem) saga(ctx context.Context, o order) error {
	i, err := d.defs.Start(ctx, d.rt, o.ID, checkout{Order: o})
	if err == nil && !i.State.Over() {
		i, err = d.rt.Instances().Wait(ctx, "saga", "checkout", o.ID)
	}
	if err == nil && i.State != deed.InstanceCompleted {
		err = fmt.Errorf("saga %s is %s: %s", o.ID, i.State, i.Reason)
	}
	return err
}

func (d *deedSystem) counts() counts { return d.store.counts() }

// settle waits for the views.
func (d *deedSystem) settle(ctx context.Context) error {
	head, err := d.store.Head(ctx)
	if err != nil {
		return err
	}
	return d.rt.WaitFor(ctx, deed.Receipt{Position: string(head)})
}

func (d *deedSystem) close() error { return errors.Join(d.stop(), d.store.Close()) }

// A countedStore counts what is asked of it.
type countedStore interface {
	store.Store
	counts() counts
}

// tally is what a store was asked.
type tally struct{ appends, records, writes, docs atomic.Int64 }

func (t *tally) appended(writes []store.Write) {
	t.appends.Add(1)
	for _, w := range writes {
		t.records.Add(int64(len(w.Events)))
	}
}

func (t *tally) wrote(changes []store.Change) {
	t.writes.Add(1)
	t.docs.Add(int64(len(changes)))
}

func (t *tally) counts() counts {
	return counts{
		Appends: float64(t.appends.Load()), Records: float64(t.records.Load()), Writes: float64(t.writes.Load()), Docs: float64(t.docs.Load()),
	}
}

// The wrappers embed the stores themselves, so that everything optional that
// they offer stays.
type onSQLite struct {
	*sqlite.Store
	tally tally
}

func (s *onSQLite) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s.tally.appended(writes)
	return s.Store.Append(ctx, writes...)
}

func (s *onSQLite) Write(ctx context.Context, changes ...store.Change) error {
	s.tally.wrote(changes)
	return s.Store.Write(ctx, changes...)
}

func (s *onSQLite) counts() counts {
	c := s.tally.counts()
	c.Commits = float64(s.Commits())
	c.Syncs = c.Commits // WAL and synchronous=FULL: one each
	return c
}

type onPostgres struct {
	*postgres.Store
	tally tally
}

func (s *onPostgres) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s.tally.appended(writes)
	return s.Store.Append(ctx, writes...)
}

func (s *onPostgres) Write(ctx context.Context, changes ...store.Change) error {
	s.tally.wrote(changes)
	return s.Store.Write(ctx, changes...)
}

func (s *onPostgres) counts() counts { return s.tally.counts() }
