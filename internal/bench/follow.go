package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// rebuilds measures how fast the documents of a view are made anew beside those
// that readers see, and shown, of a log of so many events. The target may be 0.
func (r *run) rebuilds(s store.Store, events int, target float64) error {
	return r.running(s, domain, func(ctx context.Context, rt *deed.Runtime) error {
		if err := upToDate(ctx, rt, "balances"); err != nil {
			return err
		}
		start := time.Now()
		if err := rebuilt(ctx, rt, "balances"); err != nil {
			return err
		}
		r.atLeast(fmt.Sprintf("rebuild a view of %s events", number(float64(events))), float64(events)/time.Since(start).Seconds(), "events/s", target)
		return nil
	})
}

// rebuilt begins the rebuild of a view, and returns when it is over.
func rebuilt(ctx context.Context, rt *deed.Runtime, view string) error {
	if err := rt.Rebuilds().Begin(ctx, view, false); err != nil {
		return err
	}
	for {
		is, err := rt.Rebuilds().Status(ctx, view)
		if err != nil || is.Rebuild == nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// together measures how fast three views catch up at once, all taken together,
// beside one. It is the processors that bound either.
func (r *run) together(s store.Store) error {
	alone, err := r.catchUp(s, "alone")
	if err != nil {
		return err
	}
	three, err := r.catchUp(s, "first", "second", "third")
	if err != nil {
		return err
	}
	r.note("one view catches up", alone, "events/s")
	r.ratio("three views catch up at once, all of them", 3*three, "events/s", "one", alone, 0.7)
	return nil
}

// catchUp is how many events a second each of some new views takes in, while all
// of them do.
func (r *run) catchUp(s store.Store, names ...string) (float64, error) {
	d := deed.Domain{Name: "bench", Parts: []deed.Part{tallies}}
	for _, name := range names {
		view := balances
		view.Name = name
		d.Parts = append(d.Parts, view)
	}
	start := time.Now()
	err := r.running(s, d, func(ctx context.Context, rt *deed.Runtime) error { return upToDate(ctx, rt, names...) })
	return float64(r.Events) / time.Since(start).Seconds(), err
}

// upToDate waits until views have taken in all that there is.
func upToDate(ctx context.Context, rt *deed.Runtime, views ...string) error {
	head, err := rt.Store().Head(ctx)
	for _, v := range views {
		err = errors.Join(err, rt.WaitForView(ctx, v, head))
	}
	return err
}

// running does something while a runtime runs.
func (r *run) running(s store.Store, d deed.Domain, do func(context.Context, *deed.Runtime) error) error {
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{d}, Logger: quiet})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	err = do(ctx, rt)
	stop()
	return errors.Join(err, <-ended)
}
