package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed/store"
)

// redrive tries letters of one sequence again, in log order, each in a commit
// of its own. One that fails holds back those that share a key with it. It
// returns how many were handled, and why the asked-for one was not.
func (w *worker) redrive(ctx context.Context, sequence []*letter, asked *letter) (handled int, why error) {
	var held lot
	for _, l := range sequence {
		if held.blocks(l.Keys) {
			held.add(l)
			continue
		}
		failure, err := w.retry(ctx, l)
		if err != nil {
			return handled, err
		}
		if failure == nil {
			handled++
			continue
		}
		held.add(l)
		if l == asked || why == nil {
			why = failure
		}
	}
	w.tell()
	return handled, why
}

// retry handles one letter's record again. It returns why that failed, or why
// it could not be tried.
func (w *worker) retry(ctx context.Context, l *letter) (failure, err error) {
	rec, err := w.record(ctx, l)
	if err != nil {
		return nil, err
	}
	tx := newTx(w.f.store)
	failure = safely(func() error {
		if err := w.handleOne(ctx, tx, rec); err != nil {
			return err
		}
		return w.handler.Flush(ctx, tx)
	})
	if failure != nil {
		if w.isOurs(ctx, failure) {
			return nil, failure
		}
		w.handler.Reset()
		l.failed(failure, w.f.Retry, time.Now())
		w.log.Warn("still parked", "id", l.ID, "attempts", l.Attempts, "state", l.State, "reason", l.Reason)
		c, err := l.change(w.f, w.gen)
		if err != nil {
			return nil, err
		}
		return failure, w.commit(ctx, newTx(w.f.store), w.cursor, []store.Change{c})
	}
	tx.keep()
	gone := store.Change{Coll: deadColl(w.f.Name), Key: deadKey(w.gen, l.pos), Rev: store.AnyRev}
	if err := w.commit(ctx, tx, w.cursor, []store.Change{gone}); err != nil {
		return nil, err
	}
	w.lot.remove(l)
	w.log.Info("handled at last", "id", l.ID, "attempts", l.Attempts+1)
	return nil, nil
}

// record reads the record of a letter.
func (w *worker) record(ctx context.Context, l *letter) (store.Record, error) {
	for rec, err := range w.f.store.Read(ctx, l.Stream, store.Range{From: l.Version, Limit: 1}) {
		if err != nil || rec.Version == l.Version {
			return rec, err
		}
	}
	return store.Record{}, fmt.Errorf("%w: %s@%d, which %s could not handle, is gone", store.ErrCorrupt, l.Stream, l.Version, w.f.Name)
}

// discard gives a letter up, leaves a note, and lets its sequence go on.
func (w *worker) discard(ctx context.Context, l *letter, reason, actor string) (int, error) {
	note, err := json.Marshal(discarded{DeadLetter: l.DeadLetter, Discarded: time.Now().UTC(), By: actor, Why: reason})
	if err != nil {
		return 0, err
	}
	key := deadKey(w.gen, l.pos)
	err = w.commit(ctx, newTx(w.f.store), w.cursor, []store.Change{
		{Coll: deadColl(w.f.Name), Key: key, Rev: store.AnyRev},
		{Coll: discardedColl(w.f.Name), Key: key, Rev: store.AnyRev, Data: note},
	})
	if err != nil {
		return 0, err
	}
	w.lot.remove(l)
	w.log.Warn("discarded", "id", l.ID, "by", actor, "because", reason)
	// Those that failed themselves keep their state: only those that waited
	// for this one are tried.
	var waited []*letter
	for _, x := range w.lot.sequence(l.Keys) {
		if x.State != StateWaiting {
			break
		}
		waited = append(waited, x)
	}
	n, err := w.redrive(ctx, waited, nil)
	if err != nil && !w.isOurs(ctx, err) && !errors.Is(err, errFenced) {
		err = nil // the next of them failed too, and is parked now
	}
	return n, err
}

// onLetter makes a task of something to do with a letter.
func onLetter(p store.Position, do func(ctx context.Context, w *worker, l *letter) (int, error)) *task {
	return &task{done: make(chan struct{}), run: func(ctx context.Context, w *worker) (int, error) {
		l := w.lot.find(p)
		if l == nil {
			return 0, fmt.Errorf("%w: %s", ErrNoDeadLetter, letterID(w.f.Name, p))
		}
		return do(ctx, w, l)
	}}
}
