package engine

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// A Keeper is a Handler that also does something of its own accord, for as
// long as this node holds its partition.
type Keeper interface {
	Handler
	// Keep runs beside Handle until ctx ends; then it must return soon. It is
	// called anew whenever the partition is taken again. mine tells which
	// streams belong to the partition.
	Keep(ctx context.Context, mine func(stream string) bool)
}

// A keeping is a Keep that runs.
type keeping struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// keep starts the handler's Keep, if it has one that does not run.
func (w *worker) keep(ctx context.Context) {
	k, ok := w.handler.(Keeper)
	if !ok || w.keeping != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w.keeping = &keeping{cancel, make(chan struct{})}
	ended, part, parts := w.keeping.ended, w.part, w.f.Partitions
	go func() {
		defer close(ended)
		err := safely(func() error {
			k.Keep(ctx, func(stream string) bool { return store.PartitionOf(stream, parts) == part })
			return nil
		})
		if err != nil {
			w.log.Error("keeper panicked", "error", err)
		}
	}()
}

// unkeep ends the handler's Keep.
func (w *worker) unkeep() {
	if w.keeping == nil {
		return
	}
	w.keeping.cancel()
	<-w.keeping.ended
	w.keeping = nil
}
