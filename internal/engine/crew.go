package engine

import (
	"context"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A crew is the workers of one generation of a follower, one per partition.
type crew struct {
	gen     uint64
	workers []*worker
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// start sets a crew to work. When it returns, each worker knows how far it
// has come.
func (f *follower) start(ctx context.Context, gen uint64) (*crew, error) {
	// The checkpoints come first: by them clean finds what else there is.
	if err := repartition(ctx, f.store, f, gen); err != nil {
		return nil, err
	}
	if f.Prepare != nil {
		if err := f.Prepare(ctx, gen); err != nil {
			return nil, err
		}
	}
	c := &crew{gen: gen}
	for part := range f.Partitions {
		w := f.hire(gen, part)
		if err := w.load(ctx); err != nil {
			return nil, err
		}
		c.workers = append(c.workers, w)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	for _, w := range c.workers {
		c.ended.Go(func() { w.run(ctx) })
	}
	return c, nil
}

func (f *follower) hire(gen uint64, part int) *worker {
	w := &worker{
		f: f, gen: gen, part: part, handler: f.New(gen),
		log: f.log.With("follower", f.Name, "generation", gen, "partition", part),
	}
	now := time.Now()
	w.report = report{alive: true, state: StateRunning, heartbeat: now, rateAt: now}
	return w
}

// stop ends the workers and waits until they have.
func (c *crew) stop() {
	if c == nil {
		return
	}
	c.cancel()
	c.ended.Wait()
}

// rouse makes workers that stand by look.
func (c *crew) rouse() {
	for _, w := range c.workers {
		w.mu.Lock()
		if w.state == StateStandby {
			w.poked = true
			if w.poke != nil {
				w.poke()
			}
		}
		w.mu.Unlock()
	}
}

// cursor is how far all of the crew have come.
func (c *crew) cursor() store.Cursor {
	cursors := make([]store.Cursor, len(c.workers))
	for i, w := range c.workers {
		w.mu.Lock()
		cursors[i] = w.at
		w.mu.Unlock()
	}
	return least(cursors)
}

func (c *crew) worker(stream string) *worker {
	return c.workers[store.PartitionOf(stream, len(c.workers))]
}
