package deed

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// An instanceRunner does what instances of processes and sagas have to do by
// themselves, in one partition: it lets timers go off, and does the steps that
// do something outside. As a follower it only keeps account of which instance
// has to be looked at when; beside that it looks.
type instanceRunner struct {
	rt      *Runtime
	queue   workQueue
	outside workQueue // of these, the ones that have something to do outside; they stay in the other queue, too

	batch map[string]time.Time // when to look at instances, as of the records since the last Flush; zero: never
	open  map[string]hurried   // instances that have something to do at once

	mu    sync.Mutex
	noted map[string]bool // instances that have a document, as far as is known
	all   bool            // all that have one are known
}

// wakingColl has a document for each instance that has to be looked at some
// time, so that whoever takes a partition over knows.
const wakingColl = "$pending/instances"

// waking is such a document.
type waking struct {
	At time.Time `json:"at"`
}

// instanceRunnerName is the follower that does what instances have to do.
const instanceRunnerName = "instance-runner"

func (rt *Runtime) newInstanceRunner() *instanceRunner {
	return &instanceRunner{
		rt: rt, queue: newWorkQueue(), outside: newWorkQueue(),
		batch: map[string]time.Time{}, open: map[string]hurried{}, noted: map[string]bool{},
	}
}

func (r *instanceRunner) Keys(rec store.Record) []string { return []string{rec.Stream} }

// Handle notes when an instance has to be looked at. If this process knows more of
// it, what follows from that counts: its record comes too.
func (r *instanceRunner) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	if r.rt.knowsMore(rec.Stream, rec.Version) {
		return nil
	}
	var e struct {
		Wake time.Time `json:"wake_at"`
	}
	if err := wire.Unmarshal(rec.Data, &e); err != nil {
		return engine.Permanent(err)
	}
	now := r.rt.cfg.Now()
	if r.batch[rec.Stream] = e.Wake; !e.Wake.IsZero() && !e.Wake.After(now) && r.leaveOpen(tx, rec.Stream, now) {
		delete(r.batch, rec.Stream)
	}
	r.look(rec.Stream, e.Wake, rec.Version)
	return nil
}

// look has an instance looked at when it says so in a version of its stream.
func (r *instanceRunner) look(stream string, at time.Time, version uint64) {
	switch {
	case at.IsZero():
		r.queue.drop(stream)
	case !at.After(r.rt.cfg.Now()):
		r.queue.put(stream, time.Time{}, version)
	default:
		r.queue.put(stream, at, version)
	}
}

// hurry is how long an instance that has something to do at once may be on its
// way without that being written down. Most are done with by then; until they
// are, the follower's checkpoint stays before the record that says so.
const hurry = time.Second

// hurried is an instance in a hurry.
type hurried struct {
	since time.Time
	noted bool // it has a document after all
}

// leaveOpen reports whether an instance in a hurry needs no document for now.
func (r *instanceRunner) leaveOpen(tx *engine.Tx, stream string, now time.Time) bool {
	if !tx.Open(stream) {
		return false
	}
	if _, known := r.open[stream]; !known {
		r.open[stream] = hurried{since: now}
	}
	return true
}

// Settled implements [engine.Settler]. What is not in the queue any more is done:
// another record tells what is to be done next, if anything. What a record said
// does not matter any more when a later one was written down.
func (r *instanceRunner) Settled(stream string) bool {
	h, hurries := r.open[stream]
	return !hurries || h.noted || !r.queue.has(stream)
}

// Flush writes down what has to be looked at, but for what is done with in a
// moment.
func (r *instanceRunner) Flush(_ context.Context, tx *engine.Tx) error {
	r.overdue()
	r.mu.Lock()
	defer r.mu.Unlock()
	for stream, at := range r.batch {
		if at.IsZero() {
			if !r.all || r.noted[stream] {
				if err := tx.Delete(wakingColl, stream); err != nil {
					return err
				}
			}
			delete(r.noted, stream)
			continue
		}
		data, err := json.Marshal(waking{at})
		if err != nil {
			return err
		}
		if err := tx.Put(wakingColl, stream, data); err != nil {
			return err
		}
		r.noted[stream] = true
	}
	clear(r.batch)
	return nil
}

// overdue adds to the batch what was in a hurry and is still not done.
func (r *instanceRunner) overdue() {
	now := r.rt.cfg.Now()
	for stream, h := range r.open {
		switch _, later := r.batch[stream]; {
		case later || !r.queue.has(stream):
			delete(r.open, stream)
		case !h.noted && now.Sub(h.since) > hurry:
			r.batch[stream], h.noted = now, true
			r.open[stream] = h
		}
	}
}

// Reset forgets what is written down: a batch that was given up may have been
// about to change that.
func (r *instanceRunner) Reset() {
	clear(r.batch)
	for stream, h := range r.open {
		r.open[stream] = hurried{since: h.since}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = false
}

// outHand is how many instances of a partition do something outside at the same
// time. It is more than those in hand: outside takes long now and then.
const outHand = 256

// Keep looks at instances, a number of them at a time. Those that do something
// outside do not keep the others waiting.
func (r *instanceRunner) Keep(ctx context.Context, mine func(stream string) bool) {
	r.takeOver(ctx, mine)
	r.rt.runners.add(r, mine)
	defer r.rt.runners.remove(r)
	var both sync.WaitGroup
	serve := func(q *workQueue, atOnce int, handle func(context.Context, string, uint64)) {
		// The clock may be set meanwhile.
		q.work(ctx, atOnce, r.rt.cfg.Now, r.rt.cfg.Poll, func(stream string, version uint64) { handle(ctx, stream, version) })
	}
	both.Go(func() { serve(&r.outside, outHand, r.handleOutside) })
	serve(&r.queue, inHand, r.handle)
	both.Wait()
}

// takeOver finds out what was left to do when the partition was taken. What this
// process knows of instances may be from a time before others looked after them.
func (r *instanceRunner) takeOver(ctx context.Context, mine func(stream string) bool) {
	r.rt.instances.forget(ctx, mine)
	r.rt.persist(ctx, "instances to be looked at cannot be read", func() error {
		for d, err := range r.rt.store.List(ctx, wakingColl, "", "") {
			if err != nil {
				return err
			}
			if !mine(d.Key) {
				continue
			}
			var w waking
			if err := json.Unmarshal(d.Data, &w); err != nil {
				return err
			}
			r.mu.Lock()
			r.noted[d.Key] = true
			r.mu.Unlock()
			r.look(d.Key, w.At, latest)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = true
		return nil
	})
}

// handle does what there is to do about one instance, as far as that is
// possible now, and leaves it to others if that is something outside.
func (r *instanceRunner) handle(ctx context.Context, stream string, version uint64) {
	next, seen, err := r.rt.goOn(ctx, stream, version, false)
	if errors.Is(err, errOutside) {
		r.outside.put(stream, time.Time{}, seen)
		return
	}
	r.handled(ctx, stream, next, seen, err)
}

func (r *instanceRunner) handleOutside(ctx context.Context, stream string, version uint64) {
	next, seen, err := r.rt.goOn(ctx, stream, version, true)
	r.outside.done(stream, time.Time{}, true, seen)
	r.handled(ctx, stream, next, seen, err)
}

// handled puts an instance back into the queue, if there is more to do about it.
func (r *instanceRunner) handled(ctx context.Context, stream string, next time.Time, seen uint64, err error) {
	switch {
	case ctx.Err() != nil:
		next = r.rt.cfg.Now()
	case errors.Is(err, errNoInstance):
		err = nil
	case err != nil:
		wait := r.queue.failed(stream)
		next = r.rt.cfg.Now().Add(wait)
		r.rt.cfg.Logger.Warn(strings.TrimPrefix(store.Category(stream), "$")+" waits", slog.String("stream", stream), slog.Any("error", err))
	}
	r.queue.done(stream, next, err == nil, seen)
}

// runners are the partitions that this process looks after.
type runners struct {
	mu  sync.Mutex
	all map[*instanceRunner]func(stream string) bool
}

func (s *runners) add(r *instanceRunner, mine func(string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*instanceRunner]func(string) bool{}
	}
	s.all[r] = mine
}

func (s *runners) remove(r *instanceRunner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, r)
}

// has reports whether this process looks after an instance.
func (s *runners) has(stream string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mine := range s.all {
		if mine(stream) {
			return true
		}
	}
	return false
}

// offer tells the runner of an instance's partition what its follower is going
// to learn from the log a moment later.
func (s *runners) offer(stream string, at time.Time, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, mine := range s.all {
		if mine(stream) {
			r.look(stream, at, version)
		}
	}
}
