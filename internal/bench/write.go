package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// streamLength is how many appends go to a stream before the next is begun.
const streamLength = 20

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func (r *run) appends() error {
	for _, c := range []struct {
		writers, events int
		name, of        string
		reference       float64
		target          float64
	}{
		{1, 1, "store: append, 1 writer", "1 writer", r.raw1, 0.80},
		{64, 1, "store: append, 64 writers", "64 writers", r.raw64, 0.50},
		{64, 10, "store: append of 10 events, 64 writers", "64 writers", r.raw64, 1.0},
	} {
		n, err := r.appendRate(c.writers, c.events)
		if err != nil {
			return err
		}
		r.ratio(c.name, n*float64(c.events), "events/s", c.of, c.reference, c.target)
	}
	return nil
}

func (r *run) appendRate(writers, events int) (_ float64, err error) {
	s, err := sqlite.Open(r.path(fmt.Sprintf("append-%d-%d.db", writers, events)), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	data, err := wire.Marshal(sample)
	if err != nil {
		return 0, err
	}
	type place struct {
		stream  string
		version uint64
		n       int
	}
	places := make([]place, writers)
	return rate(writers, r.d, func(w int) error {
		p := &places[w]
		if p.n%streamLength == 0 {
			*p = place{stream: "tally/" + uuid.NewString(), n: p.n}
		}
		p.n++
		batch := make([]store.Event, events)
		for i := range batch {
			batch[i] = store.Event{ID: store.ID(uuid.New()), Type: "entered", Data: data, Meta: []byte(`{"actor":"bench","correlation":"018f"}`)}
		}
		_, err := s.Append(r.ctx, store.Write{Stream: p.stream, Expect: store.Exactly(p.version), Events: batch})
		p.version += uint64(events)
		return err
	})
}

// commands measures the whole way of a command in the process: load, decide,
// append the event and the outcome.
func (r *run) commands() (err error) {
	s, err := sqlite.Open(r.path("commands.db"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return err
	}
	n, err := rate(64, r.d, func(w int) error {
		_, err := tallies.Execute(r.ctx, rt, fmt.Sprintf("t-%d", w), Enter(sample))
		return err
	})
	if err != nil {
		return err
	}
	r.ratio("command, 64 in flight", n, "commands/s", "64 writers", r.raw64, 0.30)
	return nil
}

// journal measures what it costs to record the outcome of each command, and
// how commands that are stored first compare with those that are not. The
// followers run, as they do in a program.
func (r *run) journal() error {
	plain, err := r.commandRate(deed.JournalNone, false)
	if err != nil {
		return err
	}
	journaled, err := r.commandRate(deed.JournalAll, false)
	if err != nil {
		return err
	}
	stored, err := r.commandRate(deed.JournalAll, true)
	if err != nil {
		return err
	}
	r.note("command, followers run, nothing journaled", plain, "commands/s")
	r.ratio("command, followers run, all journaled", journaled, "commands/s", "not journaled", plain, 0.85)
	took, err := r.stalled(10_000)
	if err != nil {
		return err
	}
	r.atMost("10,000 stalled commands after a restart", took.Seconds(), "s", 30)
	r.ratio("command stored first, until it is over", stored, "commands/s", "journaled", journaled, 0.50)
	return nil
}

// stalled measures how long it takes after a restart until commands are done
// that were stored and not begun.
func (r *run) stalled(n int) (_ time.Duration, err error) {
	s, err := sqlite.Open(r.path("stalled.db"), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return 0, err
	}
	ids := make([]string, n)
	var all errgroup.Group
	all.SetLimit(inHand)
	for i := range ids {
		all.Go(func() error {
			receipt, err := tallies.Submit(r.ctx, rt, fmt.Sprintf("t-%d", i%100), Enter(sample))
			ids[i] = receipt.Command
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	start := time.Now()
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	for _, id := range ids {
		if _, err := rt.Commands().Wait(r.ctx, id); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// inHand is how many stored commands are on their way at a time.
var inHand = 256

func (r *run) commandRate(j deed.Journal, stored bool) (_ float64, err error) {
	s, err := sqlite.Open(r.path(fmt.Sprintf("journal-%d-%v.db", j, stored)), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet, Journal: j})
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if !stored {
		return rate(64, r.d, func(w int) error {
			_, err := tallies.Execute(r.ctx, rt, fmt.Sprintf("t-%d", w), Enter(sample))
			return err
		})
	}
	return rate(inHand, r.d, func(w int) error {
		receipt, err := tallies.Submit(r.ctx, rt, fmt.Sprintf("t-%d", w), Enter(sample))
		if err != nil {
			return err
		}
		_, err = rt.Commands().Wait(r.ctx, receipt.Command)
		return err
	})
}

// overHTTP measures the same through a server and real connections.
func (r *run) overHTTP() (err error) {
	s, err := sqlite.Open(r.path("http.db"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := httpapi.NewServer(httpapi.New(rt, httpapi.Options{Logger: quiet}))
	go srv.Serve(ln) // ends with Close
	defer func() { err = errors.Join(err, srv.Close()) }()
	c := client.New("http://" + ln.Addr().String())
	body, err := wire.Marshal(sample)
	if err != nil {
		return err
	}
	var failed atomic.Int64
	n, err := rate(64, r.d, func(w int) error {
		_, err := c.Do(r.ctx, http.MethodPost, fmt.Sprintf("/v1/tally/t-%d/enter", w), nil, body, nil)
		if err != nil {
			failed.Add(1)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.ratio("command over HTTP, 64 connections", n, "commands/s", "64 writers", r.raw64, 0.10)
	return nil
}
