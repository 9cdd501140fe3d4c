package orders_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Every scenario is played on every backend, over real HTTP.
func TestOverHTTP(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		base := deedtest.Serve(t, open(t), orders.Domain)
		t.Run("orders", func(t *testing.T) { ordersOverHTTP(t, base) })
		t.Run("retries, versions and the past", func(t *testing.T) { retriesVersionsAndThePast(t, base) })
		t.Run("pages of a view", func(t *testing.T) { pagesOfAView(t, base) })
		t.Run("search", func(t *testing.T) { searches(t, base) })
	})
}

// ask calls the API and returns status and body.
func ask(t *testing.T, method, url, body string, headers ...string) (int, map[string]any, http.Header) {
	t.Helper()
	a := httptry.Ask(t, method, url, body, headers...)
	return a.Status, a.Body, a.Header
}

// types lists the events of a stream: "created@1 item-added@2".
func types(t *testing.T, base, stream string) string {
	t.Helper()
	status, page, _ := ask(t, "GET", base+"/v1/streams/"+stream, "")
	if status == http.StatusNotFound {
		return ""
	}
	var out []string
	for _, e := range page["events"].([]any) {
		e := e.(map[string]any)
		out = append(out, fmt.Sprintf("%v@%v", e["type"], e["version"]))
	}
	return strings.Join(out, " ")
}

// summary reads a document once it shows what a receipt says.
func summary(t *testing.T, base, id string, receipt map[string]any) map[string]any {
	t.Helper()
	status, doc, h := ask(t, "GET", fmt.Sprintf("%s/v1/views/order-summaries/%s?min-position=%v&wait=5s", base, id, receipt["position"]), "")
	httptry.Want(t, "status of the view", status, 200)
	if h.Get("X-Read-Position") == "" {
		t.Error("the view does not say how far it has read")
	}
	v, _ := doc["value"].(map[string]any)
	return v
}

const (
	twoItems = `{"customer":"cust_789","items":[
		{"product":"p-1","name":"Keyboard","unit_price":{"amount":5000,"currency":"EUR"},"quantity":1},
		{"product":"p-2","name":"Monitor","unit_price":{"amount":10000,"currency":"EUR"},"quantity":2}]}`
	cables = `{"product":"p-3","name":"Cable","unit_price":{"amount":1000,"currency":"EUR"},"quantity":3}`
)

// Scenarios O1 to O6 of the specification.
func ordersOverHTTP(t *testing.T, base string) {
	// O1: the server makes the id; one batch.
	status, receipt, h := ask(t, "POST", base+"/v1/order/create", twoItems)
	httptry.Want(t, "create", status, 201)
	location := h.Get("Location")
	id := location[strings.LastIndexByte(location, '/')+1:]
	httptry.Want(t, "stream", types(t, base, "order/"+id), "created@1 item-added@2 item-added@3")
	v := summary(t, base, id, receipt)
	httptry.Want(t, "status, items, total", []any{v["status"], v["item_count"], v["total"]}, []any{"Draft", 2, map[string]any{"amount": 25000, "currency": "EUR"}})
	status, state, h := ask(t, "GET", base+location, "")
	httptry.Want(t, "state", []any{status, state["version"], h.Get("ETag")}, []any{200, 3, `"3"`})

	// O2: one more item.
	status, receipt, _ = ask(t, "POST", base+location+"/add-item", cables)
	httptry.Want(t, "add", []any{status, receipt["version"]}, []any{200, 4})
	v = summary(t, base, id, receipt)
	httptry.Want(t, "items and total", []any{v["item_count"], v["total"].(map[string]any)["amount"]}, []any{3, 28000})

	// O3: nothing to submit.
	ask(t, "POST", base+"/v1/order/empty/create", `{"customer":"c"}`)
	status, p, _ := ask(t, "POST", base+"/v1/order/empty/submit", "")
	httptry.Want(t, "empty submit", []any{status, p["code"], p["reason"], p["detail"]}, []any{422, "rejected", "order_empty", "Cannot submit empty order"})
	httptry.Want(t, "stream", types(t, base, "order/empty"), "created@1")

	// O4: frozen after submit.
	ask(t, "POST", base+location+"/submit", "{}")
	status, p, _ = ask(t, "POST", base+location+"/add-item", cables)
	httptry.Want(t, "add after submit", []any{status, p["detail"]}, []any{422, "Cannot modify a submitted order"})

	// Paying: the whole total, and a transaction pays once.
	status, p, _ = ask(t, "POST", base+location+"/pay", `{"amount":{"amount":1,"currency":"EUR"},"method":"card","transaction":"tx-1"}`)
	httptry.Want(t, "pay too little", []any{status, p["reason"]}, []any{422, "wrong_amount"})
	pay := `{"amount":{"amount":28000,"currency":"EUR"},"method":"card","transaction":"tx-1"}`
	status, _, _ = ask(t, "POST", base+location+"/pay", pay)
	httptry.Want(t, "pay", status, 200)
	ask(t, "POST", base+"/v1/order/other/create", strings.Replace(twoItems, "10000", "11500", 1))
	ask(t, "POST", base+"/v1/order/other/submit", "")
	status, p, _ = ask(t, "POST", base+"/v1/order/other/pay", pay)
	httptry.Want(t, "pay with the same transaction", []any{status, p["reason"]}, []any{422, "transaction_used"})

	status, receipt, _ = ask(t, "POST", base+location+"/ship", `{"tracking":"t1","carrier":"c","estimated_delivery":"2026-02-03T00:00:00Z"}`)
	httptry.Want(t, "ship", status, 200)
	v = summary(t, base, id, receipt)
	httptry.Want(t, "view", []any{v["status"], v["tracking"], v["transaction"]}, []any{"Shipped", "t1", "tx-1"})
	status, p, _ = ask(t, "POST", base+location+"/cancel", `{"reason":"late"}`)
	httptry.Want(t, "cancel what is shipped", []any{status, p["reason"]}, []any{422, "order_shipped"})

	// O6: an unknown order.
	status, p, _ = ask(t, "POST", base+"/v1/order/nope/add-item", cables)
	httptry.Want(t, "unknown order", []any{status, p["code"]}, []any{404, "not_found"})
	httptry.Want(t, "stream of an unknown order", types(t, base, "order/nope"), "")
}

// The same key gives the same answer; a version that has passed is refused;
// the past can be read.
func retriesVersionsAndThePast(t *testing.T, base string) {
	key := []string{"Idempotency-Key", "k-1", "X-Actor", "ann"}
	_, first, h := ask(t, "POST", base+"/v1/order/create", twoItems, key...)
	status, again, h2 := ask(t, "POST", base+"/v1/order/create", strings.Join(strings.Fields(twoItems), ""), key...)
	httptry.Want(t, "asked again", []any{status, again, h2.Get("Idempotent-Replay"), h2.Get("Location")}, []any{201, first, "true", h.Get("Location")})
	status, p, _ := ask(t, "POST", base+"/v1/order/create", `{"customer":"other"}`, key...)
	httptry.Want(t, "other body", []any{status, p["code"]}, []any{422, "idempotency_mismatch"})
	status, p, _ = ask(t, "POST", base+"/v1/order/o-9/submit", ``, "Idempotency-Key", "k-1")
	httptry.Want(t, "other command", []any{status, p["code"]}, []any{422, "idempotency_mismatch"})

	location := base + h.Get("Location")
	status, p, _ = ask(t, "POST", location+"/add-item", cables, "If-Match", `"2"`)
	httptry.Want(t, "old version", []any{status, p["code"], p["version"]}, []any{409, "conflict", 3})
	status, _, _ = ask(t, "POST", location+"/add-item", cables, "If-Match", `"3"`)
	httptry.Want(t, "right version", status, 200)

	refused := []string{"Idempotency-Key", "k-2"}
	ask(t, "POST", base+"/v1/order/empty/create", `{"customer":"c"}`)
	status, p, _ = ask(t, "POST", base+"/v1/order/empty/submit", "", refused...)
	httptry.Want(t, "refused", []any{status, p["reason"]}, []any{422, "order_empty"})
	ask(t, "POST", base+"/v1/order/empty/add-item", cables)
	status, p, h = ask(t, "POST", base+"/v1/order/empty/submit", "", refused...)
	httptry.Want(t, "refused again, with the same answer", []any{status, p["reason"], h.Get("Idempotent-Replay")}, []any{422, "order_empty", "true"})
	status, cmd, _ := ask(t, "GET", base+"/v1/commands/k-2", "")
	httptry.Want(t, "what became of the command", []any{status, cmd["state"]}, []any{200, "rejected"})

	_, then, _ := ask(t, "GET", location+"?version=1", "")
	httptry.Want(t, "state at version 1", []any{then["version"], len(then["state"].(map[string]any)["items"].([]any))}, []any{1, 0})
	id := location[strings.LastIndexByte(location, '/')+1:]
	_, doc, _ := ask(t, "GET", base+"/v1/views/order-summaries/"+id+"?position="+fmt.Sprint(first["position"]), "")
	httptry.Want(t, "view as it was", doc["value"].(map[string]any)["item_count"], 2)
	_, stream, _ := ask(t, "GET", base+"/v1/streams/order/"+id, "")
	e := stream["events"].([]any)[0].(map[string]any)
	httptry.Want(t, "who asked", e["meta"].(map[string]any)["actor"], "ann")
	status, _, _ = ask(t, "GET", location+"?at=2001-01-01T00:00:00Z", "")
	httptry.Want(t, "before it was there", status, 404)
}

func pagesOfAView(t *testing.T, base string) {
	var last map[string]any
	for i := range 25 {
		body := fmt.Sprintf(`{"customer":"c-%d","items":[{"product":"p","name":"n","unit_price":{"amount":%d,"currency":"EUR"},"quantity":1}]}`, i%3, i%7)
		_, last, _ = ask(t, "POST", fmt.Sprintf("%s/v1/order/o-%02d/create", base, i), body)
	}
	min := fmt.Sprintf("min-position=%v&wait=5s", last["position"])
	var keys []string
	var amounts []float64
	for after := ""; ; {
		status, page, _ := ask(t, "GET", base+"/v1/views/order-summaries?sort=-total.amount&limit=4&where=customer=c-1&"+min+"&after="+after, "")
		httptry.Want(t, "page", status, 200)
		for _, d := range page["documents"].([]any) {
			d := d.(map[string]any)
			keys = append(keys, d["key"].(string))
			amounts = append(amounts, d["value"].(map[string]any)["total"].(map[string]any)["amount"].(float64))
		}
		next, more := page["next"].(string)
		if !more {
			break
		}
		after = next
	}
	httptry.Want(t, "documents", len(keys), 8)
	for i := 1; i < len(amounts); i++ {
		if amounts[i] > amounts[i-1] || amounts[i] == amounts[i-1] && keys[i] > keys[i-1] {
			t.Errorf("%s (%v) comes after %s (%v)", keys[i], amounts[i], keys[i-1], amounts[i-1])
		}
	}
	_, page, _ := ask(t, "GET", base+"/v1/views/order-summaries?where=total.amount%3E=5&where=total.amount%3C6&"+min, "")
	httptry.Want(t, "between 5 and 6", len(page["documents"].([]any)), 3)
	_, page, _ = ask(t, "GET", base+"/v1/views/order-summaries?limit=2&fields=customer,total.amount&count=true&where=customer=c-1&"+min, "")
	httptry.Want(t, "how many there are on all pages", page["count"], 8)
	httptry.Want(t, "two fields", page["documents"], "[map[key:o-01 value:map[customer:c-1 total:map[amount:1]]] map[key:o-04 value:map[customer:c-1 total:map[amount:4]]]]")
	_, page, _ = ask(t, "GET", base+"/v1/views/order-summaries?limit=1&fields=status&count&where=customer=c-1&sort=-total.amount&after="+page["next"].(string)+"&"+min, "")
	httptry.Want(t, "a mark of another order", page["code"], "invalid")
	_, page, _ = ask(t, "GET", base+"/v1/views/order-summaries?limit=1&count&position="+fmt.Sprint(last["position"])+"&where=customer=c-1", "")
	httptry.Want(t, "how many there were", page["count"], 8)
	_, page, _ = ask(t, "GET", base+"/v1/views/order-summaries?limit=5&count&fields=customer&search=c-1&"+min, "")
	httptry.Want(t, "how many are found", page["count"], 8)
	_, page, _ = ask(t, "GET", base+"/v1/views/order-summaries?fields=customer&search=c-1&"+min+"&after="+page["next"].(string), "")
	httptry.Want(t, "the rest of them", len(page["documents"].([]any)), 3)
	_, one, _ := ask(t, "GET", base+"/v1/views/order-summaries/o-01?fields=total,total.currency,tracking&"+min, "")
	httptry.Want(t, "a field as a whole, and one that is not there", one["value"], "map[total:map[amount:1 currency:EUR]]")
	_, doc, _ := ask(t, "GET", base+"/v1/views/customers/c-1?"+min, "")
	httptry.Want(t, "a view keyed by what events say", doc["value"].(map[string]any)["orders"], 8)
}

// Orders are found by what was ordered, by whom, and where they are; now, and as
// they were.
func searches(t *testing.T, base string) {
	create := func(id, customer, items string) {
		t.Helper()
		status, _, _ := ask(t, "POST", base+"/v1/order/"+id+"/create", fmt.Sprintf(`{"customer":%q,"items":[%s]}`, customer, items))
		httptry.Want(t, "create "+id, status, 200)
	}
	item := func(product, name string) string {
		return fmt.Sprintf(`{"product":%q,"name":%q,"unit_price":{"amount":100,"currency":"EUR"},"quantity":1}`, product, name)
	}
	create("s-1", "Hazel Byrne", item("sku-9001", "Garden chair, blue")+","+item("sku-9002", "Cushion"))
	create("s-2", "Hazel Byrne", item("sku-9003", "Blue parasol"))
	create("s-3", "Otto Garden", item("sku-9001", "Garden chair, blue"))
	_, before, _ := ask(t, "POST", base+"/v1/order/s-2/add-item", item("sku-9004", "Chair for the garden"))
	_, last, _ := ask(t, "POST", base+"/v1/order/s-1/remove-item", `{"product":"sku-9001"}`)
	found := func(query string) (keys []string) {
		t.Helper()
		status, page, _ := ask(t, "GET", fmt.Sprintf("%s/v1/views/order-summaries?%s&min-position=%v&wait=10s", base, query, last["position"]), "")
		httptry.Want(t, query, status, 200)
		list, _ := page["documents"].([]any)
		for _, d := range list {
			keys = append(keys, d.(map[string]any)["key"].(string))
		}
		return keys
	}
	for query, want := range map[string]string{
		"search=parasol":                       "[s-2]",
		"search=PARASOL+hazel":                 "[s-2]",
		"search=parasol+otto":                  "[]",
		"search=garden+blue":                   "[s-2 s-3]",
		"search=%22garden+chair%22":            "[s-3]",
		"search=cush*":                         "[s-1]",
		"search=sku-9001":                      "[s-3]",
		"search=hazel&sort=-created_at":        "[s-2 s-1]",
		"search=hazel&where=status=Cancelled":  "[]",
		"search=sku-900*&where=customer!=Otto": "[s-1 s-2 s-3]",
		fmt.Sprintf("search=%%22garden+chair%%22&position=%v", before["position"]): "[s-1 s-3]",
	} {
		httptry.Want(t, query, fmt.Sprint(found(query)), want)
	}
	status, p, _ := ask(t, "GET", base+"/v1/views/order-summaries?search=%22open", "")
	httptry.Want(t, "an open quotation mark", []any{status, p["code"]}, []any{400, "invalid"})
	_, page, _ := ask(t, "GET", fmt.Sprintf("%s/v1/views/order-summaries?search=garden&count=true&limit=1", base), "")
	httptry.Want(t, "how many", page["count"], 2)
	ask(t, "POST", base+"/v1/order/s-2/submit", "")
	ask(t, "POST", base+"/v1/order/s-2/cancel", `{"reason":"rained all summer"}`)
	httptry.Until(t, "the reason is found", func() bool { return fmt.Sprint(found("search=rained")) == "[s-2]" })
}
