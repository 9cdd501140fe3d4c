package orders_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/examples/orders"
)

// A paymentProgram stands in for the one that takes the money: a program of its
// own, with keys, cards that are declined, and bad days.
type paymentProgram struct {
	address string

	mu      sync.Mutex
	mode    string
	answers map[string]string           // by key: what is not to be done twice
	charges map[string]map[string]int64 // by order, by transaction: what was charged and not given back
	void    map[string]bool             // orders that are not to be charged any more
	asked   []time.Time                 // when somebody wanted something charged
}

// What a payment program may be like.
const (
	up   = ""
	down = "down" // it does nothing
	lost = "lost" // it does what is asked, but the answer does not arrive
)

func startPayments(t *testing.T) *paymentProgram {
	p := &paymentProgram{answers: map[string]string{}, charges: map[string]map[string]int64{}, void: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charges", p.handle(p.charge))
	mux.HandleFunc("POST /refunds", p.handle(p.refund))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.address = s.URL
	return p
}

// handle does what is asked once for each key. A refusal begins with "no".
func (p *paymentProgram) handle(do func(key string, c orders.Charge) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "charges") {
			p.asked = append(p.asked, time.Now())
		}
		if p.mode == down {
			http.Error(w, `{"detail":"we are closed"}`, http.StatusServiceUnavailable)
			return
		}
		var c orders.Charge
		key := r.Header.Get("Idempotency-Key")
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil || key == "" || c.Order == "" {
			http.Error(w, `{"detail":"nobody can read this"}`, http.StatusBadRequest)
			return
		}
		answer, again := p.answers[key]
		if !again {
			answer = do(key, c)
			p.answers[key] = answer
		}
		switch reason, no := strings.CutPrefix(answer, "no "); {
		case p.mode == lost:
			w.WriteHeader(http.StatusGatewayTimeout)
		case no:
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprintf(w, `{"reason":"payment_declined","detail":"The payment was declined: %s"}`, reason)
		default:
			fmt.Fprintf(w, `{"transaction":%q}`, answer)
		}
	}
}

func (p *paymentProgram) charge(key string, c orders.Charge) string {
	switch {
	case p.void[c.Order]:
		return "no the order was refunded"
	case strings.HasPrefix(c.Token, "declined"):
		return "no the card has expired"
	}
	if p.charges[c.Order] == nil {
		p.charges[c.Order] = map[string]int64{}
	}
	p.charges[c.Order]["tx-"+key] += c.Amount.Amount
	return "tx-" + key
}

func (p *paymentProgram) refund(_ string, c orders.Charge) string {
	delete(p.charges, c.Order)
	p.void[c.Order] = true
	return ""
}

func (p *paymentProgram) be(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
}

// of lists what is charged for an order.
func (p *paymentProgram) of(order string) (amounts []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.charges[order] {
		amounts = append(amounts, n)
	}
	return amounts
}

// waits forgets when somebody wanted something charged, and returns how long
// they waited in between.
func (p *paymentProgram) waits() (d []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, at := range p.asked {
		if i > 0 {
			d = append(d, at.Sub(p.asked[i-1]))
		}
	}
	p.asked = nil
	return d
}

// times is how often somebody wanted something charged.
func (p *paymentProgram) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}
