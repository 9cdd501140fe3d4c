package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/store"
)

var perSecond = flag.Int("load", 150, "commands a second that clients ask while things break")

// patience is how long a client waits for an answer before it asks elsewhere.
const patience = time.Second

// telling is how many answers a test needs to show anything.
const telling = 500

// An address is where a server is reached. It may move.
type address struct {
	at    atomic.Pointer[client.Client]
	avoid atomic.Int64 // until then; somebody had no answer there
}

func (a *address) moves(base string) {
	a.at.Store(client.New(base))
	a.avoid.Store(0)
}

// A load is many clients that create orders over HTTP, so many a second. Who
// gets no answer asks again with the same command id, elsewhere if there is
// another server, until there is one.
type load struct {
	addresses []*address
	tokens    chan struct{}
	cancel    context.CancelFunc
	began     time.Time
	all       sync.WaitGroup
	resting   atomic.Bool
	busy      atomic.Int64 // clients that have not settled something

	mu    sync.Mutex
	acked map[string]deed.Receipt // by command id
	codes map[string]int          // of answers that were none
	mute  int                     // attempts without any answer
}

// startLoad asks commands at addresses until the load is ended.
func startLoad(t *testing.T, addresses ...*address) *load {
	l := &load{addresses: addresses, tokens: make(chan struct{}, *perSecond), began: time.Now(), acked: map[string]deed.Receipt{}, codes: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel = cancel
	l.all.Go(func() { l.pace(ctx) })
	for w := range max(16, *perSecond/8) {
		l.all.Go(func() { l.client(ctx, w) })
	}
	return l
}

// pace hands out leave to ask. What nobody takes for a second is dropped.
func (l *load) pace(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for given := 0; ; {
		for ; !l.resting.Load() && given < int(time.Since(l.began).Seconds()*float64(*perSecond)); given++ {
			select {
			case l.tokens <- struct{}{}:
			default:
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *load) client(ctx context.Context, w int) {
	for n := 0; ; n++ {
		select {
		case <-l.tokens:
		case <-ctx.Done():
			return
		}
		l.busy.Add(1)
		key := fmt.Sprintf("%d-%d", w, n)
		for attempt := w + n; ctx.Err() == nil && !l.ask(ctx, l.address(attempt), key); attempt++ {
			time.Sleep(5 * time.Millisecond)
		}
		l.busy.Add(-1)
	}
}

// rest lets clients settle what they have begun, until the function that is
// returned has them begin again.
func (l *load) rest(t *testing.T) (goOn func()) {
	t.Helper()
	l.resting.Store(true)
	for end := time.Now().Add(30 * time.Second); len(l.tokens) > 0 || l.busy.Load() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d clients are still busy", l.busy.Load())
		}
	}
	for _, a := range l.addresses {
		a.at.Load().HTTP.CloseIdleConnections()
	}
	return func() { l.resting.Store(false) }
}

// address returns the one whose turn it is, or the next that answers.
func (l *load) address(n int) *address {
	for i := range l.addresses {
		if a := l.addresses[(n+i)%len(l.addresses)]; time.Now().UnixNano() > a.avoid.Load() {
			return a
		}
	}
	return l.addresses[n%len(l.addresses)]
}

// ask asks once, and reports whether that settled it.
func (l *load) ask(ctx context.Context, a *address, key string) bool {
	within, done := context.WithTimeout(ctx, patience)
	defer done()
	if len(l.addresses) == 1 {
		within = ctx // there is nobody else to ask
	}
	r, _, err := create(within, a.at.Load(), key)
	var p httpapi.Problem
	var gone client.Unreachable
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acked[key] = r
	case errors.As(err, &gone):
		l.mute++
		a.avoid.Store(time.Now().Add(5 * patience).UnixNano())
	case errors.As(err, &p):
		l.codes[p.Code]++
	default:
		l.codes[err.Error()]++
	}
	return err == nil
}

// create asks for the order of a command id.
func create(ctx context.Context, c *client.Client, key string) (r deed.Receipt, h http.Header, err error) {
	var customer int
	fmt.Sscanf(key, "%d-", &customer)
	body := fmt.Appendf(nil, `{"customer":"c-%d","items":[{"product":"p","name":"n","unit_price":{"amount":5,"currency":"EUR"},"quantity":1}]}`, customer%20)
	h, err = c.Do(ctx, http.MethodPost, "/v1/order/o-"+key+"/create", map[string]string{"Idempotency-Key": key}, body, &r)
	return r, h, err
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// goesOn waits until so many more commands are answered.
func (l *load) goesOn(t *testing.T, more int, within time.Duration) {
	t.Helper()
	before := l.answered()
	for end := time.Now().Add(within); l.answered() < before+more; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("commands do not go on: %d were answered within %v, %v", l.answered()-before, within, l.codes)
		}
	}
}

// end stops the clients, and says what they met.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.all.Wait()
	took := time.Since(l.began)
	t.Logf("%d commands were answered, %.0f a second; besides, clients met %v and %d times nothing",
		len(l.acked), float64(len(l.acked))/took.Seconds(), l.codes, l.mute)
	for code := range l.codes {
		if code != httpapi.CodeUnavailable && code != httpapi.CodeOutcomeUnknown && code != httpapi.CodeInProgress {
			t.Errorf("clients met %s", code)
		}
	}
}

// settles compares what clients were told with the log, with what they are told
// when they ask again, and the views with a fresh fold.
func (l *load) settles(t *testing.T, s store.Store) {
	t.Helper()
	if len(l.acked) < telling {
		t.Errorf("only %d commands were acknowledged: that shows nothing", len(l.acked))
	}
	seen := map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"order"}, Types: []string{"created"}}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[rec.Stream]++
	}
	n := 0
	for key, first := range l.acked {
		if got := seen["order/o-"+key]; got != 1 {
			t.Errorf("order o-%s was acknowledged at %s and is there %d times", key, first.Position, got)
		}
		if n++; n > 300 {
			continue
		}
		again, h, err := create(t.Context(), l.addresses[n%len(l.addresses)].at.Load(), key)
		if err != nil || h.Get("Idempotent-Replay") != "true" || fmt.Sprint(again) != fmt.Sprint(first) {
			t.Fatalf("command %s: first %+v, then %+v (%v)", key, first, again, err)
		}
	}
	caughtUp(t, s)
	waitForViews(t, l.addresses[0].at.Load())
	compareFolds(t, s, len(l.acked))
}

// caughtUp waits until followers have read what was recorded up to now. What
// they report of themselves would not do: one that cannot reach the store does
// not know how much there is to read.
func caughtUp(t *testing.T, s store.Store) {
	t.Helper()
	head := store.Start
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		behind, err := 0, error(nil)
		if head == store.Start {
			head, err = s.Head(t.Context())
		}
		for d, e := range s.List(t.Context(), "$cursor", "", "") {
			if err = errors.Join(err, e); e == nil && !parseState(t, d).Cursor.CoversAll(head) {
				behind++
			}
		}
		if err == nil && behind == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d followers do not go on: %v", behind, err)
		}
	}
}

// compareFolds folds the log anew and compares that with the views. What was
// still on its way to the store when clients gave up may arrive meanwhile, so
// the views get some time to agree.
func compareFolds(t *testing.T, s store.Store, least int) {
	t.Helper()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{orders.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"order-summaries", "customers"} {
		var kept, folded []byte
		n := 0
		for range 100 {
			head, err0 := s.Head(t.Context())
			now, err1 := rt.Documents(t.Context(), rt, view, store.Query{})
			then, err2 := rt.Documents(t.Context(), rt.AtPosition(head), view, store.Query{})
			if err := errors.Join(err0, err1, err2); err != nil {
				t.Fatal(err)
			}
			n = len(now)
			kept, _ = json.Marshal(now)
			folded, _ = json.Marshal(then)
			if bytes.Equal(kept, folded) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !bytes.Equal(kept, folded) || view == "order-summaries" && n < least {
			t.Errorf("%s: the followers wrote %d documents: %s\na fresh fold gives %s", view, n, clip(kept), clip(folded))
		}
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 300)] }
