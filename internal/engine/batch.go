package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/deed-dev/deed/store"
)

// A batch is records that were read together.
type batch struct {
	recs []store.Record
	from store.Cursor // read after here
	next store.Cursor // where the cursor is to be when they are handled
	full bool         // there may be more
	head store.Cursor
	err  error

	bound  bool // there is more, which it may not read yet
	singly bool // flush after each record: flushing after all of them has failed
}

// read reads a batch, into room it is given. The head is asked for first: what is recorded while
// reading may be missed, and must not be counted as read.
func (w *worker) read(ctx context.Context, after store.Cursor, size int, into []store.Record) batch {
	b := batch{from: after, next: after}
	filter := w.f.Filter
	filter.Partition, filter.Partitions, filter.Limit = w.part, w.f.Partitions, size
	var recs iter.Seq2[store.Record, error]
	if b.head, recs, b.err = store.Tail(ctx, w.f.store, after, filter); b.err != nil || b.head == after {
		return b
	}
	if !b.head.CoversAll(after) {
		b.err = fmt.Errorf("%w: the log ends at %q, and this follower has read up to %q: the store has lost events, or an old copy was restored", store.ErrCorrupt, b.head, after)
		return b
	}
	head := b.head
	if bound, ok := w.f.boundOf(w.gen); ok {
		b.head = least([]store.Cursor{b.head, bound.Join(after)})
		if b.bound = b.head != head; b.head == after {
			return b
		}
	}
	b.recs = slices.Grow(into, int(min(uint64(size), after.Behind(b.head))))
	for rec, err := range recs {
		if err != nil {
			b.err = err
			break
		}
		if b.head != head && !b.head.Covers(rec.Position) {
			continue
		}
		b.recs = append(b.recs, rec)
	}
	if len(b.recs) > 0 {
		b.next = advance(after, b.recs)
	}
	switch {
	case b.err != nil && len(b.recs) > 0:
		b.err, b.full = nil, true // what comes before the trouble can be handled
	case b.err == nil && len(b.recs) < size:
		b.next = b.next.Join(b.head)
	default:
		b.full = true
	}
	return b
}

// advance moves a cursor past records. In a log of a single order the last
// one says it all.
func advance(c store.Cursor, recs []store.Record) store.Cursor {
	last := recs[len(recs)-1].Position
	c = c.Advance(last)
	for i := range recs {
		if p := recs[i].Position; p.Shard != last.Shard {
			c = c.Advance(p)
		}
	}
	return c
}

// take returns the next batch: the rest of the last one, what was read ahead,
// or what there is now. After a full one it starts reading the next while
// this one is handled.
func (w *worker) take(ctx context.Context) (batch, error) {
	if b := w.rest; len(b.recs) > 0 {
		w.rest = batch{}
		w.seen(b)
		return b, nil
	}
	b := w.fetch(ctx)
	if b.err != nil {
		return b, b.err
	}
	if b.full {
		w.size = min(2*w.size, largeBatch)
		w.readAhead(ctx, b.next)
	} else {
		w.size = w.firstSize()
	}
	w.seen(b)
	return b, nil
}

// fetch reads the next batch, unless that has been done ahead.
func (w *worker) fetch(ctx context.Context) batch {
	if w.ahead != nil {
		b := <-w.ahead
		w.cancel()
		w.ahead = nil
		if b.err == nil && b.from == w.cursor && len(b.recs) > 0 {
			return b
		}
	}
	return w.read(ctx, w.cursor, w.size, w.takeSpare())
}

func (w *worker) readAhead(ctx context.Context, after store.Cursor) {
	ctx, w.cancel = context.WithCancel(ctx)
	ahead, size, spare := make(chan batch, 1), w.size, w.takeSpare()
	w.ahead = ahead
	prepare := func([]store.Record) {}
	if p, ok := w.handler.(Preparer); ok {
		prepare = p.Prepare
	}
	go func() {
		b := w.read(ctx, after, size, spare)
		prepare(b.recs)
		ahead <- b
	}()
}

// takeSpare returns room for records that was used before, if there is any.
func (w *worker) takeSpare() []store.Record {
	spare := w.spare
	w.spare = nil
	return spare
}

// forgetRead drops what is read and not handled, and waits until nobody reads.
func (w *worker) forgetRead() {
	w.rest = batch{}
	if w.ahead == nil {
		return
	}
	w.cancel()
	<-w.ahead
	w.ahead = nil
}

// A pass is what came of giving records to the handler, one after the other.
type pass struct {
	tx      *Tx
	parked  letterList // letters to be saved with the changes in tx
	taken   int        // records that are dealt with
	handled int        // of these, the ones the handler took in
	failure error      // why the handler could not take in the one after them
	flush   bool       // it was Flush, after all of them, that failed
	err     error      // of the store
}

// handle takes in the beginning of a batch, all of it if possible, and
// commits what came of it. The rest is kept for the next time.
//
// A handler need not be able to undo anything. So when a Pure one fails, what
// it had taken in before is handled again and committed by itself; a record
// that fails when nothing comes before it is the culprit, and is parked. A
// handler with outside effects does nothing twice: what a record that failed
// did to documents is taken back.
func (w *worker) handle(ctx context.Context, b batch) error {
	if h, ok := w.handler.(BatchHandler); ok {
		return w.handleAll(ctx, b, h)
	}
	recs, n := b.recs, len(b.recs)
	singly := b.singly || !w.f.Pure
	var doomed []*letter
	for {
		p := w.pass(ctx, recs[:n], doomed, singly)
		switch {
		case p.err != nil && (w.f.Pure || p.handled == 0):
			return p.err
		case p.failure == nil:
			err := w.finish(ctx, b, recs[p.taken:], p)
			refused, ok := errors.AsType[*store.StatementError](err)
			if !ok {
				return cmp.Or(err, p.err)
			}
			if n > 1 { // of one of them
				n = max(1, p.taken/2)
				break
			}
			l := w.failed(recs[0], Permanent(refused))
			doomed = append(slices.Clone(doomed), l)
			recs = recs[1:]
			n = len(recs)
		case p.flush:
			singly, b.singly = true, true
		case p.handled > 0:
			n = p.taken
		default:
			l := w.failed(recs[p.taken], p.failure)
			doomed = append(p.parked.letters, l)
			recs = recs[p.taken+1:]
			n = len(recs)
		}
		w.handler.Reset()
	}
}

// failed makes a letter of a record that could not be handled.
func (w *worker) failed(rec store.Record, failure error) *letter {
	now := time.Now()
	l := newLetter(w.f.Name, rec, w.keys(rec), now)
	l.failed(failure, w.f.Retry, now)
	level := slog.LevelWarn
	if IsOngoing(failure) {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, "parked", "id", l.ID, "stream", l.Stream, "version", l.Version, "state", l.State, "reason", l.Reason)
	return l
}

// checkEvery is after how many records a pass looks at the clock.
const checkEvery = 16

// pass gives records to the handler until one fails, time is up, or ctx is
// done. If singly, the handler flushes after each record, so that one that
// fails then can be told, and dropped by itself.
func (w *worker) pass(ctx context.Context, recs []store.Record, doomed []*letter, singly bool) (p pass) {
	p.tx = newTx(w.f.store)
	if _, ok := w.handler.(Settler); ok {
		p.tx.open = map[string]store.Position{}
	}
	for _, l := range doomed {
		p.parked.add(l)
	}
	start := time.Now()
	for i := range recs {
		rec := &recs[i]
		if (singly || i%checkEvery == checkEvery-1) && (ctx.Err() != nil || time.Since(start) > maxHold) && p.handled > 0 {
			break
		}
		if i%fetchEvery == 0 {
			w.fetchDocs(ctx, p.tx, recs[i:min(i+fetchEvery, len(recs))])
		}
		if skips(w.past, rec) {
			p.taken++
			continue
		}
		if !w.parked.empty() || !p.parked.empty() {
			if w.parked.find(rec.Position) != nil { // it is read again because of an earlier one that was not settled
				p.taken++
				continue
			}
			if keys := w.keys(*rec); w.parked.blocks(keys) || p.parked.blocks(keys) {
				p.parked.add(newLetter(w.f.Name, *rec, keys, time.Now()))
				p.taken++
				continue
			}
		}
		err := w.takeIn(ctx, p.tx, rec, singly)
		switch {
		case err == nil:
			p.tx.keep()
			p.handled++
		case w.isOurs(ctx, p.tx, err):
			p.tx.drop()
			p.err = err
			return p
		case w.f.Pure:
			p.failure = err
			return p
		default:
			p.tx.drop()
			w.handler.Reset()
			p.parked.add(w.failed(*rec, err))
		}
		p.taken++
	}
	if singly {
		return p
	}
	switch err := safely(func() error { return w.handler.Flush(ctx, p.tx) }); {
	case err == nil:
	case w.isOurs(ctx, p.tx, err):
		p.err = err
	default:
		p.failure, p.flush = err, true
	}
	return p
}

// takeIn gives the handler one record, and has it flush if singly.
func (w *worker) takeIn(ctx context.Context, tx *Tx, rec *store.Record, singly bool) error {
	tx.pos = rec.Position
	return safely(func() error {
		if err := w.handleOne(ctx, tx, *rec); err != nil || !singly {
			return err
		}
		return w.handler.Flush(ctx, tx)
	})
}

// finish commits a pass, or only remembers how far it has come if it had no
// effect at all. What is left of the batch is kept for the next time.
func (w *worker) finish(ctx context.Context, b batch, left []store.Record, p pass) error {
	w.leaveOpen(p.tx)
	next := b.next
	if len(left) > 0 {
		next = advance(b.from, b.recs[:len(b.recs)-len(left)])
	}
	changes := make([]store.Change, 0, len(p.parked.letters))
	for _, l := range p.parked.letters {
		c, err := l.saved(w.gen)
		if err != nil {
			return err
		}
		changes = append(changes, c)
	}
	effect := len(p.tx.changes)+len(p.tx.statements)+len(changes) > 0 || p.handled > 0 && !w.f.Pure
	if effect || !time.Now().Before(w.saveAt) {
		if err := w.commit(ctx, p.tx, next, changes...); err != nil {
			return err
		}
	}
	w.cursor = next
	for _, l := range p.parked.letters {
		l.forget()
		w.parked.add(l)
	}
	if len(left) == 0 {
		clear(b.recs)
		w.spare = b.recs[:0]
	} else {
		w.rest = batch{recs: left, from: next, next: b.next, full: b.full, head: b.head, singly: b.singly}
	}
	w.count(len(b.recs)-len(left), len(left) == 0 && !b.full)
	return nil
}
