package orders_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// Every scenario of a checkout is played on every backend, over real HTTP, with
// a payment program that is one.
func TestCheckoutOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := &shop{payments: startPayments(t)}
		t.Run("before a restart", func(t *testing.T) {
			s.serve(t, open(t), patience, nil)
			s.begin(t)
		})
		t.Run("after it", func(t *testing.T) {
			s.serve(t, open(t), patience, nil)
			s.goOn(t)
			t.Run("cancelled meanwhile", s.cancelledMeanwhile)
			t.Run("an answer is late", s.answerIsLate)
		})
		t.Run("here", func(t *testing.T) {
			s.serve(t, open(t), haste, nil)
			t.Run("O9", s.successAndFailure)
			t.Run("payments are away", s.paymentsAreAway)
			t.Run("an answer is lost", s.answerIsLost)
			t.Run("taken back", s.takenBack)
			t.Run("stuck", s.stuck)
		})
		w := startWarehouse(t)
		t.Run("the warehouse is away", func(t *testing.T) {
			s.serve(t, open(t), haste, orders.WarehouseAt(w.address))
			s.warehouseIsAway(t, w)
		})
		t.Run("the warehouse comes back", func(t *testing.T) {
			s.serve(t, open(t), patience, orders.WarehouseAt(w.address))
			s.warehouseComesBack(t, w)
		})
	})
}

// shop is one that is served at an address.
type shop struct {
	base     string
	payments *paymentProgram
}

const firstWait = 50 * time.Millisecond

var (
	haste    = deed.Retry{Attempts: 4, First: firstWait}
	patience = deed.Retry{Attempts: 1000, First: firstWait, Max: time.Second}
)

func (s *shop) serve(t *testing.T, st store.Store, retry deed.Retry, w orders.Warehouse) {
	at := orders.Shop{Payments: orders.PaymentsAt(s.payments.address), Warehouse: w, Retry: retry, UndoRetry: retry}
	s.base = deedtest.Serve(t, st, at.Domain())
}

func (s *shop) ask(t *testing.T, method, path, body string, headers ...string) httptry.Answer {
	t.Helper()
	return httptry.Ask(t, method, s.base+"/v1/"+path, body, headers...)
}

func (s *shop) stockUp(t *testing.T, product string, n int) {
	t.Helper()
	httptry.Want(t, "receive", s.ask(t, "POST", "stock/"+product+"/receive", fmt.Sprintf(`{"quantity":%d}`, n)).Status, 200)
}

func (s *shop) available(t *testing.T, product string) any {
	t.Helper()
	return s.ask(t, "GET", "stock/"+product, "").Get("state", "available")
}

// cart is what somebody buys: n of p-1 at 50.00 each.
func cart(n int, token string) string {
	return fmt.Sprintf(`{"customer":"cust_789","method":"card","token":%q,"items":[
		{"product":"p-1","name":"Keyboard","unit_price":{"amount":5000,"currency":"EUR"},"quantity":%d}]}`, token, n)
}

// buy begins a checkout and waits until it is over or stuck.
func (s *shop) buy(t *testing.T, id, cart string) httptry.Answer {
	t.Helper()
	return s.ask(t, "POST", "sagas/checkout/"+id, cart, "Prefer", "wait=30")
}

// order is the status of an order, and why it was cancelled.
func (s *shop) order(t *testing.T, id string) (status, why any) {
	t.Helper()
	status = s.ask(t, "GET", "order/"+id, "").Get("state", "status")
	for _, e := range s.events(t, "order/"+id) {
		if e["type"] == "cancelled" {
			why = e["data"].(map[string]any)["reason"]
		}
	}
	return status, why
}

func (s *shop) events(t *testing.T, stream string) (out []map[string]any) {
	t.Helper()
	list, _ := s.ask(t, "GET", "streams/"+stream, "").Get("events").([]any)
	for _, e := range list {
		out = append(out, e.(map[string]any))
	}
	return out
}

// story is what the records of a checkout say became of its steps, in order.
func (s *shop) story(t *testing.T, id string) string {
	t.Helper()
	var out []string
	for _, e := range s.events(t, "$saga/checkout/"+id) {
		steps, _ := e["data"].(map[string]any)["steps"].([]any)
		for _, st := range steps {
			st := st.(map[string]any)
			out = append(out, fmt.Sprintf("%v %v", st["name"], st["state"]))
		}
	}
	return strings.Join(out, ", ")
}

// Scenario O9 of the specification.
func (s *shop) successAndFailure(t *testing.T) {
	s.stockUp(t, "p-1", 3) // there are 2
	httptry.Want(t, "stock", s.available(t, "p-1"), 5)
	a := s.buy(t, "o-1", cart(2, "ok"))
	httptry.Want(t, "bought", []any{a.Status, a.Get("state"), a.Header.Get("Location")}, []any{200, "completed", "/v1/sagas/checkout/o-1"})
	status, _ := s.order(t, "o-1")
	httptry.Want(t, "order, stock, charges", []any{status, s.available(t, "p-1"), s.payments.of("o-1")}, []any{"Confirmed", 3, []int64{100_00}})
	httptry.Want(t, "its events", types(t, s.base, "order/o-1"), "created@1 item-added@2 submitted@3 paid@4 confirmed@5")
	a = s.buy(t, "o-1", cart(2, "ok"))
	httptry.Want(t, "asked again", []any{a.Status, a.Get("state"), s.payments.of("o-1")}, []any{200, "completed", []int64{100_00}})
	httptry.Want(t, "asked for something else", s.buy(t, "o-1", cart(1, "ok")).Status, 422)
	httptry.Want(t, "no token", s.buy(t, "o-9", cart(1, "")).Status, 400)

	a = s.buy(t, "o-2", cart(2, "declined"))
	httptry.Want(t, "declined", []any{a.Status, a.Get("state"), a.Get("code")}, []any{200, "undone", "payment_declined"})
	status, why := s.order(t, "o-2")
	httptry.Want(t, "order", []any{status, why}, []any{"Cancelled", "The payment was declined: the card has expired"})
	httptry.Want(t, "stock, charges", []any{s.available(t, "p-1"), s.payments.of("o-2")}, []any{3, []int64{}})
	httptry.Want(t, "in reverse order", s.story(t, "o-2"), "create done, reserve done, pay begun, pay refused, reserve undone, create undone")

	a = s.buy(t, "o-3", cart(4, "ok"))
	httptry.Want(t, "sold out", []any{a.Get("state"), a.Get("code")}, []any{"undone", "out_of_stock"})
	_, why = s.order(t, "o-3")
	httptry.Want(t, "why", why, "stock/p-1: There are not that many pieces left: 3")
	httptry.Want(t, "at once", s.story(t, "o-3"), "create done, reserve refused, create undone")
}

// The payment program is away: it is asked again after waits that grow, then the
// checkout is given up.
func (s *shop) paymentsAreAway(t *testing.T) {
	before := s.available(t, "p-1")
	s.payments.waits()
	s.payments.be(down)
	defer s.payments.be(up)
	a := s.buy(t, "o-10", cart(1, "ok"))
	httptry.Want(t, "stuck, for it cannot be asked to refund either", a.Get("state"), "stuck")
	waits := s.payments.waits()
	if len(waits) != 3 {
		t.Fatalf("it was asked %d times, wanted 4", len(waits)+1)
	}
	for i, d := range waits {
		if least := (firstWait << i) * 4 / 5; d < least {
			t.Errorf("wait %d was %v, wanted at least %v", i+1, d, least)
		}
	}
	httptry.Until(t, "it is listed", func() bool {
		stuck, _ := s.ask(t, "GET", "sagas?state=stuck&name=checkout", "").Get("instances").([]any)
		return len(stuck) == 1
	})
	s.payments.be(up)
	httptry.Want(t, "retry", s.ask(t, "POST", "sagas/checkout/o-10/retry", `{"reason":"they are back"}`, "X-Actor", "ann").Status, 200)
	a = s.ask(t, "GET", "sagas/checkout/o-10?wait=30s", "")
	status, why := s.order(t, "o-10")
	httptry.Want(t, "then", []any{a.Get("state"), a.Get("code"), status}, []any{"undone", "failed", "Cancelled"})
	httptry.Want(t, "why", strings.HasPrefix(fmt.Sprint(why), "step pay failed 4 times"), true)
	httptry.Want(t, "stock, charges", []any{s.available(t, "p-1"), s.payments.of("o-10")}, []any{before, []int64{}})
}

// A payment was made and nobody knows: it is not made again.
func (s *shop) answerIsLate(t *testing.T) {
	s.payments.be(lost)
	defer s.payments.be(up)
	s.ask(t, "POST", "sagas/checkout/o-20", cart(1, "ok"))
	httptry.Until(t, "it is paid", func() bool { return len(s.payments.of("o-20")) > 0 })
	s.payments.be(up)
	a := s.ask(t, "GET", "sagas/checkout/o-20?wait=30s", "")
	httptry.Want(t, "found out", []any{a.Get("state"), s.payments.of("o-20")}, []any{"completed", []int64{50_00}})
}

// Nobody ever knows: the payment is given back.
func (s *shop) answerIsLost(t *testing.T) {
	before := s.available(t, "p-1")
	s.payments.be(lost)
	defer s.payments.be(up)
	a := s.buy(t, "o-21", cart(1, "ok"))
	httptry.Want(t, "given back, and nobody knows that either", []any{a.Get("state"), s.payments.of("o-21")}, []any{"stuck", []int64{}})
	s.payments.be(up)
	s.ask(t, "POST", "sagas/checkout/o-21/retry", `{}`)
	a = s.ask(t, "GET", "sagas/checkout/o-21?wait=30s", "")
	httptry.Want(t, "undone", []any{a.Get("state"), s.payments.of("o-21"), s.available(t, "p-1")}, []any{"undone", []int64{}, before})
}

// Somebody cancels an order while it is being paid: the money goes back.
func (s *shop) cancelledMeanwhile(t *testing.T) {
	before := s.available(t, "p-1")
	s.payments.be(down)
	defer s.payments.be(up)
	s.ask(t, "POST", "sagas/checkout/o-30", cart(1, "ok"))
	httptry.Want(t, "cancel", s.ask(t, "POST", "order/o-30/cancel", `{"reason":"found it cheaper"}`).Status, 200)
	s.payments.be(up)
	a := s.ask(t, "GET", "sagas/checkout/o-30?wait=30s", "")
	status, why := s.order(t, "o-30")
	httptry.Want(t, "then", []any{a.Get("state"), a.Get("code"), status, why}, []any{"undone", "order_cancelled", "Cancelled", "found it cheaper"})
	httptry.Want(t, "stock, charges", []any{s.available(t, "p-1"), s.payments.of("o-30")}, []any{before, []int64{}})
}

// A checkout can be undone after its end, as long as nothing was shipped.
func (s *shop) takenBack(t *testing.T) {
	before := s.available(t, "p-1")
	undo := func(id string) httptry.Answer {
		httptry.Want(t, "bought", s.buy(t, id, cart(1, "ok")).Get("state"), "completed")
		if id == "o-41" {
			ship := s.ask(t, "POST", "order/o-41/ship", `{"tracking":"t","carrier":"c","estimated_delivery":"2026-02-03T00:00:00Z"}`)
			httptry.Want(t, "ship", ship.Status, 200)
		}
		httptry.Want(t, "undo", s.ask(t, "POST", "sagas/checkout/"+id+"/undo", `{"reason":"wrong colour"}`).Status, 200)
		return s.ask(t, "GET", "sagas/checkout/"+id+"?wait=30s", "")
	}
	a := undo("o-40")
	status, why := s.order(t, "o-40")
	httptry.Want(t, "taken back", []any{a.Get("state"), status, why}, []any{"undone", "Cancelled", "wrong colour"})
	httptry.Want(t, "stock, charges", []any{s.available(t, "p-1"), s.payments.of("o-40")}, []any{before, []int64{}})

	a = undo("o-41")
	httptry.Want(t, "shipped", []any{a.Get("state"), a.Get("cause")}, []any{"stuck", "wrong colour"})
	httptry.Want(t, "nothing happened", []any{s.available(t, "p-1"), s.payments.of("o-41")}, []any{before.(float64) - 1, []int64{50_00}})
	a = s.ask(t, "POST", "sagas/checkout/o-41/close", `{"reason":"sent back and refunded by hand"}`, "X-Actor", "ann")
	httptry.Want(t, "closed", []any{a.Status, a.Get("state")}, []any{200, "closed"})
}

// What is stuck can be passed over, for a reason.
func (s *shop) stuck(t *testing.T) {
	s.payments.be(down)
	defer s.payments.be(up)
	httptry.Want(t, "stuck", s.buy(t, "o-50", cart(1, "ok")).Get("state"), "stuck")
	httptry.Want(t, "without a reason", s.ask(t, "POST", "sagas/checkout/o-50/skip", `{"step":"pay"}`).Status, 400)
	httptry.Want(t, "skip", s.ask(t, "POST", "sagas/checkout/o-50/skip", `{"step":"pay","reason":"they say nothing was charged"}`).Status, 200)
	a := s.ask(t, "GET", "sagas/checkout/o-50?wait=30s", "")
	status, _ := s.order(t, "o-50")
	httptry.Want(t, "then", []any{a.Get("state"), status}, []any{"undone", "Cancelled"})
	httptry.Want(t, "again", s.ask(t, "POST", "sagas/checkout/o-50/skip", `{"step":"pay","reason":"once more"}`).Status, 409)
}

// A checkout that is waiting when the program ends goes on when it is back.
func (s *shop) begin(t *testing.T) {
	s.stockUp(t, "p-1", 5)
	s.payments.be(down)
	a := s.ask(t, "POST", "sagas/checkout/o-0", cart(2, "ok"))
	httptry.Want(t, "begun", []any{a.Status, a.Get("step")}, []any{202, "pay"})
	httptry.Until(t, "payment is tried again", func() bool { return s.payments.times() >= 2 })
}

func (s *shop) goOn(t *testing.T) {
	s.payments.be(up)
	a := s.ask(t, "GET", "sagas/checkout/o-0?wait=30s", "")
	status, _ := s.order(t, "o-0")
	httptry.Want(t, "then", []any{a.Get("state"), status, s.available(t, "p-1"), s.payments.of("o-0")}, []any{"completed", "Confirmed", 3, []int64{100_00}})
}

// A warehouse is a program of its own, which is reached or not.
type warehouse struct {
	address string
	inside  shop
	away    atomic.Value // the methods with which it cannot be reached, "GET POST"
	asked   atomic.Int32
}

func startWarehouse(t *testing.T) *warehouse {
	w := &warehouse{}
	w.away.Store("")
	w.inside.base = deedtest.Serve(t, mem.New(), deed.Domain{Name: "warehouse", Parts: []deed.Part{orders.Stocks, orders.Levels}})
	to, err := url.Parse(w.inside.base)
	if err != nil {
		t.Fatal(err)
	}
	road := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		if away, _ := w.away.Load().(string); strings.Contains(away, r.Method) {
			io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler) // the connection ends
		}
		road.ServeHTTP(rw, r)
	}))
	t.Cleanup(s.Close)
	w.address = s.URL
	return w
}

// Scenario O9, its last part: the warehouse is asked again after waits that
// grow, then the order is cancelled. Nothing is charged.
func (s *shop) warehouseIsAway(t *testing.T, w *warehouse) {
	w.inside.stockUp(t, "p-1", 5)
	httptry.Want(t, "bought", s.buy(t, "w-1", cart(2, "ok")).Get("state"), "completed")
	httptry.Want(t, "stock", w.inside.available(t, "p-1"), 3)

	w.away.Store("GET POST")
	w.asked.Store(0)
	began := time.Now()
	a := s.buy(t, "w-2", cart(1, "ok"))
	status, why := s.order(t, "w-2")
	httptry.Want(t, "given up", []any{a.Get("state"), a.Get("code"), status, s.payments.of("w-2")}, []any{"undone", "failed", "Cancelled", []int64{}})
	httptry.Want(t, "why", strings.HasPrefix(fmt.Sprint(why), "step look failed 4 times"), true)
	if n, took := w.asked.Load(), time.Since(began); n < 4 || took < firstWait*7*4/5 {
		t.Errorf("it was asked %d times in %v", n, took)
	}

	// It is gone before anything is reserved, or after that, when nobody knows.
	w.away.Store("POST")
	a = s.buy(t, "w-3", cart(1, "ok"))
	httptry.Want(t, "nobody knows", []any{a.Get("state"), a.Get("step")}, []any{"stuck", "reserve"})
	w.away.Store("")
	s.ask(t, "POST", "sagas/checkout/w-3/retry", `{}`)
	a = s.ask(t, "GET", "sagas/checkout/w-3?wait=30s", "")
	status, why = s.order(t, "w-3")
	httptry.Want(t, "then", []any{a.Get("state"), status, s.payments.of("w-3")}, []any{"undone", "Cancelled", []int64{}})
	httptry.Want(t, "why", strings.HasPrefix(fmt.Sprint(why), "step reserve failed 4 times"), true)

}

func (s *shop) warehouseComesBack(t *testing.T, w *warehouse) {
	w.away.Store("GET POST")
	s.ask(t, "POST", "sagas/checkout/w-4", cart(1, "ok"))
	w.away.Store("")
	httptry.Want(t, "in time", s.ask(t, "GET", "sagas/checkout/w-4?wait=30s", "").Get("state"), "completed")
	httptry.Want(t, "stock", w.inside.available(t, "p-1"), 2)

	// Somebody else gets the last one of two products between looking and
	// reserving: the other one is released.
	two := strings.Replace(cart(1, "ok"), `"items":[`, `"items":[
		{"product":"p-2","name":"Monitor","unit_price":{"amount":10000,"currency":"EUR"},"quantity":1},`, 1)
	w.inside.stockUp(t, "p-2", 1)
	w.away.Store("POST")
	s.ask(t, "POST", "sagas/checkout/w-5", two)
	httptry.Until(t, "it reserves", func() bool { return s.ask(t, "GET", "sagas/checkout/w-5", "").Get("step") == "reserve" })
	httptry.Want(t, "the last", w.inside.ask(t, "POST", "stock/p-2/reserve", `{"order":"other","quantity":1}`).Status, 200)
	w.away.Store("")
	a := s.ask(t, "GET", "sagas/checkout/w-5?wait=30s", "")
	httptry.Want(t, "sold out", []any{a.Get("state"), a.Get("code")}, []any{"undone", "out_of_stock"})
	httptry.Want(t, "stock", []any{w.inside.available(t, "p-1"), w.inside.available(t, "p-2")}, []any{2, 0})
	events := w.inside.events(t, "stock/p-1")
	httptry.Want(t, "the last event", events[len(events)-1]["type"], "released")
	a = s.buy(t, "w-6", strings.Replace(cart(1, "ok"), "p-1", "p-9", 1))
	httptry.Want(t, "no such product", []any{a.Get("state"), a.Get("code")}, []any{"undone", "not_found"})
}
