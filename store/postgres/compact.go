package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/deed-dev/deed/store"
)

// Compact implements [store.Compactor]. The room is used again once the server
// has vacuumed its tables.
//
// It takes the head of the log, as who appends does, and leaves it changed:
// other processes may know the end of a stream that goes, and would append to
// it by heart.
func (s *Store) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	if err := store.CheckWholes(streams); err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil || len(streams) == 0 {
		return nil, err
	}
	c := compaction{s: s, found: map[string]*removal{}, removed: make([]uint64, len(streams))}
	err := s.transact(0, func(ctx context.Context, t *transaction) error {
		if err := c.look(ctx, t, streams); err != nil {
			return err
		}
		if err := c.decide(streams); err != nil || len(c.ids) == 0 {
			return err
		}
		return t.commit(ctx, c.write)
	})
	s.recent.forget() // it was, or may have been, among what goes
	if err != nil {
		return nil, s.blocked(err)
	}
	return c.removed, nil
}

// A removal is a stream that is to be removed.
type removal struct {
	id, version int64
	positions   []int64 // of its events
}

// A compaction is what a transaction finds and what it is going to remove.
type compaction struct {
	s         *Store
	found     map[string]*removal
	removed   []uint64
	ids       []int64 // of streams
	positions []int64 // of events
}

// look takes the head and the streams.
func (c *compaction) look(ctx context.Context, t *transaction, streams []store.Whole) error {
	names := make([]string, len(streams))
	for i, w := range streams {
		names[i] = w.Stream
	}
	return t.look(ctx, func(b *pgx.Batch) {
		b.Queue(c.s.sql("SELECT pos FROM {}.head FOR UPDATE"))
		b.Queue(c.s.sql(`SELECT s.name, s.id, s.version, e.pos FROM {}.streams s LEFT JOIN {}.events e ON e.stream = s.id
			WHERE s.name = ANY($1) ORDER BY s.id, e.version`), names).Query(c.scan)
	})
}

func (c *compaction) scan(rows pgx.Rows) error {
	var name string
	var r removal
	var pos *int64
	_, err := pgx.ForEachRow(rows, []any{&name, &r.id, &r.version, &pos}, func() error {
		if c.found[name] == nil {
			c.found[name] = &removal{id: r.id, version: r.version}
		}
		if pos != nil {
			c.found[name].positions = append(c.found[name].positions, *pos)
		}
		return nil
	})
	return err
}

// decide finds out which of the streams are as they are said to be.
func (c *compaction) decide(streams []store.Whole) error {
	for i, w := range streams {
		r := c.found[w.Stream]
		if r == nil {
			continue
		}
		n := len(r.positions)
		if int64(n) != r.version {
			return fmt.Errorf("%w: postgres: stream %s is at version %d but has %d events: run deed check, restore a backup", store.ErrCorrupt, w.Stream, r.version, n)
		}
		if uint64(r.positions[n-1]) != w.Last.Seq {
			continue
		}
		c.ids, c.positions = append(c.ids, r.id), append(c.positions, r.positions...)
		c.removed[i] = uint64(n)
	}
	return nil
}

// write queues the removal. The number of streams is what makes the head
// another one: one that is passed over is nothing to anybody.
func (c *compaction) write(b *pgx.Batch) {
	b.Queue(c.s.sql("DELETE FROM {}.events WHERE pos = ANY($1)"), c.positions)
	b.Queue(c.s.sql("DELETE FROM {}.streams WHERE id = ANY($1)"), c.ids)
	gone := store.Gaps{}
	for _, pos := range c.positions {
		gone.Add(uint64(pos))
	}
	for block, bits := range gone {
		b.Queue(c.s.sql("INSERT INTO {}.gone AS g (block, bits) VALUES ($1, $2) ON CONFLICT (block) DO UPDATE SET bits = g.bits | EXCLUDED.bits"),
			int64(block), pgtype.Bits{Bytes: bits, Len: store.GapBlock, Valid: true})
	}
	b.Queue(c.s.sql("UPDATE {}.head SET stream = stream + 1"))
}

// A span is positions that were expected and not found.
type span struct{ from, to uint64 }

// missing returns the first position of some spans that was not given up, if
// there is one. They are in order; what was given up before they were read is
// noted by now.
func (s *Store) missing(ctx context.Context, spans []span) (uint64, error) {
	for len(spans) > 0 {
		// Together as many as it takes to cover some blocks.
		first, n := spans[0].from/store.GapBlock, 0
		last := first + gapBlocks - 1
		for n < len(spans) && spans[n].to/store.GapBlock <= last {
			n++
		}
		gone, err := s.gaps(ctx, first, last)
		if err != nil {
			return 0, err
		}
		for _, sp := range spans[:n] {
			if at := gone.Missing(sp.from, sp.to); at > 0 {
				return at, nil
			}
		}
		if spans = spans[n:]; n == 0 { // the first one goes on beyond them
			end := last*store.GapBlock + store.GapBlock - 1
			if at := gone.Missing(spans[0].from, end); at > 0 {
				return at, nil
			}
			spans[0].from = end + 1
		}
	}
	return 0, nil
}

// gapBlocks is how many blocks of positions that were given up are read at once.
const gapBlocks = 256

func (s *Store) gaps(ctx context.Context, first, last uint64) (store.Gaps, error) {
	rows, err := s.pool.Query(ctx, s.sql("SELECT block, bits FROM {}.gone WHERE block >= $1 AND block <= $2"), int64(first), int64(last))
	if err != nil {
		return nil, err
	}
	gone := store.Gaps{}
	var block int64
	var bits pgtype.Bits
	_, err = pgx.ForEachRow(rows, []any{&block, &bits}, func() error { gone.Join(uint64(block), bits.Bytes); return nil })
	return gone, err
}
