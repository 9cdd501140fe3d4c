package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
)

// An order is the input of a saga: it is created, its goods are reserved, and it
// is paid.
type order struct {
	ID     string `json:"id"`
	SKU    string `json:"sku"`
	Amount int    `json:"amount"` // cents
}

// goods is how many kinds of goods there are. Sagas that reserve the same at the
// same time get in each other's way, in every system; with so many they seldom
// do.
const goods = 1000

var orders atomic.Int64

func newOrder() order {
	n := orders.Add(1)
	return order{ID: "o-" + strconv.FormatInt(n, 10), SKU: fmt.Sprintf("sku-%d", n%goods), Amount: 1999}
}

// The steps of a bare saga, for all systems.
func created(o order) string  { return "created " + o.ID }
func reserved(o order) string { return "reserved " + o.SKU }
func paid(o order) string     { return "paid " + strconv.Itoa(o.Amount) }

// Tables of the business data that steps write where deed has aggregates.
var tables = []string{
	"CREATE TABLE orders (id text PRIMARY KEY, sku text NOT NULL, amount bigint NOT NULL)",
	"CREATE TABLE stock (sku text PRIMARY KEY, reserved bigint NOT NULL)",
	"CREATE TABLE payments (id text PRIMARY KEY, amount bigint NOT NULL)",
}

// Statements of the steps. A step that is repeated after a crash reserves twice;
// deed and DBOS exclude that, and a go-workflows activity would have to record
// what it has done.
const (
	createOrder  = "INSERT INTO orders (id, sku, amount) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
	reserveStock = "INSERT INTO stock (sku, reserved) VALUES ($1, 1) ON CONFLICT (sku) DO UPDATE SET reserved = stock.reserved + 1"
	takePayment  = "INSERT INTO payments (id, amount) VALUES ($1, $2) ON CONFLICT DO NOTHING"
)

// A system runs sagas.
type system interface {
	// saga runs one and returns when its end is durable.
	saga(ctx context.Context, o order) error
	// counts adds up what has been written so far, as far as only the system knows.
	counts() counts
	// settle returns when nothing is left to be done that sagas have caused.
	settle(ctx context.Context) error
	close() error
}

// counts are what sagas cost the store.
type counts struct {
	Appends float64 `json:"appends,omitzero"` // deed: to the log
	Records float64 `json:"records,omitzero"` // deed: in the log
	Writes  float64 `json:"writes,omitzero"`  // deed: of documents (views, checkpoints)
	Docs    float64 `json:"docs,omitzero"`    // deed: in those
	Commits float64 `json:"commits,omitzero"` // transactions
	Syncs   float64 `json:"syncs,omitzero"`   // of the disk
	Logged  float64 `json:"logged,omitzero"`  // bytes of PostgreSQL's WAL
}

func (c counts) minus(d counts) counts {
	return counts{c.Appends - d.Appends, c.Records - d.Records, c.Writes - d.Writes, c.Docs - d.Docs, c.Commits - d.Commits, c.Syncs - d.Syncs, c.Logged - d.Logged}
}

func (c counts) per(n float64) counts {
	return counts{c.Appends / n, c.Records / n, c.Writes / n, c.Docs / n, c.Commits / n, c.Syncs / n, c.Logged / n}
}
