package cli_test

import (
	"flag"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
)

var failovers = flag.Int("failovers", 1, "how often the primary is killed under load")

// The drill of docs/operations.md: the primary is killed under load, the standby
// promoted, and two nodes that know both servers go on by themselves. Nothing that was
// acknowledged is lost, and followers continue where they were.
//
//	go test -run TestNodesSurviveFailover -timeout 30m ./cli -failovers 10 -load 1000
func TestNodesSurviveFailover(t *testing.T) {
	primary, standby := pgtest.Pair(t)
	f := share(t, primary.With(standby, "failover"), "failover")
	var longest time.Duration
	for range *failovers {
		f.load.goesOn(t, 300, 60*time.Second)
		primary.Kill()
		start := time.Now()
		if err := standby.Promote(); err != nil {
			t.Fatal(err)
		}
		f.load.goesOn(t, 1, 30*time.Second)
		longest = max(longest, time.Since(start))
		caughtUp(t, f.store)
		primary, standby = standby, standby.Follow(t, primary.Port)
	}
	t.Logf("%d failovers; commands were answered again within %v", *failovers, longest)
	f.end(t)
}
