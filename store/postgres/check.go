package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// A Report is what [Store.Check] found.
type Report struct {
	Events, Streams, Docs uint64
	GivenUp               uint64   // positions whose events were given up, see store.Compactor
	Head                  uint64   // the last position
	Problems              []string // none = the log is sound
	Omitted               int      // further problems
}

// maxProblems is how many problems a report tells.
const maxProblems = 1000

func (r *Report) add(problem string) {
	if len(r.Problems) == maxProblems {
		r.Omitted++
		return
	}
	r.Problems = append(r.Problems, problem)
}

// Check reads the whole log, in use or not, and reports what is damaged: events
// that fail their checksum, events that are missing and were not given up,
// streams that are not what their events say, documents with words that are not
// theirs. It does not look at other documents, but for counting them: the server
// keeps those as well as anything else.
func (s *Store) Check(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	var r Report
	var err error
	if r.Head, err = s.headNow(ctx); err != nil {
		return r, err
	}
	if err := s.checkEvents(ctx, &r, progress); err != nil {
		return r, err
	}
	if err := s.checkGaps(ctx, &r); err != nil {
		return r, err
	}
	if err := s.checkStreams(ctx, &r); err != nil {
		return r, err
	}
	return r, s.checkWords(ctx, &r)
}

// checkEvents reads the log up to the head, and goes on behind what is damaged.
func (s *Store) checkEvents(ctx context.Context, r *Report, progress func(done, total uint64)) error {
	sc := scan{end: r.Head, limit: chunk}
	for sc.after < sc.end && r.Omitted == 0 {
		progress(sc.after, sc.end)
		recs, err := s.scanChunk(ctx, &sc)
		r.Events += uint64(len(recs))
		d, damaged := errors.AsType[*damage](err)
		switch {
		case damaged:
			r.add(d.what)
			sc.after = d.pos
		case err != nil:
			return err
		}
	}
	return nil
}

// checkGaps counts what was given up: together with the events it must come to
// the head. What is appended or given up meanwhile is left out.
func (s *Store) checkGaps(ctx context.Context, r *Report) error {
	last := r.Head / store.GapBlock
	for first := uint64(0); first <= last; first += gapBlocks {
		gone, err := s.gaps(ctx, first, min(first+gapBlocks-1, last))
		if err != nil {
			return s.failure(err)
		}
		r.GivenUp += gone.Len()
	}
	if len(r.Problems) == 0 && r.Events+r.GivenUp < r.Head {
		r.add(fmt.Sprintf("%d events and %d that were given up do not come to the head, %d", r.Events, r.GivenUp, r.Head))
	}
	var n int64
	err := s.pool.QueryRow(ctx, s.sql(`SELECT count(*) FROM {}.events e JOIN {}.gone g ON g.block = e.pos / $1
		WHERE get_bit(g.bits, (e.pos % $1)::int) = 1`), int64(store.GapBlock)).Scan(&n)
	if n > 0 {
		r.add(fmt.Sprintf("%d events are among those that were given up", n))
	}
	return s.failure(err)
}

// checkStreams compares what is noted of streams with their events.
func (s *Store) checkStreams(ctx context.Context, r *Report) error {
	rows, err := s.pool.Query(ctx, s.sql(`SELECT s.name, s.version, count(e.pos), coalesce(min(e.version), 0), coalesce(max(e.version), 0)
		FROM {}.streams s LEFT JOIN {}.events e ON e.stream = s.id GROUP BY s.id
		HAVING count(e.pos) <> s.version OR max(e.version) <> s.version OR min(e.version) <> 1 LIMIT $1`), maxProblems)
	if err != nil {
		return s.failure(err)
	}
	var name string
	var version, n, first, last int64
	_, err = pgx.ForEachRow(rows, []any{&name, &version, &n, &first, &last}, func() error {
		r.add(fmt.Sprintf("stream %s is at version %d but has %d events, from version %d to %d", name, version, n, first, last))
		return nil
	})
	if err == nil {
		err = s.pool.QueryRow(ctx, s.sql("SELECT (SELECT count(*) FROM {}.streams), (SELECT count(*) FROM {}.docs)")).Scan(&r.Streams, &r.Docs)
	}
	return s.failure(err)
}

// checkWords compares the words by which documents are found with their text.
func (s *Store) checkWords(ctx context.Context, r *Report) error {
	rows, err := s.pool.Query(ctx, s.sql(`SELECT c.id, c.name, array_agg(s.field ORDER BY s.n) FROM {}.searched s JOIN {}.colls c ON c.id = s.coll GROUP BY c.id, c.name`))
	if err != nil {
		return s.failure(err)
	}
	type searched struct {
		coll   int64
		name   string
		fields []string
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x searched, err error) {
		return x, row.Scan(&x.coll, &x.name, &x.fields)
	})
	for _, x := range all {
		if err != nil {
			break
		}
		if rows, err = s.pool.Query(ctx, s.sql("SELECT key, data, coalesce(words::text, 'none') FROM {}.docs WHERE coll = $1"), x.coll); err != nil {
			break
		}
		var key, data []byte
		var words string
		_, err = pgx.ForEachRow(rows, []any{&key, &data, &words}, func() error {
			has := strings.Fields(strings.ReplaceAll(words, "'", "")) // in the server's order
			slices.Sort(has)
			if !slices.Equal(has, store.UniqueWords(store.WordsOf(data, x.fields))) {
				r.add(fmt.Sprintf("document %s/%s is not found by its words: rebuild the view", x.name, key))
			}
			return nil
		})
	}
	return s.failure(err)
}
