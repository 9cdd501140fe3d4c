package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// A request is an append, and afterwards what it has written.
type request struct {
	groupcommit.Request
	writes  []store.Write
	times   []time.Time // of imported events
	written []store.Written
}

// Bounds of what is written together. More would make those in it wait longer
// than sharing is worth.
const (
	maxBatch      = 1000
	maxBatchBytes = 8 << 20
	cachedHeads   = 1 << 16
)

// A writer puts what waits into atomic batches, one after the other. There
// is one in each process; all its methods are called by one goroutine.
//
// A batch states the last sequence of the whole log, and of each stream in it
// (the writer knows them by heart, and asks when it does not). So JetStream
// takes a batch only if nobody else has written meanwhile. That makes three
// things certain: the verdicts in it are right, time never goes back, and a
// batch whose answer was lost can be sent again.
type writer struct {
	s       *Store
	known   bool   // where the log ends
	last    uint64 // its last sequence
	time    int64  // of its last record, in microseconds
	heads   *simplelru.LRU[string, head]
	fresh   map[string]head // heads as they were since what is being served began to wait
	careful bool            // even what must be new is asked for
}

// A head is the end of a stream.
type head struct{ version, seq uint64 }

// submit has the writer do what is asked, in this order.
func (s *Store) submit(ctx context.Context, requests ...*request) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.queue.Submit(ctx, requests...)
}

// write is the writer's goroutine.
func (s *Store) write() {
	defer close(s.done)
	heads, _ := simplelru.NewLRU[string, head](cachedHeads, nil) // fails only for sizes below 1
	w := &writer{s: s, heads: heads}
	for {
		select {
		case r := <-s.queue.Next():
			n := 0
			w.serve(s.queue.Gather(r, func(*request) bool { n++; return n >= maxBatch }))
		case <-s.closing:
			return
		}
	}
}

// serve gives every request its verdict.
func (w *writer) serve(requests []*request) {
	ctx, cancel := context.WithTimeout(w.s.ctx, w.s.opts.Timeout)
	defer cancel()
	w.fresh, w.careful = map[string]head{}, false
	alone := false // one request at a time
	for len(requests) > 0 {
		p, err := w.plan(ctx, requests, alone)
		if err != nil {
			fail(requests, err)
			return
		}
		err = w.commit(ctx, p)
		switch {
		case err == nil:
			p.settle()
			requests = p.later
		case errors.Is(err, errMoved):
			if err := w.again(ctx); err != nil {
				fail(requests, err)
				return
			}
		case len(p.members) == 1 || errors.Is(err, store.ErrUnknown):
			p.fail(err)
			requests = p.later
		default:
			alone = true // one that cannot be written must not take others with it
		}
	}
}

// fail tells requests that nothing was written.
func fail(requests []*request, err error) {
	for _, r := range requests {
		r.Answer(err)
	}
}

// again forgets what another writer has made untrue. If the log has not moved,
// it was the head of a stream that the writer did not know.
func (w *writer) again(ctx context.Context) error {
	last := w.last
	if err := w.reload(ctx); err != nil {
		return err
	}
	if w.last == last {
		w.heads.Purge()
		w.careful = true
	}
	clear(w.fresh)
	select {
	case <-time.After(rand.N(5 * time.Millisecond)): // the other goes first
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: jetstream: %s: others write all the time", store.ErrUnavailable, w.s.subjects.log())
	}
}

// reload reads where the log ends.
func (w *writer) reload(ctx context.Context) error {
	p, err := w.s.end(ctx)
	if err != nil {
		return w.unavailable(err)
	}
	w.known, w.last, w.time = true, p.Position.Seq, 0
	if w.last > 0 {
		w.time = p.Time.UnixMicro()
	}
	return nil
}

// unavailable is what an error means before anything was written.
func (w *writer) unavailable(err error) error {
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: jetstream: %s", store.ErrUnavailable, quote(err))
}

// commit writes a plan. It goes on until it knows what happened: a batch can
// be sent again, because JetStream takes it only in one place.
func (w *writer) commit(ctx context.Context, p *plan) error {
	if len(p.events) == 0 {
		return nil
	}
	if !w.known {
		if err := w.reload(ctx); err != nil {
			return err
		}
	}
	p.place(w.last, max(w.s.opts.Now().UnixMicro(), w.time))
	attempt, lost := nuid.Next(), false
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		seq, err := w.s.publish(ctx, w.messages(p, attempt))
		if err == nil && seq != p.last() {
			return fmt.Errorf("%w: jetstream: %s: acknowledged at %d instead of %d", store.ErrCorrupt, w.s.subjects.log(), seq, p.last())
		}
		lost = lost || errors.Is(err, errLost)
		if lost && err != nil {
			err = w.happened(ctx, p, attempt, err)
		}
		switch {
		case err == nil:
			w.advance(p)
			return nil
		case !errors.Is(err, errTransient):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return w.gaveUp(lost, err)
		}
	}
}

// gaveUp is the error of a batch after trying for long enough.
func (w *writer) gaveUp(lost bool, err error) error {
	w.known = false
	if lost {
		return fmt.Errorf("%w: jetstream: %s", store.ErrUnknown, quote(err))
	}
	if w.s.closed() {
		return errClosed
	}
	return fmt.Errorf("%w: jetstream: %s: no answer within %v: %s", store.ErrUnavailable, w.s.subjects.log(), w.s.opts.Timeout, quote(err))
}

// happened finds out what became of a plan of which an answer was lost. What
// is in its place decides: nothing (it may be sent again), the plan itself, or
// another's (then it can never be written).
func (w *writer) happened(ctx context.Context, p *plan, attempt string, err error) error {
	m, e := w.s.leaderGet(ctx, w.s.subjects.log(), getRequest{Seq: p.base + 1})
	switch {
	case e != nil:
		return fmt.Errorf("%w: %s, %s", errTransient, quote(err), quote(e))
	case m.seq == 0:
		return fmt.Errorf("%w: %s", errTransient, quote(err))
	case m.header.Get(headBatch) == attempt:
		return nil
	}
	return errMoved
}

// messages makes what is published of a plan: what is demanded of streams
// that are only looked at, then the records. The first message states where
// the log must end, the first of each stream where the stream must.
func (w *writer) messages(p *plan, attempt string) []*nats.Msg {
	msgs := make([]*nats.Msg, 0, len(p.checks)+len(p.events))
	for _, c := range p.checks {
		m := nats.NewMsg(w.s.subjects.check())
		m.Header[headSubject] = []string{w.s.subjects.stream(c.stream)}
		m.Header[headSubjectLast] = []string{strconv.FormatUint(c.seq, 10)}
		msgs = append(msgs, m)
	}
	for i := range p.events {
		e := &p.events[i]
		m := w.s.encode(&e.place)
		if e.first {
			m.Header[headSubjectLast] = []string{strconv.FormatUint(e.prev, 10)}
		}
		msgs = append(msgs, m)
	}
	msgs[0].Header[headLast] = []string{strconv.FormatUint(p.base, 10)}
	msgs[0].Header[headBatch] = []string{attempt}
	return msgs
}

// note remembers where a stream ends now.
func (w *writer) note(stream string, h head) {
	w.heads.Add(stream, h)
	w.fresh[stream] = h
}

// advance notes what was written, and tells everybody.
func (w *writer) advance(p *plan) {
	w.last, w.time = p.last(), p.latest()
	for stream, h := range p.heads {
		if h.touched {
			w.note(stream, head{h.version, p.seq(h.entry)})
		}
	}
	saw(&w.s.seen, w.last)
	w.s.announce()
	// Only a hint: who does not get it looks now and then anyway.
	_ = w.s.nc.Publish(w.s.subjects.wake(), nil)
}
