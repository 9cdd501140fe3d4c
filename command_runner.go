package deed

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// pendingColl has a document for each stored command that is not settled, so
// that whoever takes a partition over knows what is to be done.
const pendingColl = "$pending/commands"

// runnerName is the follower that handles stored commands.
const runnerName = "command-runner"

// runnerPartitions is in how many parts nodes share the stored commands.
const runnerPartitions = 8

// inHand is how many stored commands of a partition are handled at the same
// time.
const inHand = 64

// addRunner adds the follower that handles stored commands, and the view of
// all commands.
func (rt *Runtime) addRunner() error {
	if err := declareCommandEvents(rt.codec); err != nil {
		return err
	}
	partitions := 1
	if store.IsShared(rt.store) {
		partitions = runnerPartitions
	}
	statuses := commandStatuses()
	statuses.Partitions = partitions
	if err := statuses.register(rt); err != nil {
		return err
	}
	return rt.addFollower(engine.Follower{
		Name: runnerName, Kind: "runner", Partitions: partitions, Pure: true, Fixed: true,
		Filter: store.Filter{Categories: []string{commandCategory}, Types: []string{
			typeReceived, typeCorrected, typeRequeued, typeCancel, typeCompleted, typeRejected, typeFailed, typeInvalid, typeCancelled,
		}},
		New: func(uint64) engine.Handler {
			return &runner{rt: rt, desk: desk{wake: make(chan struct{}, 1), state: map[string]errand{}}}
		},
	})
}

// A runner handles the stored commands of one partition. As a follower it only
// keeps account of which are to be done; beside that it does them.
type runner struct {
	rt   *Runtime
	desk desk
}

func (r *runner) Keys(rec store.Record) []string { return []string{rec.Stream} }

// Handle notes what there is to do.
func (r *runner) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	id := strings.TrimPrefix(rec.Stream, commandCategory+"/")
	switch rec.Type {
	case typeReceived, typeCorrected, typeRequeued, typeCancel:
		if err := tx.Put(pendingColl, id, []byte("{}")); err != nil {
			return err
		}
		r.desk.put(id, time.Time{})
	default:
		if rec.Version > 1 { // else it was never stored before it was done
			return tx.Delete(pendingColl, id)
		}
	}
	return nil
}

func (r *runner) Flush(context.Context, *engine.Tx) error { return nil }
func (r *runner) Reset()                                  {}

// Keep does what there is to do, a number of commands at a time.
func (r *runner) Keep(ctx context.Context, mine func(stream string) bool) {
	r.takeOver(ctx, mine)
	var all sync.WaitGroup
	defer all.Wait()
	hands := make(chan struct{}, inHand)
	for {
		id, wait := r.desk.take(time.Now())
		if id == "" {
			select {
			case <-ctx.Done():
				return
			case <-r.desk.wake:
			case <-time.After(wait):
			}
			continue
		}
		select {
		case hands <- struct{}{}:
		case <-ctx.Done():
			r.desk.done(id, time.Time{}, false)
			return
		}
		all.Go(func() {
			defer func() { <-hands }()
			r.handle(ctx, id)
		})
	}
}

// takeOver finds out what was left to do when the partition was taken.
func (r *runner) takeOver(ctx context.Context, mine func(stream string) bool) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := func() error {
			for d, err := range r.rt.store.List(ctx, pendingColl, "", "") {
				if err != nil {
					return err
				}
				if mine(commandStream(d.Key)) {
					r.desk.put(d.Key, time.Time{})
				}
			}
			return nil
		}()
		if err == nil {
			return
		}
		r.rt.cfg.Logger.Warn("pending commands cannot be read", slog.Any("error", err))
		pauseFor(ctx, trouble.Wait(failures))
	}
}

// trouble is how long to wait for a store that fails.
var trouble = engine.Retry{First: 50 * time.Millisecond, Max: 5 * time.Second}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// handle does what there is to do about one command, as far as that is
// possible now.
func (r *runner) handle(ctx context.Context, id string) {
	next := time.Time{}
	x, err := r.rt.open(ctx, id)
	if err == nil {
		next, err = x.run(ctx)
	}
	switch {
	case ctx.Err() != nil: // whoever takes the partition goes on
	case err == nil:
		r.rt.settled(id)
	case errors.Is(err, ErrNotFound):
		err = nil
	case errors.Is(err, errOvertaken):
		next = time.Now().Add(trouble.First)
	default:
		next = time.Now().Add(r.desk.failed(id))
		r.rt.cfg.Logger.Warn("stored command waits", slog.String("id", id), slog.Any("error", err))
	}
	r.desk.done(id, next, err == nil)
}
