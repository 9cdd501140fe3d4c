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
	Ops     int // of each client; default 15
	Crashes int // at most; default 1
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
	clock  atomic.Int64
	left   atomic.Int64 // operations until the next crash

	mu    sync.Mutex
	ops   []op
	tails [][]store.Record // what followers saw
	start store.Cursor
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
	random := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	crashes := random(1)
	r.left.Store(int64(1 + crashes.IntN(r.opts.Clients*r.opts.Ops)))
	var clients, others sync.WaitGroup
	for c := range r.opts.Clients {
		clients.Go(func() { r.client(ctx, c, random(uint64(c)+10)) })
	}
	done := make(chan struct{})
	r.tails = make([][]store.Record, 2)
	for i := range r.tails {
		others.Go(func() { r.tails[i] = r.tail(ctx, done) })
	}
	var crashed error
	others.Go(func() {
		for n := 0; n < r.opts.Crashes; {
			select {
			case <-done:
				return
			default:
			}
			if r.left.Load() > 0 {
				pause(crashes)
				continue
			}
			if crashed = r.sys.Crash(); crashed != nil {
				return
			}
			n++
			r.left.Store(int64(1 + crashes.IntN(r.opts.Clients*r.opts.Ops)))
		}
	})
	clients.Wait()
	close(done)
	others.Wait()
	return crashed
}

// client does random things with the streams, believing what it saw last.
func (r *run) client(ctx context.Context, id int, rnd *rand.Rand) {
	belief := map[string]uint64{}
	stream := func() string { return fmt.Sprintf("%s/s-%d", r.prefix, rnd.IntN(r.opts.Streams)) }
	for range r.opts.Ops {
		switch p := rnd.IntN(10); {
		case p < 5:
			r.append(ctx, id, rnd, belief, write(rnd, belief, stream()))
		case p < 7:
			a, b := stream(), stream()
			if a == b {
				b = fmt.Sprintf("%s/own-%d", r.prefix, id)
			}
			r.append(ctx, id, rnd, belief, write(rnd, belief, a), write(rnd, belief, b))
		case p < 9:
			r.claim(ctx, id, rnd, belief)
		default:
			s := stream()
			if ids, err := r.read(ctx, id, s); err == nil {
				belief[s] = uint64(len(ids))
			}
		}
	}
}

func write(rnd *rand.Rand, belief map[string]uint64, stream string) store.Write {
	w := store.Write{Stream: stream, Expect: store.Exactly(belief[stream])}
	if rnd.IntN(10) == 0 {
		w.Expect = store.Any
	}
	for range 1 + rnd.IntN(3) {
		w.Events = append(w.Events, event(rnd, "done"))
	}
	return w
}

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
		r.left.Add(-1)
		r.note(o)
		var c *store.ConflictError
		switch {
		case o.err == nil:
			for i, w := range ws {
				belief[w.Stream] = o.written[i].Version
			}
		case errors.As(o.err, &c):
			belief[c.Stream] = c.Version
		case errors.Is(o.err, store.ErrUnavailable):
			pause(rnd)
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
func (r *run) claim(ctx context.Context, id int, rnd *rand.Rand, belief map[string]uint64) {
	name := fmt.Sprintf("%s/claim-%d", r.prefix, rnd.IntN(2))
	var last store.Record
	for rec, err := range r.sys.Log().Read(ctx, name, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return
		}
		last = rec
	}
	me := fmt.Sprintf(`{"holder":%d}`, id)
	e := event(rnd, "taken")
	if last.Type == "taken" {
		if string(last.Data) != me {
			return
		}
		e.Type = "released"
	}
	e.Data = []byte(me)
	r.append(ctx, id, rnd, belief, store.Write{Stream: name, Expect: store.Exactly(last.Version), Events: []store.Event{e}},
		write(rnd, belief, fmt.Sprintf("%s/s-%d", r.prefix, rnd.IntN(r.opts.Streams))))
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

// tail follows the log by a cursor of its own, as a follower does.
func (r *run) tail(ctx context.Context, done <-chan struct{}) []store.Record {
	var seen []store.Record
	rnd := rand.New(rand.NewPCG(1, 1))
	cursor := r.start
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		head, err := r.sys.Log().Head(ctx)
		if err == nil {
			for rec, e := range r.sys.Log().ReadAll(ctx, cursor, store.Filter{Categories: []string{r.prefix}}) {
				if err = e; err != nil {
					break
				}
				seen = append(seen, rec)
				cursor = cursor.Advance(rec.Position)
			}
		}
		if err == nil {
			cursor = cursor.Join(head) // everything up to the head was read
		}
		if last && err == nil {
			return seen
		}
		pause(rnd)
	}
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
