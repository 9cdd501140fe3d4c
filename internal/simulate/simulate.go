// Package simulate plays the scenarios of domains over the HTTP API, as
// visitors would: for demonstrations, at a human pace, and for load.
package simulate

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
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
		v.position = ""
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
	position string // of the last command
}

// Rand implements deed.Visitor.
func (v *visitor) Rand() *rand.Rand { return v.rand }

// Ask implements deed.Visitor. A lost answer is asked for again, with the
// same key.
func (v *visitor) Ask(ctx context.Context, aggregate, id, command string, body any) error {
	if err := v.pace(v.rand); err != nil {
		return err
	}
	headers := map[string]string{"Idempotency-Key": crand.Text(), "X-Actor": "simulator"}
	var receipt deed.Receipt
	for try := 0; ; try++ {
		_, err := v.sim.Client.Do(ctx, http.MethodPost, client.Path(nil, "v1", aggregate, id, command), headers, body, &receipt)
		var p httpapi.Problem
		switch {
		case err == nil:
			v.sim.asked.Add(1)
			v.position = receipt.Position
			return nil
		case errors.As(err, &p) && (p.Code == httpapi.CodeRejected || p.Code == httpapi.CodeNotFound || p.Code == httpapi.CodeConflict):
			v.sim.asked.Add(1)
			v.sim.refused.Add(1)
			return nil
		case errors.As(err, &p) && p.Status < 500 && p.Code != httpapi.CodeInProgress, try == 5:
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond<<try); err != nil {
			return err
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
