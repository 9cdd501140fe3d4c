package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
)

// raw is a program of another kind, which appends step by step as the store
// does: it begins, perhaps has a transaction id early, takes the head, inserts,
// and commits late or never.
type raw struct {
	c      *pgx.Conn
	schema string
	pos    int64
	stream string
}

// take begins and takes the head. It waits while others have it.
func (r *raw) take(ctx context.Context, early bool) error {
	if _, err := r.c.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if early {
		if _, err := r.c.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
			return err
		}
	}
	return r.c.QueryRow(ctx, "SELECT pos + 1 FROM "+r.schema+".head FOR UPDATE").Scan(&r.pos)
}

// insert puts a copy of the stream's last event after it.
func (r *raw) insert(ctx context.Context) error {
	_, err := r.c.Exec(ctx, fmt.Sprintf(`WITH s AS (UPDATE %[1]s.streams SET version = version + 1 WHERE name = '%[2]s' RETURNING id, version)
		INSERT INTO %[1]s.events SELECT %[3]d, e.stream, s.version, e.kind, e.id, e.time, e.data, e.meta, 0
		FROM s JOIN %[1]s.events e ON e.stream = s.id AND e.version = 1`, r.schema, r.stream, r.pos))
	if err == nil {
		_, err = r.c.Exec(ctx, fmt.Sprintf("UPDATE %s.head SET pos = %d", r.schema, r.pos))
	}
	return err
}

// sums gives the raw events their checksums, as only the store can compute them:
// here a trigger leaves them out of it by making them good when they are read.
func (r *raw) sums(ctx context.Context, rec store.Record) error {
	var sum store.Summer
	_, err := r.c.Exec(ctx, fmt.Sprintf("UPDATE %s.events SET sum = $1 WHERE pos = $2", r.schema), int64(sum.Sum(&rec)), r.pos)
	return err
}

func (r *raw) record(ctx context.Context) (rec store.Record, err error) {
	var id []byte
	var micros, version int64
	err = r.c.QueryRow(ctx, fmt.Sprintf("SELECT version, id, time, data, meta FROM %s.events WHERE pos = $1", r.schema), r.pos).
		Scan(&version, &id, &micros, &rec.Data, &rec.Meta)
	rec.ID, rec.Stream, rec.Version, rec.Type = store.ID(id), r.stream, uint64(version), "done"
	rec.Position.Seq, rec.Time = uint64(r.pos), time.UnixMicro(micros).UTC()
	return rec, err
}

// append does it all; between the steps it waits a little.
func (r *raw) append(ctx context.Context, rnd *rand.Rand, commit bool) error {
	err := r.take(ctx, rnd.IntN(2) == 0)
	pause := func() { time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond) }
	if pause(); err == nil {
		err = r.insert(ctx)
	}
	var rec store.Record
	if err == nil {
		rec, err = r.record(ctx)
	}
	if err == nil {
		err = r.sums(ctx, rec)
	}
	if pause(); err == nil && commit {
		_, err = r.c.Exec(ctx, "COMMIT")
		return err
	}
	r.c.Exec(ctx, "ROLLBACK")
	return err
}

// Late commits and rolled-back gaps: the races in which logs with sequences or
// transaction ids lose events. Raw sessions and two stores append; readers, each
// going on where it stopped, see every event once and in order.
func TestNoReaderMissesAnything(t *testing.T) {
	schema := server.Schema()
	a, b := openWith(t, server.DSN(schema), nil), openWith(t, server.DSN(schema), nil)
	for i := range 2 {
		must[[]store.Written](t)(a.Append(t.Context(), write(fmt.Sprintf("raw/%d", i), store.None, event(`{}`))))
	}
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() { rawAppends(t, server, schema, i) })
		writers.Go(func() {
			s := []store.Store{a, b}[i]
			for n := range 100 {
				if _, err := s.Append(t.Context(), write(fmt.Sprintf("a/%d", n%3), store.Any, events(1+n%2)...)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	tails := make([][]store.Record, 4)
	for i := range tails {
		readers.Go(func() { tails[i] = tail(t, []store.Store{a, b}[i%2], done) })
	}
	writers.Wait()
	close(done)
	readers.Wait()
	log := logOf(t, a)
	for i, tail := range tails {
		if len(tail) != len(log) {
			t.Errorf("reader %d saw %d events of %d", i, len(tail), len(log))
		}
	}
	next := map[string]uint64{}
	for _, rec := range log {
		if next[rec.Stream]++; rec.Version != next[rec.Stream] {
			t.Errorf("position %v has %s@%d, want %d", rec.Position, rec.Stream, rec.Version, next[rec.Stream])
		}
	}
	t.Logf("%d events", len(log))
}

func rawAppends(t *testing.T, s *pgtest.Server, schema string, i int) {
	rnd := rand.New(rand.NewPCG(uint64(i), 1))
	c, err := pgx.Connect(t.Context(), s.DSN(""))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close(context.Background())
	for range 100 {
		r := raw{c: c, schema: schema, stream: fmt.Sprintf("raw/%d", rnd.IntN(2))}
		if err := r.append(t.Context(), rnd, rnd.IntN(3) > 0); err != nil {
			t.Error(err)
			return
		}
	}
}

// tail reads on from the last position it saw, until all is done.
func tail(t *testing.T, s store.Store, done chan struct{}) (seen []store.Record) {
	cursor := store.Start
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		for rec, err := range s.ReadAll(t.Context(), cursor, store.Filter{}) {
			if err != nil {
				t.Error(err)
				return seen
			}
			seen = append(seen, rec)
			cursor = cursor.Advance(rec.Position)
		}
		if last {
			return seen
		}
	}
}

// The interleaving in which the writer that began first commits last, step by
// step: whoever has the head commits before anybody else can take it.
func TestLateCommit(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), nil)
	must[[]store.Written](t)(s.Append(t.Context(), write("raw/0", store.None, event(`{}`))))
	first := raw{c: session(t, server), schema: schema, stream: "raw/0"}
	if err := first.take(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := first.insert(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := make(chan []store.Written, 1)
	go func() {
		w, err := s.Append(t.Context(), write("a/1", store.None, event(`{}`)))
		if err != nil {
			t.Error(err)
		}
		second <- w
	}()
	eventually(t, 3*time.Second, "the second waits", func() bool { return waiters(t, schema) > 0 })
	if n, head := len(logOf(t, s)), must[store.Cursor](t)(s.Head(t.Context())); n != 1 || head != "1" {
		t.Errorf("a reader sees %d events up to %v before anything is committed", n, head)
	}
	rec, err := first.record(t.Context())
	if err == nil {
		err = first.sums(t.Context(), rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	exec(t, first.c, "COMMIT")
	if w := <-second; len(w) != 1 || w[0].Position.Seq != 3 {
		t.Errorf("the second is at %v, want 3", w)
	}
	if n := len(logOf(t, s)); n != 3 {
		t.Errorf("%d events", n)
	}
}
