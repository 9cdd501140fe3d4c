package credits

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/apicheck"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// Whoever has the answer to a command sees in the view what it did, and waits for
// nothing.
func TestBalancesAreRightAtOnce(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		st, domain := open(t), Credits{Inline: true}.Domain()
		if strings.HasSuffix(t.Name(), "/jetstream") {
			if _, err := deed.New(st, deed.Config{Domains: []deed.Domain{domain}}); err == nil || !strings.Contains(err.Error(), "leave Inline out") {
				t.Errorf("on a store that cannot do that: %v", err)
			}
			return
		}
		s := &site{Server: apicheck.Server{Base: deedtest.Serve(t, st, domain)}}
		t.Run("loads", s.atOnce)
		t.Run("C5", s.heldAtOnce)
	})
}

// sees is what the view says of an account at this moment.
func (s *site) sees(t *testing.T, id string) string {
	t.Helper()
	a := s.ask(t, "GET", "views/balances/"+id, "")
	return fmt.Sprintf("%v of %v", a.Get("value", "available", "amount"), a.Get("value", "balance", "amount"))
}

// Several people load their accounts, each looks after each load.
func (s *site) atOnce(t *testing.T) {
	var all sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			s.open(t, map[string]int64{id: 0})
			for n := range 20 {
				loaded := s.ask(t, "POST", "credit-account/"+id+"/load", amount(1_00))
				httptry.Want(t, "load", loaded.Status, 200)
				httptry.Want(t, "at once", s.sees(t, id), fmt.Sprintf("%d of %[1]d", (n+1)*1_00))
			}
		})
	}
	all.Wait()
	page := s.ask(t, "GET", "views/balances?where=balance.amount>=2000&count=true", "")
	httptry.Want(t, "a page", page.Get("count"), 4)
}

// What a large transfer holds is not there for anything else as soon as it is
// requested; and nothing of it is when it is refused.
func (s *site) heldAtOnce(t *testing.T) {
	s.open(t, map[string]int64{"e": 5000_00, "f": 0})
	s.send(t, "l-1", "e", "f", 1500_00)
	httptry.Want(t, "command", s.command(t, "l-1").Get("state"), "completed")
	httptry.Want(t, "held", []any{s.sees(t, "e"), s.sees(t, "f")}, []any{"350000 of 500000", "0 of 0"})
	s.send(t, "l-2", "e", "f", 3500_01)
	httptry.Want(t, "too much", s.command(t, "l-2").Get("state"), "rejected")
	httptry.Want(t, "as it was", s.sees(t, "e"), "350000 of 500000")
}
