package deed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Timing of jobs.
const (
	jobLease = 30 * time.Second       // after which another node goes on with a job of a silent one
	jobSave  = 500 * time.Millisecond // how often it is said how far a job has come
	jobPut   = 2 * time.Second        // how long that may take
	jobChunk = 256                    // letters at once
	jobLook  = 200 * time.Millisecond // how often it is looked what came of a letter that takes its time
	jobWait  = 10 * time.Minute       // how long that may be
)

// letterJobs does the jobs that are stored: each by one node, in its own time.
type letterJobs struct {
	rt   *Runtime
	name string // of this process
	kick chan struct{}

	mu     sync.Mutex
	active map[string]bool // those that this node does
}

// wake has it look for jobs now.
func (l *letterJobs) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run does jobs until ctx ends. Then it gives them up, for whoever starts next.
func (l *letterJobs) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(l.rt.cfg.Poll)
	defer tick.Stop()
	for {
		if err := l.begin(ctx, &all); err != nil && ctx.Err() == nil {
			l.rt.cfg.Logger.Warn("redrives cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.kick:
		}
	}
}

// begin does the jobs that nobody does.
func (l *letterJobs) begin(ctx context.Context, all *sync.WaitGroup) error {
	for doc, err := range l.rt.store.List(ctx, jobColl, "", "") {
		if err != nil {
			return err
		}
		j, err := parseJob(doc)
		if err != nil {
			return err
		}
		if others := store.IsShared(l.rt.store) && j.Node != "" && j.Node != l.name && time.Now().Before(j.Until); others || !l.take(j.ID) {
			continue
		}
		all.Go(func() {
			defer l.leave(j.ID)
			d := &jobDoer{jobs: l, storedJob: j, rev: doc.Rev}
			if err := d.do(ctx); err != nil && ctx.Err() == nil && !isConflict(err) {
				l.rt.cfg.Logger.Warn("a redrive waits", "job", j.ID, "error", err)
			}
		})
	}
	return nil
}

func (l *letterJobs) take(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active[id] {
		return false
	}
	l.active[id] = true
	return true
}

func (l *letterJobs) leave(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.active, id)
}

// end stores that a job is over.
func (l *letterJobs) end(ctx context.Context, j *storedJob, rev uint64) error {
	j.Ended, j.Node, j.Until = time.Now().UTC(), "", time.Time{}
	data, err := wire.Marshal(j)
	if err != nil {
		return err
	}
	return l.rt.store.Write(ctx, store.Change{Coll: jobColl, Key: j.ID, Rev: rev}, store.Change{Coll: jobEndedColl, Key: j.ID, Rev: store.AnyRev, Data: data})
}

// jobDoer does one job. Whoever else changes what is stored of it, to cancel it or
// because this node was silent for too long, has it stop: what it stores then is a
// conflict.
type jobDoer struct {
	jobs *letterJobs
	storedJob
	rev   uint64
	saved time.Time
	skip  map[string]error // followers of which nothing can be redriven now
}

// errStopped ends a job for a reason that is stored.
var errStopped = errors.New("deed: the job is stopped")

func (d *jobDoer) do(ctx context.Context) error {
	d.skip = map[string]error{}
	d.Node = d.jobs.name
	err := d.save(ctx, true)
	if err == nil && d.First && !d.Passed {
		err = d.first(ctx)
	}
	if err == nil {
		err = d.rest(ctx)
	}
	switch {
	case err == nil:
		d.State = JobDone
	case errors.Is(err, errStopped):
		d.State = JobStopped
	case ctx.Err() != nil:
		d.Until = time.Time{}
		return errors.Join(err, d.put(ctx))
	default:
		return err
	}
	return d.jobs.end(ctx, &d.storedJob, d.rev)
}

// save says how far the job has come, now and then or at once.
func (d *jobDoer) save(ctx context.Context, now bool) error {
	if !now && time.Since(d.saved) < jobSave {
		return nil
	}
	d.Until = time.Now().Add(jobLease).UTC()
	return d.put(ctx)
}

// put stores the job. A node that stops does not break that off, as nobody would
// know whether it is stored, and it could not give the job up.
func (d *jobDoer) put(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobPut)
	defer cancel()
	data, err := wire.Marshal(d.storedJob)
	if err != nil {
		return err
	}
	if err := d.jobs.rt.store.Write(ctx, store.Change{Coll: jobColl, Key: d.ID, Rev: d.rev, Data: data}); err != nil {
		return err
	}
	d.rev++
	d.saved = time.Now()
	return nil
}

// first redrives one letter, and waits what comes of it.
func (d *jobDoer) first(ctx context.Context) error {
	letters := d.jobs.rt.DeadLetters()
	if d.FirstID == "" {
		some, err := d.next(ctx, 1)
		if err != nil || len(some) == 0 {
			return err
		}
		d.FirstID, d.Since = some[0].ID, time.Now().UTC()
		if err := d.save(ctx, true); err != nil {
			return err
		}
	}
	p, key, err := letters.placeOf(ctx, d.FirstID)
	if errors.Is(err, ErrNoDeadLetter) {
		return d.stop("the first one, %s, is gone with its follower", d.FirstID)
	}
	for err == nil {
		var over bool
		if over, err = d.tryFirst(ctx, p, key); over {
			d.Passed = true
			return d.save(ctx, true)
		}
		switch {
		case err != nil:
		case time.Since(d.Since) > jobWait:
			err = d.stop("nobody knows what came of the first one, %s, after %v", d.FirstID, jobWait)
		default:
			err = d.pause(ctx, jobLook)
		}
	}
	return err
}

// tryFirst redrives the first letter if it is there, and reports whether it was
// handled. One that was not ends the job.
func (d *jobDoer) tryFirst(ctx context.Context, p letterPlace, key string) (over bool, err error) {
	if key != "" {
		return d.tryMessage(ctx, *p.queue, key)
	}
	out, err := d.jobs.rt.engine.RedriveSome(ctx, p.follower, []string{d.FirstID})
	d.Handled += out.Handled
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, ErrNotRunning), errors.Is(err, ErrNoFollower):
		return false, d.stop("the first one, %s, could not be tried: %v", d.FirstID, err)
	case err != nil:
		return false, err
	case len(out.Failed) > 0:
		d.Failed++
		d.Failure = clip(out.Failure.Error())
		return false, d.stop("the first one, %s, failed again: %v", d.FirstID, out.Failure)
	case len(out.Untried) > 0 && engine.IsAway(out.Failure):
		return false, d.stop("the place of %s is away: %v", p.follower, out.Failure)
	}
	return len(out.Untried) == 0, nil
}

// tryMessage makes the first message open, and reports whether a consumer has
// completed it.
func (d *jobDoer) tryMessage(ctx context.Context, q Queue, key string) (over bool, err error) {
	m, err := q.letter(ctx, key)
	switch {
	case err == nil && d.Handled > 0:
		d.Handled-- // it was open again, and that came of it
		d.Failed++
		d.Failure = clip(m.Reason)
		return false, d.stop("the first one, %s, is a dead letter again: %s", d.FirstID, m.Reason)
	case err == nil:
		if err := q.reopen(ctx, m); err != nil && !errors.Is(err, ErrLockLost) {
			return false, err
		}
		d.Handled++
		return false, d.save(ctx, true)
	case !errors.Is(err, ErrNoDeadLetter):
		return false, err
	}
	_, err = q.get(ctx, q.coll(), key)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// stop ends the job for a reason.
func (d *jobDoer) stop(format string, args ...any) error {
	d.Why = clip(fmt.Sprintf(format, args...))
	return errStopped
}

// rest does to all letters what is to be done.
func (d *jobDoer) rest(ctx context.Context) error {
	begun, before := time.Now(), d.Handled+d.Failed
	for {
		chunk := jobChunk
		if d.Rate > 0 {
			chunk = int(min(max(d.Rate/4, 1), jobChunk))
		}
		some, err := d.next(ctx, chunk)
		if err != nil || len(some) == 0 {
			return err
		}
		for len(some) > 0 {
			n := slices.IndexFunc(some, func(l DeadLetter) bool {
				return l.Follower != some[0].Follower || (l.Kind == engine.KindQueue) != (some[0].Kind == engine.KindQueue)
			})
			if n < 0 {
				n = len(some)
			}
			if err := d.these(ctx, some[:n]); err != nil {
				return err
			}
			d.Mark = some[n-1].ID
			some = some[n:]
			if err := d.save(ctx, false); err != nil { // a follower may be waited for
				return err
			}
		}
		if d.Rate > 0 {
			due := begun.Add(time.Duration(float64(d.Handled+d.Failed-before) / d.Rate * float64(time.Second)))
			for wait := time.Until(due); wait > 0; wait = time.Until(due) {
				if err := d.pause(ctx, min(wait, jobSave)); err != nil {
					return err
				}
			}
		}
	}
}

// next returns the next letters that the job is about: those that had failed when
// it began. What failed since then, because the job tried it or by itself, it does
// not try again.
func (d *jobDoer) next(ctx context.Context, limit int) (some []DeadLetter, err error) {
	letters := d.jobs.rt.DeadLetters()
	for l, err := range letters.each(ctx, d.LetterFilter, d.Mark) {
		if errors.Is(err, ErrNoFollower) || errors.Is(err, ErrNoSubscription) {
			return nil, d.stop("%v", err) // it has gone since the job began
		}
		if err != nil {
			return nil, err
		}
		if l.Fingerprint == "" || l.Kind != engine.KindQueue && l.LastAt.After(d.Begun) {
			continue
		}
		if some = append(some, l); len(some) == limit {
			break
		}
	}
	return some, nil
}

// these does to some letters of one follower, or messages of one queue, what is to
// be done.
func (d *jobDoer) these(ctx context.Context, some []DeadLetter) error {
	name := some[0].Follower
	if d.skip[name] != nil {
		d.failed(len(some), d.skip[name])
		return nil
	}
	var ids, keys []string
	for _, l := range some {
		ids = append(ids, l.ID)
		if _, key, ok := parseQueueLetterID(l.ID); ok {
			keys = append(keys, key)
		}
	}
	var q *Queue
	if len(keys) > 0 {
		p, _, err := d.jobs.rt.DeadLetters().placeOf(ctx, ids[0])
		if errors.Is(err, ErrNoDeadLetter) {
			return nil // the queue is gone
		}
		if err != nil {
			return err
		}
		q = p.queue
	}
	var err error
	switch {
	case d.Do == DoDiscard:
		err = d.discard(ctx, q, name, ids, keys)
	case q != nil:
		out, failure := q.redriveSome(ctx, keys)
		d.Handled += out.Handled
		err = failure
	default:
		err = d.redrive(ctx, name, ids)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoFollower) {
		d.skip[name] = err
		d.failed(len(some), err)
		return nil
	}
	return err
}

func (d *jobDoer) discard(ctx context.Context, q *Queue, name string, ids, keys []string) error {
	var n int
	var err error
	if q != nil {
		n, err = q.discardSome(ctx, keys, d.Reason, d.By)
	} else {
		n, err = d.jobs.rt.engine.DiscardSome(ctx, name, ids, d.Reason, d.By)
	}
	d.Discarded += n
	return err
}

// redrive redrives letters of a follower until it is known of each what came of it.
func (d *jobDoer) redrive(ctx context.Context, name string, ids []string) error {
	for until := time.Now().Add(jobWait); len(ids) > 0; {
		out, err := d.jobs.rt.engine.RedriveSome(ctx, name, ids)
		d.Handled += out.Handled
		if len(out.Failed) > 0 {
			d.failed(len(out.Failed), out.Failure)
		}
		if err != nil {
			return err
		}
		switch {
		case engine.IsAway(out.Failure):
			return d.stop("the place of %s is away: %v", name, out.Failure)
		case out.Handled+len(out.Failed) == 0 && out.Failure != nil && !engine.IsOngoing(out.Failure):
			d.failed(len(out.Untried), out.Failure) // they wait behind others that this is not about
			return nil
		case time.Now().After(until):
			d.failed(len(out.Untried), fmt.Errorf("%s: nobody knows what came of it after %v", out.Untried[0], jobWait))
			return nil
		}
		if ids = out.Untried; len(ids) > 0 {
			if err := d.pause(ctx, jobLook); err != nil {
				return err
			}
		}
	}
	return nil
}

// failed counts letters that were not handled.
func (d *jobDoer) failed(n int, why error) {
	d.Failed += n
	if d.Failure == "" && why != nil {
		d.Failure = clip(why.Error())
	}
}

// pause waits, and says that the job goes on.
func (d *jobDoer) pause(ctx context.Context, wait time.Duration) error {
	pauseFor(ctx, wait)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return d.save(ctx, false)
}
