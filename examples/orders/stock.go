package orders

import (
	"errors"
	"fmt"
	"maps"

	"github.com/deed-dev/deed"
)

// Stock is what a decision about the stock of a product depends on.
type Stock struct {
	Available int            `json:"available"`          // pieces that anybody can have
	Reserved  map[string]int `json:"reserved,omitempty"` // by order: pieces that wait for it
}

// What can happen to the stock of a product.
type (
	StockReceived struct {
		Quantity int `json:"quantity"`
	}
	StockReserved Pieces
	StockReleased Pieces // the order does not need them
	StockTaken    Pieces // they have left for good
	StockReturned Pieces // and are back
)

// Pieces are so many pieces of a product for an order.
type Pieces struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

func (e StockReceived) Apply(s *Stock) { s.Available += e.Quantity }
func (e StockReserved) Apply(s *Stock) { s.Available -= e.Quantity; s.keep(e.Order, e.Quantity) }
func (e StockReleased) Apply(s *Stock) { s.Available += e.Quantity; s.keep(e.Order, 0) }
func (e StockTaken) Apply(s *Stock)    { s.keep(e.Order, 0) }
func (e StockReturned) Apply(s *Stock) { s.Available += e.Quantity }

// keep notes how many pieces wait for an order. Earlier states keep theirs.
func (s *Stock) keep(order string, quantity int) {
	s.Reserved = maps.Clone(s.Reserved)
	if s.Reserved == nil {
		s.Reserved = map[string]int{}
	}
	if s.Reserved[order] = quantity; quantity == 0 {
		delete(s.Reserved, order)
	}
}

// What can be asked of the stock of a product.
type (
	Receive struct {
		Quantity int `json:"quantity"`
	}
	Reserve Pieces
	// Release gives up what is reserved for an order, if anything is.
	Release struct {
		Order string `json:"order"`
	}
	// Take hands out what is reserved for an order.
	Take struct {
		Order string `json:"order"`
	}
	// putBack returns what an order had taken.
	putBack Pieces
)

// Why a stock may say no.
var (
	ErrOutOfStock  = deed.Reason{Code: "out_of_stock", Text: "There are not that many pieces left"}
	ErrReserved    = deed.Reason{Code: "already_reserved", Text: "Another number of pieces is reserved for this order"}
	ErrNotReserved = deed.Reason{Code: "not_reserved", Text: "Nothing is reserved for this order"}
)

func (c Receive) Validate() error { return checkPieces(c.Quantity) }
func (c Reserve) Validate() error {
	return errors.Join(deed.Required("order", c.Order), checkPieces(c.Quantity))
}
func (c Release) Validate() error { return deed.Required("order", c.Order) }
func (c Take) Validate() error    { return deed.Required("order", c.Order) }

// maxPieces keeps sums of pieces far from overflow.
const maxPieces = maxItems * maxQuantity

func checkPieces(n int) error {
	if n < 1 || n > maxPieces {
		return deed.Invalid{Field: "quantity", Detail: fmt.Sprintf("must be from 1 to %d", maxPieces)}
	}
	return nil
}

func (c Receive) Decide(Stock) ([]deed.Event[Stock], error) {
	return []deed.Event[Stock]{StockReceived(c)}, nil
}

func (c Reserve) Decide(s Stock) ([]deed.Event[Stock], error) {
	switch n, has := s.Reserved[c.Order]; {
	case has && n == c.Quantity:
		return nil, nil
	case has:
		return nil, ErrReserved
	case s.Available < c.Quantity:
		return nil, fmt.Errorf("%w: %d", ErrOutOfStock, s.Available)
	}
	return []deed.Event[Stock]{StockReserved(c)}, nil
}

func (c Release) Decide(s Stock) ([]deed.Event[Stock], error) {
	n, has := s.Reserved[c.Order]
	if !has {
		return nil, nil
	}
	return []deed.Event[Stock]{StockReleased{c.Order, n}}, nil
}

func (c Take) Decide(s Stock) ([]deed.Event[Stock], error) {
	n, has := s.Reserved[c.Order]
	if !has {
		return nil, ErrNotReserved
	}
	return []deed.Event[Stock]{StockTaken{c.Order, n}}, nil
}

func (c putBack) Decide(Stock) ([]deed.Event[Stock], error) {
	return []deed.Event[Stock]{StockReturned(c)}, nil
}

// Stocks is the vocabulary of the warehouse. The id is that of the product.
var Stocks = deed.Aggregate[Stock]{
	Name: "stock",
	Doc:  "What the warehouse has of a product.",
	Events: map[string]deed.Event[Stock]{
		"received": StockReceived{},
		"reserved": StockReserved{},
		"released": StockReleased{},
		"taken":    StockTaken{},
		"returned": StockReturned{},
	},
	Commands: map[string]deed.Command[Stock]{
		"receive": Receive{},
		"reserve": Reserve{},
		"release": Release{},
		"take":    Take{},
	},
	Internal: map[string]deed.Command[Stock]{"put-back": putBack{}},
	Snapshot: deed.Snapshot{Every: 200, Version: 1},
}

// Level is what a shop sees of the stock of a product.
type Level struct {
	Available int `json:"available"`
	Reserved  int `json:"reserved"`
	Taken     int `json:"taken"` // by orders, since the beginning
}

// Levels has one Level per product.
var Levels = deed.Projection[Level]{
	Name:    "stock-levels",
	Doc:     "How many pieces of each product there are, and how many are reserved.",
	Indexes: []string{"available"},
	On: []deed.Handler[Level]{
		deed.On(func(l *Level, e StockReceived) { l.Available += e.Quantity }),
		deed.On(func(l *Level, e StockReserved) { l.Available -= e.Quantity; l.Reserved += e.Quantity }),
		deed.On(func(l *Level, e StockReleased) { l.Available += e.Quantity; l.Reserved -= e.Quantity }),
		deed.On(func(l *Level, e StockTaken) { l.Reserved -= e.Quantity; l.Taken += e.Quantity }),
		deed.On(func(l *Level, e StockReturned) { l.Available += e.Quantity; l.Taken -= e.Quantity }),
	},
}
