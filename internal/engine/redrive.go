package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed/store"
)

// How long a worker stays with dead letters before it looks at new records
// again: those that it tries by itself, and those somebody asks for.
const (
	ownRedrive   = 250 * time.Millisecond
	askedRedrive = 10 * time.Second
)

// outcome is what came of trying dead letters again.
type outcome struct {
	handled int
	failure error // of the first that still could not be handled
}

// redrive tries letters of one sequence again, in log order, each in a commit
// of its own. One that is not handled holds back those that share a key with
// it. Unless forced, dead ones and those not yet due are left alone. An error
// means that the worker has to begin afresh.
func (w *worker) redrive(ctx context.Context, sequence []*letter, force bool) (out outcome, err error) {
	if h, ok := w.handler.(BatchHandler); ok {
		return w.redriveAll(ctx, h, sequence, force)
	}
	var held letterList
	start, budget := time.Now(), ownRedrive
	if force {
		budget = askedRedrive
	}
	for _, l := range sequence {
		now := time.Now()
		if now.Sub(start) > budget || ctx.Err() != nil {
			break // those that wait for nothing any more are due at once
		}
		ripe := force || l.State == StateWaiting || l.State == StateRetrying && !l.NextAt.After(now)
		if !ripe || held.blocks(l.Keys) {
			held.block(l.Keys)
			continue
		}
		failure, err := w.retry(ctx, l)
		if err != nil {
			return out, err
		}
		if failure == nil {
			out.handled++
			continue
		}
		held.block(l.Keys)
		if out.failure == nil {
			out.failure = fmt.Errorf("%s: %w", l.ID, failure)
		}
	}
	w.tell()
	return out, nil
}

// retry handles one letter's record again. It returns why that failed, or why
// it could not be tried.
func (w *worker) retry(ctx context.Context, l *letter) (failure, err error) {
	rec, failure, err := w.record(ctx, l)
	if err != nil {
		return nil, err
	}
	tx := newTx(w.f.store)
	if failure == nil {
		failure = w.takeIn(ctx, tx, &rec, true)
	}
	if failure != nil {
		if w.isOurs(ctx, tx, failure) {
			return nil, failure
		}
		w.handler.Reset()
		return failure, w.stillParked(ctx, l, failure)
	}
	over, err := w.over(ctx, l)
	if err != nil {
		return nil, err
	}
	err = w.commit(ctx, tx, w.cursor, over...)
	if refused, ok := errors.AsType[*store.StatementError](err); ok {
		return Permanent(refused), w.stillParked(ctx, l, Permanent(refused))
	}
	if err != nil {
		return nil, err
	}
	w.parked.remove(l)
	w.log.Info("handled at last", "id", l.ID, "attempts", l.Attempts+1)
	return nil, nil
}

// stillParked saves a letter whose record has failed once more.
func (w *worker) stillParked(ctx context.Context, l *letter, failure error) error {
	now, err := w.full(ctx, l)
	if err != nil {
		return err
	}
	now.failed(failure, w.f.Retry, time.Now())
	change, err := now.saved(w.gen)
	if err != nil {
		return err
	}
	if err := w.commit(ctx, newTx(w.f.store), w.cursor, change); err != nil {
		return err
	}
	w.log.Warn("still parked", "id", l.ID, "attempts", now.Attempts, "state", now.State, "reason", now.Reason)
	now.forget()
	w.parked.replace(l, now)
	return nil
}

// over is what is written when a letter is handled: that it is gone, and a note
// if that was not what the log says.
func (w *worker) over(ctx context.Context, l *letter) ([]store.Change, error) {
	changes := []store.Change{l.gone(w.gen)}
	if !l.edited {
		return changes, nil
	}
	full, err := w.full(ctx, l)
	if err != nil {
		return nil, err
	}
	note, err := json.Marshal(handled{DeadLetter: full.DeadLetter, Handled: time.Now().UTC()})
	return append(changes, store.Change{Coll: editedColl(w.f.Name), Key: deadKey(w.gen, l.pos), Rev: store.AnyRev, Data: note}), err
}

// record reads the record of a letter, as it was edited last. That it cannot be
// read any more is the letter's failure, and must not keep the worker from
// everything else.
func (w *worker) record(ctx context.Context, l *letter) (rec store.Record, failure, err error) {
	for rec, err := range w.f.store.Read(ctx, l.Stream, store.Range{From: l.Version, Limit: 1}) {
		switch {
		case errors.Is(err, store.ErrCorrupt):
			return store.Record{}, Permanent(err), nil
		case err != nil:
			return store.Record{}, nil, err
		case rec.Version == l.Version && l.edited:
			full, err := w.full(ctx, l)
			if err == nil {
				rec.Data = full.Edits[len(full.Edits)-1].Data
			}
			return rec, nil, err
		case rec.Version == l.Version:
			return rec, nil, nil
		}
	}
	return store.Record{}, Permanent(fmt.Errorf("%w: %s@%d is gone", store.ErrCorrupt, l.Stream, l.Version)), nil
}

// full returns a letter with everything that its document says.
func (w *worker) full(ctx context.Context, l *letter) (*letter, error) {
	return getLetter(ctx, w.f.store, w.f.Name, w.gen, l.pos)
}

// discard gives a letter up, leaves a note, and lets its sequence go on.
func (w *worker) discard(ctx context.Context, l *letter, reason, actor string) error {
	full, err := w.full(ctx, l)
	if err != nil {
		return err
	}
	note, err := json.Marshal(discarded{DeadLetter: full.DeadLetter, Discarded: time.Now().UTC(), By: actor, Why: reason})
	if err != nil {
		return err
	}
	err = w.commit(ctx, newTx(w.f.store), w.cursor, l.gone(w.gen),
		store.Change{Coll: discardedColl(w.f.Name), Key: deadKey(w.gen, l.pos), Rev: store.AnyRev, Data: note})
	if err != nil {
		return err
	}
	w.parked.remove(l)
	w.log.Warn("discarded", "id", l.ID, "by", actor, "because", reason)
	_, err = w.redrive(ctx, w.parked.sequence(l.Keys), false)
	return err
}
