package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Server is a store on a server, and the same server without a store.
type Server struct {
	Store store.Store
	// Raw writes so many rows or messages of the size of an event at once, as
	// fast as the server lets a single writer.
	Raw  func(ctx context.Context, n int) error
	What string // Raw does, for people
	// Single is a target for the ratio to one Raw of 1 after the other; 0 = none.
	Single float64
	// Rebuild is a target for the rebuild of a view, in events/s; 0 = none.
	Rebuild float64
	// Node starts a process of its own that is a node on the store ([RunNode])
	// and may use one core; the function it returns ends that. Nil if only one
	// process can use the store.
	Node func(ctx context.Context, name string) (stop func() error, err error)
}

// RunServer measures a store on a server as ratios to the server itself.
func RunServer(ctx context.Context, s Server, o Options) (Report, error) {
	if o.Seconds <= 0 {
		o.Seconds = 3
	}
	r := &run{Options: o, ctx: ctx, d: time.Duration(o.Seconds * float64(time.Second)), report: Report{Seconds: o.Seconds}}
	return r.report, errors.Join(r.server(s), ctx.Err())
}

func (r *run) server(s Server) error {
	tell := func(what string) {
		if r.Progress != nil {
			fmt.Fprintf(r.Progress, "measuring %s ...\n", what)
		}
	}
	if s.Node != nil { // at first: a server that tidies up after much was written has no core to spare
		tell("one node, then two")
		if err := r.nodes(s); err != nil {
			return err
		}
	}
	tell("the store")
	counted := &counting{Store: s.Store}
	n, err := r.appendsTo(counted, 64)
	if err != nil {
		return err
	}
	batch := max(1, int(counted.mean()))
	tell("the server alone, " + s.What)
	raw, err := rate(1, r.d, func(int) error { return s.Raw(r.ctx, batch) })
	if err != nil {
		return err
	}
	raw *= float64(batch)
	single, err := rate(1, r.d, func(int) error { return s.Raw(r.ctx, 1) })
	if err != nil {
		return err
	}
	tell("the store again")
	again, err := r.appendsTo(counted, 64)
	if err != nil {
		return err
	}
	one, err := r.appendsTo(s.Store, 1)
	if err != nil {
		return err
	}
	r.note(fmt.Sprintf("server: %s, %d at once", s.What, batch), raw, "events/s")
	r.note(fmt.Sprintf("server: %s, one at a time", s.What), single, "events/s")
	r.ratio("store: append, 64 writers", max(n, again), "events/s", fmt.Sprintf("%d at once", batch), raw, 0.5)
	if s.Single > 0 {
		r.ratio("store: append, 64 writers", max(n, again), "events/s", "one at a time", single, s.Single)
	}
	r.note("store: append, 1 writer", one, "events/s")
	tell("views")
	if err := r.serverLag(s.Store); err != nil {
		return err
	}
	tell("a rebuild")
	if err := r.fillWith(s.Store, int(1000*r.Seconds)); err != nil {
		return err
	}
	head, err := s.Store.Head(r.ctx)
	if err != nil {
		return err
	}
	return r.rebuilds(s.Store, int(head.Positions()[0].Seq), s.Rebuild)
}

// counting counts how many appends are under way at once: about as many share
// a transaction.
type counting struct {
	store.Store
	now, sum, n atomic.Int64
}

func (c *counting) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	c.sum.Add(c.now.Add(1))
	c.n.Add(1)
	defer c.now.Add(-1)
	return c.Store.Append(ctx, writes...)
}

// mean is half of what is under way: while one half is written, the other
// comes together.
func (c *counting) mean() float64 { return float64(c.sum.Load()) / float64(max(c.n.Load(), 1)) / 2 }

// appendsTo has each writer move to a new stream after some appends.
func (r *run) appendsTo(s store.Store, writers int) (float64, error) {
	data, err := wire.Marshal(sample)
	if err != nil {
		return 0, err
	}
	type place struct {
		stream  string
		version uint64
	}
	places := make([]place, writers)
	return rate(writers, r.d, func(w int) error {
		p := &places[w]
		if p.version%streamLength == 0 {
			*p = place{stream: "tally/" + uuid.NewString()}
		}
		e := store.Event{ID: store.ID(uuid.New()), Type: "entered", Data: data, Meta: []byte(`{"actor":"bench","correlation":"018f"}`)}
		_, err := s.Append(r.ctx, store.Write{Stream: p.stream, Expect: store.Exactly(p.version), Events: []store.Event{e}})
		p.version++
		return err
	})
}

// serverLag measures a view that keeps up with 1,000 commands a second.
func (r *run) serverLag(s store.Store) error {
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	head, err := s.Head(ctx)
	if err != nil {
		stop()
		return err
	}
	go func() { ended <- rt.Run(ctx) }()
	if err = rt.WaitForView(ctx, "balances", head); err == nil {
		err = r.lagAt(ctx, rt, 1000, 50)
	}
	stop()
	return errors.Join(err, <-ended)
}
