package deed_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
)

// A message of somebody else that nothing can be made of is corrected for the
// reception: its commands are those of what it says now, once, and what was sent is
// kept.
func TestMessageIsEdited(t *testing.T) {
	atCashier(t, nil, func(c *cashier) {
		c.issue(10, "a")
		sent := payment("p-1", 4, "a")
		sent.Data = []byte(`{"bills":"a","amount":4}`)
		c.expect(c.accept(sent), "1 stored, 0 repeated, 0 passed")
		c.expect(c.paid("a"), "a 0 in 0")
		l := c.letters()[0]
		corrected := strings.Replace(string(l.Data), `"bills":"a"`, `"bills":["a"]`, 1)
		for data, field := range map[string]string{`{"id":7}`: "data.id", `{"identity":"p-1"}`: "data.identity"} {
			_, err := c.rt.DeadLetters().Edit(c.Context(), l.ID, json.RawMessage(data), "they send it wrong")
			if inv, ok := errors.AsType[deed.Invalid](err); !ok || inv.Field != field {
				c.Errorf("%s: %v", data, err)
			}
		}
		if _, err := c.rt.DeadLetters().Edit(c.Context(), l.ID, json.RawMessage(corrected), "they send it wrong"); err != nil {
			c.Fatal(err)
		}
		if n, err := c.rt.Followers().Redrive(c.Context(), l.ID); n != 1 || err != nil {
			c.Fatal(n, err)
		}
		c.expect(c.accept(sent), "0 stored, 1 repeated, 0 passed")
		c.expect(c.paid("a"), "a 4 in 1")
		kept, err := c.rt.DeadLetters().Get(c.Context(), l.ID)
		if err != nil || kept.State != "handled" || string(kept.Data) != string(l.Data) || string(kept.Edits[0].Data) != corrected {
			c.Errorf("%+v, %v", kept, err)
		}
	})
}
