package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/deed-dev/deed/store"
)

// A BatchHandler is a Handler that takes in many records at once, in whatever
// order it likes but for those that share a key: it delivers them to somewhere
// else, which takes its time.
type BatchHandler interface {
	Handler
	// HandleAll takes in records, and returns what came of each: nil, or an
	// error as Handle would return it, or one of those below. After a record
	// that failed it must not take in a later one that shares a key with it.
	HandleAll(ctx context.Context, tx *Tx, recs []store.Record) []error
}

// A Preparer is a Handler that can do some of its work on records before it is
// their turn. That is done beside the handling of those before them, by another
// goroutine, and may be in vain.
type Preparer interface {
	Prepare(recs []store.Record)
}

// What else may come of a record that a BatchHandler was given.
var (
	// ErrBehind says that it was not tried: an earlier one of its sequence failed.
	ErrBehind = errors.New("engine: an earlier event of its sequence failed")
	// ErrNotYet says that it was not tried: time was up.
	ErrNotYet = errors.New("engine: not tried yet")
)

// Safely calls f, and makes an error of a panic as a worker does: for a BatchHandler
// that works in goroutines of its own.
func Safely(f func() error) error { return safely(f) }

// A delayed error says when its record is to be tried again, besides what the
// follower's Retry says.
type delayed struct {
	error
	wait    time.Duration
	ongoing bool
}

func (d *delayed) Unwrap() error { return d.error }

// AtLeast has a record that failed tried again after some time, or later if
// the follower's Retry says so.
func AtLeast(err error, wait time.Duration) error { return &delayed{error: err, wait: wait} }

// Ongoing says that it is not known yet what comes of a record. It is parked
// as if it had failed, so that others need not wait for it, and asked for again
// after some time; but that is no attempt, unless it has lasted a day.
func Ongoing(err error, wait time.Duration) error { return &delayed{err, wait, true} }

// longestOngoing is for how long nobody needs to know what comes of a record.
const longestOngoing = 24 * time.Hour

// IsOngoing reports whether an error is marked by [Ongoing].
func IsOngoing(err error) bool {
	d, ok := errors.AsType[*delayed](err)
	return ok && d.ongoing
}

// Away says that the record was not tried, because the place that records go
// to is away: the follower waits for it, and parks nothing. It says why it is
// so, and for how long at least.
func Away(err error, wait time.Duration) error { return &away{err, wait} }

type away struct {
	error
	wait time.Duration
}

func (a *away) Unwrap() error { return a.error }

// IsAway reports whether an error is marked by [Away].
func IsAway(err error) bool {
	_, ok := errors.AsType[*away](err)
	return ok
}

const (
	// shortestAway is how long a follower waits at least for a place that is away.
	shortestAway = 20 * time.Millisecond
	// lookWhileAway is how often it looks meanwhile how much there is to deliver.
	lookWhileAway = 2 * time.Second
	// brieflyAway is how long a place is away at most while one record is tried before
	// others. Whoever asked for a redrive waits for that.
	brieflyAway = 100 * time.Millisecond
)

// handleAll is handle for a BatchHandler: what is settled at the beginning of a
// batch is committed, and the rest is kept for the next time. The handler
// remembers what it has done of the rest.
func (w *worker) handleAll(ctx context.Context, b batch, h BatchHandler) error {
	p := pass{tx: newTx(w.f.store)}
	free := w.free(b.recs)
	errs, err := w.tellAll(ctx, p.tx, h, free)
	if err != nil {
		return err
	}
	next := 0
	for i := range b.recs {
		rec := &b.recs[i]
		switch {
		case next < len(free) && rec.Position == free[next].Position:
			if p.err = w.settle(ctx, &p, rec, errs[next]); p.err == nil {
				next++
			}
		case !skips(w.past, rec):
			p.parked.add(newLetter(w.f.Name, *rec, w.keys(*rec), time.Now()))
		}
		if p.err != nil {
			break
		}
		p.taken++
	}
	if p.taken > 0 || len(b.recs) == 0 {
		if err := w.finish(ctx, b, b.recs[p.taken:], p); err != nil {
			return err
		}
	} else {
		w.rest = b
	}
	if errors.Is(p.err, ErrNotYet) {
		return nil
	}
	if a, ok := errors.AsType[*away](p.err); ok {
		w.blocked(ctx, a)
		return nil
	}
	return p.err
}

// free returns the records of a batch that wait behind nothing: all of them, as
// a rule.
func (w *worker) free(recs []store.Record) (out []store.Record) {
	all := w.parked.empty()
	for i := range recs {
		all = all && !skips(w.past, &recs[i])
	}
	if all {
		return recs
	}
	var behind letterList
	for i := range recs {
		rec := &recs[i]
		if skips(w.past, rec) {
			continue
		}
		if !w.parked.empty() {
			if keys := w.keys(*rec); w.parked.blocks(keys) || behind.blocks(keys) {
				behind.block(keys)
				continue
			}
		}
		out = append(out, *rec)
	}
	return out
}

// tellAll gives records to the handler. A panic is held against the first of
// those records that it has not settled, which is found one by one.
func (w *worker) tellAll(ctx context.Context, tx *Tx, h BatchHandler, recs []store.Record) (errs []error, err error) {
	if len(recs) == 0 {
		return nil, nil
	}
	failure := safely(func() error { errs = h.HandleAll(ctx, tx, recs); return nil })
	switch {
	case failure == nil && len(errs) == len(recs):
		return errs, nil
	case failure == nil:
		return nil, fmt.Errorf("engine: %s says of %d records what came of %d", w.f.Name, len(errs), len(recs))
	case len(recs) == 1:
		return []error{failure}, nil
	}
	errs = make([]error, len(recs))
	for i := range recs {
		errs[i] = ErrNotYet
	}
	one, err := w.tellAll(ctx, tx, h, recs[:1])
	if err == nil {
		errs[0] = one[0]
	}
	return errs, err
}

// settle notes what came of a record. It returns an error if nothing did, and
// the record stays to be handled.
func (w *worker) settle(ctx context.Context, p *pass, rec *store.Record, err error) error {
	switch {
	case err == nil:
		p.handled++
	case errors.Is(err, ErrNotYet), IsAway(err), w.isOurs(ctx, p.tx, err):
		return err
	case errors.Is(err, ErrBehind):
		p.parked.add(newLetter(w.f.Name, *rec, w.keys(*rec), time.Now()))
	default:
		p.parked.add(w.failed(*rec, err))
	}
	return nil
}

// blocked waits for a place that is away, or until somebody asks something.
// Meanwhile it tells how much there is to deliver.
func (w *worker) blocked(ctx context.Context, a *away) {
	w.mu.Lock()
	w.told()
	w.state, w.lastError, w.errorAt = StateBlocked, reasonOf(a), time.Now()
	w.mu.Unlock()
	w.f.notify()
	for left := max(a.wait, shortestAway); left > 0; left -= lookWhileAway {
		w.lookAhead(ctx)
		if !w.sleep(ctx, min(left, lookWhileAway)) {
			return
		}
	}
}

// lookAhead finds out where the log ends.
func (w *worker) lookAhead(ctx context.Context) {
	head, err := w.f.store.Head(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.head = w.head.Join(head)
	if w.oldest.IsZero() && w.cursor.Behind(w.head) > 0 { // it was recorded since the last look
		w.oldest = time.Now()
	}
	w.mu.Unlock()
	w.f.notify()
}

// atOnce is how many dead letters are tried again together.
const atOnce = 256

// redriveAll is redrive for a BatchHandler: it tries letters again together,
// in one commit.
func (w *worker) redriveAll(ctx context.Context, h BatchHandler, sequence []*letter, force bool) (out outcome, err error) {
	start, failed := time.Now(), map[store.Position]bool{}
	for {
		again, pause, err := w.redriveSome(ctx, h, sequence, force, failed, &out)
		if err != nil || !again || !force || ctx.Err() != nil || time.Since(start) > askedRedrive {
			w.tell()
			return out, err
		}
		if pause > 0 {
			w.sleep(ctx, pause)
		}
		if IsAway(out.failure) {
			out.failure = nil
		}
		left := sequence[:0]
		for _, l := range sequence {
			if w.parked.find(l.pos) != nil {
				left = append(left, l)
			}
		}
		sequence = left
	}
}

// redriveSome tries some letters, and reports whether it may be worth trying those
// that are left, after a pause: some were handled, or could not be tried just then.
// Those that failed hold back what is behind them, and are not tried once more.
func (w *worker) redriveSome(ctx context.Context, h BatchHandler, sequence []*letter, force bool, failed map[store.Position]bool, out *outcome) (again bool, pause time.Duration, err error) {
	var held letterList
	var tried []*letter
	var recs []store.Record
	changes := []store.Change{}
	now := time.Now()
	for _, l := range sequence {
		ripe := force || l.State == StateWaiting || l.State == StateRetrying && !l.NextAt.After(now)
		if !ripe || failed[l.pos] || held.blocks(l.Keys) {
			held.block(l.Keys)
			continue
		}
		if len(tried) == atOnce {
			break
		}
		rec, failure, err := w.record(ctx, l)
		if err != nil {
			return false, 0, err
		}
		if failure != nil {
			held.block(l.Keys)
			failed[l.pos] = true
			if err := w.stillParked(ctx, l, failure); err != nil {
				return false, 0, err
			}
			continue
		}
		tried, recs = append(tried, l), append(recs, rec)
	}
	tx := newTx(w.f.store)
	errs, err := w.tellAll(ctx, tx, h, recs)
	if err != nil {
		return false, 0, err
	}
	var gone []*letter
	var replaced [][2]*letter
	var wait *away
	for i, l := range tried {
		failure := errs[i]
		if a, ok := errors.AsType[*away](failure); ok {
			wait = a
			continue
		}
		switch {
		case failure == nil:
			over, err := w.over(ctx, l)
			if err != nil {
				return false, 0, err
			}
			gone, changes = append(gone, l), append(changes, over...)
			continue
		case errors.Is(failure, ErrNotYet), errors.Is(failure, ErrBehind):
			continue
		case w.isOurs(ctx, tx, failure):
			return false, 0, failure
		}
		failed[l.pos] = true
		was, err := w.full(ctx, l)
		if err != nil {
			return false, 0, err
		}
		was.failed(failure, w.f.Retry, time.Now())
		change, err := was.saved(w.gen)
		if err != nil {
			return false, 0, err
		}
		changes, replaced = append(changes, change), append(replaced, [2]*letter{l, was})
		if out.failure == nil {
			out.failure = fmt.Errorf("%s: %w", l.ID, failure)
		}
	}
	if len(changes) > 0 {
		if err := w.commit(ctx, tx, w.cursor, changes...); err != nil {
			return false, 0, err
		}
	}
	for _, l := range gone {
		w.parked.remove(l)
		w.log.Info("handled at last", "id", l.ID, "attempts", l.Attempts+1)
	}
	for _, r := range replaced {
		level := slog.LevelWarn
		if r[1].Attempts == r[0].Attempts {
			level = slog.LevelDebug
		}
		w.log.Log(ctx, level, "still parked", "id", r[1].ID, "attempts", r[1].Attempts, "state", r[1].State, "reason", r[1].Reason)
		r[1].forget()
		w.parked.replace(r[0], r[1])
	}
	out.handled += len(gone)
	if wait != nil {
		if out.failure == nil {
			out.failure = wait
		}
		if !force {
			w.blocked(ctx, wait)
		}
		return wait.wait <= brieflyAway, wait.wait, nil
	}
	return len(gone) > 0, 0, nil
}
