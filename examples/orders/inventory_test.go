package orders_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/internal/program"
)

func TestMain(m *testing.M) {
	program.Main(m, func(string) []deed.Domain { return []deed.Domain{orders.Domain} })
}

// Scenario O8 of the specification: the shop is killed right after the append of
// a shipment. The inventory, a process of its own, which is killed as well, hears
// of it, and its figures are exact.
func TestInventory(t *testing.T) {
	backends.EachPlace(t, func(t *testing.T, place string) {
		t.Parallel()
		shop := program.Server{Place: place, DieAfter: "shipped"}
		p := shop.Start(t)
		base := p.Base
		addr, db := program.FreeAddr(t), filepath.Join(t.TempDir(), "inventory.db")
		put := httptry.Ask(t, "PUT", base+"/v1/topics/domain-events/subscriptions/inventory", fmt.Sprintf(
			`{"target":{"kind":"webhook","url":"http://%s"},"start":"beginning","retry":[%s]}`, addr, strings.Join(slices.Repeat([]string{`"100ms"`}, 100), ",")))
		httptry.Want(t, "subscribe", put.Status, 200)
		secret := fmt.Sprint("WEBHOOK_SECRET=", put.Get("once", "secret"))
		inventory := func() *program.Process {
			return program.Start(t, []string{secret}, program.Build(t, "./inventory"), "--addr", addr, "--db", db)
		}
		running := inventory()
		order := func(id, then string) {
			httptry.Want(t, "create", httptry.Ask(t, "POST", base+"/v1/order/"+id+"/create", twoItems).Status, 200)
			httptry.Want(t, "submit", httptry.Ask(t, "POST", base+"/v1/order/"+id+"/submit", "").Status, 200)
			if then == "cancel" {
				httptry.Want(t, "cancel", httptry.Ask(t, "POST", base+"/v1/order/"+id+"/cancel", `{"reason":"late"}`).Status, 200)
				return
			}
			pay := fmt.Sprintf(`{"amount":{"amount":25000,"currency":"EUR"},"method":"card","transaction":%q}`, "tx-"+id)
			httptry.Want(t, "pay", httptry.Ask(t, "POST", base+"/v1/order/"+id+"/pay", pay).Status, 200)
		}
		order("o-1", "pay")
		r, err := http.Post(base+"/v1/order/o-1/ship", "application/json", strings.NewReader(`{"tracking":"t","carrier":"c","estimated_delivery":"2026-02-03T00:00:00Z"}`))
		if err == nil {
			t.Errorf("the shop answers %s before it is killed", r.Status)
		}
		p.Killed(t)
		base = program.Server{Place: place}.Start(t).Base
		httptry.Until(t, "the inventory has heard of the shipment", func() bool { return figuresAt(addr) == "p-1: 0 promised, 1 shipped; p-2: 0 promised, 2 shipped" })
		httptry.Want(t, "on the topic", shipments(t, base), []any{"order/o-1:6 order/o-1 order.shipped.v1"})

		// The inventory is killed while it hears of more.
		for i := range 4 {
			for j := range 5 {
				order(fmt.Sprintf("m-%d-%d", i, j), []string{"pay", "cancel"}[j%2])
			}
			running.Kill()
			running = inventory()
		}
		httptry.Until(t, "everything is delivered", func() bool {
			st := httptry.Ask(t, "GET", base+"/v1/topics/domain-events/subscriptions/inventory", "")
			return figuresAt(addr) == "p-1: 12 promised, 1 shipped; p-2: 24 promised, 2 shipped" && fmt.Sprint(st.Get("behind"), st.Get("retrying"), st.Get("waiting"), st.Get("dead")) == "0 0 0 0"
		})
	})
}

// shipments are id, subject and type of the shipments that are public.
func shipments(t *testing.T, base string) (out []any) {
	t.Helper()
	r, err := http.Get(base + "/v1/topics/domain-events/events?type=order.shipped.v1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var events []deed.CloudEvent
	if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		out = append(out, e.ID+" "+e.Subject+" "+e.Type)
	}
	return out
}

// figuresAt is what an inventory says, if it does.
func figuresAt(addr string) string {
	r, err := http.Get("http://" + addr)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	var all map[string]struct{ Promised, Shipped int }
	if err := json.Unmarshal(data, &all); err != nil {
		return err.Error()
	}
	var out []string
	for product, f := range all {
		out = append(out, fmt.Sprintf("%s: %d promised, %d shipped", product, f.Promised, f.Shipped))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
