package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/storetest"
)

// Behind PgBouncer in transaction mode, with four connections for everybody, the
// contract holds; all but the clauses that are slow and ask for nothing else.
func TestContractBehindPooler(t *testing.T) {
	t.Parallel()
	dsn, stop, err := server.Pooler("deed")
	if err != nil {
		t.Fatalf("THE TESTS OF THE POOLER CANNOT RUN HERE: %v", err)
	}
	t.Cleanup(stop)
	n := 0
	for _, c := range storetest.Clauses() {
		if n++; testing.Short() && n%4 > 0 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			s := openWith(t, strings.Replace(dsn, "schema=deed", "schema="+server.Schema(), 1), nil)
			defer s.Close()
			if err := c.Check(t.Context(), s); err != nil {
				t.Errorf("%v\nwhy it matters: %s", err, c.Why)
			}
		})
	}
}

// Two programs share connections through the pooler: nothing they do depends on a
// session, and readers wake up without notifications.
func TestProgramsBehindPooler(t *testing.T) {
	schema := server.Schema()
	dsn, stop, err := server.Pooler(schema)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	a, b := openWith(t, dsn, quick), openWith(t, dsn, quick)
	la := start(t, a, "a")
	lb := start(t, b, "b")
	eventually(t, 20*time.Second, "both append", func() bool { return la.count() > 300 && lb.count() > 300 })
	for _, l := range []*load{la, lb} {
		l.stop()
		l.writers.Wait()
	}
	for id := range lb.acked { // it is one log
		la.maybe[id] = true
	}
	la.end(t, a)
	if la.failed+lb.failed > 0 {
		t.Errorf("%d appends failed", la.failed+lb.failed)
	}
	head := must[store.Cursor](t)(a.Head(t.Context()))
	woken := make(chan error, 1)
	go func() { woken <- a.Wait(t.Context(), head) }()
	must[[]store.Written](t)(b.Append(t.Context(), write("c/1", store.None, event(`{}`))))
	select {
	case err := <-woken:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("a reader does not wake up")
	}
	var listening int
	c := session(t, server)
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'||$1||'%'", fmt.Sprint(schema)).Scan(&listening); err != nil || listening > 0 {
		t.Errorf("%d sessions of the pooler listen for somebody (%v)", listening, err)
	}
}
