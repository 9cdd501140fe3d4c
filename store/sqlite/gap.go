package sqlite

import (
	"fmt"
	"slices"
	"sync"

	"github.com/deed-dev/deed/store"
)

// Who reads some kinds of events does not see which others were passed over,
// so a damaged page could hide events from it. Therefore positions are counted
// before what lies between them is handed out. A part of the log is counted by
// the first who reads it, once for as long as the store is open; who reads it
// later only makes sure to begin in the right place.

// A span is a part of the log that was counted and is complete.
type span struct {
	mu       sync.Mutex
	from, to uint64 // positions after from, up to to
}

// rest returns what of (from, to] was not counted yet.
func (s *span) rest(from, to uint64) (uint64, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.from <= from && from < s.to {
		from = s.to
	}
	return from, max(from, to)
}

// add notes that (from, to] is complete. Of parts that do not touch, the
// longer one is remembered.
func (s *span) add(from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case from <= s.to && s.from <= to:
		s.from, s.to = min(from, s.from), max(to, s.to)
	case to-from > s.to-s.from:
		s.from, s.to = from, to
	}
}

// complete returns how far the positions after from are all there, at most up
// to to, and an error if that is not as far.
func (s *Store) complete(r *reader, from, to uint64) (uint64, error) {
	uncounted, to := s.counted.rest(from, to)
	if uncounted > from {
		if last, err := s.walk(r, from, from+1); err != nil {
			return last, err
		}
	}
	if uncounted == to {
		return to, nil
	}
	st, err := r.conn.Prepare("SELECT count(*), sum(pos - +?1) FROM events WHERE pos > +?1 AND pos <= +?2")
	if err != nil {
		return from, err
	}
	defer st.Reset()
	st.BindInt64(1, int64(uncounted))
	st.BindInt64(2, int64(to))
	if _, err := st.Step(); err != nil {
		return from, err
	}
	n := int64(to - uncounted)
	if st.ColumnInt64(0) != n || st.ColumnInt64(1) != n*(n+1)/2 { // as many, and none twice
		if last, err := s.walk(r, uncounted, to); err != nil {
			return last, err
		}
	}
	s.counted.add(uncounted, to)
	return to, nil
}

// walk does what complete does, one position after the other: where records
// were given up, they cannot be counted.
func (s *Store) walk(r *reader, from, to uint64) (uint64, error) {
	st, err := r.conn.Prepare("SELECT pos FROM events WHERE pos > +? ORDER BY pos")
	if err != nil {
		return from, err
	}
	defer st.Reset()
	st.BindInt64(1, int64(from))
	for gone := (gapReader{reader: r}); from < to; {
		ok, err := st.Step()
		if err != nil {
			return from, err
		}
		next := to + 1
		if ok {
			next = uint64(st.ColumnInt64(0))
		}
		at, err := gone.missing(from+1, next-1)
		switch {
		case err != nil:
			return from, err
		case at > 0:
			return at - 1, s.missing(fmt.Sprintf("at position %d", at))
		}
		from = next
	}
	return to, nil
}

// upTo returns those of recs that are at or before a position.
func upTo(recs []store.Record, pos uint64) []store.Record {
	if i := slices.IndexFunc(recs, func(r store.Record) bool { return r.Position.Seq > pos }); i >= 0 {
		return recs[:i]
	}
	return recs
}
