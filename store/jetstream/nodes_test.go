package jetstream_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

var nodestops = flag.Int("nodestops", 3, "servers of a cluster that are stopped, one after the other")

// Eight writers append while one server after the other is stopped and
// started again, the leader of the log first. What was acknowledged is there,
// in order, whoever is asked.
func TestStoppedNodeLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c := startCluster(t, t.TempDir(), 3)
	s := c.open(t, "nodes")
	ctx, stop := context.WithTimeout(t.Context(), time.Minute+time.Duration(*nodestops)*time.Minute)
	defer stop()
	var acked [8][]store.ID
	var writers sync.WaitGroup
	var enough atomic.Bool
	var answered atomic.Int64
	for w := range acked {
		writers.Go(func() {
			for n := uint64(0); !enough.Load() && ctx.Err() == nil; {
				e := store.Event{Type: "done", Data: []byte(`{}`)}
				e.ID = idOf(w, n)
				ws := []store.Write{
					{Stream: fmt.Sprintf("a/%d", w), Expect: store.Exactly(n), Events: []store.Event{e}},
					{Stream: fmt.Sprintf("b/%d", w), Expect: store.Exactly(n), Events: []store.Event{{ID: idOf(w+8, n), Type: "done"}}},
				}
				_, err := s.Append(ctx, ws...)
				switch {
				case err == nil:
					acked[w] = append(acked[w], e.ID)
					answered.Add(1)
					n++
				case errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrUnavailable):
					// the same again settles it
				default:
					t.Errorf("writer %d, append %d: %v", w, n, err)
					return
				}
			}
		})
	}
	longest := time.Duration(0)
	for round := range *nodestops {
		time.Sleep(300 * time.Millisecond)
		i := max(0, c.Leader("nodes-log"))
		if round%2 == 1 {
			i = rand.IntN(3)
		}
		c.StopNode(i)
		before, began := answered.Load(), time.Now()
		for answered.Load() < before+16 && ctx.Err() == nil { // two of each writer: not what was on its way
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(began)
		if longest = max(longest, took); took > 10*time.Second {
			t.Errorf("round %d: appends go on %v after a server has stopped", round, took)
		}
		c.StartNode(t, i)
		c.WaitCurrent(t, "nodes-log")
	}
	enough.Store(true)
	writers.Wait()
	total := 0
	for w := range acked {
		var ids []store.ID
		for r, err := range s.Read(ctx, fmt.Sprintf("a/%d", w), store.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, r.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(acked[w]) {
			t.Errorf("writer %d: %d acknowledged, %d there", w, len(acked[w]), len(ids))
		}
		total += len(ids)
	}
	recs := all(ctx, t, s, store.Start, store.Filter{})
	if len(recs) != 2*total {
		t.Errorf("%d records in the log, want %d", len(recs), 2*total)
	}
	inOrder(t, recs)
	t.Logf("%d appends while servers came and went %d times; they went on after at most %v", total, *nodestops, longest)
}

func idOf(a int, b uint64) (id store.ID) {
	copy(id[:], fmt.Sprintf("%04d%012d", a+1, b))
	return id
}

// inOrder checks what must hold of every log.
func inOrder(t *testing.T, recs []store.Record) {
	t.Helper()
	next := map[string]uint64{}
	var last store.Record
	for _, r := range recs {
		next[r.Stream]++
		if r.Version != next[r.Stream] || r.Position.Seq <= last.Position.Seq || r.Time.Before(last.Time) {
			t.Fatalf("%s@%d at %v, %v comes after %s@%d at %v, %v", r.Stream, r.Version, r.Position, r.Time, last.Stream, last.Version, last.Position, last.Time)
		}
		last = r
	}
}
