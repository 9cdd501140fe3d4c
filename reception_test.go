package deed_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A bill is issued, and paid by what others say about payments.
type (
	bill       struct{ Billed, Paid int }
	billIssued struct{ N int }
	billPaid   struct {
		N   int
		Ref string
	}
	billOut struct{ N int }
	billPay struct {
		N   int
		Ref string
	}
)

func (e billIssued) Apply(b *bill) { b.Billed += e.N }
func (e billPaid) Apply(b *bill)   { b.Paid += e.N }
func (c billOut) Decide(bill) ([]deed.Event[bill], error) {
	return []deed.Event[bill]{billIssued(c)}, nil
}
func (c billPay) Validate() error { return deed.Required("n", c.N) }
func (c billPay) Decide(b bill) ([]deed.Event[bill], error) {
	if b.Paid+c.N > b.Billed {
		return nil, deed.Reason{Code: "too_much", Text: "that is more than was billed"}
	}
	return []deed.Event[bill]{billPaid(c)}, nil
}

var billing = deed.Aggregate[bill]{
	Name:     "bill",
	Events:   map[string]deed.Event[bill]{"billed": billIssued{}, "paid": billPaid{}},
	Commands: map[string]deed.Command[bill]{"issue": billOut{}, "pay": billPay{}},
}

// settled is what a payment provider tells: who has paid how much for which bills.
type settled struct {
	Bills  []string `json:"bills"`
	Amount int      `json:"amount"`
}

func settling(_ context.Context, m deed.Received[settled]) (out []deed.Sending, err error) {
	for _, b := range m.Data.Bills {
		switch b {
		case "panic":
			panic("no such bill")
		case "empty":
			out = append(out, deed.Sending{})
		case "later":
			return nil, errors.New("not now")
		default:
			out = append(out, deed.Send(billing, b, billPay{m.Data.Amount, m.ID}))
		}
	}
	return out, nil
}

func payments(change func(*deed.Reception)) deed.Reception {
	r := deed.Reception{Name: "payments", Doc: "What the provider tells.", Retry: deed.Retry{Attempts: 3}, Messages: []deed.Receiving{
		deed.Receive("payment.settled.v1", settling),
		deed.Receive("note", func(_ context.Context, m deed.Received[[]byte]) ([]deed.Sending, error) {
			return []deed.Sending{deed.Send(billing, string(m.Data), billOut{1})}, nil
		}),
	}}
	if change != nil {
		change(&r)
	}
	return r
}

// A cashier is a program with bills, a reception and a store.
type cashier struct {
	*testing.T
	rt  *deed.Runtime
	s   store.Store
	log *strings.Builder
}

// atCashier runs f in simulated time.
func atCashier(t *testing.T, change func(*deed.Reception), f func(c *cashier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, end := newCashier(t, mem.New(), change)
		defer end()
		f(c)
	})
}

func newCashier(t *testing.T, s store.Store, change func(*deed.Reception)) (*cashier, func()) {
	t.Helper()
	c := &cashier{T: t, s: s, log: &strings.Builder{}}
	var mu sync.Mutex
	var err error
	c.rt, err = deed.New(s, deed.Config{
		Domains: []deed.Domain{{Name: "bills", Parts: []deed.Part{billing, payments(change)}}},
		Logger:  slog.New(slog.NewTextHandler(locked{&mu, c.log}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var end sync.WaitGroup
	end.Go(func() { c.rt.Run(ctx) })
	return c, func() { cancel(); end.Wait() }
}

type locked struct {
	*sync.Mutex
	io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Writer.Write(p)
}

func (c *cashier) issue(n int, ids ...string) {
	c.Helper()
	for _, id := range ids {
		if _, err := billing.Execute(c.Context(), c.rt, id, billOut{n}); err != nil {
			c.Fatal(err)
		}
	}
}

// payment is a message that so much was paid for each of some bills.
func payment(id string, amount int, bills ...string) deed.InboundMessage {
	data, err := json.Marshal(settled{bills, amount})
	if err != nil {
		panic(err)
	}
	return deed.InboundMessage{ID: id, Source: "https://pay.example", Type: "payment.settled.v1", Data: data}
}

// accept has messages accepted, and returns what that says.
func (c *cashier) accept(messages ...deed.InboundMessage) string {
	c.Helper()
	got, err := c.rt.Accept(c.Context(), "payments", messages...)
	if err != nil {
		c.Fatal(err)
	}
	return fmt.Sprintf("%d stored, %d repeated, %d passed", got.Stored, got.Repeated, got.Passed)
}

// paid says how much was paid of each bill, and how often, when all is quiet.
func (c *cashier) paid(ids ...string) string {
	c.Helper()
	time.Sleep(time.Minute)
	var all []string
	for _, id := range ids {
		b, _, err := billing.Load(c.Context(), c.rt, id)
		if err != nil && !errors.Is(err, deed.ErrNotFound) {
			c.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %d in %d", id, b.Paid, strings.Count(typesOf(c, c.s, "bill/"+id), "paid")))
	}
	return strings.Join(all, ", ")
}

func (c *cashier) letters() []deed.DeadLetter {
	c.Helper()
	all, _, err := c.rt.Followers().DeadLetters(c.Context(), "payments", "", 100)
	if err != nil {
		c.Fatal(err)
	}
	return all
}

func (c *cashier) expect(got, want string) {
	c.Helper()
	if got != want {
		c.Errorf("got  %s\nwant %s", got, want)
	}
}

// A message becomes commands once, however often it is sent.
func TestReception(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		c.issue(10, "a", "b")
		m := payment("p-1", 4, "a", "b")
		m.Attributes = map[string]string{"correlationid": "flow", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "other": "kept"}
		ctx := deed.With(c.Context(), deed.Call{Actor: "provider", Source: "http"})
		if got, err := c.rt.Accept(ctx, "payments", m); err != nil || got != (deed.Accepted{Stored: 1}) {
			c.Errorf("%+v, %v", got, err)
		}
		c.expect(c.accept(m), "0 stored, 1 repeated, 0 passed")
		c.expect(c.paid("a", "b"), "a 4 in 1, b 4 in 1")
		c.expect(c.accept(m, payment("p-2", 1, "a"), payment("p-2", 1, "a"), payment("p-3", 1)), "2 stored, 2 repeated, 0 passed")
		c.expect(c.paid("a", "b"), "a 5 in 2, b 4 in 1")
		same := payment("p-2", 1, "b")
		c.expect(c.accept(same), "0 stored, 1 repeated, 0 passed")
		if !strings.Contains(c.log.String(), "has the source and id of another one") || strings.Count(c.log.String(), "another one") != 1 {
			c.Errorf("the log says %s", c.log)
		}
		same.Source = "https://other.example"
		c.expect(c.accept(same, deed.InboundMessage{ID: "n", Source: "/", Type: "note", ContentType: "text/plain", Data: []byte("n-1")}), "2 stored, 0 repeated, 0 passed")
		c.expect(c.paid("a", "b", "n-1"), "a 5 in 2, b 5 in 2, n-1 0 in 0")
		if len(c.letters()) > 0 {
			c.Errorf("%+v", c.letters())
		}
		for rec, err := range c.s.Read(c.Context(), "bill/b", store.Range{From: 2, Limit: 1}) {
			var m struct{ Actor, Command, Correlation, Causation, Source string }
			if err := errors.Join(err, json.Unmarshal(rec.Meta, &m)); err != nil {
				c.Fatal(err)
			}
			found := ""
			for rec, err := range c.s.ReadAll(c.Context(), store.Start, store.Filter{Categories: []string{"$message"}}) {
				if err == nil && rec.ID.String() == m.Causation {
					found = rec.Stream + " " + rec.Type
					c.expect(typesOf(c, c.s, rec.Stream), "received handled")
				}
			}
			if m.Actor != "provider" || m.Correlation != "flow" || m.Source != "reception" || m.Command == "" || !strings.HasPrefix(found, "$message/payments/") {
				c.Errorf("%+v, caused by %q", m, found)
			}
		}
	})
}

// What no commands can be made of is a dead letter, with the reason and the message,
// and is redriven and discarded like any other.
func TestReceptionDeadLetters(t *testing.T) {
	bad := payment("bad", 0)
	bad.Data = []byte(`{"bills":"a"}`)
	none := payment("none", 0)
	none.Data = nil
	torn := payment("torn", 0)
	torn.Data = []byte(`{"bills":`)
	other := payment("other", 0)
	other.Type = "payment.failed.v1"
	unnamed := payment("unnamed", 1, "x/y")
	for name, x := range map[string]struct {
		m        deed.InboundMessage
		reason   string
		attempts int
	}{
		"unknown type":      {other, `does not know messages of the type payment.failed.v1: it knows [note payment.settled.v1]`, 1},
		"other data":        {bad, "its data are not those of payment.settled.v1", 1},
		"no data":           {none, "data is missing", 1},
		"no JSON":           {torn, "its data are not those of payment.settled.v1", 1},
		"panic":             {payment("p", 1, "panic"), "no such bill", 1},
		"empty sending":     {payment("e", 1, "empty"), "make one with Send", 1},
		"an error":          {payment("l", 1, "later"), "not now", 3},
		"refused":           {payment("r", 11, "a"), "more than was billed", 1},
		"one of two":        {payment("r2", 10, "b", "a", "c"), "bill.pay on bill/c: that is more than was billed", 1},
		"invalid command":   {payment("v", 0, "a"), "n is missing", 1},
		"no possible id":    {unnamed, "must not contain a slash", 1},
		"too many entities": {payment("many", 1, names(501)...), "more than 500 entities", 1},
	} {
		t.Run(name, func(t *testing.T) {
			atCashier(t, nil, func(c *cashier) {
				c.issue(10, "a", "b")
				c.issue(1, "b") // what comes after is for one
				c.expect(c.accept(x.m, payment("after", 1, "b")), "2 stored, 0 repeated, 0 passed")
				c.expect(c.paid("a", "b"), "a 0 in 0, b 1 in 1")
				letters := c.letters()
				if len(letters) != 1 {
					c.Fatalf("%+v", letters)
				}
				l := letters[0]
				if l.State != "dead" || l.Attempts != x.attempts || !strings.Contains(l.Reason, x.reason) || l.Type != "received" || (l.Stack == "") != (name != "panic") {
					c.Errorf("%+v", l)
				}
				var shown struct{ ID string }
				if err := json.Unmarshal(l.Data, &shown); err != nil || shown.ID != x.m.ID {
					c.Errorf("it shows %s: %v", l.Data, err)
				}
				c.expect(c.accept(x.m), "0 stored, 1 repeated, 0 passed")
				if name == "one of two" {
					c.issue(20, "a", "b", "c")
					if n, err := c.rt.Followers().Redrive(c.Context(), l.ID); n != 1 || err != nil {
						c.Fatalf("redriven: %d, %v", n, err)
					}
					c.expect(c.paid("a", "b", "c"), "a 10 in 1, b 11 in 2, c 10 in 1")
				} else if err := c.rt.Followers().Discard(c.Context(), l.ID, "it is of no use"); err != nil {
					c.Fatal(err)
				}
				if len(c.letters()) > 0 {
					c.Errorf("%+v", c.letters())
				}
			})
		})
	}
}

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("n-", i))
	}
	return out
}

// What becomes of other messages, and of refused ones, is up to the reception.
func TestReceptionTreatments(t *testing.T) {
	t.Run("others are passed over", func(t *testing.T) {
		s := mem.New()
		other := payment("other", 0)
		other.Type = "payment.failed.v1"
		synctest.Test(t, func(t *testing.T) {
			c, end := newCashier(t, s, nil) // a program that wants to know of it
			c.expect(c.accept(other), "1 stored, 0 repeated, 0 passed")
			time.Sleep(time.Minute)
			letters := c.letters()
			end()
			c, end = newCashier(t, s, func(r *deed.Reception) { r.Others = deed.PassOver })
			defer end()
			other.ID = "other-2"
			c.issue(1, "a")
			c.expect(c.accept(other, payment("p", 1, "a")), "1 stored, 0 repeated, 1 passed")
			c.expect(c.paid("a"), "a 1 in 1")
			if n, err := c.rt.Followers().Redrive(t.Context(), letters[0].ID); n != 1 || err != nil {
				c.Errorf("%d, %v", n, err)
			}
			c.expect(typesOf(c, s, letters[0].Stream), "received handled")
		})
	})
	t.Run("refused ones are tried again", func(t *testing.T) {
		atCashier(t, func(r *deed.Reception) { r.Refused, r.Retry.First = deed.TryAgain, 10*time.Second }, func(c *cashier) {
			c.accept(payment("early", 1, "a"), payment("never", 1, "b"))
			time.Sleep(2 * time.Second)
			c.issue(1, "a")
			c.expect(c.paid("a", "b"), "a 1 in 1, b 0 in 0")
			if l := c.letters(); len(l) != 1 || l[0].Attempts != 3 || l[0].State != "dead" {
				c.Errorf("%+v", l)
			}
		})
	})
	t.Run("refused ones are passed over", func(t *testing.T) {
		atCashier(t, func(r *deed.Reception) { r.Refused = deed.PassOver }, func(c *cashier) {
			c.accept(payment("p", 1, "a"))
			c.expect(c.paid("a"), "a 0 in 0")
			for rec, err := range c.s.ReadAll(c.Context(), store.Start, store.Filter{Types: []string{"handled"}}) {
				if err != nil || string(rec.Data) != `{"code":"too_much","reason":"bill/a: that is more than was billed"}` {
					c.Errorf("%s, %v", rec.Data, err)
				}
			}
			if len(c.letters()) > 0 {
				c.Errorf("%+v", c.letters())
			}
		})
	})
	t.Run("in order", func(t *testing.T) {
		atCashier(t, func(r *deed.Reception) { r.Ordered = true }, func(c *cashier) {
			c.issue(5, "a", "b")
			about := func(m deed.InboundMessage, subject, key string) deed.InboundMessage {
				m.Subject, m.Attributes = subject, map[string]string{"partitionkey": key}
				return m
			}
			c.accept(about(payment("1", 6, "a"), "x", "a"), about(payment("2", 1, "a"), "y", "a"), about(payment("3", 1, "b"), "z", ""))
			c.expect(c.paid("a", "b"), "a 0 in 0, b 1 in 1")
			l := c.letters()
			if len(l) != 2 || l[0].State != "dead" || l[1].State != "waiting" {
				c.Fatalf("%+v", l)
			}
			c.issue(5, "a")
			if n, err := c.rt.Followers().Redrive(c.Context(), l[0].ID); n != 2 || err != nil {
				c.Errorf("%d, %v", n, err)
			}
			c.expect(c.paid("a"), "a 7 in 2")
		})
	})
}

// What can never be taken is refused, with nothing stored.
func TestAcceptRefuses(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		long := strings.Repeat("x", 1025)
		for name, change := range map[string]func(*deed.InboundMessage){
			"id is missing":                         func(m *deed.InboundMessage) { m.ID = "" },
			"source is missing":                     func(m *deed.InboundMessage) { m.Source = "" },
			"type is missing":                       func(m *deed.InboundMessage) { m.Type = "" },
			"id is longer than 1024 bytes":          func(m *deed.InboundMessage) { m.ID = long },
			"subject is longer than 1024 bytes":     func(m *deed.InboundMessage) { m.Subject = long },
			"type must be UTF-8":                    func(m *deed.InboundMessage) { m.Type = "a\x00" },
			"source must be UTF-8":                  func(m *deed.InboundMessage) { m.Source = "\xff" },
			"datacontenttype must be UTF-8":         func(m *deed.InboundMessage) { m.ContentType = "text/plain\n" },
			"time must be of a year":                func(m *deed.InboundMessage) { m.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
			"data is larger than 1048576 bytes":     func(m *deed.InboundMessage) { m.Data = make([]byte, 1<<20+1) },
			`it has the attribute "A"`:              func(m *deed.InboundMessage) { m.Attributes = map[string]string{"A": "x"} },
			"note must be UTF-8 of at most 4096":    func(m *deed.InboundMessage) { m.Attributes = map[string]string{"note": long + long + long + long} },
			"more than 64 extension attributes":     func(m *deed.InboundMessage) { m.Attributes = manyAttributes(65) },
			"it has the attribute \"\"":             func(m *deed.InboundMessage) { m.Attributes = map[string]string{"": "x"} },
			"other must be UTF-8 of at most 4096 b": func(m *deed.InboundMessage) { m.Attributes = map[string]string{"other": "\xff"} },
		} {
			m := payment("p", 1, "a")
			change(&m)
			_, err := c.rt.Accept(c.Context(), "payments", m)
			if inv, ok := errors.AsType[deed.Invalid](err); !ok || !strings.Contains(inv.Error(), name) {
				c.Errorf("%s: %v", name, err)
			}
			_, err = c.rt.Accept(c.Context(), "payments", payment("good", 1, "a"), m)
			if inv, ok := errors.AsType[deed.Invalid](err); !ok || !strings.HasPrefix(inv.Field, "1") {
				c.Errorf("%s, the second: %v", name, err)
			}
		}
		if _, err := c.rt.Accept(c.Context(), "parcels", payment("p", 1, "a")); !errors.Is(err, deed.ErrUnknown) {
			c.Error(err)
		}
		for rec := range c.s.ReadAll(c.Context(), store.Start, store.Filter{}) {
			c.Errorf("there is %s", rec.Stream)
		}
		most := payment("most", 1)
		most.Data, most.Attributes = []byte(`"`+strings.Repeat("x", 1<<20-2)+`"`), manyAttributes(64)
		most.ID, most.Source, most.Subject = long[:1024], long[:1024], long[:1024]
		c.expect(c.accept(most), "1 stored, 0 repeated, 0 passed")
	})
}

func manyAttributes(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprint("a", i)] = "x"
	}
	return all
}

// A reception that contradicts itself is no program.
func TestReceptionChecks(t *testing.T) {
	f := func(context.Context, deed.Received[settled]) ([]deed.Sending, error) { return nil, nil }
	for want, r := range map[string]deed.Reception{
		"reception name":        {Name: "Payments"},
		"two things of":         {Name: "p", Messages: []deed.Receiving{deed.Receive("x", f), deed.Receive("x", f)}},
		"nothing is made of":    {Name: "p", Messages: []deed.Receiving{deed.Receive[settled]("x", nil)}},
		"is not printable":      {Name: "p", Messages: []deed.Receiving{deed.Receive("", f)}},
		"Others is":             {Name: "p", Others: deed.TryAgain},
		"Parallel is from":      {Name: "p", Parallel: 257},
		"leave Partitions out":  {Name: "p", Ordered: true, Partitions: 2},
		"two followers (projec": {Name: "command-runner"},
	} {
		_, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{billing, r}}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// A dead letter of a reception may be edited, and is then handled as it was edited.
func TestReceptionEditedLetter(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		c.issue(5, "a")
		c.accept(payment("p-1", 50, "a"))
		time.Sleep(time.Minute)
		l := c.letters()[0]
		data := strings.Replace(string(l.Data), `"amount":50`, `"amount":5`, 1)
		if _, err := c.rt.DeadLetters().Edit(c.Context(), l.ID, json.RawMessage(data), "a slip of the pen"); err != nil {
			c.Fatal(err)
		}
		if n, err := c.rt.Followers().Redrive(c.Context(), l.ID); n != 1 || err != nil {
			c.Fatalf("%d, %v", n, err)
		}
		c.expect(c.paid("a"), "a 5 in 1")
		c.expect(c.accept(payment("p-1", 50, "a")), "0 stored, 1 repeated, 0 passed")
	})
}

// A message that is handled is given up like a command; then the same is a new one.
func TestMessagesAreGivenUp(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		c.issue(10, "a")
		c.accept(payment("p-1", 1, "a"), payment("dead", 11, "a"))
		c.expect(c.paid("a"), "a 1 in 1")
		time.Sleep(3 * time.Hour)
		if out, err := c.rt.Compact(c.Context(), deed.Compaction{OlderThan: time.Hour}); err != nil || out.Streams["$message"] != 0 || out.WaitsFor != "the dead letter "+c.letters()[0].ID {
			c.Fatalf("%+v, %v", out, err)
		}
		if err := c.rt.Followers().Discard(c.Context(), c.letters()[0].ID, "no"); err != nil {
			c.Fatal(err)
		}
		time.Sleep(time.Minute)
		if out, err := c.rt.Compact(c.Context(), deed.Compaction{OlderThan: time.Hour}); err != nil || out.Streams["$message"] != 1 {
			c.Fatalf("%+v, %v", out, err)
		}
		c.expect(c.accept(payment("p-1", 1, "a"), payment("dead", 11, "a")), "1 stored, 1 repeated, 0 passed")
		c.expect(c.paid("a"), "a 2 in 2")
	})
}

// Many messages at once are stored in few appends, and handled in all partitions.
func TestManyMessages(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		c.issue(1000, "a", "b")
		var all []deed.InboundMessage
		for i := range 1200 {
			all = append(all, payment(fmt.Sprint("p-", i), 1, []string{"a", "b"}[i%2]))
		}
		c.expect(c.accept(all[:700]...), "700 stored, 0 repeated, 0 passed")
		c.expect(c.accept(all...), "500 stored, 700 repeated, 0 passed")
		c.expect(c.paid("a", "b"), "a 600 in 600, b 600 in 600")
		if n := c.rt.Receptions(); len(n) != 1 || n[0].Name != "payments" || cmp.Or(len(n[0].Types)) != 2 {
			c.Errorf("%+v", n)
		}
	})
}
