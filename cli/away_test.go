package cli_test

import (
	"flag"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store/postgres"
)

var away = flag.Duration("away", 4*time.Second, "for how long the database is away")

// The database goes away under load and comes back: clients are told so, clearly
// and never with a 500; everything goes on by itself, and nothing that was
// answered is lost or there twice.
//
//	go test -run TestDatabaseAway ./cli -away 30s -load 1000
func TestDatabaseAway(t *testing.T) {
	server := pgtest.Start(t)
	s, err := postgres.Open(t.Context(), server.DSN("away"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := &address{}
	at.moves(deedtest.Serve(t, s, orders.Domain))
	l := startLoad(t, at)
	l.goesOn(t, 2**perSecond, 30*time.Second)
	goOn := l.rest(t)
	goroutines, kept := settled(math.MaxInt), heap()
	goOn()
	l.goesOn(t, *perSecond, 30*time.Second)
	server.Stop()
	time.Sleep(*away)
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	l.goesOn(t, 1, 30*time.Second)
	t.Logf("it went on %v after the server was back", time.Since(start))
	l.goesOn(t, 2**perSecond, 30*time.Second)
	l.rest(t)
	afterwards, now := settled(goroutines+30), heap()
	t.Logf("at rest, before and after: %d and %d goroutines, %d and %d MiB", goroutines, afterwards, kept>>20, now>>20)
	if afterwards > goroutines+30 || now > kept+32<<20 {
		t.Errorf("%d goroutines and %d bytes became %d and %d", goroutines, kept, afterwards, now)
	}
	l.end(t)
	if len(l.codes) == 0 {
		t.Error("nobody noticed that the database was away")
	}
	l.settles(t, s)
}

// settled is the number of goroutines, when it no longer falls or is small
// enough: connections take a moment to close.
func settled(enough int) int {
	n := runtime.NumGoroutine()
	for falling := 0; falling < 20 || n > enough && falling < 200; falling++ {
		time.Sleep(50 * time.Millisecond)
		n = min(n, runtime.NumGoroutine())
	}
	return n
}

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
