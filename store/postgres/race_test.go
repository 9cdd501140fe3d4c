package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed/store"
)

// Sixteen writers of two programs believe the same of a stream, 200 times. One
// of them wins each time; the others learn the version there is.
func TestOneWins(t *testing.T) {
	dsn := server.DSN(server.Schema())
	programs := []store.Store{openWith(t, dsn, nil), openWith(t, dsn, nil)}
	for n := range uint64(200) {
		won := race(t, func(i int) error {
			_, err := programs[i%2].Append(t.Context(), write("a/1", store.Exactly(n), event(fmt.Sprint(i))))
			if c, ok := errors.AsType[*store.ConflictError](err); ok && c.Version != n+1 {
				t.Errorf("a conflict at %d says %d", n, c.Version)
			}
			return err
		})
		if won != 1 {
			t.Fatalf("%d won at version %d", won, n)
		}
	}
}

// race lets 16 try, and counts who is not refused.
func race(t *testing.T, try func(i int) error) int {
	t.Helper()
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			err := try(i)
			_, refused := errors.AsType[*store.ConflictError](err)
			if err == nil {
				won.Add(1)
			} else if !refused {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return int(won.Load())
}

// Writers race for pairs of streams that overlap. Of each pair, all is recorded
// or nothing.
func TestNoHalves(t *testing.T) {
	dsn := server.DSN(server.Schema())
	programs := []store.Store{openWith(t, dsn, nil), openWith(t, dsn, nil)}
	wins := 0
	for n := range 100 {
		won := race(t, func(i int) error {
			x, y := fmt.Sprintf("a/%d-%d", n, i%4), fmt.Sprintf("a/%d-%d", n, (i+1)%4)
			_, err := programs[i%2].Append(t.Context(), write(x, store.None, event(fmt.Sprint(i)), event(fmt.Sprint(i))), write(y, store.None, event(fmt.Sprint(i))))
			return err
		})
		if won < 1 || won > 2 {
			t.Fatalf("%d of overlapping pairs won", won)
		}
		wins += won
	}
	by := map[string]int{}
	for _, rec := range logOf(t, programs[0]) {
		var n, at int
		fmt.Sscanf(rec.Stream, "a/%d-%d", &n, &at)
		by[fmt.Sprint(n, " ", string(rec.Data))]++
	}
	for who, events := range by {
		if events != 3 {
			t.Errorf("%s has %d events of 3", who, events)
		}
	}
	if len(by) != wins {
		t.Errorf("%d appends won, %d are there", wins, len(by))
	}
}
