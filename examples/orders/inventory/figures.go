package main

import (
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const schema = `
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (of TEXT, product TEXT, quantity INTEGER);
CREATE INDEX IF NOT EXISTS items_of ON items (of);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS figures (product TEXT PRIMARY KEY, promised INTEGER NOT NULL DEFAULT 0, shipped INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;`

// A figure is how many pieces of a product wait for customers, and have left.
type figure struct {
	Promised int64 `json:"promised"`
	Shipped  int64 `json:"shipped"`
}

// figures are in a file. What comes again changes nothing: the id of an event is
// stored with what it changes, or neither is.
type figures struct {
	mu   sync.Mutex
	conn *sqlite.Conn
}

func openFigures(path string) (*figures, error) {
	conn, err := sqlite.OpenConn(path)
	if err != nil {
		return nil, err
	}
	return &figures{conn: conn}, sqlitex.ExecuteScript(conn, schema, nil)
}

// take takes in an event, once.
func (f *figures) take(e event) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	end, err := sqlitex.ImmediateTransaction(f.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	if err := f.do(`INSERT OR IGNORE INTO seen VALUES (?)`, e.ID); err != nil || f.conn.Changes() == 0 { // it was seen
		return err
	}
	order := e.Data.Order
	switch e.Type {
	case "order.item-added.v1":
		return f.do(`INSERT INTO items VALUES (?, ?, ?)`, order, e.Data.Product, e.Data.Quantity)
	case "order.item-removed.v1":
		return f.do(`DELETE FROM items WHERE of = ? AND product = ?`, order, e.Data.Product)
	case "order.submitted.v1":
		return f.move(order, "promised", 1, 0)
	case "order.shipped.v1":
		return f.move(order, "shipped", -1, 1)
	case "order.cancelled.v1":
		var promised bool
		err := sqlitex.Execute(f.conn, `SELECT 1 FROM orders WHERE id = ? AND state = 'promised'`, &sqlitex.ExecOptions{
			Args: []any{order}, ResultFunc: func(*sqlite.Stmt) error { promised = true; return nil },
		})
		if err != nil || !promised { // it was never submitted
			return err
		}
		return f.move(order, "cancelled", -1, 0)
	}
	return nil // what is none of its business
}

// move changes the figures of all that is in an order.
func (f *figures) move(order, state string, promised, shipped int64) error {
	if err := f.do(`INSERT OR REPLACE INTO orders VALUES (?, ?)`, order, state); err != nil {
		return err
	}
	return f.do(`INSERT INTO figures (product, promised, shipped) SELECT product, ?2 * sum(quantity), ?3 * sum(quantity) FROM items WHERE of = ?1 GROUP BY product
		ON CONFLICT (product) DO UPDATE SET promised = promised + excluded.promised, shipped = shipped + excluded.shipped`, order, promised, shipped)
}

func (f *figures) do(query string, args ...any) error {
	return sqlitex.Execute(f.conn, query, &sqlitex.ExecOptions{Args: args})
}

// all are the figures by product.
func (f *figures) all() (map[string]figure, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]figure{}
	return out, sqlitex.Execute(f.conn, `SELECT product, promised, shipped FROM figures`, &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			out[s.ColumnText(0)] = figure{s.ColumnInt64(1), s.ColumnInt64(2)}
			return nil
		},
	})
}
