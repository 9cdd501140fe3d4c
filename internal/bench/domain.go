package bench

import (
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// Tally is the state of the entity that is measured: an order's worth of
// fields.
type Tally struct {
	Entries int    `json:"entries"`
	Sum     int64  `json:"sum"`
	Last    string `json:"last"`
}

// Entered is an event of a usual size: about 270 bytes of JSON.
type Entered struct {
	Account  string    `json:"account"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Text     string    `json:"text"`
	Due      time.Time `json:"due"`
}

// Apply implements deed.Event.
func (e Entered) Apply(t *Tally) { t.Entries++; t.Sum += e.Amount; t.Last = e.Account }

// Enter is the command of the same shape.
type Enter Entered

// Decide implements deed.Command.
func (c Enter) Decide(Tally) ([]deed.Event[Tally], error) {
	return []deed.Event[Tally]{Entered(c)}, nil
}

var tallies = deed.Aggregate[Tally]{
	Name:     "tally",
	Events:   map[string]deed.Event[Tally]{"entered": Entered{}},
	Commands: map[string]deed.Command[Tally]{"enter": Enter{}},
}

// Balance is the document of the view that is measured.
type Balance struct {
	Entries int   `json:"entries"`
	Sum     int64 `json:"sum"`
}

var balances = deed.Projection[Balance]{
	Name: "balances",
	On:   []deed.Handler[Balance]{deed.On(func(b *Balance, e Entered) { b.Entries++; b.Sum += e.Amount })},
}

var domain = deed.Domain{Name: "bench", Parts: []deed.Part{tallies, balances}}

var sample = Entered{
	Account: "DE02 1203 0000 0000 2020 51", Amount: 12_345, Currency: "EUR",
	Text: strings.Repeat("a usual amount of text ", 6), Due: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
}
