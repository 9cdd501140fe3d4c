package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// The server plans a statement early, and goes on with that when there is more to
// look through: appends find their streams all the same.
func TestAppendsFindTheirStreams(t *testing.T) {
	t.Parallel()
	schema := server.Schema()
	s := open(t, server.DSN(schema))
	c := session(t, server)
	exec(t, c, "ALTER TABLE "+schema+".streams SET (autovacuum_enabled = off)") // it does not count the rows meanwhile
	const rounds, together, many = 20, 40, 4000
	add := func(prefix string) {
		writes := make([]store.Write, together)
		for n := range writes {
			writes[n] = write(fmt.Sprintf("%s/%d", prefix, n), store.Any, event(`{}`))
		}
		must[[]store.Written](t)(s.Append(t.Context(), writes...))
	}
	for range rounds {
		add("few")
	}
	for i := range many / together {
		add(fmt.Sprintf("many-%d", i))
	}
	for range rounds {
		add("few")
	}
	if err := s.Close(); err != nil { // so that the server has counted it all
		t.Fatal(err)
	}
	var changed, looked int
	for range 100 {
		err := c.QueryRow(t.Context(), "SELECT n_tup_upd, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'streams'", schema).Scan(&changed, &looked)
		if err != nil {
			t.Fatal(err)
		}
		if changed >= (2*rounds-1)*together {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if changed < (2*rounds-1)*together || looked > many {
		t.Errorf("to change %d streams, the server looked through %d", changed, looked)
	}
}
