package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// Reads go in chunks, each with a connection of its own that is given back
// before the caller's loop runs. A chunk ends after so many rows; chunkBytes
// keeps large events from filling the memory.
const (
	chunk      = 1000
	chunkBytes = 4 << 20
)

// window is how many positions a query with a filter looks at, so that it comes
// to an end within its time even if it finds nothing.
const window = 200_000

// events writes a query for at most $3 events in some order. The server itself
// stops when it has enough bytes: what it has begun to send must be received.
func (s *Store) events(where, column, dir string) string {
	return s.sql(fmt.Sprintf(`SELECT pos, version, id, time, data, meta, sum, name, category, type FROM (
		SELECT e.pos, e.version, e.id, e.time, e.data, e.meta, e.sum, s.name, k.category, k.type,
			sum(octet_length(e.data) + octet_length(e.meta)) OVER (ORDER BY e.%[2]s %[3]s ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
		FROM {}.events e JOIN {}.streams s ON s.id = e.stream JOIN {}.kinds k ON k.id = e.kind
		WHERE %[1]s ORDER BY e.%[2]s %[3]s LIMIT $3) e
		WHERE coalesce(before, 0) < %[4]d ORDER BY %[2]s %[3]s`, where, column, dir, chunkBytes))
}

// A row is an event as it is stored.
type row struct {
	rec      store.Record
	pos      int64
	version  int64
	id       []byte
	time     int64
	sum      int64
	category string
}

// rowsOf reads events, verifying their checksums, until f returns false.
func (s *Store) rowsOf(rows pgx.Rows, f func(store.Record) bool) error {
	defer rows.Close()
	var sums store.Summer
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.pos, &r.version, &r.id, &r.time, &r.rec.Data, &r.rec.Meta, &r.sum, &r.rec.Stream, &r.category, &r.rec.Type); err != nil {
			return err
		}
		rec := r.rec
		rec.Position.Seq, rec.Version, rec.Time = uint64(r.pos), uint64(r.version), time.UnixMicro(r.time).UTC()
		if copy(rec.ID[:], r.id); len(r.id) != len(rec.ID) || r.category != store.Category(rec.Stream) || int64(sums.Sum(&rec)) != r.sum {
			return &damage{rec.Position.Seq, fmt.Sprintf("event %s@%d at position %v fails its checksum", rec.Stream, rec.Version, rec.Position)}
		}
		if !f(rec) {
			return nil
		}
	}
	return rows.Err()
}

// Read implements [store.Log].
func (s *Store) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		from, left, known := r.From, r.Limit, store.CheckName("stream", stream) == nil
		var last store.Record // of what was read
		for known {
			n := chunk
			if r.Limit > 0 {
				n = min(n, left)
			}
			recs, more, err := s.readChunk(ctx, stream, from, n, r.Backward)
			if last.Version > 0 && err == nil {
				recs, err = s.still(ctx, last, recs)
			}
			if !yieldAll(recs, err, yield) {
				return
			}
			left -= len(recs)
			if !more || r.Limit > 0 && left == 0 {
				return
			}
			last = recs[len(recs)-1]
			from = last.Version + 1
			if r.Backward {
				from -= 2
			}
		}
		if err := s.usable(ctx); err != nil {
			yield(store.Record{}, err)
		}
	}
}

// yieldAll yields records, then an error if there is one. It reports whether
// to go on.
func yieldAll(recs []store.Record, err error, yield func(store.Record, error) bool) bool {
	for i := range recs {
		if !yield(recs[i], nil) {
			return false
		}
	}
	if err != nil {
		yield(store.Record{}, err)
	}
	return err == nil
}

// still returns the records of a chunk if what was read before them is still
// there. If not, the stream was given up meanwhile, and perhaps another has its
// name.
func (s *Store) still(ctx context.Context, last store.Record, recs []store.Record) ([]store.Record, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var there bool
	err := s.pool.QueryRow(ctx, s.sql("SELECT EXISTS (SELECT FROM {}.events WHERE pos = $1 AND id = $2)"), int64(last.Position.Seq), last.ID[:]).Scan(&there)
	if err == nil && !there {
		err = fmt.Errorf("%w: postgres: stream %s was given up while it was read: read it again", store.ErrUnavailable, last.Stream)
	}
	if err != nil {
		return nil, s.failure(err)
	}
	return recs, nil
}

// readChunk reads up to n records of a stream, and reports whether there may be
// more. Versions have no gaps: an event that is missing shows.
func (s *Store) readChunk(ctx context.Context, stream string, from uint64, n int, backward bool) (recs []store.Record, more bool, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, false, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	bound, order := "e.version >= $2", "ASC"
	next := min(max(from, 1), math.MaxInt64)
	if backward {
		bound, order = "e.version <= $2", "DESC"
		if next = min(from, math.MaxInt64); from == 0 {
			next = math.MaxInt64
		}
	}
	rows, err := s.pool.Query(ctx, s.events("s.name = $1 AND "+bound, "version", order), stream, int64(next), n)
	if err != nil {
		return nil, false, s.failure(err)
	}
	size := 0
	err = s.rowsOf(rows, func(rec store.Record) bool {
		recs = append(recs, rec)
		size += len(rec.Data) + len(rec.Meta)
		more = size >= chunkBytes || len(recs) == n
		return !more
	})
	for i := range recs {
		want := recs[0].Version + uint64(i)
		if backward {
			want = recs[0].Version - uint64(i)
		}
		if recs[i].Version != want || !backward && i == 0 && want != next {
			return recs[:i], false, fmt.Errorf("%w: postgres: the event %s@%d is missing: run deed check, restore a backup", store.ErrCorrupt, stream, want)
		}
	}
	more = more && (!backward || recs[len(recs)-1].Version > 1)
	return recs, more, s.failure(err)
}

// ReadAll implements [store.Log].
func (s *Store) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return s.readFrom(ctx, scan{after: after.Seq(0), filter: f})
}

// readFrom reads what is left of a scan.
func (s *Store) readFrom(ctx context.Context, from scan) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		sc, f := from, from.filter
		left := f.Limit
		for !sc.ended || sc.after < sc.end {
			sc.limit = chunk
			if f.Limit > 0 && f.Partitions <= 1 {
				sc.limit = min(chunk, left)
			}
			recs, err := s.scanChunk(ctx, &sc)
			if f.Limit > 0 && len(recs) > left {
				recs = recs[:left]
			}
			if !yieldAll(recs, err, yield) {
				return
			}
			left -= len(recs)
			if sc.after >= sc.end || f.Limit > 0 && left == 0 {
				return
			}
		}
	}
}

// A scan is a part of the log that is being read.
type scan struct {
	after, end uint64 // what is still to be read
	ended      bool   // the end is known
	filter     store.Filter
	limit      int
}

// scanChunk reads some records. The first chunk fixes the end, before it reads:
// whatever is not after it is committed and will be seen.
func (s *Store) scanChunk(ctx context.Context, sc *scan) (recs []store.Record, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if !sc.ended {
		if sc.end, err = s.headNow(ctx); err != nil || sc.end <= sc.after {
			return nil, err
		}
		sc.ended = true
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	until := sc.end
	if len(sc.filter.Categories)+len(sc.filter.Types) > 0 {
		until = min(until, sc.after+window)
	}
	where, args := "e.pos > $1 AND e.pos <= $2", []any{int64(sc.after), int64(until), sc.limit}
	if len(sc.filter.Categories) > 0 {
		args = append(args, valid(sc.filter.Categories))
		where += fmt.Sprintf(" AND k.category = ANY($%d)", len(args))
	}
	if len(sc.filter.Types) > 0 {
		args = append(args, valid(sc.filter.Types))
		where += fmt.Sprintf(" AND k.type = ANY($%d)", len(args))
	}
	rows, err := s.pool.Query(ctx, s.events(where, "pos", "ASC"), args...)
	if err != nil {
		return nil, s.failure(err)
	}
	size, n, full := 0, 0, false
	last := sc.after
	dense := len(args) == 3
	var gaps []span
	err = s.rowsOf(rows, func(rec store.Record) bool {
		if dense && rec.Position.Seq != last+1 {
			gaps = append(gaps, span{last + 1, rec.Position.Seq - 1})
		}
		last = rec.Position.Seq
		size += len(rec.Data) + len(rec.Meta)
		n++
		if f := sc.filter; f.Partitions <= 1 || store.PartitionOf(rec.Stream, f.Partitions) == f.Partition {
			recs = append(recs, rec)
		}
		full = n == sc.limit || size >= chunkBytes
		return !full
	})
	if sc.after = last; err == nil && !full {
		if dense && last < until {
			gaps = append(gaps, span{last + 1, until})
		}
		sc.after = until
	}
	recs, gap := s.upTo(ctx, recs, gaps)
	if gap != nil { // it comes before whatever else went wrong
		err = gap
	}
	return recs, s.failure(err)
}

// upTo returns the records before the first one that is missing and was not
// given up, and an error if there is such.
func (s *Store) upTo(ctx context.Context, recs []store.Record, gaps []span) ([]store.Record, error) {
	at, err := s.missing(ctx, gaps)
	if err != nil {
		return nil, err
	}
	if at == 0 {
		return recs, nil
	}
	n := 0
	for n < len(recs) && recs[n].Position.Seq < at {
		n++
	}
	return recs[:n], &damage{at, fmt.Sprintf("the event at position %d is missing", at)}
}

// damage is the error of an event that is not as it was written.
type damage struct {
	pos  uint64
	what string
}

func (d *damage) Error() string {
	return fmt.Sprintf("%v: postgres: %s: run deed check, restore a backup", store.ErrCorrupt, d.what)
}

func (d *damage) Unwrap() error { return store.ErrCorrupt }

// valid leaves out what can be no name, and what the server would not take.
func valid(names []string) []string {
	out := []string{}
	for _, n := range names {
		if store.CheckName("name", n) == nil {
			out = append(out, n)
		}
	}
	return out
}

// headNow asks for the end of the log.
func (s *Store) headNow(ctx context.Context) (uint64, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	asked := time.Now()
	var h headRow
	err := s.pool.QueryRow(ctx, s.sql("SELECT pos, stream, time FROM {}.head")).Scan(&h.pos, &h.stream, &h.time)
	if err != nil {
		return 0, s.failure(err)
	}
	s.recent.confirm(h, asked)
	s.announce(uint64(h.pos))
	return uint64(h.pos), nil
}

// Head implements [store.Log].
func (s *Store) Head(ctx context.Context) (store.Cursor, error) {
	if err := s.usable(ctx); err != nil {
		return store.Start, err
	}
	pos, err := s.headNow(ctx)
	return store.CursorAt(store.Position{Seq: pos}), err
}
