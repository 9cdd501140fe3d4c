// Package groupcommit lets many who write share a commit: their requests wait
// in a queue, one goroutine takes all that wait and writes them together, and
// each gets a verdict of its own.
package groupcommit

import (
	"context"
	"fmt"
	"runtime"

	"github.com/deed-dev/deed/store"
)

// A Request waits for its verdict. It is embedded in what is asked.
type Request struct {
	err  error
	done chan struct{}
}

// Answer gives the verdict: why nothing is written, or nil. It is given once.
func (r *Request) Answer(err error) {
	r.err = err
	close(r.done)
}

func (r *Request) request() *Request { return r }

// A Member of a batch is whatever embeds a Request.
type Member interface{ request() *Request }

// A Queue holds requests until they are taken.
type Queue[R Member] struct {
	waiting chan R
	ended   <-chan struct{}
	closed  error
}

// New returns an empty queue. When ended is closed, nobody takes from it any
// more, and whoever still waits gets the error closed.
func New[R Member](ended <-chan struct{}, closed error) *Queue[R] {
	return &Queue[R]{waiting: make(chan R, 1024), ended: ended, closed: closed}
}

// Submit hands requests over, in this order, and waits for their verdicts. It
// returns the first that is not nil. If ctx ends first, nobody knows what became
// of them: store.ErrUnknown.
func (q *Queue[R]) Submit(ctx context.Context, requests ...R) error {
	for _, r := range requests {
		if err := q.put(ctx, r); err != nil {
			return err
		}
	}
	for _, r := range requests {
		if err := q.verdict(ctx, r.request()); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue[R]) put(ctx context.Context, r R) error {
	r.request().done = make(chan struct{})
	select {
	case q.waiting <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-q.ended:
		return q.closed
	}
}

func (q *Queue[R]) verdict(ctx context.Context, r *Request) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	case <-q.ended:
	}
	select { // it may have been answered last of all
	case <-r.done:
		return r.err
	default:
		return q.closed
	}
}

// Next is where the request comes from that a batch begins with.
func (q *Queue[R]) Next() <-chan R { return q.waiting }

// Gather returns the first request of a batch and those that wait behind it,
// up to one after which the batch is full. It asks that once of each, in turn.
// Those whom the last batch has just answered may want to join: as long as
// others come, it lets them.
func (q *Queue[R]) Gather(first R, full func(R) bool) []R {
	batch := []R{first}
	if full(first) {
		return batch
	}
	for n := -1; len(q.waiting) > n; {
		n = len(q.waiting)
		runtime.Gosched()
	}
	for {
		select {
		case r := <-q.waiting:
			if batch = append(batch, r); full(r) {
				return batch
			}
		default:
			return batch
		}
	}
}
