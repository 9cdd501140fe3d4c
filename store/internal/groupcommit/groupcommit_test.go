package groupcommit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/deed-dev/deed/store"
)

var (
	errRefused = errors.New("refused")
	errClosed  = errors.New("closed")
)

type job struct {
	Request
	size int
}

func never(*job) bool { return false }

// One who waits is told what became of the own request, not of another's.
func TestEachGetsItsVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[*job](nil, errClosed)
		jobs := []*job{{size: 1}, {size: -1}, {size: 2}}
		got := make([]error, len(jobs))
		for i, j := range jobs {
			go func() { got[i] = q.Submit(t.Context(), j) }()
		}
		synctest.Wait()
		batch := q.Gather(<-q.Next(), never)
		if len(batch) != len(jobs) {
			t.Errorf("%d in the batch, want %d", len(batch), len(jobs))
		}
		for _, j := range batch {
			if j.size < 0 {
				j.Answer(errRefused)
			} else {
				j.Answer(nil)
			}
		}
		synctest.Wait()
		for i, j := range jobs {
			if (got[i] != nil) != (j.size < 0) {
				t.Errorf("%d was told %v", j.size, got[i])
			}
		}
	})
}

// Those that are submitted together come in their order, and the first refusal
// is told.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[*job](nil, errClosed)
		var got error
		go func() { got = q.Submit(t.Context(), &job{size: 1}, &job{size: 2}, &job{size: 3}) }()
		synctest.Wait()
		for i, j := range q.Gather(<-q.Next(), never) {
			if j.size != i+1 {
				t.Errorf("%d came as number %d", j.size, i+1)
			}
			if j.size == 2 {
				j.Answer(errRefused)
			} else {
				j.Answer(nil)
			}
		}
		synctest.Wait()
		if got != errRefused {
			t.Errorf("got %v, want %v", got, errRefused)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	for _, c := range []struct{ room, want int }{{1, 1}, {5, 5}, {100, 10}} {
		synctest.Test(t, func(t *testing.T) {
			q := New[*job](nil, errClosed)
			for range 10 {
				go func() { _ = q.Submit(t.Context(), &job{size: 1}) }()
			}
			synctest.Wait()
			for left := 10; left > 0; {
				n := 0
				batch := q.Gather(<-q.Next(), func(j *job) bool { n += j.size; return n >= c.room })
				if want := min(c.want, left); len(batch) != want {
					t.Errorf("%d in a batch with room for %d, want %d", len(batch), c.room, want)
				}
				left -= len(batch)
				for _, j := range batch {
					j.Answer(nil)
				}
			}
		})
	}
}

// Whoever gives up waiting does not know what became of it.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[*job](nil, errClosed)
		ctx, cancel := context.WithCancel(t.Context())
		var got error
		go func() { got = q.Submit(ctx, &job{}) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(got, store.ErrUnknown) || !errors.Is(got, context.Canceled) {
			t.Errorf("got %v, want %v", got, store.ErrUnknown)
		}
	})
}

// Nobody waits for a writer that has ended, or for room in its queue.
func TestTheWriterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		q := New[*job](ended, errClosed)
		waited := make([]error, 2*cap(q.waiting))
		for i := range waited {
			go func() { waited[i] = q.Submit(t.Context(), &job{}) }()
		}
		synctest.Wait()
		close(ended)
		synctest.Wait()
		for _, err := range waited {
			if err != errClosed {
				t.Fatalf("who waited got %v, want %v", err, errClosed)
			}
		}
		if late := q.Submit(t.Context(), &job{}); late != errClosed {
			t.Errorf("who came late got %v, want %v", late, errClosed)
		}
	})
}

// What a writer did last of all counts.
func TestTheLastVerdict(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	q := New[*job](ended, errClosed)
	r := Request{done: make(chan struct{})}
	r.Answer(errRefused)
	for range 100 { // a select of two takes either
		if err := q.verdict(t.Context(), &r); err != errRefused {
			t.Fatalf("got %v, want %v", err, errRefused)
		}
	}
}
