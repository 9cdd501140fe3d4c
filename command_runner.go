package deed

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
	if err := errors.Join(declareCommandEvents(rt.codec), declareInstances(rt.codec), declareTasks(rt.codec), declareRunEvents(rt.codec)); err != nil {
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
		rt.own = rt.newRunner(commandChores)
	}
	return rt.addFollower(engine.Follower{
		Name: runnerName, Kind: "runner", Partitions: rt.commandParts, Pure: true, Fixed: true, Elsewhere: rt.cfg.Guest,
		Filter: store.Filter{Categories: []string{commandCategory}, Types: []string{
			typeReceived, typeCorrected, typeRequeued, typeCancel, typeCompleted, typeRejected, typeFailed, typeInvalid, typeCancelled,
		}},
		New: func(uint64) engine.Handler { return rt.newRunner(commandChores) },
	})
}

// chores are what a runner has to do: something about each stream of a category
// that has begun and is not over.
type chores struct {
	what     string   // for people
	category string   // of the streams
	coll     string   // has a document for each of those that are not over
	begins   []string // events after which there is something to do; after any other that the runner sees, there is not
	stops    string   // after this event whoever does something about the stream stops; "" = it is left to him
	handle   func(*runner, context.Context, string) (next time.Time, err error)
	beside   func(*runner, context.Context, func(stream string) bool) // what is to be done beside that; nil = nothing
}

var commandChores = chores{
	what: "stored command", category: commandCategory, coll: pendingColl,
	begins: []string{typeReceived, typeCorrected, typeRequeued, typeCancel},
	handle: (*runner).handleCommand, beside: (*runner).compactBeside,
}

// A runner handles the stored commands, or the recorded queries, of one
// partition. As a follower it only keeps account of which are to be done; beside
// that it does them.
type runner struct {
	chores
	rt    *Runtime
	queue workQueue

	batch map[string]bool // commands that were given out since the last Flush

	mu    sync.Mutex
	fresh map[string]store.Record // the first record of commands that have no other yet
	noted map[string]bool         // commands that have a document, as far as is known
	all   bool                    // all that have one are known
	stop  map[string]func()       // stops who does something about a stream, if it can be stopped
}

func (rt *Runtime) newRunner(c chores) *runner {
	return &runner{
		chores: c, rt: rt, queue: newWorkQueue(),
		batch: map[string]bool{}, fresh: map[string]store.Record{}, noted: map[string]bool{}, stop: map[string]func(){},
	}
}

func (r *runner) Keys(rec store.Record) []string { return []string{rec.Stream} }

// Handle gives out what there is to do.
func (r *runner) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	id := strings.TrimPrefix(rec.Stream, r.category+"/")
	if slices.Contains(r.begins, rec.Type) {
		if rec.Version == 1 {
			r.mu.Lock()
			r.fresh[id] = rec
			r.mu.Unlock()
		}
		r.batch[id] = true
		r.queue.put(id, time.Time{}, latest)
		return nil
	}
	delete(r.batch, id)
	if rec.Type == r.stops {
		r.stopNow(id)
	}
	if rec.Version == 1 || !r.forgotten(id) { // it was never stored before it was done, or has no document
		return nil
	}
	return tx.Delete(r.coll, id)
}

// stoppable is the context to do something about a stream in, until done is called:
// it ends when the log says that this is to stop.
func (r *runner) stoppable(ctx context.Context, id string) (doing context.Context, done func()) {
	doing, stop := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop[id] = stop
	return doing, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.stop, id)
		stop()
	}
}

// stopNow stops who does something about a stream. Whoever is about to begin has to
// look at what is recorded.
func (r *runner) stopNow(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fresh, id)
	if stop, doing := r.stop[id]; doing {
		stop()
	}
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
		if err := tx.Put(r.coll, id, []byte("{}")); err != nil {
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

// Keep does what there is to do.
func (r *runner) Keep(ctx context.Context, mine func(stream string) bool) {
	var all sync.WaitGroup
	defer all.Wait()
	if r.beside != nil {
		all.Go(func() { r.beside(r, ctx, mine) })
	}
	r.takeOver(ctx, mine)
	r.work(ctx)
}

// compactBeside gives up what need not be kept, beside the commands of a certain
// partition.
func (r *runner) compactBeside(ctx context.Context, mine func(stream string) bool) {
	if r.rt.cfg.KeepCommands > 0 && mine(auditCompaction) {
		r.rt.keepCompacting(ctx)
	}
}

// work handles the commands that are given out, until ctx is done.
func (r *runner) work(ctx context.Context) {
	r.queue.work(ctx, inHand, time.Now, time.Minute, func(id string, _ uint64) { r.do(ctx, id) })
}

// takeOver finds out what was left to do when the partition was taken.
func (r *runner) takeOver(ctx context.Context, mine func(stream string) bool) {
	r.rt.persist(ctx, "what is pending cannot be read", func() error {
		for d, err := range r.rt.store.List(ctx, r.coll, "", "") {
			if err != nil {
				return err
			}
			if mine(r.category + "/" + d.Key) {
				r.note(d.Key)
				r.queue.put(d.Key, time.Time{}, latest)
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
	if rec, fresh := r.onlyRecord(id); fresh {
		return r.rt.openAt(rec)
	}
	return r.rt.open(ctx, id)
}

// onlyRecord returns the record of a stream that is known to have no other.
func (r *runner) onlyRecord(id string) (store.Record, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, fresh := r.fresh[id]
	delete(r.fresh, id)
	return rec, fresh
}

// handleCommand does what there is to do about one command.
func (r *runner) handleCommand(ctx context.Context, id string) (time.Time, error) {
	x, err := r.open(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	x.again = r.queue.failing(id)
	next, err := x.run(ctx)
	if err == nil && ctx.Err() == nil {
		r.rt.waiters.settled(x.status)
	}
	return next, err
}

// do does what there is to do about one of them, as far as that is possible now.
func (r *runner) do(ctx context.Context, id string) {
	next, err := r.handle(r, ctx, id)
	switch {
	case ctx.Err() != nil: // whoever takes the partition goes on: it stays in the queue, so that Flush notes it
		next = time.Now()
	case err == nil:
	case errors.Is(err, ErrNotFound):
		err = nil
	case errors.Is(err, errOvertaken):
		next = time.Now().Add(trouble.First)
	default:
		next = time.Now().Add(r.queue.failed(id))
		r.rt.cfg.Logger.Warn(r.what+" waits", slog.String("id", id), slog.Any("error", err))
	}
	r.queue.done(id, next, err == nil, 0)
}
