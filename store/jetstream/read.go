package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/deed-dev/deed/store"
)

// lastOf returns the last record of a stream, as its leader has it; version 0
// if there is none.
func (s *Store) lastOf(ctx context.Context, stream string) (place, error) {
	m, err := s.leaderGet(ctx, s.subjects.log(), getRequest{Last: s.subjects.stream(stream)})
	if err == nil && m.seq == 0 {
		m, err = s.unlessLost(ctx, stream)
	}
	if err != nil || m.seq == 0 {
		return place{}, err
	}
	return s.decode(stream, &m)
}

// unlessLost looks again at a stream that seems to have no records. A server
// that has lost the last message of a subject says that there is none of it,
// though it has those before.
func (s *Store) unlessLost(ctx context.Context, stream string) (m message, err error) {
	subject := s.subjects.stream(stream)
	err = s.otherwise(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, s.subjects.log(), getRequest{Next: subject, Seq: 1, Batch: 1})
		if err != nil || len(b.msgs) == 0 {
			return err
		}
		saw(&s.seen, b.msgs[0].seq)
		if _, err := s.head(ctx); err != nil { // a leader that is behind is not asked
			return err
		}
		if m, err = s.leaderGet(ctx, s.subjects.log(), getRequest{Last: subject}); err == nil && m.seq == 0 {
			err = s.corrupt(stream, b.msgs[0].seq, "is there, and the last of its stream is missing")
		}
		return err // if there is one now, it has been recorded meanwhile
	})
	return m, err
}

// end returns the last record of the log. Batches end with a record, never
// with a check.
func (s *Store) end(ctx context.Context) (place, error) {
	m, err := s.lastMessage(ctx)
	if err != nil || m.seq == 0 {
		return place{}, err
	}
	stream, ok, err := s.subjects.streamOf(m.subject)
	if err != nil || !ok {
		return place{}, s.corrupt("?", m.seq, "is not a record")
	}
	return s.decode(stream, &m)
}

// lastMessage returns the last message of the log. A leader that has lost its
// office without knowing yet may have less than was seen already: it does not
// count.
func (s *Store) lastMessage(ctx context.Context) (m message, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		seen := s.seen.Load()
		if m, err = s.leaderGet(ctx, s.subjects.log(), getRequest{Last: everything}); err != nil {
			return err
		}
		if m.seq < seen {
			return fmt.Errorf("%w: the log ends at %d, and had %d before", errTransient, m.seq, seen)
		}
		saw(&s.seen, m.seq)
		return nil
	})
	return m, err
}

func (s *Store) head(ctx context.Context) (uint64, error) {
	m, err := s.lastMessage(ctx)
	return m.seq, err
}

// Head implements [store.Log].
func (s *Store) Head(ctx context.Context) (store.Cursor, error) {
	seq, err := s.head(ctx)
	if err != nil {
		return store.Start, err
	}
	return store.CursorAt(store.Position{Seq: seq}), nil
}

// Wait implements [store.Waiter].
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	s.mu.Lock()
	grown := s.grown
	s.mu.Unlock()
	if s.seen.Load() > after.Seq(0) {
		return nil
	}
	if seq, err := s.head(ctx); err != nil || seq > after.Seq(0) {
		return err
	}
	select {
	case <-grown:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Read implements [store.Log].
func (s *Store) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		last, err := s.lastOf(ctx, stream)
		if err == nil && last.Version > 0 {
			if r.Backward {
				err = s.readBack(ctx, last, r, yield)
			} else {
				err = s.readForward(ctx, last, r, yield)
			}
		}
		if err != nil && err != errStopped {
			yield(store.Record{}, err)
		}
	}
}

// errStopped reports that the caller wants no more.
var errStopped = errors.New("jetstream: stopped")

// readBack goes from record to record: each knows the one before it.
func (s *Store) readBack(ctx context.Context, p place, r store.Range, yield func(store.Record, error) bool) (err error) {
	for n := 0; ; {
		if r.From == 0 || p.Version <= r.From {
			if !yield(p.Record, nil) {
				return errStopped
			}
			if n++; n == r.Limit {
				return nil
			}
		}
		if p.Version == 1 {
			return nil
		}
		if p, err = s.before(ctx, p); err != nil {
			return err
		}
	}
}

// before returns the record before another in its stream.
func (s *Store) before(ctx context.Context, p place) (q place, err error) {
	err = s.otherwise(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, s.subjects.log(), getRequest{Seq: p.prev, Batch: 1})
		switch {
		case err != nil:
			return err
		case len(b.msgs) == 0:
			return errBehind
		case b.msgs[0].seq != p.prev || b.msgs[0].subject != s.subjects.stream(p.Stream):
			return s.missing(p.Stream, p.Version-1, p.prev)
		}
		if q, err = s.decode(p.Stream, &b.msgs[0]); err == nil && q.Version != p.Version-1 {
			err = s.missing(p.Stream, p.Version-1, p.prev)
		}
		return err
	})
	return q, err
}

// missing is the error for an event that ought to be there.
func (s *Store) missing(stream string, version, seq uint64) error {
	return s.corrupt(fmt.Sprintf("%s@%d", stream, version), seq, "is missing")
}

// otherwise calls f, and again if it meets damage: another replica, that may
// answer the next time, may be sound.
func (s *Store) otherwise(ctx context.Context, f func(context.Context) error) error {
	met := 0
	return s.try(ctx, func(ctx context.Context) error {
		err := f(ctx)
		if errors.Is(err, store.ErrCorrupt) && met < lookAgain {
			met++
			return fmt.Errorf("%w: %w", errTransient, err)
		}
		return err
	})
}

// lookAgain is how often other replicas are asked for what one has lost.
const lookAgain = 6

// errBehind reports that a replica has not yet what there is.
var errBehind = fmt.Errorf("%w: a replica is behind", errTransient)

// nearEnd is how many records from its end a stream is read backwards to find
// where to begin: JetStream finds records by sequence, not by version.
const nearEnd = 16

// readForward reads a stream up to the end it had when last was read.
func (s *Store) readForward(ctx context.Context, last place, r store.Range, yield func(store.Record, error) bool) error {
	from, to := max(r.From, 1), last.Version
	if from > to {
		return nil
	}
	if r.Limit > 0 && uint64(r.Limit) < to-from+1 {
		to = from + uint64(r.Limit) - 1
	}
	if to-from < nearEnd && last.Version-from < nearEnd {
		return s.readTail(ctx, last, from, to, yield)
	}
	seq, version := uint64(1), uint64(1) // where to begin, and which version that is
	for version <= to {
		recs, err := s.readChunk(ctx, last.Stream, seq, version, min(to-version+1, chunk))
		if err != nil {
			return err
		}
		for _, p := range recs {
			version, seq = version+1, p.Position.Seq+1
			if p.Version >= from && !yield(p.Record, nil) {
				return errStopped
			}
		}
	}
	return nil
}

// readTail reads some of the last records of a stream.
func (s *Store) readTail(ctx context.Context, p place, from, to uint64, yield func(store.Record, error) bool) (err error) {
	tail := []place{p}
	for p.Version > from {
		if p, err = s.before(ctx, p); err != nil {
			return err
		}
		tail = append(tail, p)
	}
	for i := len(tail) - 1; i >= 0 && tail[i].Version <= to; i-- {
		if !yield(tail[i].Record, nil) {
			return errStopped
		}
	}
	return nil
}

// readChunk reads up to n records of a stream, at least one, of which the
// first has the given version. Versions have no gaps: one that is missing
// shows.
func (s *Store) readChunk(ctx context.Context, stream string, seq, version, n uint64) (recs []place, err error) {
	err = s.otherwise(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, s.subjects.log(), getRequest{Next: s.subjects.stream(stream), Seq: seq, Batch: int(n), MaxBytes: chunkBytes})
		if err != nil {
			return err
		}
		if len(b.msgs) == 0 {
			return errBehind
		}
		recs = recs[:0]
		for i := range b.msgs {
			p, err := s.decode(stream, &b.msgs[i])
			if err == nil && p.Version != version+uint64(i) {
				err = s.missing(stream, version+uint64(i), p.prev)
			}
			if err != nil && i > 0 {
				return nil // what is before it is sound
			}
			if err != nil {
				return err
			}
			recs = append(recs, p)
		}
		return nil
	})
	return recs, err
}
