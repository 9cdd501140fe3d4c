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
	if err := errors.Join(declareCommandEvents(rt.codec), declareInstances(rt.codec), declareTasks(rt.codec)); err != nil {
		return err
	}
	rt.commandParts = 1
	if store.IsShared(rt.store) {
		rt.commandParts = runnerPartitions
	}
	statuses := commandStatuses()
	statuses.Partitions = rt.commandParts
	if err := errors.Join(statuses.register(rt), commandErrors().register(rt), refusals().register(rt)); err != nil {
		return err
	}
	if rt.cfg.Guest && !store.IsShared(rt.store) {
		rt.own = rt.newRunner()
	}
	return rt.addFollower(engine.Follower{
		Name: runnerName, Kind: "runner", Partitions: rt.commandParts, Pure: true, Fixed: true, Elsewhere: rt.cfg.Guest,
		Filter: store.Filter{Categories: []string{commandCategory}, Types: []string{
			typeReceived, typeCorrected, typeRequeued, typeCancel, typeCompleted, typeRejected, typeFailed, typeInvalid, typeCancelled,
		}},
		New: func(uint64) engine.Handler { return rt.newRunner() },
	})
}

// A runner handles the stored commands of one partition. As a follower it only
// keeps account of which are to be done; beside that it does them.
type runner struct {
	rt    *Runtime
	queue workQueue

	batch map[string]bool // commands that were given out since the last Flush

	mu    sync.Mutex
	fresh map[string]store.Record // the first record of commands that have no other yet
	noted map[string]bool         // commands that have a document, as far as is known
	all   bool                    // all that have one are known
}

func (rt *Runtime) newRunner() *runner {
	return &runner{
		rt: rt, queue: newWorkQueue(),
		batch: map[string]bool{}, fresh: map[string]store.Record{}, noted: map[string]bool{},
	}
}

func (r *runner) Keys(rec store.Record) []string { return []string{rec.Stream} }

// Handle gives out what there is to do.
func (r *runner) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	id := strings.TrimPrefix(rec.Stream, commandCategory+"/")
	switch rec.Type {
	case typeReceived, typeCorrected, typeRequeued, typeCancel:
		if rec.Version == 1 {
			r.mu.Lock()
			r.fresh[id] = rec
			r.mu.Unlock()
		}
		r.batch[id] = true
		r.queue.put(id, time.Time{})
		return nil
	}
	delete(r.batch, id)
	if rec.Version == 1 || !r.forgotten(id) { // it was never stored before it was done, or has no document
		return nil
	}
	return tx.Delete(pendingColl, id)
}

func (r *runner) note(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted[id] = true
}

// forgotten notes that a command needs no document any more, and reports
// whether it may have one.
func (r *runner) forgotten(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	has := !r.all || r.noted[id]
	delete(r.noted, id)
	return has
}

// grace is how long a batch of commands may take before it is noted which of
// them are not done. Most never have to be.
const grace = 10 * time.Millisecond

// Flush notes the commands that were given out and are not done.
func (r *runner) Flush(ctx context.Context, tx *engine.Tx) error {
	enough := time.After(grace)
	for r.queue.forgetDone(r.batch); len(r.batch) > 0; r.queue.forgetDone(r.batch) {
		select {
		case <-r.queue.ended:
			continue
		case <-enough:
		case <-ctx.Done():
		}
		break
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.batch {
		if err := tx.Put(pendingColl, id, []byte("{}")); err != nil {
			return err
		}
		r.noted[id] = true
	}
	clear(r.batch)
	return nil
}

// Reset forgets which commands have documents: a batch that was given up may
// have been about to change that.
func (r *runner) Reset() {
	clear(r.batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = false
}

// Keep does what there is to do. The one of a certain partition also gives up
// what need not be kept.
func (r *runner) Keep(ctx context.Context, mine func(stream string) bool) {
	var all sync.WaitGroup
	defer all.Wait()
	if r.rt.cfg.KeepCommands > 0 && mine(auditCompaction) {
		all.Go(func() { r.rt.keepCompacting(ctx) })
	}
	r.takeOver(ctx, mine)
	r.work(ctx)
}

// work handles the commands that are given out, until ctx is done.
func (r *runner) work(ctx context.Context) {
	r.queue.work(ctx, inHand, time.Now, time.Minute, func(id string) { r.handle(ctx, id) })
}

// takeOver finds out what was left to do when the partition was taken.
func (r *runner) takeOver(ctx context.Context, mine func(stream string) bool) {
	r.rt.persist(ctx, "pending commands cannot be read", func() error {
		for d, err := range r.rt.store.List(ctx, pendingColl, "", "") {
			if err != nil {
				return err
			}
			if mine(commandStream(d.Key)) {
				r.note(d.Key)
				r.queue.put(d.Key, time.Time{})
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = true
		return nil
	})
}

// persist tries something until it goes well or ctx is done. The log is told
// why it does not.
func (rt *Runtime) persist(ctx context.Context, problem string, try func() error) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := try()
		if err == nil || ctx.Err() != nil {
			return
		}
		rt.cfg.Logger.Warn(problem, slog.Any("error", err))
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

// open reads what is recorded of a command. If it was only just received, that
// is known; should it not be all, its next record is refused.
func (r *runner) open(ctx context.Context, id string) (*execution, error) {
	r.mu.Lock()
	rec, fresh := r.fresh[id]
	delete(r.fresh, id)
	r.mu.Unlock()
	if !fresh {
		return r.rt.open(ctx, id)
	}
	return r.rt.openAt(rec)
}

// handle does what there is to do about one command, as far as that is
// possible now.
func (r *runner) handle(ctx context.Context, id string) {
	next := time.Time{}
	x, err := r.open(ctx, id)
	if err == nil {
		x.again = r.queue.failing(id)
		next, err = x.run(ctx)
	}
	switch {
	case ctx.Err() != nil: // whoever takes the partition goes on: it stays in the queue, so that Flush notes it
		next = time.Now()
	case err == nil:
		r.rt.waiters.settled(x.status)
	case errors.Is(err, ErrNotFound):
		err = nil
	case errors.Is(err, errOvertaken):
		next = time.Now().Add(trouble.First)
	default:
		next = time.Now().Add(r.queue.failed(id))
		r.rt.cfg.Logger.Warn("stored command waits", slog.String("id", id), slog.Any("error", err))
	}
	r.queue.done(id, next, err == nil)
}
