package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
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
	// maxHold is how long records may be handled before they are committed.
	maxHold = 250 * time.Millisecond
	// pause between small batches, so that a busy log does not make every
	// follower look at every single append.
	pause = 2 * time.Millisecond
	// idleSave is how long a cursor may have moved over records without any
	// effect before it is saved.
	idleSave = time.Second
	// awaitedSave is the same where other nodes wait for it.
	awaitedSave = 100 * time.Millisecond
	// commitTime is how long a commit may take. It is not abandoned when the
	// worker is to end: what was done outside would be done again.
	commitTime = 10 * time.Second
)

// backoff is how long a worker waits for a store that fails.
var backoff = Retry{First: 50 * time.Millisecond, Max: 5 * time.Second}

// errFenced reports that another worker of the same partition, or somebody
// who changed a document, was faster.
var errFenced = errors.New("engine: overtaken by another writer")

// A worker handles the records of one partition for one generation.
type worker struct {
	f       *follower
	gen     uint64
	part    int
	handler Handler
	log     *slog.Logger

	// These belong to the goroutine that runs the worker.
	cursor  store.Cursor              // as far as the handler has come
	open    map[string]store.Position // records before there that are not settled
	saved   store.Cursor              // as far as the store knows
	rev     uint64                    // of the checkpoint
	past    []past
	parked  letterList
	held    bool           // this node holds the partition
	epoch   uint64         // since it does
	vacant  time.Time      // since when nobody is seen to hold it
	redrove bool           // the last thing it did was to try dead letters
	saveAt  time.Time      // not before then, if there is no effect to save
	size    int            // of batches
	rest    batch          // read, and still to be handled
	spare   []store.Record // room for the next batch
	ahead   chan batch     // being read
	cancel  context.CancelFunc
	keeping *keeping // nil: it does not run

	mu        sync.Mutex
	poke      context.CancelFunc // ends the present wait; nil = not waiting
	poked     bool
	gathering bool // it pauses for longer than it must
	tasks     []*task
	report
}

// run works until ctx is done. Whatever the store refuses is tried again,
// from what the store knows.
func (w *worker) run(ctx context.Context) {
	defer w.leave(ctx)
	failures := 0
	for ctx.Err() == nil {
		err := w.work(ctx)
		for err != nil {
			w.handler.Reset() // also at the end: what it was about to write down is not settled
			if ctx.Err() != nil {
				return
			}
			w.forgetRead()
			w.fails(err)
			if errors.Is(err, errFenced) {
				w.f.lookAgain(ctx)
			}
			failures++
			w.sleep(ctx, backoff.Wait(failures))
			if err = w.load(ctx); err == nil {
				// Perhaps it was too much for the store.
				w.size = max(1, smallBatch>>min(failures, 16))
				err = w.work(ctx)
			}
		}
		failures = 0
	}
}

// work does one thing, or stands by while another node holds the partition.
func (w *worker) work(ctx context.Context) error {
	if !w.holds(ctx) {
		w.unkeep()
		return w.standBy(ctx)
	}
	w.keep(ctx)
	return w.step(ctx)
}

// leave saves the cursor, should it have moved over records without effect,
// and answers whoever still asks for something.
func (w *worker) leave(ctx context.Context) {
	w.forgetRead()
	w.unkeep()
	held := w.held
	w.held = false
	if w.cursor != w.saved && (held || w.f.members == nil) || held {
		if err := w.commit(ctx, newTx(w.f.store), w.cursor); err != nil {
			w.log.Debug("cursor not saved", "error", err)
		}
	}
	w.end()
}

// load reads what the store knows of the worker.
func (w *worker) load(ctx context.Context) error {
	c, rev, err := w.checkpoint(ctx)
	if err != nil {
		return err
	}
	if m := w.f.members; m != nil {
		w.held = w.held && c.Node == m.self.Node && c.Epoch == w.epoch
		if !w.held {
			w.cursor, w.saved = c.Cursor, c.Cursor
			w.observe(ctx, c)
			return nil
		}
	}
	parked := letterList{}
	for l, err := range letters(ctx, w.f.store, w.f.Name, w.gen, "") {
		if err != nil {
			return err
		}
		if store.PartitionOf(l.Stream, w.f.Partitions) == w.part {
			l.forget()
			parked.add(l)
		}
	}
	w.cursor, w.saved, w.rev, w.past, w.epoch, w.parked, w.open = c.Cursor, c.Cursor, rev, c.Past, c.Epoch, parked, nil
	w.size = w.firstSize()
	w.tell()
	return nil
}

// checkpoint reads the worker's checkpoint and its revision.
func (w *worker) checkpoint(ctx context.Context) (checkpoint, uint64, error) {
	d, err := w.f.store.Get(ctx, cursorColl, cursorKey(w.f.Name, w.gen, w.part, w.f.Partitions))
	if errors.Is(err, store.ErrNotFound) {
		w.f.wake() // another node has rebuilt, or has other partitions
	}
	if err != nil {
		return checkpoint{}, 0, fmt.Errorf("checkpoint: %w", err)
	}
	c, err := parseCheckpoint(d)
	return c, d.Rev, err
}

// step does one thing: a task, a retry, a batch, or waiting for more.
func (w *worker) step(ctx context.Context) error {
	w.beat()
	if t := w.nextTask(); t != nil {
		out, err := t.run(ctx, w)
		if !errors.Is(err, errFenced) || out.handled > 0 || !w.tryAgain(t) {
			t.answer(out, err)
		}
		return err
	}
	due, at := w.parked.due()
	if due != nil && !w.redrove && !at.After(time.Now()) {
		w.redrove = true // next comes a batch: neither keeps the other waiting for ever
		ripe := w.parked.sequence(due.Keys)
		if _, ok := w.handler.(BatchHandler); ok {
			ripe = slices.Clone(w.parked.letters)
		}
		_, err := w.redrive(ctx, ripe, false)
		return err
	}
	w.redrove = false
	b, err := w.take(ctx)
	if err != nil {
		return err
	}
	if len(b.recs) == 0 && b.next == w.cursor {
		return w.idle(ctx, b.bound, due, at)
	}
	if err := w.handle(ctx, b); err != nil {
		return err
	}
	if !b.full && len(w.rest.recs) == 0 {
		w.breathe(ctx)
	}
	return nil
}

// firstSize is that of a batch while the worker keeps up: one that lets records
// gather takes all that have.
func (w *worker) firstSize() int {
	if w.f.Gather > 0 {
		return largeBatch
	}
	return smallBatch
}

// breathe pauses after a batch. A follower that lets records gather pauses for
// longer: a document that changes ten times in a moment need not be written ten
// times. All go on at the same instants, so that they share the store's commits.
// Whoever waits for one ends that.
func (w *worker) breathe(ctx context.Context) {
	if w.f.Gather <= pause || w.f.waiting.Load() > 0 {
		w.sleep(ctx, pause)
		return
	}
	w.gather(true)
	defer w.gather(false)
	if w.f.waiting.Load() == 0 { // who comes from now on sees that it gathers
		now := time.Now()
		w.sleep(ctx, now.Truncate(w.f.Gather).Add(w.f.Gather).Sub(now.Round(0)))
	}
}

func (w *worker) gather(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gathering = on
}

// idle waits for more records, a task, or the time of the next retry.
func (w *worker) idle(ctx context.Context, bound bool, due *letter, at time.Time) error {
	wait := w.f.poll
	if w.cursor != w.saved {
		left := time.Until(w.saveAt)
		if left <= 0 {
			return w.saveIdle(ctx)
		}
		wait = min(wait, left)
	}
	if due != nil {
		if wait = min(wait, time.Until(at)); wait <= 0 {
			return nil
		}
	}
	if bound {
		w.sleep(ctx, min(wait, standbyLook))
		return nil
	}
	waiting, done := w.startWait(ctx, wait)
	defer done()
	err := store.Wait(waiting, w.f.store, w.cursor, wait)
	if waiting.Err() != nil {
		return nil
	}
	return err
}

// saveIdle saves how far the worker has come while nothing comes in. What takes
// long to be settled the handler can write down now: a checkpoint that stayed
// where it is would keep others waiting, and have ever more read again.
func (w *worker) saveIdle(ctx context.Context) error {
	tx := newTx(w.f.store)
	if len(w.open) > 0 {
		if err := safely(func() error { return w.handler.Flush(ctx, tx) }); err != nil {
			return err
		}
	}
	if settled, _ := w.settled(w.cursor); len(tx.changes) == 0 && settled == w.saved {
		w.saveAt = time.Now().Add(idleSave)
		return nil
	}
	return w.commit(ctx, tx, w.cursor)
}

// sleep waits for some time or until somebody pokes the worker, and reports whether
// nobody did.
func (w *worker) sleep(ctx context.Context, d time.Duration) bool {
	waiting, done := w.startWait(ctx, d)
	defer done()
	<-waiting.Done()
	return errors.Is(waiting.Err(), context.DeadlineExceeded)
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

// commit saves changes and the cursor, all or nothing. If somebody else has
// moved the checkpoint, nothing is saved and errFenced returned. Others learn
// of it when the worker next reports.
func (w *worker) commit(ctx context.Context, tx *Tx, cursor store.Cursor, extra ...store.Change) error {
	settled, done := w.settled(cursor)
	past := remaining(w.past, settled)
	c := checkpoint{Cursor: settled, Past: past, Epoch: w.epoch}
	if w.held {
		c.Node = w.f.members.self.Node
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	changes := append(tx.changes, extra...)
	changes = append(changes, store.Change{
		Coll: cursorColl, Key: cursorKey(w.f.Name, w.gen, w.part, w.f.Partitions), Rev: w.rev, Data: data,
	})
	ctx, cancel := unbroken(ctx)
	defer cancel()
	if err := w.write(ctx, changes, tx.statements); err != nil {
		if _, conflict := errors.AsType[*store.ConflictError](err); conflict {
			return fmt.Errorf("%w: %w", errFenced, err)
		}
		return err
	}
	w.rev++
	w.close(done)
	w.cursor, w.saved, w.past = cursor, settled, past
	w.saveAt = time.Now().Add(idleSave)
	if w.held && w.f.Awaited {
		w.saveAt = time.Now().Add(awaitedSave)
	}
	return nil
}

// write writes changes, and executes statements with them.
func (w *worker) write(ctx context.Context, changes []store.Change, statements []store.Statement) error {
	if len(statements) == 0 {
		return w.f.store.Write(ctx, changes...)
	}
	tables, err := store.RelationalOf(w.f.store)
	if err != nil {
		return err
	}
	return tables.WriteTables(ctx, changes, statements)
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
func (w *worker) keys(rec store.Record) []string { return keysOf(w.handler, rec) }

func keysOf(h Handler, rec store.Record) (keys []string) {
	err := safely(func() error { keys = h.Keys(rec); return nil })
	if err != nil || len(keys) == 0 {
		return []string{rec.Stream}
	}
	return keys
}

// handleOne gives one record to the handler. A handler with outside effects
// gets a deadline.
func (w *worker) handleOne(ctx context.Context, tx *Tx, rec store.Record) error {
	if w.f.Pure {
		return w.handler.Handle(ctx, tx, rec)
	}
	ctx, cancel := context.WithTimeout(ctx, w.f.Timeout)
	defer cancel()
	return w.handler.Handle(ctx, tx, rec)
}

// isOurs reports whether an error is about the store or the end of the
// worker, rather than about the record.
func (w *worker) isOurs(ctx context.Context, tx *Tx, err error) bool {
	return ctx.Err() != nil || tx.trouble || isInfrastructure(err)
}
