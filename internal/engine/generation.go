package engine

import (
	"context"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A generation of a follower that is at work, with a worker for each partition.
type generation struct {
	gen     uint64
	workers []*worker
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

// start starts the workers of a generation. When it returns, each knows how far
// it has come.
func (f *follower) start(ctx context.Context, gen uint64) (*generation, error) {
	// The checkpoints come first: by them clean finds what else there is.
	if err := repartition(ctx, f.store, f, gen); err != nil {
		return nil, err
	}
	if f.Prepare != nil {
		if err := f.Prepare(ctx, gen); err != nil {
			return nil, err
		}
	}
	g := &generation{gen: gen}
	for part := range f.Partitions {
		w := newWorker(f, gen, part)
		if err := w.load(ctx); err != nil {
			return nil, err
		}
		g.workers = append(g.workers, w)
	}
	ctx, g.cancel = context.WithCancel(ctx)
	for _, w := range g.workers {
		g.ended.Go(func() { w.run(ctx) })
	}
	return g, nil
}

func newWorker(f *follower, gen uint64, part int) *worker {
	w := &worker{
		f: f, gen: gen, part: part, handler: f.New(gen),
		log: f.log.With("follower", f.Name, "generation", gen, "partition", part),
	}
	now := time.Now()
	w.report = report{alive: true, state: StateRunning, heartbeat: now, rateAt: now}
	return w
}

// stop ends the workers and waits until they have.
func (g *generation) stop() {
	if g == nil {
		return
	}
	g.cancel()
	g.ended.Wait()
}

// poke makes workers that stand by, or let records gather, look.
func (g *generation) poke() {
	for _, w := range g.workers {
		w.mu.Lock()
		if w.state == StateStandby || w.gathering {
			w.poked = true
			if w.poke != nil {
				w.poke()
			}
		}
		w.mu.Unlock()
	}
}

// cursor is how far all of its workers have come.
func (g *generation) cursor() store.Cursor {
	cursors := make([]store.Cursor, len(g.workers))
	for i, w := range g.workers {
		w.mu.Lock()
		cursors[i] = w.at
		w.mu.Unlock()
	}
	return least(cursors)
}

func (g *generation) worker(stream string) *worker {
	return g.workers[store.PartitionOf(stream, len(g.workers))]
}
