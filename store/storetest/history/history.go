// Package history checks a log against random histories: clients append to
// and read a few hot streams while the system is killed now and then, and
// afterwards everything they were told must fit together.
//
// Single streams are checked for linearizability with porcupine; what spans
// streams (atomicity, the order a follower sees, claims) is checked by
// walking the log. An operation whose answer was lost may have happened or
// not; the log itself says which, as etcd's robustness tests do it.
package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/deed-dev/deed/store"
)

// A System is the log under test.
type System interface {
	// Log is how clients reach it. A call whose answer a crash swallowed
	// fails with store.ErrUnknown; one that never got through with
	// store.ErrUnavailable.
	Log() store.Log
	// Crash kills the system and starts it again. Calls fail meanwhile.
	Crash() error
}

// Options shape a history.
type Options struct {
	Clients int // default 8
	Streams int // default 4
	Ops     int // of each client that get an answer, or lose it; default 15
	Crashes int // default 1; negative = none
}

// An op is something a client did.
type op struct {
	client    int
	call, ret int64
	writes    []store.Write   // an append, or
	stream    string          // a read
	written   []store.Written // what an append answered
	ids       []store.ID      // what a read answered
	err       error
}

// A run is one history being made.
type run struct {
	sys    System
	opts   Options
	prefix string
	start  store.Cursor
	clock  atomic.Int64
	crash  crash

	mu    sync.Mutex
	ops   []op
	tails [][]store.Record // what followers saw
}

// Check makes one history from a seed and returns what is wrong with it. The
// streams of histories with different names do not meet, so that one system
// can serve many.
func Check(ctx context.Context, sys System, name string, seed uint64, o Options) error {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.Clients, 8}, {&o.Streams, 4}, {&o.Ops, 15}, {&o.Crashes, 1}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	r := &run{sys: sys, opts: o, prefix: name}
	head, err := sys.Log().Head(ctx)
	if err != nil {
		return err
	}
	r.start = head
	if err := r.play(ctx, seed); err != nil {
		return err
	}
	log, err := r.finalLog(ctx)
	if err != nil {
		return err
	}
	return r.verify(log)
}

func (r *run) play(ctx context.Context, seed uint64) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	r.crash = crash{left: r.opts.Crashes, every: r.opts.Clients * r.opts.Ops / (max(r.opts.Crashes, 0) + 1), rnd: random(0), stop: stop}
	r.crash.next()

	var clients, followers sync.WaitGroup
	for c := range r.opts.Clients {
		clients.Go(func() { r.client(ctx, c, random(uint64(c)+10)) })
	}
	done := make(chan struct{})
	filters := []store.Filter{{Categories: []string{r.prefix}}, {Categories: []string{r.prefix}, Types: types}}
	r.tails = make([][]store.Record, len(filters))
	for i, f := range filters {
		followers.Go(func() { r.tails[i] = r.tail(ctx, done, f, random(uint64(i)+1)) })
	}
	clients.Wait()
	close(done)
	followers.Wait()
	return context.Cause(ctx)
}

// A crash is due after a random number of operations. The client whose turn
// it is kills the system; the others are in the middle of something then.
type crash struct {
	left  int // crashes still to come
	every int // operations, at most
	in    atomic.Int64
	rnd   *rand.Rand
	stop  context.CancelCauseFunc
}

func (c *crash) next() {
	if c.left > 0 {
		c.left--
		c.in.Store(int64(1 + c.rnd.IntN(c.every)))
	}
}

// perhaps crashes the system if it is time.
func (c *crash) perhaps(sys System) {
	if c.in.Add(-1) != 0 {
		return
	}
	if err := sys.Crash(); err != nil {
		c.stop(err) // nobody is going to get an answer
		return
	}
	c.next()
}

// client does random things with the streams, believing what it saw last. It
// goes on for as long as the system is down: what matters is what it does
// afterwards.
func (r *run) client(ctx context.Context, id int, rnd *rand.Rand) {
	belief := map[string]uint64{}
	for n := 0; n < r.opts.Ops && ctx.Err() == nil; {
		r.crash.perhaps(r.sys)
		if err := r.act(ctx, id, rnd, belief); errors.Is(err, store.ErrUnavailable) {
			pause(rnd)
			continue
		}
		n++
	}
}

// act does one random thing.
func (r *run) act(ctx context.Context, id int, rnd *rand.Rand, belief map[string]uint64) error {
	switch p := rnd.IntN(10); {
	case p < 5:
		return r.append(ctx, id, rnd, belief, write(rnd, belief, r.stream(rnd)))
	case p < 7:
		a, b := r.stream(rnd), r.stream(rnd)
		if a == b {
			b = r.own(id)
		}
		return r.append(ctx, id, rnd, belief, write(rnd, belief, a), write(rnd, belief, b))
	case p < 9:
		return r.claim(ctx, id, rnd, belief)
	}
	s := r.stream(rnd)
	ids, err := r.read(ctx, id, s)
	if err == nil {
		belief[s] = uint64(len(ids))
	}
	return err
}

// stream is one of the hot streams.
func (r *run) stream(rnd *rand.Rand) string {
	return fmt.Sprintf("%s/s-%d", r.prefix, rnd.IntN(r.opts.Streams))
}

// own is a stream that only one client writes to.
func (r *run) own(id int) string { return fmt.Sprintf("%s/own-%d", r.prefix, id) }

func write(rnd *rand.Rand, belief map[string]uint64, stream string) store.Write {
	w := store.Write{Stream: stream, Expect: store.Exactly(belief[stream])}
	if rnd.IntN(10) == 0 {
		w.Expect = store.Any
	}
	for range 1 + rnd.IntN(3) {
		w.Events = append(w.Events, event(rnd, typeDone))
	}
	return w
}

// The types of events. The last two are those of claims.
const (
	typeDone     = "done"
	typeTaken    = "taken"
	typeReleased = "released"
)

var types = []string{typeDone, typeTaken, typeReleased}

func event(rnd *rand.Rand, typ string) store.Event {
	e := store.Event{Type: typ, Data: []byte(`{}`)}
	for i := range e.ID {
		e.ID[i] = byte(rnd.Uint32())
	}
	return e
}

// append appends; if the answer is lost it may ask again, which must do
// nothing twice. (An append that expects nothing cannot be asked again.)
func (r *run) append(ctx context.Context, id int, rnd *rand.Rand, belief map[string]uint64, ws ...store.Write) error {
	for try := 0; ; try++ {
		o := op{client: id, writes: ws, call: r.clock.Add(1)}
		o.written, o.err = r.sys.Log().Append(ctx, ws...)
		o.ret = r.clock.Add(1)
		r.note(o)
		var c *store.ConflictError
		switch {
		case o.err == nil:
			for i, w := range ws {
				belief[w.Stream] = o.written[i].Version
			}
		case errors.As(o.err, &c):
			belief[c.Stream] = c.Version
		case errors.Is(o.err, store.ErrUnknown) && try == 0 && rnd.IntN(2) == 0 && repeatable(ws):
			continue
		}
		return o.err
	}
}

func repeatable(ws []store.Write) bool {
	for _, w := range ws {
		if w.Expect < 0 {
			return false
		}
	}
	return true
}

// claim takes or releases a value, as the runtime does: by an append to a
// stream of its own at exactly the version that was read.
func (r *run) claim(ctx context.Context, id int, rnd *rand.Rand, belief map[string]uint64) error {
	name := fmt.Sprintf("%s/claim-%d", r.prefix, rnd.IntN(2))
	var last store.Record
	for rec, err := range r.sys.Log().Read(ctx, name, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return err
		}
		last = rec
	}
	me := fmt.Sprintf(`{"holder":%d}`, id)
	e := event(rnd, typeTaken)
	if last.Type == typeTaken {
		if string(last.Data) != me {
			return nil
		}
		e.Type = typeReleased
	}
	e.Data = []byte(me)
	return r.append(ctx, id, rnd, belief, write(rnd, belief, r.own(id)),
		store.Write{Stream: name, Expect: store.Exactly(last.Version), Events: []store.Event{e}})
}

func (r *run) read(ctx context.Context, id int, stream string) ([]store.ID, error) {
	o := op{client: id, stream: stream, call: r.clock.Add(1)}
	for rec, err := range r.sys.Log().Read(ctx, stream, store.Range{}) {
		if o.err = err; err != nil {
			break
		}
		o.ids = append(o.ids, rec.ID)
	}
	o.ret = r.clock.Add(1)
	r.note(o)
	return o.ids, o.err
}

func (r *run) note(o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// tail follows the log by a cursor of its own, as a follower does, until
// everybody is done and it has seen all.
func (r *run) tail(ctx context.Context, done <-chan struct{}, f store.Filter, rnd *rand.Rand) []store.Record {
	var seen []store.Record
	cursor := r.start
	for last := false; ctx.Err() == nil; pause(rnd) {
		select {
		case <-done:
			last = true
		default:
		}
		head, err := r.sys.Log().Head(ctx)
		if err != nil {
			continue
		}
		for rec, e := range r.sys.Log().ReadAll(ctx, cursor, f) {
			if err = e; err != nil {
				break
			}
			seen = append(seen, rec)
			cursor = cursor.Advance(rec.Position)
		}
		if err != nil {
			continue
		}
		cursor = cursor.Join(head) // everything up to the head was read
		if last {
			break
		}
	}
	return seen
}

func (r *run) finalLog(ctx context.Context) ([]store.Record, error) {
	var log []store.Record
	for rec, err := range r.sys.Log().ReadAll(ctx, r.start, store.Filter{Categories: []string{r.prefix}}) {
		if err != nil {
			return nil, err
		}
		log = append(log, rec)
	}
	return log, nil
}
