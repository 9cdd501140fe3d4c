package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// Bounds of a worker's batches. A batch grows while there is more to read
// than it takes, up to the larger, and is small again afterwards: large ones
// are efficient, small ones quick.
const (
	smallBatch = 512
	largeBatch = 4096
	// pause between small batches, so that a busy log does not make every
	// follower look at every single append.
	pause = 2 * time.Millisecond
	// idleSave is how long a cursor may have moved over records without any
	// effect before it is saved.
	idleSave = time.Second
)

// A worker handles the records of one partition for one generation.
type worker struct {
	f       *follower
	gen     uint64
	part    int
	handler Handler
	log     *slog.Logger

	// These belong to the goroutine that runs the worker.
	cursor store.Cursor // as far as the handler has come
	saved  store.Cursor // as far as the store knows
	rev    uint64       // of the checkpoint
	past   *past
	lot    lot
	saveAt time.Time // not before then, if there is no effect to save
	size   int       // of batches
	ahead  chan batch
	stop   context.CancelFunc // of what is read ahead

	mu    sync.Mutex
	poke  context.CancelFunc // ends the present wait; nil = not waiting
	poked bool
	tasks []*task
	report
}

// report is what a worker tells others, under its mutex.
type report struct {
	at        store.Cursor // the same as cursor
	head      store.Cursor
	state     string
	handled   uint64
	retrying  int
	dead      int
	waiting   int
	lastError string
	errorAt   time.Time
	heartbeat time.Time
	oldest    time.Time // when the oldest record not yet handled was recorded; zero = caught up
	rate      float64
	rateAt    time.Time
	rateFrom  uint64
	alive     bool
}

// A task is something to do between batches, by request.
type task struct {
	run  func(ctx context.Context, w *worker) (int, error)
	done chan struct{}
	n    int
	err  error
}

// run works until ctx is done. Whatever the store refuses is tried again.
func (w *worker) run(ctx context.Context) {
	defer w.end()
	failures := 0
	loaded := false
	for ctx.Err() == nil {
		err := w.load(ctx, &loaded)
		if err == nil {
			err = w.step(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			continue
		}
		w.handler.Reset()
		w.forgetAhead()
		loaded = false
		failures++
		w.fails(err)
		w.sleep(ctx, Retry{First: 50 * time.Millisecond, Max: 5 * time.Second}.wait(failures))
	}
}

// load reads what the store knows of the worker, if that may have changed.
func (w *worker) load(ctx context.Context, loaded *bool) error {
	if *loaded {
		return nil
	}
	d, err := w.f.store.Get(ctx, cursorColl, cursorKey(w.f.Name, w.gen, w.part, w.f.Partitions))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	var c checkpoint
	if err := json.Unmarshal(d.Data, &c); err != nil {
		return fmt.Errorf("%w: checkpoint %s: %w", store.ErrCorrupt, d.Key, err)
	}
	w.lot = lot{}
	for l, err := range letters(ctx, w.f.store, w.f.Name, w.gen, "") {
		if err != nil {
			return err
		}
		if store.PartitionOf(l.Stream, w.f.Partitions) == w.part {
			w.lot.add(l)
		}
	}
	w.cursor, w.saved, w.rev, w.past = c.Cursor, c.Cursor, d.Rev, c.Past
	w.size = smallBatch
	*loaded = true
	return nil
}

// step does one thing: a task, a retry, a batch, or waiting for more.
func (w *worker) step(ctx context.Context) error {
	w.beat()
	if t := w.nextTask(); t != nil {
		t.n, t.err = t.run(ctx, w)
		close(t.done)
		if t.err != nil && isInfrastructure(t.err) {
			return t.err
		}
		return nil
	}
	due, next := w.lot.due(time.Now())
	if due != nil {
		_, err := w.redrive(ctx, w.lot.sequence(due.Keys), due)
		return err
	}
	b := w.take(ctx)
	if b.err != nil {
		return b.err
	}
	if len(b.recs) > 0 || b.next != w.cursor {
		if err := w.handle(ctx, b); err != nil {
			return err
		}
		w.adapt(len(b.recs), b.full)
		if !b.full {
			w.sleep(ctx, pause)
		}
		return nil
	}
	return w.rest(ctx, next)
}

// rest waits for more records, a task, or the next retry.
func (w *worker) rest(ctx context.Context, next time.Time) error {
	wait := w.f.poll
	if w.cursor != w.saved {
		left := time.Until(w.saveAt)
		if left <= 0 {
			return w.commit(ctx, newTx(w.f.store), w.cursor, nil)
		}
		wait = min(wait, left)
	}
	if !next.IsZero() {
		wait = min(wait, max(time.Until(next), 0))
	}
	waiting, done := w.startWait(ctx, wait)
	defer done()
	err := store.Wait(waiting, w.f.store, w.cursor, wait)
	if waiting.Err() != nil {
		return nil
	}
	return err
}

// sleep waits for some time or until somebody pokes the worker.
func (w *worker) sleep(ctx context.Context, d time.Duration) {
	waiting, done := w.startWait(ctx, d)
	defer done()
	<-waiting.Done()
}

func (w *worker) startWait(ctx context.Context, d time.Duration) (context.Context, func()) {
	waiting, cancel := context.WithTimeout(ctx, d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.poke = cancel
	if w.poked {
		cancel()
	}
	w.poked = false
	return waiting, func() {
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.poke = nil
	}
}

// ask hands the worker a task; it reports false if the worker has ended.
func (w *worker) ask(t *task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.alive {
		return false
	}
	w.tasks = append(w.tasks, t)
	w.poked = true
	if w.poke != nil {
		w.poke()
	}
	return true
}

func (w *worker) nextTask() *task {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.tasks) == 0 {
		return nil
	}
	t := w.tasks[0]
	w.tasks = w.tasks[1:]
	return t
}

// end answers whoever still waits.
func (w *worker) end() {
	w.forgetAhead()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive, w.state = false, StateStopped
	for _, t := range w.tasks {
		t.err = ErrNotRunning
		close(t.done)
	}
	w.tasks = nil
}

// panicked is the error of a handler that panicked.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// safely calls f and makes a permanent error of a panic.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Permanent(&panicked{v, string(debug.Stack())})
		}
	}()
	return f()
}

// keys returns the sequences of a record; if the handler cannot tell, its
// stream.
func (w *worker) keys(rec store.Record) (keys []string) {
	err := safely(func() error { keys = w.handler.Keys(rec); return nil })
	if err != nil || len(keys) == 0 {
		return []string{rec.Stream}
	}
	return keys
}

// handleOne gives one record to the handler. A handler with outside effects
// gets a deadline.
func (w *worker) handleOne(ctx context.Context, tx *Tx, rec store.Record) error {
	if !w.f.Pure {
		within, cancel := context.WithTimeout(ctx, w.f.Timeout)
		defer cancel()
		ctx = within
	}
	return w.handler.Handle(ctx, tx, rec)
}

// isOurs reports whether an error is about the store or the end of the
// worker, rather than about the record.
func (w *worker) isOurs(ctx context.Context, err error) bool {
	return ctx.Err() != nil || isInfrastructure(err)
}

// commit saves changes and the cursor, all or nothing. If somebody else has
// moved the checkpoint, nothing is saved and errFenced returned.
func (w *worker) commit(ctx context.Context, tx *Tx, cursor store.Cursor, extra []store.Change) error {
	if w.past != nil && w.past.over(cursor) {
		w.past = nil
	}
	data, err := json.Marshal(checkpoint{Cursor: cursor, Past: w.past})
	if err != nil {
		return err
	}
	changes := append(tx.changes, extra...)
	changes = append(changes, store.Change{
		Coll: cursorColl, Key: cursorKey(w.f.Name, w.gen, w.part, w.f.Partitions), Rev: w.rev, Data: data,
	})
	if err := w.f.store.Write(ctx, changes...); err != nil {
		if _, conflict := errors.AsType[*store.ConflictError](err); conflict {
			return fmt.Errorf("%w: %w", errFenced, err)
		}
		return err
	}
	w.rev++
	w.cursor, w.saved = cursor, cursor
	w.saveAt = time.Now().Add(idleSave)
	w.moved()
	return nil
}

// errFenced reports that another worker of the same partition, or somebody
// who changed a document, was faster.
var errFenced = errors.New("engine: overtaken by another writer")
