package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
)

// Words that are not those of their document are found by the check, and by nobody
// else: whoever searches is never shown a document that has not got them.
func TestAlteredWordsAreFound(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), nil)
	fields := []string{"name"}
	if err := s.EnsureSearch(t.Context(), "v", fields); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := s.Write(t.Context(), store.Change{Coll: "v", Key: fmt.Sprint(i), Data: fmt.Appendf(nil, `{"name":"Red door %d"}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	check := func() []string {
		r, err := s.Check(t.Context(), func(uint64, uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		return r.Problems
	}
	if p := check(); len(p) > 0 {
		t.Errorf("nothing is altered: %v", p)
	}
	exec(t, session(t, server), "UPDATE "+schema+".docs SET words = 'blue door' WHERE key = '7'")
	if p := check(); len(p) != 1 || !strings.Contains(p[0], "document v/7 is not found by its words") {
		t.Errorf("the check says %v", p)
	}
	for d, err := range s.Find(t.Context(), "v", store.Query{Search: "blue", Text: fields}) {
		t.Errorf("found %s, %v", d.Key, err)
	}
}
