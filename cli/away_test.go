package cli_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var away = flag.Duration("away", 4*time.Second, "for how long the database is away")

// The database goes away under load and comes back: clients are told so, clearly
// and never with a 500; everything goes on by itself, and nothing that was
// answered is lost or there twice.
func TestDatabaseAway(t *testing.T) {
	server := pgtest.Start(t)
	s, err := postgres.Open(t.Context(), server.DSN("away"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	base := deedtest.Serve(t, s, orders.Domain)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	acked, codes := map[string]deed.Receipt{}, map[string]int{}
	var answered atomic.Int64
	body := []byte(`{"customer":"c","items":[{"product":"p","name":"n","unit_price":{"amount":5,"currency":"EUR"},"quantity":1}]}`)
	for w := range 16 {
		all.Go(func() {
			c := client.New(base)
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d", w, n)
				for ctx.Err() == nil {
					var r deed.Receipt
					_, err := c.Do(ctx, http.MethodPost, "/v1/order/o-"+key+"/create", map[string]string{"Idempotency-Key": key}, body, &r)
					var p httpapi.Problem
					mu.Lock()
					switch {
					case err == nil:
						acked[key] = r
						answered.Add(1)
					case errors.As(err, &p):
						codes[p.Code]++
					}
					mu.Unlock()
					if err == nil {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	goesOn := func() {
		t.Helper()
		before := answered.Load()
		for end := time.Now().Add(30 * time.Second); answered.Load() < before+100; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("commands do not go on")
			}
		}
	}
	goesOn()
	busy := runtime.NumGoroutine()
	server.Stop()
	time.Sleep(*away)
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	goesOn()
	t.Logf("it went on %v after the server was back; meanwhile clients met %v", time.Since(start), codes)
	if now := runtime.NumGoroutine(); now > busy+30 {
		t.Errorf("%d goroutines became %d", busy, now)
	}
	cancel()
	all.Wait()
	for code := range codes {
		if code != httpapi.CodeUnavailable && code != httpapi.CodeOutcomeUnknown && code != httpapi.CodeInProgress {
			t.Errorf("clients met %s", code)
		}
	}
	if len(codes) == 0 {
		t.Error("nobody noticed that the database was away")
	}
	waitForViews(t, client.New(base))
	seen := map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"order"}, Types: []string{"created"}}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[rec.Stream]++
	}
	for key := range acked {
		if n := seen["order/o-"+key]; n != 1 {
			t.Errorf("order o-%s was created %d times", key, n)
		}
	}
	compareFolds(t, s, len(acked))
}
