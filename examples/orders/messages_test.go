package orders_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// The payment provider tells of payments by signed messages, on every backend: an
// order is paid once, however often that is told, and over restarts.
func TestPaymentMessages(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		var p provider
		t.Run("before a restart", func(t *testing.T) {
			p.base = deedtest.Serve(t, open(t), orders.Domain)
			made := httptry.Ask(t, "PUT", p.base+"/v1/receptions/payments/senders/bank", `{"sources":["https://bank.example"]}`)
			p.secret, _ = made.Get("once", "secret").(string)
			p.order(t, "o-1")
			httptry.Want(t, "stored", p.tell(t, "m-1", "o-1", "tx-1", 25000).Get("stored"), 1)
			httptry.Want(t, "stored", p.tell(t, "m-2", "o-2", "tx-2", 25000).Get("stored"), 1)
			p.paid(t, "o-1", "tx-1")
			p.dead(t, "order.pay on order/o-2: deed: not found")
		})
		t.Run("after it", func(t *testing.T) {
			p.base = deedtest.Serve(t, open(t), orders.Domain)
			httptry.Want(t, "repeated", p.tell(t, "m-1", "o-1", "tx-1", 25000).Get("repeated"), 1)
			p.order(t, "o-2")
			id := p.dead(t, "not found")
			httptry.Until(t, "redriven", func() bool { // as soon as this node has the partition
				return httptry.Ask(t, "POST", p.base+"/v1/dead-letters/"+id+"/redrive", "").Get("handled") == 1.0
			})
			p.paid(t, "o-2", "tx-2")
			p.tell(t, "m-3", "o-2", "tx-2", 25000)
			id = p.dead(t, orders.ErrNotSubmitted.Text)
			httptry.Want(t, "discarded", httptry.Ask(t, "POST", p.base+"/v1/dead-letters/"+id+"/discard", `{"reason":"told twice"}`).Status, 204)
			for _, o := range []string{"o-1", "o-2"} {
				httptry.Want(t, "once", strings.Count(types(t, p.base, "order/"+o), "paid@"), 1)
			}
		})
	})
}

// A provider tells the shop at base of payments.
type provider struct{ base, secret string }

func (p provider) order(t *testing.T, id string) {
	t.Helper()
	httptry.Want(t, "create", httptry.Ask(t, "POST", p.base+"/v1/order/"+id+"/create", twoItems).Status, 200)
	httptry.Want(t, "submit", httptry.Ask(t, "POST", p.base+"/v1/order/"+id+"/submit", "").Status, 200)
}

// tell sends a signed message.
func (p provider) tell(t *testing.T, message, order, transaction string, cents int) httptry.Answer {
	t.Helper()
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"https://bank.example","type":"payment.settled.v1","data":{"order":%q,"amount":{"amount":%d,"currency":"EUR"},"method":"transfer","transaction":%q,"more":"than we know"}}`,
		message, order, cents, transaction)
	w, err := standard.NewWebhook(p.secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := w.Sign(message, now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	a := httptry.Ask(t, "POST", p.base+"/v1/receptions/payments/senders/bank", body, "Content-Type", "application/cloudevents+json",
		"webhook-id", message, "webhook-timestamp", fmt.Sprint(now.Unix()), "webhook-signature", signature)
	httptry.Want(t, "told", a.Status, 200)
	return a
}

func (p provider) paid(t *testing.T, order, transaction string) {
	t.Helper()
	httptry.Until(t, order+" is paid", func() bool {
		return httptry.Ask(t, "GET", p.base+"/v1/views/order-summaries/"+order, "").Get("value", "transaction") == transaction
	})
}

// dead returns the id of the dead letter there is, for a reason.
func (p provider) dead(t *testing.T, reason string) (id string) {
	t.Helper()
	httptry.Until(t, "a dead letter", func() bool {
		list, _ := httptry.Ask(t, "GET", p.base+"/v1/dead-letters?follower=payments", "").Get("dead_letters").([]any)
		if len(list) != 1 {
			return false
		}
		l := list[0].(map[string]any)
		id, _ = l["id"].(string)
		return strings.Contains(l["reason"].(string), reason)
	})
	return id
}
