package deed_test

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var fanOut = flag.Int("fanout", 20_000, "entities that one command concerns")

// A step may ask commands of very many entities: 200 at a time, saying how far
// it has come. When it is interrupted half way, it does the other half.
func TestFanOut(t *testing.T) {
	n := *fanOut
	if testing.Short() {
		n = 3000
	}
	var asked atomic.Int64
	half := make(chan struct{})
	def := deed.Stepwise[struct{}]{Name: "vaults.fill", Steps: []deed.Step[struct{}]{{
		Name: "drop", Timeout: 5 * time.Minute,
		Do: func(ctx context.Context, w *deed.Work, _ struct{}) error {
			all := make([]deed.Sending, n)
			for i := range all {
				all[i] = deed.Send(vaults, fmt.Sprint(i), counted1{drop{1}, func() {
					if asked.Add(1) == int64(n/2) {
						close(half)
					}
				}})
			}
			return w.Ask(ctx, all...)
		},
	}}}
	s := mem.New()
	agg := vaults
	agg.Commands = map[string]deed.Command[jar]{"count": counted1{}}
	domain := deed.Domain{Name: "d", Parts: []deed.Part{agg, def}}
	first, stop := runOn(t, s, domain)
	if _, err := def.Submit(deed.With(t.Context(), deed.Call{ID: "k"}), first, "all", struct{}{}); err != nil {
		t.Fatal(err)
	}
	<-half
	stop()
	again := deedtest.StartOn(t, s, domain)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	status, err := again.Commands().Wait(ctx, "k")
	if err != nil || status.State != deed.CommandCompleted || status.EntityCount < n || len(status.Entities) != 100 {
		t.Fatalf("%s: %s, %d entities, %v", status.State, status.Reason, status.EntityCount, err)
	}
	for i := range n {
		if j, _, err := agg.Load(t.Context(), again, fmt.Sprint(i)); err != nil || j.Coins != 1 {
			t.Fatalf("vault %d has %d coins (%v)", i, j.Coins, err)
		}
	}
}

// counted1 tells when it is decided.
type counted1 struct {
	Drop    drop `json:"drop"`
	decided func()
}

func (c counted1) Decide(j jar) ([]deed.Event[jar], error) {
	if c.decided != nil {
		c.decided()
	}
	return c.Drop.Decide(j)
}

// runOn runs a domain until it is told to stop, or the test ends.
func runOn(t *testing.T, s *mem.Store, domain deed.Domain) (*deed.Runtime, func()) {
	t.Helper()
	return runWith(t, s, deed.Config{Domains: []deed.Domain{domain}})
}

// runWith runs what cfg says until it is told to stop, or the test ends.
func runWith(t *testing.T, s store.Store, cfg deed.Config) (*deed.Runtime, func()) {
	t.Helper()
	rt, err := deed.New(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	return rt, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
