package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// Times of the hints. A process that hears of others' appends looks for itself
// only now and then; one that does not, because a pooler is in between, more
// often. Neither asks when nobody waits.
const (
	notifyEvery  = 20 * time.Millisecond
	pollHinted   = 2 * time.Second
	pollUnhinted = 300 * time.Millisecond
)

// announce wakes everybody who waits for the head to move.
func (s *Store) announce(pos uint64) {
	for {
		known := s.head.Load()
		if pos > 0 && pos <= known {
			return
		}
		if pos == 0 || s.head.CompareAndSwap(known, pos) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
}

// Wait implements [store.Waiter].
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	s.mu.Lock()
	grown := s.grown
	s.mu.Unlock()
	if err := s.usable(ctx); err != nil || s.head.Load() > after.Seq(0) {
		return err
	}
	select {
	case <-grown:
		return s.usable(ctx)
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errClosed
	}
}

// channel is the name of the schema's notifications, which has at most 63 bytes.
func (s *Store) channel() string {
	name := "deed_" + s.opts.Schema
	if len(name) > 63 {
		name = fmt.Sprintf("deed_%x", sha256.Sum224([]byte(s.opts.Schema)))
	}
	return name[:min(len(name), 63)]
}

// notify tells other processes that the head has moved: not in the transaction,
// where it would cost another lock, and not more often than is of use.
func (s *Store) notify() {
	for {
		select {
		case <-s.moved:
		case <-s.ctx.Done():
			return
		}
		// A hint that is lost is made up for by looking.
		s.hint(strconv.FormatUint(s.head.Load(), 10))
		s.pause(notifyEvery)
	}
}

// hint sends a notification. It is not worth waiting for a disk.
func (s *Store) hint(payload string) {
	ctx, cancel := s.within(s.ctx)
	defer cancel()
	s.pool.Exec(ctx, "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", s.channel(), payload)
}

// listen hears of others' appends, and looks for itself where that may fail.
func (s *Store) listen() {
	for s.ctx.Err() == nil {
		err := s.hear()
		s.hinted.Store(false)
		if err != nil && s.ctx.Err() == nil {
			s.look(s.ctx)
			s.pause(pollUnhinted)
		}
	}
}

var errPooled = errors.New("behind a pooler there is no connection to listen on")

// hear listens on a connection of its own until that breaks.
func (s *Store) hear() error {
	if s.pooled {
		return errPooled
	}
	conn, err := s.pool.Acquire(s.ctx)
	if err != nil {
		return err
	}
	c := conn.Hijack() // it is of no use to others afterwards
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	}()
	if _, err := c.Exec(s.ctx, "LISTEN "+pgx.Identifier{s.channel()}.Sanitize()); err != nil {
		return err
	}
	s.hint("0") // comes back if this connection hears anything at all
	for {
		poll := pollUnhinted
		if s.hinted.Load() {
			poll = pollHinted
		}
		ctx, cancel := context.WithTimeout(s.ctx, poll)
		n, err := c.WaitForNotification(ctx)
		silent := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			s.hinted.Store(true)
			if pos, err := strconv.ParseUint(n.Payload, 10, 63); err == nil && pos > 0 {
				s.announce(pos)
			}
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case !silent || c.IsClosed():
			return err // the connection broke
		default:
			s.look(s.ctx)
		}
	}
}

// look asks where the head is, if anybody waits.
func (s *Store) look(ctx context.Context) {
	if s.waiting.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	s.headNow(ctx) // tells those who wait; errors are theirs to meet
}

func (s *Store) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}
