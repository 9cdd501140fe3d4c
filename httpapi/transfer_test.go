package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
)

// account has money on it. It remembers which transfers took some.
type account struct {
	Balance int64            `json:"balance"`
	Taken   map[string]int64 `json:"taken,omitempty"`
}

type (
	moneyIn struct {
		Transfer string `json:"transfer"`
		Amount   int64  `json:"amount"`
	}
	moneyOut struct {
		Transfer string `json:"transfer"`
		Amount   int64  `json:"amount"`
	}

	deposit  moneyIn
	withdraw moneyOut
	refund   struct{ Transfer string }
)

var errPoor = deed.Reason{Code: "insufficient_balance", Text: "insufficient balance"}

func (e moneyIn) Apply(a *account) { a.add(e.Transfer, e.Amount) }

func (e moneyOut) Apply(a *account) { a.add(e.Transfer, -e.Amount) }

func (a *account) add(transfer string, n int64) {
	taken := map[string]int64{}
	for k, v := range a.Taken {
		taken[k] = v
	}
	taken[transfer] -= n
	a.Balance, a.Taken = a.Balance+n, taken
}

func (c deposit) Decide(account) ([]deed.Event[account], error) {
	return []deed.Event[account]{moneyIn(c)}, nil
}

func (c withdraw) Decide(a account) ([]deed.Event[account], error) {
	if a.Balance < c.Amount {
		return nil, errPoor
	}
	return []deed.Event[account]{moneyOut(c)}, nil
}

// Decide gives back what the transfer took, if it took anything.
func (c refund) Decide(a account) ([]deed.Event[account], error) {
	if a.Taken[c.Transfer] <= 0 {
		return nil, nil
	}
	return []deed.Event[account]{moneyIn{c.Transfer, a.Taken[c.Transfer]}}, nil
}

var accounts = deed.Aggregate[account]{
	Name:     "account",
	Events:   map[string]deed.Event[account]{"money-in": moneyIn{}, "money-out": moneyOut{}},
	Commands: map[string]deed.Command[account]{"deposit": deposit{}},
}

// transfer is a request to move money.
type transfer struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Amount int64  `json:"amount"`
}

func (c transfer) Validate() error {
	var err error
	if c.Amount < 1 {
		err = deed.Invalid{Field: "amount", Detail: "must be at least 1"}
	}
	return errors.Join(deed.Required("from", c.From), deed.Required("to", c.To), err)
}

// clearing is a house outside that hears of each withdrawal, and may be closed.
type clearing struct {
	mu     sync.Mutex
	closed int            // for so many attempts; -1 = until it is opened
	heard  map[string]int // by key: how often it was asked
}

func (c *clearing) hear(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[key]++
	if c.closed != 0 {
		c.closed = max(c.closed-1, -1)
		return errors.New("the clearing house is closed")
	}
	return nil
}

func (c *clearing) close(attempts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.heard = attempts, map[string]int{}
}

// attempts says how often the house was asked, if that was under one key.
func (c *clearing) attempts() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.heard) != 1 {
		return -len(c.heard)
	}
	for _, n = range c.heard {
	}
	return n
}

func transfers(house *clearing) deed.Stepwise[transfer] {
	return deed.Stepwise[transfer]{
		Name:  "transfer.make",
		Rules: deed.Rules{Retry: deed.Retry{Attempts: 3, First: 10 * time.Millisecond}},
		Steps: []deed.Step[transfer]{
			{
				Name: "withdraw",
				Do: func(ctx context.Context, w *deed.Work, c transfer) error {
					if err := w.Ask(ctx, deed.Send(accounts, c.From, withdraw{w.Command, c.Amount})); err != nil {
						return err
					}
					return house.hear(w.Key())
				},
				Undo: func(ctx context.Context, w *deed.Work, c transfer) error {
					return w.Ask(ctx, deed.Send(accounts, c.From, refund{w.Command}))
				},
			},
			{Name: "deposit", Do: func(ctx context.Context, w *deed.Work, c transfer) error {
				return w.Ask(ctx, deed.Send(accounts, c.To, deposit{w.Command, c.Amount}))
			}},
		},
	}
}

// Scenarios C2, C3, C4 and the command half of C9 of the specification, on
// every backend.
func TestTransfers(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		b := &bank{house: &clearing{}}
		b.base = deedtest.Serve(t, open(t), deed.Domain{Name: "bank", Parts: []deed.Part{accounts, transfers(b.house)}})
		t.Run("duplicate", b.duplicate)
		t.Run("insufficient balance", b.insufficient)
		t.Run("structure", b.structure)
		t.Run("fails twice", b.failsTwice)
		t.Run("fails until it is repaired", b.failsUntilRepaired)
		t.Run("fails and is cancelled", b.failsAndIsCancelled)
	})
}

// bank is served at an address.
type bank struct {
	base  string
	house *clearing
	n     int
}

func (b *bank) ask(t *testing.T, method, path, body string, headers ...string) (int, http.Header, map[string]any) {
	t.Helper()
	a := httptry.Ask(t, method, b.base+"/v1/"+path, body, headers...)
	return a.Status, a.Header, a.Body
}

// pair opens two accounts and returns a transfer from the one to the other.
func (b *bank) pair(t *testing.T, balance, amount int64) (from, to, body string) {
	t.Helper()
	b.n++
	from, to = fmt.Sprintf("a%d", b.n), fmt.Sprintf("b%d", b.n)
	status, _, _ := b.ask(t, "POST", "account/"+from+"/deposit", fmt.Sprintf(`{"amount":%d}`, balance))
	httptry.Want(t, "open", status, 200)
	return from, to, fmt.Sprintf(`{"from":%q,"to":%q,"amount":%d}`, from, to, amount)
}

// balances are those of two accounts, and how many events each has.
func (b *bank) balances(t *testing.T, ids ...string) string {
	t.Helper()
	var out []string
	for _, id := range ids {
		status, _, a := b.ask(t, "GET", "account/"+id, "")
		if status == http.StatusNotFound {
			out = append(out, "none")
			continue
		}
		out = append(out, fmt.Sprintf("%v@%v", a["state"].(map[string]any)["balance"], a["version"]))
	}
	return strings.Join(out, " ")
}

// C2: the same request again is the same command, a new one is a new transfer.
func (b *bank) duplicate(t *testing.T) {
	from, to, body := b.pair(t, 10000, 3000)
	b.house.close(0)
	status, h, first := b.ask(t, "POST", "transfer/make", body, "Idempotency-Key", "r-1")
	httptry.Want(t, "stored", []any{status, h.Get("Location"), first["id"]}, []any{202, "/v1/commands/r-1", "r-1"})
	_, _, done := b.ask(t, "GET", "commands/r-1?wait=30s", "")
	httptry.Want(t, "done", []any{done["state"], b.balances(t, from, to)}, []any{"completed", "7000@2 3000@1"})
	status, h, again := b.ask(t, "POST", "transfer/make", body, "Idempotency-Key", "r-1", "Prefer", "wait=30")
	httptry.Want(t, "again", []any{status, h.Get("Idempotent-Replay"), b.balances(t, from, to)}, []any{200, "true", "7000@2 3000@1"})
	httptry.Want(t, "the first one", []any{again["id"], again["state"], h.Get("Location")}, []any{"r-1", "completed", "/v1/commands/r-1"})
	status, _, _ = b.ask(t, "POST", "transfer/make", body, "Idempotency-Key", "r-2", "Prefer", "wait=30")
	httptry.Want(t, "a second one", []any{status, b.balances(t, from, to)}, []any{200, "4000@3 6000@2"})
}

// C3: who has too little is told so, and no money moves.
func (b *bank) insufficient(t *testing.T) {
	from, to, body := b.pair(t, 2000, 3000)
	status, _, s := b.ask(t, "POST", "transfer/make", body)
	httptry.Want(t, "stored", status, 202)
	_, _, s = b.ask(t, "GET", fmt.Sprintf("commands/%v?wait=30s", s["id"]), "")
	httptry.Want(t, "state", []any{s["state"], s["code"], strings.Contains(fmt.Sprint(s["reason"]), "insufficient balance")}, []any{"rejected", "insufficient_balance", true})
	httptry.Want(t, "balances", b.balances(t, from, to), "2000@1 none")
	status, h, _ := b.ask(t, "POST", "account/"+from+"/deposit", `{"amount":1}`, "Prefer", "respond-async; note=x")
	httptry.Want(t, "a preference with a parameter", status, 202)
	_, _, s = b.ask(t, "GET", strings.TrimPrefix(h.Get("Location"), "/v1/")+"?wait=30s", "")
	httptry.Want(t, "in the end", s["state"], "completed")
}

// C4: what is malformed is not stored.
func (b *bank) structure(t *testing.T) {
	count := func() int {
		_, _, page := b.ask(t, "GET", "events?category=$command&limit=1000", "")
		return len(page["events"].([]any))
	}
	before := count()
	for body, field := range map[string]string{
		`{"from":"a","to":"b","amount":-5}`: "amount",
		`{"from":"a","amount":5}`:           "to",
	} {
		status, _, p := b.ask(t, "POST", "transfer/make", body)
		errs, _ := p["errors"].([]any)
		if status != 400 || len(errs) != 1 || errs[0].(map[string]any)["field"] != field {
			t.Errorf("%s: %d %v", body, status, p)
		}
	}
	httptry.Want(t, "events of commands", count(), before)
}

// C9: a handler that fails twice and then works does so once.
func (b *bank) failsTwice(t *testing.T) {
	from, to, body := b.pair(t, 10000, 3000)
	b.house.close(2)
	status, _, s := b.ask(t, "POST", "transfer/make", body, "Prefer", "wait=30")
	httptry.Want(t, "done", []any{status, s["state"]}, []any{200, "completed"})
	httptry.Want(t, "attempts", []any{b.house.attempts(), s["steps"].([]any)[0].(map[string]any)["attempts"]}, []any{3, 3})
	httptry.Want(t, "one debit", b.balances(t, from, to), "7000@2 3000@1")
}

// C9: one that keeps failing is set aside, and once it is repaired and resumed
// it works once.
func (b *bank) failsUntilRepaired(t *testing.T) {
	from, to, body := b.pair(t, 10000, 3000)
	b.house.close(-1)
	status, h, s := b.ask(t, "POST", "transfer/make", body, "Prefer", "wait=30")
	httptry.Want(t, "failed", []any{status, s["state"], s["reason"]}, []any{202, "failed", "the clearing house is closed"})
	at := strings.TrimPrefix(h.Get("Location"), "/v1/")
	httptry.Want(t, "attempts", b.house.attempts(), 3)
	httptry.Want(t, "half done", b.balances(t, from, to), "7000@2 none")
	_, _, page := b.ask(t, "GET", "commands?state=failed&wait=10s&min-position="+b.head(t), "")
	listed := fmt.Sprint(page["commands"])
	httptry.Want(t, "listed", strings.Contains(listed, fmt.Sprint(s["id"])), true)

	b.house.close(0)
	status, _, _ = b.ask(t, "POST", at+"/resume", "")
	httptry.Want(t, "resume", status, 202)
	b.settles(t, at, "completed")
	httptry.Want(t, "one debit", b.balances(t, from, to), "7000@2 3000@1")
}

// One that keeps failing can be cancelled: nobody knows what the step has done,
// but the account does.
func (b *bank) failsAndIsCancelled(t *testing.T) {
	from, to, body := b.pair(t, 10000, 3000)
	b.house.close(-1)
	_, h, s := b.ask(t, "POST", "transfer/make", body, "Prefer", "wait=30")
	httptry.Want(t, "failed", s["state"], "failed")
	at := strings.TrimPrefix(h.Get("Location"), "/v1/")
	status, _, _ := b.ask(t, "POST", at+"/cancel", `{"reason":"too slow"}`)
	httptry.Want(t, "cancel", status, 202)
	s = b.settles(t, at, "cancelled")
	httptry.Want(t, "undone", []any{s["undone"], s["reason"]}, []any{true, "too slow"})
	httptry.Want(t, "given back", b.balances(t, from, to), "10000@3 none")
}

// head is the position of the last event.
func (b *bank) head(t *testing.T) string {
	t.Helper()
	_, _, page := b.ask(t, "GET", "events?limit=1000", "")
	all := page["events"].([]any)
	return fmt.Sprint(all[len(all)-1].(map[string]any)["position"])
}

// settles waits until a command is in a state.
func (b *bank) settles(t *testing.T, path, state string) (s map[string]any) {
	t.Helper()
	for range 300 {
		if _, _, s = b.ask(t, "GET", path, ""); s["state"] == state {
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not become %s: it is %v", path, state, s["state"])
	return s
}
