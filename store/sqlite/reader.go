package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// A reader is a connection that reads.
type reader struct {
	conn   *lib.Conn
	summer summer
	arena  arena
	mean   int   // bytes of a record, lately
	kindID int64 // the kind met last, and its name: most often the next one too
	kind   kindName
	name   []byte
}

// text returns the text of a column; it is valid until the next call.
func (r *reader) text(st *lib.Stmt, col int) []byte {
	value := st.ColumnReader(col)
	r.name = slices.Grow(r.name[:0], value.Len())[:value.Len()]
	value.Read(r.name)
	return r.name
}

func (s *Store) openReaders() error {
	s.readers = make(chan *reader, s.opts.Readers)
	for n := range s.opts.Readers {
		c, err := s.connect(false)
		if err != nil {
			return errors.Join(err, s.closeReaders(n))
		}
		s.readers <- &reader{conn: c}
	}
	return nil
}

// closeReaders waits for so many readers and closes them.
func (s *Store) closeReaders(n int) (err error) {
	for range n {
		r := <-s.readers
		err = errors.Join(err, r.conn.Close())
	}
	return err
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

// atOnce has f see one state of the database, however many statements it reads with.
func (r *reader) atOnce(f func() error) (err error) {
	if err := sqlitex.Execute(r.conn, "BEGIN", nil); err != nil {
		return err
	}
	defer func() {
		r.conn.SetInterrupt(nil) // who asked may have gone, and still it has to end
		err = errors.Join(err, sqlitex.Execute(r.conn, "ROLLBACK", nil))
	}()
	return f()
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
	size  int // of the next block
	taken int // bytes cut so far
}

const minBlock, maxBlock = 1 << 10, 1 << 16

func (a *arena) copy(st *lib.Stmt, col int) []byte {
	value := st.ColumnReader(col) // asks SQLite once for where it is and how long
	n := value.Len()
	if n == 0 {
		return nil
	}
	a.taken += n
	if n > cap(a.block)-len(a.block) {
		a.block = make([]byte, 0, max(n, a.size))
		a.size = min(max(2*a.size, minBlock), maxBlock)
	}
	at := len(a.block)
	a.block = a.block[:at+n]
	b := a.block[at : at+n : at+n]
	value.Read(b)
	return b
}

// begin begins a new arena for so many records, if they are as large as those
// of the last one. What was cut from that belongs to others.
func (r *reader) begin(records int) {
	size := records * r.mean
	r.arena = arena{size: min(max(size+size/8, minBlock), maxBlock)}
}

// end notes how large the records were.
func (r *reader) end(records int) {
	if records > 0 {
		r.mean = r.arena.taken / records
	}
}

const columns = "e.pos, e.version, e.kind, e.id, e.time, e.data, e.meta, e.sum"

// next reads the next row, which has to be this version of a stream.
func (s *Store) next(r *reader, st *lib.Stmt, stream string, version uint64) (rec store.Record, err error) {
	ok, err := st.Step()
	if err != nil {
		return rec, err
	}
	if !ok || uint64(st.ColumnInt64(1)) != version {
		return rec, s.missing(fmt.Sprintf("%s@%d", stream, version))
	}
	return s.record(r, st, stream)
}

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
	sum := r.summer.Sum(&rec)
	if !known || n != len(rec.ID) || int64(sum) != st.ColumnInt64(7) {
		return rec, s.damaged("event %s@%d at position %v fails its checksum", stream, rec.Version, rec.Position)
	}
	return rec, nil
}
