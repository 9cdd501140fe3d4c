package deed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// An answer is what a query came to, as of a moment.
type answer struct {
	body  []byte
	no    error // the domain has no answer, for this reason
	reads *reads
	at    moment
	exact bool          // a fold of the log up to that moment comes to the same
	fixed bool          // it was asked of the past, and nothing can change it
	age   time.Duration // of what it rests on, if views have fallen behind and that is allowed
	when  time.Time     // it was so
}

// How an answer is come by.
const (
	// liveTries is how often a query is answered from views and streams as they
	// are now. If what it read has changed each time before it was done, the log
	// is folded up to a certain place.
	liveTries = 3
	// freshWait is how long a query waits for a view, unless its asking says.
	freshWait = 5 * time.Second
)

// ErrBehind reports that a view did not know in time what was recorded when a
// query was asked that reads it. Ask again, or allow the answer to be older.
var ErrBehind = errors.New("deed: a view that the query reads has fallen behind")

// An inquiry is a query that is being answered.
type inquiry struct {
	rt     *Runtime
	q      *question
	ask    func(context.Context, Reader) ([]byte, error)
	past   limit         // what it is asked of; none: of now
	wait   time.Duration // for views
	maxAge time.Duration // as old may the answer be
}

// answer gives an answer as of one moment: that of a fold of the log up to it.
func (x *inquiry) answer(ctx context.Context) (*answer, error) {
	if !x.past.none() {
		return x.ofPast(ctx)
	}
	var last *answer
	for range liveTries {
		from, err := x.rt.changes.now(ctx)
		if err != nil {
			return nil, err
		}
		a, err := x.live(ctx, from)
		if err != nil {
			return nil, err
		}
		to, err := x.rt.changes.now(ctx)
		if err != nil {
			return nil, err
		}
		same, err := x.rt.unchanged(ctx, a.reads, from, to)
		if err != nil {
			return nil, err
		}
		if a.at = to; same {
			a.exact = true
			return a, nil
		}
		if last = a; a.age > 0 || a.reads.unsure {
			break // it would be the same again
		}
	}
	if last.age > 0 || last.reads.handled() {
		return last, nil
	}
	return x.at(ctx, last.at)
}

// live answers from what can be read now, which has all that was recorded
// before a moment.
func (x *inquiry) live(ctx context.Context, from moment) (*answer, error) {
	a := &answer{at: from, when: x.rt.cfg.Now()}
	a.reads = newReads(func(ctx context.Context, v *view) (freshness, error) {
		return x.rt.fresh(ctx, v, from.cursor, x.wait, x.maxAge)
	})
	err := x.try(ctx, a, x.rt)
	a.age = a.reads.age
	return a, err
}

// at answers with a fold of the log up to a moment.
func (x *inquiry) at(ctx context.Context, at moment) (*answer, error) {
	a := &answer{at: at, exact: true, reads: newReads(nil), when: x.rt.cfg.Now()}
	return a, x.try(ctx, a, x.rt.AtPosition(at.cursor))
}

// asOf answers as of a moment in the past, from what can be read now if that is
// the same still. A view that knows no past is read as it is.
func (x *inquiry) asOf(ctx context.Context, at store.Cursor) (*answer, error) {
	from, known, err := x.rt.changes.since(ctx, at)
	if err != nil {
		return nil, err
	}
	if known {
		a, err := x.live(ctx, from)
		if err != nil {
			return nil, err
		}
		to, err := x.rt.changes.now(ctx)
		if err != nil {
			return nil, err
		}
		if a.exact, err = x.rt.wasSame(ctx, a.reads, from, to); a.exact || err != nil || a.reads.handled() {
			return a, err
		}
	}
	a, err := x.at(ctx, moment{cursor: at})
	if err == nil && a.reads.pastless {
		return x.live(ctx, moment{cursor: at})
	}
	return a, err
}

// ofPast answers as of what the inquiry is asked of.
func (x *inquiry) ofPast(ctx context.Context) (*answer, error) {
	from, err := x.rt.changes.now(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{at: from, exact: true, reads: newReads(nil), when: x.rt.cfg.Now()}
	switch {
	case x.past.position != "" && from.cursor.CoversAll(x.past.position):
		a.at.cursor, a.fixed = x.past.position, true
	case !x.past.time.IsZero():
		a.fixed = x.rt.changes.past(x.past.time)
	}
	return a, x.try(ctx, a, bounded{rt: x.rt, to: x.past})
}

// try asks the domain. An error is returned if it has nothing to do with what
// was recorded.
func (x *inquiry) try(ctx context.Context, a *answer, r Reader) error {
	err := x.safely(ctx, func(ctx context.Context) (err error) {
		a.body, err = x.ask(ctx, tracked{r, a.reads})
		return err
	})
	if _, no := saysNo(err); no {
		a.no, err = err, nil
	}
	return err
}

// safely calls what a domain has defined, which has a certain time.
func (x *inquiry) safely(ctx context.Context, f func(context.Context) error) (err error) {
	timed, cancel := context.WithTimeout(ctx, x.q.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			x.rt.cfg.Logger.Error("query panicked", slog.String("query", x.q.name), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = recovered(p, err)
		}
		if err != nil && ctx.Err() == nil && errors.Is(timed.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("the query %s took longer than %v: %w", x.q.name, x.q.timeout, err)
		}
	}()
	return f(timed)
}

// unchanged reports whether what was read at a moment, or between two, would be
// read the same at the later one.
func (rt *Runtime) unchanged(ctx context.Context, r *reads, from, to moment) (bool, error) {
	if moved, err := r.moved(ctx); moved || err != nil {
		return false, err
	}
	doubts, changed := rt.changes.compare(r, from, to)
	if changed || len(doubts) == 0 {
		return !changed, nil
	}
	for at, d := range doubts {
		belongs, err := rt.belongs(ctx, at, d, to)
		if belongs || err != nil {
			return false, err
		}
	}
	// What was looked at may be later than the moment it is about.
	now, err := rt.changes.now(ctx)
	return err == nil && !rt.changes.touchedAny(doubts, to, now), err
}

// wasSame reports whether what was read between two moments would have been read
// the same at the earlier one.
func (rt *Runtime) wasSame(ctx context.Context, r *reads, from, to moment) (bool, error) {
	if moved, err := r.moved(ctx); moved || err != nil {
		return false, err
	}
	doubts, changed := rt.changes.compare(r, from, to)
	if changed || len(doubts) > maxFolded {
		return false, nil
	}
	for at, d := range doubts {
		docs, err := at.view.then(ctx, rt.AtPosition(from.cursor), at.key)
		if err != nil {
			return false, err
		}
		for doc, err := range docs {
			if err != nil || doc.Key == at.key && d.concerns(doc) {
				return false, err
			}
		}
	}
	return true, nil
}

// maxFolded is how many documents are folded to spare a fold of all of them.
const maxFolded = 20

// concerns reports whether a document belongs in any of the selections.
func (d *doubt) concerns(doc store.Doc) bool {
	return slices.ContainsFunc(d.selections, func(s *selection) bool { return s.wants(doc) })
}

// belongs reports whether a document belongs in any of the selections it was not
// in before.
func (rt *Runtime) belongs(ctx context.Context, at documentKey, d *doubt, to moment) (bool, error) {
	if f, err := rt.fresh(ctx, at.view, to.cursor, freshWait, 0); err != nil || !f.whole {
		if errors.Is(err, ErrBehind) {
			return true, nil // whoever answers anew says so
		}
		return true, err
	}
	coll, err := at.view.current(ctx, rt)
	if err != nil {
		return false, err
	}
	doc, err := rt.store.Get(ctx, coll, at.key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return d.concerns(doc), nil
}

// fresh waits until a view knows what was recorded up to a cursor, unless it may
// be older.
func (rt *Runtime) fresh(ctx context.Context, v *view, to store.Cursor, wait, maxAge time.Duration) (f freshness, err error) {
	if maxAge > 0 {
		f.age, err = rt.ageOf(ctx, v, to)
		if err != nil || f.age > 0 && f.age <= maxAge {
			return f, err
		}
		f.age = 0
	}
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := rt.waitForView(timed, v, to); err != nil {
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		return f, fmt.Errorf("%w (%w): %s, after %v: %w", ErrBehind, store.ErrUnavailable, v.name, wait, err)
	}
	f.whole, err = rt.isWhole(ctx, v)
	return f, err
}

// waitForView returns when a view has taken in everything up to a cursor. One
// that event handlers write has no position of its own: then all of these are
// waited for, unless they run elsewhere.
func (rt *Runtime) waitForView(ctx context.Context, v *view, c store.Cursor) error {
	for _, f := range rt.writersOf(v) {
		for _, p := range c.Positions() {
			if err := rt.waitForFollower(ctx, f.Name, p); err != nil {
				return fmt.Errorf("deed: %w", err)
			}
		}
	}
	return nil
}

// writersOf returns the followers that write a view, or may, in this process.
func (rt *Runtime) writersOf(v *view) (all []engine.Follower) {
	for _, f := range rt.followers {
		if f.Name == v.follower || v.follower == "" && f.Kind == handlerKind && !f.Elsewhere {
			all = append(all, f)
		}
	}
	return all
}

// ageOf returns how long ago the first record was recorded that a view does not
// know and should; 0 = there is none.
func (rt *Runtime) ageOf(ctx context.Context, v *view, to store.Cursor) (time.Duration, error) {
	if v.follower == "" {
		return 0, nil
	}
	at := rt.followerCursor(v.follower)
	if at.CoversAll(to) {
		return 0, nil
	}
	for rec, err := range rt.store.ReadAll(ctx, at, store.Filter{Limit: 1}) {
		if err != nil {
			return 0, storeError(err)
		}
		return max(rt.cfg.Now().Sub(rec.Time), 1), nil
	}
	return 0, nil
}

// isWhole reports whether a view has all that it should: what is in dead letters
// is taken in some time, and nothing in the log says when; nor does it of what
// other processes do.
func (rt *Runtime) isWhole(ctx context.Context, v *view) (bool, error) {
	if v.follower == "" && rt.cfg.Guest {
		return false, nil
	}
	for _, f := range rt.writersOf(v) {
		parked, err := rt.engine.Parked(ctx, f.Name)
		if err != nil || len(parked) > 0 {
			return false, err
		}
	}
	return true, nil
}
