package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// knownStreams is how many streams a process knows the end of.
const knownStreams = 1 << 16

// clockAge is for how long the server's clock is computed instead of asked for.
const clockAge = time.Minute

// known is what this process knows of the end of the log. It belongs to the
// goroutine that appends. Whether it is still so shows when the head is locked.
type known struct {
	valid   bool
	at      headRow
	streams *simplelru.LRU[string, streamHead]
	asked   time.Time // when the server's clock was
	clock   int64     // this
}

func (k *known) forget() { k.valid = false }

// forget gives up what this process knows of the end of the log.
func (s *Store) forget() {
	s.known.forget()
	s.recent.forget()
}

// learn takes in a plan that was carried out, and reports whether it went right
// after what was known.
func (k *known) learn(p *plan) (follows bool) {
	if follows = k.valid && k.at == p.before; !follows { // others have appended since
		k.streams, _ = simplelru.NewLRU[string, streamHead](knownStreams, nil) // fails only for sizes below 1
	}
	k.valid, k.at = true, headRow{p.pos, p.stream, p.time()}
	for name, h := range p.streams {
		k.streams.Add(name, h)
	}
	return follows
}

// guess plans appends from what is known. It returns nil if nothing is, or if
// one of them would be refused: that must not rest on a guess.
func (s *Store) guess(batch []*appending) (*plan, error) {
	k := &s.known
	since := time.Since(k.asked) // by the clock that nobody sets
	if !k.valid || since > clockAge {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.opts.Timeout)
	defer cancel()
	p := s.newPlan()
	p.before, p.pos, p.stream = k.at, k.at.pos, k.at.stream
	p.now = max(k.at.time, k.clock+since.Microseconds())
	if err := p.recall(ctx, batch); err != nil {
		return nil, s.failure(err)
	}
	for _, a := range batch {
		for _, w := range a.writes {
			if !w.Expect.Met(uint64(p.streams[w.Stream].version)) {
				return nil, nil
			}
		}
		if err := p.decide(ctx, s.pool, a); err != nil {
			return nil, s.failure(err)
		}
	}
	if len(p.events.pos) == 0 {
		return nil, nil
	}
	return p, nil
}

// recall fills in the streams that are to be written to. Those nobody knows are
// looked up; but one that is expected not to exist is taken at its word: if it
// does, inserting it fails.
func (p *plan) recall(ctx context.Context, batch []*appending) error {
	var unknown []string
	for _, a := range batch {
		for _, w := range a.writes {
			if h, ok := p.s.known.streams.Get(w.Stream); ok {
				p.streams[w.Stream] = h
			} else if w.Expect != store.None || len(w.Events) == 0 {
				unknown = append(unknown, w.Stream)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	rows, err := p.s.pool.Query(ctx, p.s.sql(findStreams), unknown)
	if err != nil {
		return err
	}
	return p.scanStreams(rows)
}

// writeGuarded queues a whole transaction, which fails if the head is not what
// it was. The position alone would not do: a standby that took over without the
// last events may have reached it with others.
func (p *plan) writeGuarded(b *pgx.Batch) {
	b.Queue(p.s.sql(`WITH h AS (UPDATE {}.head SET pos = $4, stream = $5, time = $6 WHERE pos = $1 AND stream = $2 AND time = $3 RETURNING 1)
		SELECT 1 / count(*) FROM h`), p.before.pos, p.before.stream, p.before.time, p.pos, p.stream, p.time())
	p.write(b)
}

// guessedWrong reports whether a guarded transaction was taken back because
// others have appended.
func guessedWrong(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == divisionByZero || pg.Code == uniqueViolation)
}
