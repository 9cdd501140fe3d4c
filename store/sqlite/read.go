package sqlite

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Readers take records in chunks, and give the connection back before they
// hand a chunk out: a loop body may take its time, or call the store. A chunk
// ends after so many rows or so many bytes, whatever comes first.
//
// The statements that read have no LIMIT: SQLite plans a statement anew
// whenever the number bound to its LIMIT changes. Readers stop instead.
const (
	firstChunk = 128
	chunk      = 512
	chunkBytes = 1 << 20
)

// A reader is a connection that reads.
type reader struct {
	conn   *lib.Conn
	summer summer
	arena  arena
	kindID int64 // the kind met last, and its name: most often the next one too
	kind   kindName
}

func (s *Store) openReaders() error {
	s.readers = make(chan *reader, s.opts.Readers)
	for range s.opts.Readers {
		c, err := s.connect(false)
		if err != nil {
			return err
		}
		s.readers <- &reader{conn: c}
	}
	return nil
}

// reading calls f with a reader nobody else uses meanwhile.
func (s *Store) reading(ctx context.Context, f func(*reader) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	select {
	case r := <-s.readers:
		defer func() { s.readers <- r }()
		if err := f(r); err != nil {
			return s.readError(err)
		}
		return nil
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) readError(err error) error {
	switch lib.ErrCode(err).ToPrimary() {
	case lib.ResultOK, lib.ResultError: // not SQLite's, or ours
		return err
	case lib.ResultCorrupt, lib.ResultNotADB:
		return fmt.Errorf("%w: sqlite: %s: %w", store.ErrCorrupt, s.path, err)
	case lib.ResultInterrupt:
		return context.Canceled
	}
	return fmt.Errorf("%w: sqlite: %s: %w", store.ErrUnavailable, s.path, err)
}

// An arena cuts the bytes of records from larger blocks.
type arena struct {
	block []byte
	size  int
	taken int // bytes cut so far
}

func (a *arena) copy(st *lib.Stmt, col int) []byte {
	n := st.ColumnLen(col)
	if n == 0 {
		return nil
	}
	a.taken += n
	if n > cap(a.block)-len(a.block) {
		a.size = min(max(2*a.size, 1<<10), 1<<16)
		a.block = make([]byte, 0, max(n, a.size))
	}
	at := len(a.block)
	a.block = a.block[:at+n]
	b := a.block[at : at+n : at+n]
	st.ColumnBytes(col, b)
	return b
}

// fresh begins a new arena: what was cut from the old one belongs to others.
func (a *arena) fresh() { *a = arena{} }

const columns = "e.pos, e.version, e.kind, e.id, e.time, e.data, e.meta, e.sum"

// record reads the present row. The checksum of every event is verified.
func (s *Store) record(r *reader, st *lib.Stmt, stream string) (store.Record, error) {
	rec := store.Record{
		Stream: stream, Position: store.Position{Seq: uint64(st.ColumnInt64(0))}, Version: uint64(st.ColumnInt64(1)),
		Data: r.arena.copy(st, 5), Meta: r.arena.copy(st, 6),
	}
	known := true
	if id := st.ColumnInt64(2); id != r.kindID {
		r.kind, known = s.names.kind(id)
		if r.kindID = id; !known {
			r.kindID = 0 // no kind has this number
		}
	}
	n := st.ColumnBytes(3, rec.ID[:])
	micros := st.ColumnInt64(4)
	rec.Type, rec.Time = r.kind.typ, time.UnixMicro(micros).UTC()
	sum := r.summer.sum(stream, rec.Version, rec.Position.Seq, micros, rec.ID, r.kind.typ, rec.Data, rec.Meta)
	if !known || n != len(rec.ID) || int64(sum) != st.ColumnInt64(7) {
		return rec, fmt.Errorf("%w: sqlite: %s: event %s@%d at position %v fails its checksum: run deed check, restore a backup",
			store.ErrCorrupt, s.path, stream, rec.Version, rec.Position)
	}
	return rec, nil
}

// Read implements [store.Log].
func (s *Store) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		from, left, size := r.From, r.Limit, firstChunk
		var recs []store.Record
		for {
			n := size
			if r.Limit > 0 {
				n = min(n, left)
			}
			var more bool
			var err error
			if recs, more, err = s.readChunk(ctx, stream, from, n, r.Backward, recs[:0]); err != nil {
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
			last := recs[len(recs)-1].Version
			if r.Backward && last == 1 {
				return
			}
			from, size = last+1, chunk
			if r.Backward {
				from = last - 1
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
	readForward = "SELECT " + columns + " FROM events e WHERE e.stream = (SELECT id FROM streams WHERE name = ?) AND e.version >= ? ORDER BY e.version"
	readBack    = "SELECT " + columns + " FROM events e WHERE e.stream = (SELECT id FROM streams WHERE name = ?) AND e.version <= ? ORDER BY e.version DESC"
)

// readChunk reads up to n records, and reports whether it stopped before the
// last one.
func (s *Store) readChunk(ctx context.Context, stream string, from uint64, n int, backward bool, recs []store.Record) (_ []store.Record, more bool, err error) {
	query, start := readForward, int64(from)
	if from > 1<<62 {
		start = 1 << 62
	}
	if backward {
		query = readBack
		if from == 0 {
			start = 1 << 62
		}
	}
	err = s.reading(ctx, func(r *reader) error {
		r.arena.fresh()
		st, err := r.conn.Prepare(query)
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindText(1, stream)
		st.BindInt64(2, start)
		for len(recs) < n && r.arena.taken < chunkBytes {
			ok, err := st.Step()
			if err != nil || !ok {
				return err
			}
			rec, err := s.record(r, st, stream)
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		more = true
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
		query, some := s.scanQuery(f)
		if !some || end <= pos {
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
			if recs, pos, more, err = s.scanChunk(ctx, query, pos, end, n, f, recs[:0]); err != nil {
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

func (s *Store) usable(ctx context.Context) error {
	if s.closed() {
		return errClosed
	}
	return ctx.Err()
}

// scanQuery returns the statement that reads what f selects, and false if
// nothing recorded so far is selected.
func (s *Store) scanQuery(f store.Filter) (string, bool) {
	const scan = "SELECT " + columns + ", s.name FROM events e JOIN streams s ON s.id = e.stream WHERE e.pos > ? AND e.pos <= ?%s ORDER BY e.pos"
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

// scanChunk reads up to n rows after pos and up to end, and keeps those of f's
// partition. It returns the position of the last row, and whether it stopped
// before the last one.
func (s *Store) scanChunk(ctx context.Context, query string, pos, end uint64, n int, f store.Filter, recs []store.Record) (_ []store.Record, last uint64, more bool, err error) {
	last = pos
	err = s.reading(ctx, func(r *reader) error {
		r.arena.fresh()
		r.conn.SetInterrupt(ctx.Done())
		defer r.conn.SetInterrupt(nil)
		st, err := r.conn.Prepare(query)
		if err != nil {
			return err
		}
		defer st.Reset()
		st.BindInt64(1, int64(pos))
		st.BindInt64(2, int64(end))
		stream := ""
		for rows := 0; rows < n && r.arena.taken < chunkBytes; rows++ {
			ok, err := st.Step()
			if err != nil || !ok {
				return err
			}
			last = uint64(st.ColumnInt64(0))
			if name := st.ColumnBytesUnsafe(8); string(name) != stream {
				stream = string(name)
			}
			if f.Partitions > 1 && store.PartitionOf(stream, f.Partitions) != f.Partition {
				continue
			}
			rec, err := s.record(r, st, stream)
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		more = true
		return nil
	})
	return recs, last, more, err
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
