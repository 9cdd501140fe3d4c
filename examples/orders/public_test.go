package orders_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"testing/synctest"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// What is public of an order stays as it is: others have taken it in.
func TestPublicEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{orders.Domain}})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []deed.Command[orders.Order]{
			orders.Create{Customer: "cust_789", Items: []orders.Item{keyboard, monitor}}, orders.Submit{}, pay, ship,
		} {
			ctx := deed.With(t.Context(), deed.Call{ID: fmt.Sprint("c-", i), Correlation: "flow"})
			if _, err := orders.Orders.Execute(ctx, rt, "o-1", c); err != nil {
				t.Fatal(err)
			}
		}
		page, err := rt.ReadTopic(t.Context(), "domain-events", store.Start, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for _, e := range page.Events {
			data, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&got, "%s\n", data)
		}
		const path = "testdata/public-events.txt"
		want, err := os.ReadFile(path)
		if err != nil || got.String() != string(want) {
			t.Errorf("%v\ngot:\n%swant (%s):\n%s", err, &got, path, want)
		}
	})
}
