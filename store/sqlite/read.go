package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Readers take records in chunks, and give the connection back before they
// hand a chunk out: a loop body may take its time, or call the store. A chunk
// ends after so many rows or so many bytes, whatever comes first.
//
// The statements that read say "+?" where a value could decide on the plan,
// and have no LIMIT: else SQLite plans them anew for every value, which costs
// more than reading a few records. Readers stop by themselves.
const (
	firstChunk = 128
	chunk      = 512
	chunkBytes = 1 << 20
)

// missing is the error for an event that ought to be there.
func (s *Store) missing(what string) error {
	return s.damaged("the event %s is missing", what)
}

// Read implements [store.Log].
func (s *Store) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		from, left, size := r.From, r.Limit, firstChunk
		var recs []store.Record
		var id int64 // the stream's, once something of it was read
		for {
			n := size
			if r.Limit > 0 {
				n = min(n, left)
			}
			var more bool
			var err error
			if recs, more, err = s.readChunk(ctx, stream, &id, from, n, r.Backward, recs[:0]); err != nil {
				yieldUpTo(recs, err, yield)
				return
			}
			for i := range recs {
				if !yield(recs[i], nil) {
					return
				}
			}
			left -= len(recs)
			if !more || r.Limit > 0 && left == 0 {
				return
			}
			from, size = recs[len(recs)-1].Version+1, chunk
			if r.Backward {
				from -= 2
			}
		}
	}
}

// yieldUpTo yields what could be read before an error, then the error.
func yieldUpTo(recs []store.Record, err error, yield func(store.Record, error) bool) {
	for i := range recs {
		if !yield(recs[i], nil) {
			return
		}
	}
	yield(store.Record{}, err)
}

const (
	headQuery   = "SELECT id, version, sum FROM streams WHERE name = ?"
	readForward = "SELECT " + columns + " FROM events e WHERE e.stream = +? AND e.version >= ? ORDER BY e.version"
	readBack    = "SELECT " + columns + " FROM events e WHERE e.stream = +? AND e.version <= ? ORDER BY e.version DESC"
)

// streamHead reads the row of a stream; its id is 0 if there is none. Where a
// stream ends is only said here, so a wrong row must not pass for the right one.
func (s *Store) streamHead(st *lib.Stmt, sums *summer, name string) (h streamHead, err error) {
	if ok, err := st.Step(); err != nil || !ok {
		return h, err
	}
	h = streamHead{st.ColumnInt64(0), uint64(st.ColumnInt64(1))}
	if sums.stream(name, h.id, h.version) != st.ColumnInt64(2) {
		return h, s.damaged("the end of stream %s fails its checksum", name)
	}
	return h, nil
}

// readChunk reads up to n records, and reports whether it stopped before the
// last one. Versions have no gaps: a damaged index that hides an event shows.
// If the stream has another number than the chunk before it said, it was given
// up meanwhile.
func (s *Store) readChunk(ctx context.Context, stream string, id *int64, from uint64, n int, backward bool, recs []store.Record) (_ []store.Record, more bool, err error) {
	err = s.reading(ctx, func(r *reader) error {
		head, err := r.conn.Prepare(headQuery)
		if err != nil {
			return err
		}
		defer head.Reset() // not before the events are read: both are of one moment
		head.BindText(1, stream)
		h, err := s.streamHead(head, &r.summer, stream)
		switch {
		case err != nil:
			return err
		case *id != 0 && h.id != *id:
			return fmt.Errorf("%w: sqlite: %s: stream %s was given up while it was read: read it again", store.ErrUnavailable, s.path, stream)
		case h.id == 0:
			return nil
		}
		*id = h.id
		version := h.version
		query, next := readForward, max(from, 1)
		if backward {
			query, next = readBack, min(from, version)
			if from == 0 {
				next = version
			}
		}
		if next > version {
			return nil
		}
		st, err := r.conn.Prepare(query)
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindInt64(1, *id)
		st.BindInt64(2, int64(next))
		there := next
		if !backward {
			there = version - next + 1
		}
		expected := int(min(uint64(n), there))
		recs = slices.Grow(recs, expected)
		r.begin(expected)
		for len(recs) < n && r.arena.taken < chunkBytes && 0 < next && next <= version {
			rec, err := s.next(r, st, stream, next)
			if err != nil {
				return err
			}
			recs = append(recs, rec)
			if next++; backward {
				next -= 2
			}
		}
		r.end(len(recs))
		more = 0 < next && next <= version
		return nil
	})
	return recs, more, err
}

// ReadAll implements [store.Log].
func (s *Store) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		pos, left := after.Seq(0), f.Limit
		// The end is fixed before the kinds are looked up: an event beyond it
		// may be of a kind that is not among them yet, and a reader that saw
		// a later event would believe to have seen that one too.
		end := s.head.Load()
		sc := scan{after: pos, end: end, filter: f, dense: len(f.Categories)+len(f.Types) == 0}
		var some bool
		if sc.query, some = s.scanQuery(f); !some || end <= pos {
			if err := s.usable(ctx); err != nil {
				yield(store.Record{}, err)
			}
			return
		}
		var recs []store.Record
		for {
			n := chunk
			if f.Limit > 0 {
				n = min(n, left)
			}
			var more bool
			var err error
			if recs, more, err = s.scanChunk(ctx, &sc, n, recs[:0]); err != nil {
				yieldUpTo(recs, err, yield)
				return
			}
			for i := range recs {
				if !yield(recs[i], nil) {
					return
				}
			}
			left -= len(recs)
			if !more || f.Limit > 0 && left == 0 {
				return
			}
		}
	}
}

// A scan is a part of the log that is being read.
type scan struct {
	query      string
	after, end uint64 // positions: what is still to be read
	filter     store.Filter
	dense      bool // the query selects every position
}

func (s *Store) usable(ctx context.Context) error {
	if s.closed() {
		return errClosed
	}
	return ctx.Err()
}

// scanQuery returns the statement that reads what f selects, and false if
// nothing recorded so far is selected.
func (s *Store) scanQuery(f store.Filter) (string, bool) {
	const scan = "SELECT " + columns + ", s.name FROM events e LEFT JOIN streams s ON s.id = e.stream WHERE e.pos > ? AND e.pos <= ?%s ORDER BY e.pos"
	if len(f.Categories)+len(f.Types) == 0 {
		return fmt.Sprintf(scan, ""), true
	}
	ids := s.names.selected(f)
	if len(ids) == 0 {
		return "", false
	}
	var list strings.Builder
	for i, id := range ids {
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.FormatInt(id, 10))
	}
	return fmt.Sprintf(scan, " AND e.kind IN ("+list.String()+")"), true
}

// scanChunk reads up to n rows, and reports whether it stopped before the last
// one.
func (s *Store) scanChunk(ctx context.Context, sc *scan, n int, recs []store.Record) (_ []store.Record, more bool, err error) {
	err = s.reading(ctx, func(r *reader) error {
		r.conn.SetInterrupt(ctx.Done())
		defer r.conn.SetInterrupt(nil)
		var err error
		began := sc.after
		recs, err = s.scanRows(r, sc, n, recs)
		if !sc.dense {
			if last, gap := s.complete(r, began, sc.after); gap != nil {
				recs, err = upTo(recs, last), gap
			}
		}
		more = sc.after < sc.end
		return err
	})
	return recs, more, err
}

// scanRows reads up to n rows and keeps those of the filter's partition.
// Positions have no gaps but those that were given up: a damaged page that hides
// events shows.
func (s *Store) scanRows(r *reader, sc *scan, n int, recs []store.Record) ([]store.Record, error) {
	r.begin(int(min(uint64(n), sc.end-sc.after)))
	st, err := r.conn.Prepare(sc.query)
	if err != nil {
		return recs, err
	}
	defer st.Reset()
	st.BindInt64(1, int64(sc.after))
	st.BindInt64(2, int64(sc.end))
	stream, gone := "", gapReader{reader: r}
	for rows := 0; rows < n && r.arena.taken < chunkBytes && sc.after < sc.end; rows++ {
		ok, err := st.Step()
		if err != nil {
			return recs, err
		}
		next := sc.end + 1
		if ok {
			next = uint64(st.ColumnInt64(0))
		}
		switch {
		case next <= sc.after:
			return recs, s.damaged("the event at position %d is in a wrong place", next)
		case sc.dense && next > sc.after+1:
			if at, err := gone.missing(sc.after+1, next-1); err != nil || at > 0 {
				return recs, cmp.Or(err, s.missing(fmt.Sprintf("at position %d", at)))
			}
		}
		if !ok {
			sc.after = sc.end
			break
		}
		sc.after = next
		if name := r.text(st, 8); string(name) != stream {
			stream = string(name)
		}
		if f := sc.filter; f.Partitions > 1 && store.PartitionOf(stream, f.Partitions) != f.Partition {
			continue
		}
		rec, err := s.record(r, st, stream)
		if err != nil {
			return recs, err
		}
		recs = append(recs, rec)
	}
	r.end(len(recs))
	return recs, nil
}

// Head implements [store.Log].
func (s *Store) Head(ctx context.Context) (store.Cursor, error) {
	if err := s.usable(ctx); err != nil {
		return store.Start, err
	}
	return store.CursorAt(store.Position{Seq: s.head.Load()}), nil
}

// Wait implements [store.Waiter].
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	s.mu.Lock()
	grown := s.grown
	s.mu.Unlock()
	if err := s.usable(ctx); err != nil || s.head.Load() > after.Seq(0) {
		return err
	}
	select {
	case <-grown:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
