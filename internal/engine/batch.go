package engine

import (
	"context"
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
}

// read reads a batch. The head is asked for first: what is recorded while
// reading may be missed, and must not be counted as read.
func (w *worker) read(ctx context.Context, after store.Cursor, size int) batch {
	b := batch{from: after}
	if b.head, b.err = w.f.store.Head(ctx); b.err != nil || b.head == after {
		b.next = after
		return b
	}
	filter := w.f.Filter
	filter.Partition, filter.Partitions, filter.Limit = w.part, w.f.Partitions, size
	b.recs = make([]store.Record, 0, min(size, smallBatch))
	for rec, err := range w.f.store.ReadAll(ctx, after, filter) {
		if err != nil {
			b.err = err
			return b
		}
		b.recs = append(b.recs, rec)
	}
	b.next = after
	if n := len(b.recs); n > 0 {
		b.next = advance(after, b.recs)
	}
	b.full = len(b.recs) == size
	if !b.full {
		b.next = b.next.Join(b.head)
	}
	return b
}

// advance moves a cursor past records. In a log of a single order the last
// one says it all.
func advance(c store.Cursor, recs []store.Record) store.Cursor {
	last := recs[len(recs)-1].Position
	c = c.Advance(last)
	for _, r := range recs {
		if r.Position.Shard != last.Shard {
			c = c.Advance(r.Position)
		}
	}
	return c
}

// take returns the next batch, read ahead or now. After a full one it starts
// reading the next while this one is handled.
func (w *worker) take(ctx context.Context) batch {
	var b batch
	if w.ahead != nil {
		b = <-w.ahead
		w.stop()
		w.ahead = nil
	}
	if b.from != w.cursor || b.recs == nil || b.err != nil {
		b = w.read(ctx, w.cursor, w.size)
	}
	if b.err == nil && b.full {
		w.readAhead(ctx, b.next)
	}
	w.seen(b)
	return b
}

func (w *worker) readAhead(ctx context.Context, after store.Cursor) {
	ctx, w.stop = context.WithCancel(ctx)
	ahead, size := make(chan batch, 1), min(2*w.size, largeBatch)
	w.ahead = ahead
	go func() { ahead <- w.read(ctx, after, size) }()
}

// forgetAhead drops what is read ahead, and waits until nobody reads.
func (w *worker) forgetAhead() {
	if w.ahead == nil {
		return
	}
	w.stop()
	<-w.ahead
	w.ahead = nil
}

func (w *worker) adapt(n int, full bool) {
	if full {
		w.size = min(2*w.size, largeBatch)
		return
	}
	w.size = smallBatch
}

// handle takes in a batch and commits what came of it. If a record fails in a
// handler without outside effects, everything is handled again without it: so
// the handler need not be able to undo.
func (w *worker) handle(ctx context.Context, b batch) error {
	failed := map[store.Position]*letter{}
	for single := false; ; {
		tx := newTx(w.f.store)
		parked, again, err := w.pass(ctx, tx, b.recs, failed, single)
		if err != nil {
			return err
		}
		if again == againSingly {
			single = true
		}
		if again != done {
			w.handler.Reset()
			continue
		}
		return w.finish(ctx, tx, b, parked)
	}
}

type verdict int

const (
	done verdict = iota
	againWithout
	againSingly
)

// pass gives the records to the handler, once. It returns the letters of
// those that were parked, or says that they are to be given again: without
// one that has failed, or flushing after each to find out which one it is.
func (w *worker) pass(ctx context.Context, tx *Tx, recs []store.Record, failed map[store.Position]*letter, single bool) ([]*letter, verdict, error) {
	var parked lot
	for _, rec := range recs {
		if w.past.covers(rec) {
			continue
		}
		if l := failed[rec.Position]; l != nil {
			parked.add(l)
			continue
		}
		if len(w.lot.blocked)+len(parked.blocked) > 0 {
			if keys := w.keys(rec); w.lot.blocks(keys) || parked.blocks(keys) {
				parked.add(newLetter(w.f, rec, keys, time.Now()))
				continue
			}
		}
		err := safely(func() error {
			if err := w.handleOne(ctx, tx, rec); err != nil || !single {
				return err
			}
			return w.handler.Flush(ctx, tx)
		})
		if err == nil {
			tx.keep()
			continue
		}
		if w.isOurs(ctx, err) {
			return nil, done, err
		}
		l := newLetter(w.f, rec, w.keys(rec), time.Now())
		l.failed(err, w.f.Retry, time.Now())
		w.log.Warn("parked", "id", l.ID, "stream", l.Stream, "version", l.Version, "state", l.State, "reason", l.Reason)
		if w.f.Pure {
			failed[rec.Position] = l
			return nil, againWithout, nil
		}
		tx.drop()
		parked.add(l)
	}
	err := safely(func() error { return w.handler.Flush(ctx, tx) })
	switch {
	case err == nil:
		return parked.letters, done, nil
	case w.isOurs(ctx, err) || single:
		return nil, done, err
	}
	return nil, againSingly, nil
}

// finish commits a batch, or only remembers how far it has come if it had no
// effect at all.
func (w *worker) finish(ctx context.Context, tx *Tx, b batch, parked []*letter) error {
	var extra []store.Change
	for _, l := range parked {
		c, err := l.change(w.f, w.gen)
		if err != nil {
			return err
		}
		extra = append(extra, c)
	}
	if len(tx.changes)+len(extra) == 0 && time.Now().Before(w.saveAt) {
		w.cursor = b.next
		w.moved()
	} else if err := w.commit(ctx, tx, b.next, extra); err != nil {
		return err
	}
	for _, l := range parked {
		w.lot.add(l)
	}
	w.count(len(b.recs), !b.full)
	return nil
}
