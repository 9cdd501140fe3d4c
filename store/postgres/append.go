package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// An appending is an append that waits for its verdict.
type appending struct {
	request
	writes  []store.Write
	written []store.Written
	times   []int64 // of imported events

	docs  writing // what is changed with them
	holds []store.Hold
	held  []int64 // the collections of these
}

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	if err := store.Check(writes); err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	a := newAppending(writes)
	if err := s.appends.Submit(ctx, a); err != nil {
		return nil, err
	}
	return a.written, nil
}

func newAppending(writes []store.Write) *appending {
	a := &appending{writes: writes}
	for _, w := range writes {
		a.rows += 1 + len(w.Events)
		for _, e := range w.Events {
			a.bytes += len(e.Data) + len(e.Meta)
		}
	}
	return a
}

// appendBatch writes appends in one transaction. As long as nobody else appends,
// this process knows the end of the log and of the streams it writes to, and
// needs one trip to the server; otherwise two: one that locks and looks.
//
// What carries much is not tried in one: it would hold the head while it is on
// its way, and nothing would end that if the process were frozen.
func (s *Store) appendBatch(batch []*appending) error {
	var p *plan
	var err error
	bytes := carried(batch)
	if bytes <= buffered && !withDocs(batch) {
		if p, err = s.guess(batch); err != nil {
			return err
		}
	}
	if p != nil {
		err = s.transact(bytes, func(ctx context.Context, t *transaction) error { return t.once(ctx, p.writeGuarded) })
		if guessedWrong(err) {
			p = nil
		}
	}
	if p == nil {
		if p, err = s.plan(batch); err != nil || len(p.events.pos) == 0 {
			return s.blocked(err)
		}
	}
	if err != nil {
		s.forget()
		return s.blocked(err)
	}
	s.names.addKinds(p.newKinds)
	follows := s.known.learn(p)
	s.recent.add(p.events.recs, s.known.at, follows)
	s.announce(uint64(p.pos))
	select {
	case s.moved <- struct{}{}:
	default:
	}
	return nil
}

// plan looks and writes. A plan without events is one of conflicts, repetitions
// and expectations that hold.
func (s *Store) plan(batch []*appending) (*plan, error) {
	if withDocs(batch) {
		return s.planWith(batch)
	}
	p := s.newPlan()
	return p, s.transact(carried(batch), func(ctx context.Context, t *transaction) error {
		if err := p.look(ctx, t, batch); err != nil {
			s.forget()
			return err
		}
		for _, a := range batch {
			if err := p.decide(ctx, t.conn, a); err != nil {
				return err
			}
		}
		switch {
		case len(p.events.pos) > 0:
			return t.commit(ctx, p.writeAll)
		case p.repeats:
			return t.commit(ctx, p.confirm)
		}
		return nil
	})
}

// blocked names whoever holds the head of the log, if that is the problem:
// somebody with a lock on it who waits for nobody.
func (s *Store) blocked(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != lockNotAvailable {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 2*time.Second)
	defer cancel()
	var pid int
	var name, state, since string
	e := s.pool.QueryRow(ctx, `SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''), coalesce((now() - a.xact_start)::text, '')
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.relation = $1::text::regclass AND l.granted AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
		ORDER BY cardinality(pg_blocking_pids(a.pid)), a.xact_start LIMIT 1`,
		s.opts.Schema+".head").Scan(&pid, &name, &state, &since)
	if e != nil {
		return err
	}
	return fmt.Errorf("%w: postgres: process %d (%s, %s for %s) holds the head of the log: end it, for example with SELECT pg_terminate_backend(%d)",
		store.ErrUnavailable, pid, name, state, since, pid)
}
