package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// A Report is what [Check] found.
type Report struct {
	Path     string    `json:"path"`
	Events   uint64    `json:"events"`
	Streams  uint64    `json:"streams"`
	Docs     uint64    `json:"docs"`
	Head     uint64    `json:"head"`
	GivenUp  uint64    `json:"given_up"` // positions whose events were given up, see store.Compactor
	Problems []Problem `json:"problems"` // none = the file is sound
	Omitted  int       `json:"omitted"`  // further problems, beyond the first 1,000
}

// A Problem is something that is not as it was written.
type Problem struct {
	Position uint64 `json:"position,omitempty"` // in the log, if it concerns an event
	Stream   string `json:"stream,omitempty"`
	Version  uint64 `json:"version,omitempty"`
	Detail   string `json:"detail"`
}

func (p Problem) String() string {
	switch {
	case p.Position == 0:
		return p.Detail
	case p.Stream == "":
		return fmt.Sprintf("position %d: %s", p.Position, p.Detail)
	}
	return fmt.Sprintf("position %d, %s@%d: %s", p.Position, p.Stream, p.Version, p.Detail)
}

const maxProblems = 1000

func (r *Report) add(p Problem) {
	if len(r.Problems) >= maxProblems {
		r.Omitted++
		return
	}
	r.Problems = append(r.Problems, p)
}

// Check reads a whole database, also one that is in use, and reports whatever
// is damaged: pages, checksums of events, streams and documents, gaps in streams,
// events that are missing and were not given up. Progress, if not nil, is told
// now and then how many events are checked out of how many. The error is for a
// check that could not be made; damage is in the report.
func Check(ctx context.Context, path string, progress func(done, total uint64)) (Report, error) {
	r := Report{Path: path, Problems: []Problem{}}
	if _, err := os.Stat(path); err != nil {
		return r, fmt.Errorf("sqlite: check: %w", err)
	}
	c, err := lib.OpenConn(path, lib.OpenReadOnly)
	if err != nil {
		return r, fmt.Errorf("sqlite: check: %s: %w", path, err)
	}
	defer c.Close()
	c.SetBusyTimeout(10 * time.Second)
	c.SetInterrupt(ctx.Done())
	k := &checker{conn: c, report: &r, progress: progress}
	// One transaction, so that all steps see the same moment.
	if err := sqlitex.ExecuteTransient(c, "BEGIN", nil); err != nil {
		return r, fmt.Errorf("sqlite: check: %s: %w", path, err)
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{{"schema", k.schema}, {"pages", k.pages}, {"counts", k.counts}, {"gaps", k.gaps}, {"events", k.events}, {"streams", k.streams}, {"checksums", k.sums}, {"words", k.words}} {
		if err := step.run(); err != nil {
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			r.add(Problem{Detail: fmt.Sprintf("the %s cannot be read: %v", step.name, err)})
		}
	}
	return r, nil
}

type checker struct {
	conn     *lib.Conn
	report   *Report
	progress func(done, total uint64)
	gone     store.Gaps
	version  int64 // of the schema
}

func (k *checker) each(query string, f func(*lib.Stmt) error) error {
	return sqlitex.ExecuteTransient(k.conn, query, &sqlitex.ExecOptions{ResultFunc: f})
}

func (k *checker) schema() error {
	id, err := pragma(k.conn, "application_id")
	if err == nil && id != applicationID {
		k.report.add(Problem{Detail: "this is not a database of deed"})
	}
	if err == nil {
		k.version, err = pragma(k.conn, "user_version")
	}
	return err
}

func (k *checker) pages() error {
	return k.each("PRAGMA integrity_check(100)", func(st *lib.Stmt) error {
		if s := st.ColumnText(0); s != "ok" {
			k.report.add(Problem{Detail: s})
		}
		return nil
	})
}

func (k *checker) counts() error {
	for query, into := range map[string]*uint64{
		"SELECT count(*) FROM events": &k.report.Events, "SELECT count(*) FROM streams": &k.report.Streams,
		"SELECT count(*) FROM docs": &k.report.Docs, "SELECT pos FROM head": &k.report.Head,
	} {
		n, err := integer(k.conn, query)
		if err != nil {
			return err
		}
		*into = uint64(n)
	}
	return nil
}

// gaps reads which positions were given up; a file of an older schema has none.
func (k *checker) gaps() error {
	k.gone = store.Gaps{}
	there, err := integer(k.conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'gone'")
	if err != nil || there == 0 {
		return err
	}
	err = k.each("SELECT block, bits FROM gone", func(st *lib.Stmt) error {
		k.gone.Join(uint64(st.ColumnInt64(0)), bytesOf(st, 1))
		return nil
	})
	k.report.GivenUp = k.gone.Len()
	return err
}

// events verifies every checksum, in the order of the log.
func (k *checker) events() error {
	var sums store.Summer
	done, last := uint64(0), uint64(0)
	err := k.each("SELECT e.pos, e.version, k.category IS NULL, e.id, e.time, e.data, e.meta, e.sum, coalesce(s.name, ''), coalesce(k.type, '') FROM events e "+
		"LEFT JOIN streams s ON s.id = e.stream LEFT JOIN kinds k ON k.id = e.kind ORDER BY e.pos", func(st *lib.Stmt) error {
		p := Problem{Position: uint64(st.ColumnInt64(0)), Version: uint64(st.ColumnInt64(1)), Stream: st.ColumnText(8)}
		k.gap(last, p.Position)
		last = p.Position
		rec := store.Record{
			Stream: p.Stream, Version: p.Version, Position: store.Position{Seq: p.Position}, Time: time.UnixMicro(st.ColumnInt64(4)),
			Type: st.ColumnText(9), Data: bytesOf(st, 5), Meta: bytesOf(st, 6),
		}
		n := st.ColumnBytes(3, rec.ID[:])
		sum := sums.Sum(&rec)
		switch {
		case p.Stream == "":
			p.Detail = "belongs to no stream"
		case st.ColumnBool(2):
			p.Detail = "has no type"
		case n != len(rec.ID) || int64(sum) != st.ColumnInt64(7):
			p.Detail = "does not match its checksum"
		case k.report.Head > 0 && p.Position > k.report.Head:
			p.Detail = fmt.Sprintf("is beyond the head, %d", k.report.Head)
		case k.gone.Has(p.Position):
			p.Detail = "is among those that were given up"
		}
		if p.Detail != "" {
			k.report.add(p)
		}
		if done++; k.progress != nil && done%10_000 == 0 {
			k.progress(done, max(done, k.report.Events))
		}
		return nil
	})
	if err == nil {
		k.gap(last, k.report.Head+1)
	}
	if r := k.report; err == nil && len(r.Problems) == 0 && done+r.GivenUp != r.Head {
		r.add(Problem{Detail: fmt.Sprintf("%d events and %d that were given up do not come to the head, %d", done, r.GivenUp, r.Head)})
	}
	return err
}

// gap reports events that are missing after the position last and before next,
// unless they were given up.
func (k *checker) gap(last, next uint64) {
	for at := last + 1; at < next; {
		from := k.gone.Missing(at, next-1)
		if from == 0 {
			return
		}
		if at = k.gone.Next(from, next-1); at == 0 {
			at = next
		}
		k.report.add(Problem{Position: from, Detail: fmt.Sprintf("%d events are missing from here", at-from)})
	}
}

// streams verifies that versions have no gaps and that the heads agree.
func (k *checker) streams() error {
	return k.each("SELECT s.name, s.version, count(e.pos), coalesce(max(e.version), 0), coalesce(min(e.version), 0) FROM streams s "+
		"LEFT JOIN events e ON e.stream = s.id GROUP BY s.id HAVING count(e.pos) <> s.version OR max(e.version) <> s.version OR min(e.version) <> 1",
		func(st *lib.Stmt) error {
			k.report.add(Problem{Stream: st.ColumnText(0), Detail: fmt.Sprintf("stream %s is at version %d but has %d events, from version %d to %d",
				st.ColumnText(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(4), st.ColumnInt64(3))})
			return nil
		})
}

// sums verifies the checksums of rows that are no events.
func (k *checker) sums() error {
	if k.version < withSums {
		return nil
	}
	var sums summer
	verify := func(what, query string, sum func(*lib.Stmt) int64) error {
		return k.each(query, func(st *lib.Stmt) error {
			if sum(st) != st.ColumnInt64(0) {
				k.report.add(Problem{Detail: what + st.ColumnText(1) + " does not match its checksum"})
			}
			return nil
		})
	}
	return errors.Join(
		verify("the end of the log", "SELECT sum, '', pos, stream, time FROM head", func(st *lib.Stmt) int64 {
			return sums.head(uint64(st.ColumnInt64(2)), st.ColumnInt64(3), st.ColumnInt64(4))
		}),
		verify("the end of stream ", "SELECT sum, name, id, version FROM streams", func(st *lib.Stmt) int64 {
			return sums.stream(st.ColumnText(1), st.ColumnInt64(2), uint64(st.ColumnInt64(3)))
		}),
		verify("document ", "SELECT d.sum, coalesce(c.name, '?') || '/' || d.key, c.name, d.key, d.data, d.rev FROM docs d LEFT JOIN colls c ON c.id = d.coll", func(st *lib.Stmt) int64 {
			return sums.doc(st.ColumnText(2), st.ColumnText(3), bytesOf(st, 4)) + st.ColumnInt64(5)
		}))
}
