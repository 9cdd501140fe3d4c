// Package simulate plays the scenarios of domains over the HTTP API, as
// visitors would: for demonstrations, at a human pace, and for load.
package simulate

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A Simulator plays scenarios until it is told to stop.
type Simulator struct {
	Client    *client.Client
	Scenarios []deed.Scenario
	Visitors  int     // at once; default 5
	Rate      float64 // commands a second, all visitors together; 0 = a human pace
	Logger    *slog.Logger

	asked, refused, failed atomic.Uint64
}

// Counts says what has been asked so far.
type Counts struct{ Asked, Refused, Failed uint64 }

// Counts returns what has been asked so far.
func (s *Simulator) Counts() Counts {
	return Counts{s.asked.Load(), s.refused.Load(), s.failed.Load()}
}

// Run plays until ctx is done. Trouble with the server is counted and tried
// again: the simulator outlives a restart.
func (s *Simulator) Run(ctx context.Context) {
	if len(s.Scenarios) == 0 {
		return
	}
	visitors := s.Visitors
	if visitors <= 0 {
		visitors = 5
	}
	if s.Rate > 0 {
		visitors = min(max(visitors, int(s.Rate/20)), 256)
	}
	pace := s.pace(ctx, visitors)
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() { s.visit(ctx, pace) })
	}
	all.Wait()
}

// pace returns what a visitor waits for before each command.
func (s *Simulator) pace(ctx context.Context, visitors int) func(*rand.Rand) error {
	if s.Rate <= 0 {
		return func(r *rand.Rand) error { return sleep(ctx, 200*time.Millisecond+rand.N(1200*time.Millisecond)) }
	}
	each := time.Duration(float64(visitors) / s.Rate * float64(time.Second))
	start := time.Now()
	var n atomic.Int64
	return func(*rand.Rand) error {
		due := start.Add(time.Duration(n.Add(1)) * each / time.Duration(visitors))
		return sleep(ctx, time.Until(due))
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// visit plays one scenario after the other.
func (s *Simulator) visit(ctx context.Context, pace func(*rand.Rand) error) {
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	v := &visitor{sim: s, rand: rand.New(rand.NewChaCha8(seed)), pace: pace}
	for ctx.Err() == nil {
		sc := s.Scenarios[v.rand.IntN(len(s.Scenarios))]
		v.position, v.actor = "", fmt.Sprintf("visitor-%08x", v.rand.Uint32())
		if err := sc.Play(ctx, v); err != nil && ctx.Err() == nil {
			s.failed.Add(1)
			s.Logger.Warn("a visitor gave up", "scenario", sc.Name, "error", err)
			if sleep(ctx, time.Second) != nil {
				return
			}
		}
	}
}

type visitor struct {
	sim      *Simulator
	rand     *rand.Rand
	pace     func(*rand.Rand) error
	actor    string // somebody else in each visit: quotas are for people
	position string // of the last command
}

// Rand implements deed.Visitor.
func (v *visitor) Rand() *rand.Rand { return v.rand }

// Ask implements deed.Visitor. A lost answer is asked for again, with the
// same key. A command that is handled in the background is waited for.
func (v *visitor) Ask(ctx context.Context, aggregate, id, command string, body any) error {
	if err := v.pace(v.rand); err != nil {
		return err
	}
	headers := map[string]string{"Idempotency-Key": crand.Text(), "X-Actor": v.actor, "Prefer": "wait=30"}
	var receipt deed.Receipt
	for try := 0; ; try++ {
		h, err := v.sim.Client.Do(ctx, http.MethodPost, client.Path(nil, "v1", aggregate, id, command), headers, body, &receipt)
		var p httpapi.Problem
		stored := isStored(h)
		switch known := errors.As(err, &p); {
		case stored && (err == nil || known && p.Status < 500):
			return v.await(ctx, headers["Idempotency-Key"])
		case err == nil:
			v.sim.asked.Add(1)
			v.position = receipt.Position
			return nil
		case known && isRefusal(p):
			v.sim.asked.Add(1)
			v.sim.refused.Add(1)
			return nil
		case known && p.Status < 500 && p.Code != httpapi.CodeInProgress, try == 5:
			return err
		}
		if err := again(ctx, try); err != nil {
			return err
		}
	}
}

// again waits before something is tried again.
func again(ctx context.Context, try int) error { return sleep(ctx, 200*time.Millisecond<<try) }

func isRefusal(p httpapi.Problem) bool { return slices.Contains(refusals, p.Code) }

// refusals are the codes of answers that are part of life.
var refusals = []string{httpapi.CodeRejected, httpapi.CodeNotFound, httpapi.CodeConflict, httpapi.CodeQuotaExceeded}

// isStored reports whether an answer is about a command that is handled in the
// background: it says where to look.
func isStored(h http.Header) bool { return strings.HasPrefix(h.Get("Location"), "/v1/commands/") }

// await waits until a stored command stays as it is. What it found wrong with
// what it was asked is part of life, too; that it failed is not.
func (v *visitor) await(ctx context.Context, id string) error {
	q := url.Values{"wait": {"30s"}}
	for try := 0; ; {
		var s httpapi.CommandStatus
		_, err := v.sim.Client.Do(ctx, http.MethodGet, client.Path(q, "v1", "commands", id), nil, nil, &s)
		switch {
		case err != nil && try == 5:
			return err
		case err != nil:
			if err := again(ctx, try); err != nil {
				return err
			}
			try++
		case s.State == deed.CommandFailed:
			return fmt.Errorf("command %s failed: %s", id, s.Reason)
		case s.State.Over() || s.State == deed.CommandInvalid:
			v.sim.asked.Add(1)
			if s.State != deed.CommandCompleted {
				v.sim.refused.Add(1)
			}
			if n := len(s.History); n > 0 { // all that it did is recorded before the last of these
				v.position = s.History[n-1].Position
			}
			return nil
		}
	}
}

// Look implements deed.Visitor.
func (v *visitor) Look(ctx context.Context, view, key string, into any) error {
	q := url.Values{}
	if v.position != "" {
		q.Set("min-position", v.position)
		q.Set("wait", "10s")
	}
	var doc struct {
		Value json.RawMessage `json:"value"`
	}
	_, err := v.sim.Client.Do(ctx, http.MethodGet, client.Path(q, "v1", "views", view, key), nil, nil, &doc)
	var p httpapi.Problem
	if errors.As(err, &p) && p.Code == httpapi.CodeNotFound {
		return deed.ErrNotFound
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(doc.Value, into)
}
