package deed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// doomed is a file whose process is killed at a place of a compaction, the
// second time it comes by: for example "before compact".
type doomed struct {
	*sqlite.Store
	place string
	times int
}

func (s *doomed) reach(place string) {
	if place != s.place {
		return
	}
	if s.times++; s.times == 2 || strings.HasSuffix(place, "record") { // there is one of these
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (s *doomed) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	what := compactionWrites(writes)
	s.reach("before " + what)
	out, err := s.Store.Append(ctx, writes...)
	s.reach("after " + what)
	return out, err
}

func (s *doomed) Write(ctx context.Context, changes ...store.Change) error {
	what := compactionChanges(changes)
	s.reach("before " + what)
	err := s.Store.Write(ctx, changes...)
	s.reach("after " + what)
	return err
}

func (s *doomed) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	if len(streams) == 0 {
		return s.Store.Compact(ctx)
	}
	s.reach("before compact")
	out, err := s.Store.Compact(ctx, streams...)
	s.reach("after compact")
	return out, err
}

// compactProgram gives up what is older than an hour, and ends when there is
// no more.
func compactProgram(dir, place string) error {
	f, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	rt, err := deed.New(&doomed{Store: f, place: place}, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- rt.Run(running) }()
	for { // followers say now and then how far they have come
		out, err := rt.Compact(ctx, deed.Compaction{OlderThan: time.Hour})
		if err != nil || out.Done && out.WaitsFor == "" {
			stop()
			return errors.Join(err, <-ended, f.Close())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// aged writes a file with commands of last year: some that were done at once, some
// that were rejected, and some that were stored first, between the events of an
// entity.
func aged(t *testing.T, path string, many int) {
	t.Helper()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var recs []store.Record
	record := func(stream string, version uint64, typ, data string) {
		r := store.Record{Stream: stream, Version: version, Type: typ, Data: []byte(data), Meta: []byte(`{"actor":"ann"}`), Time: time.Now().Add(-365 * 24 * time.Hour).Truncate(time.Microsecond)}
		copy(r.ID[:], fmt.Sprintf("%016d", len(recs)))
		recs = append(recs, r)
	}
	for i := range many {
		outcome := func(more string) string { return `{"command":"vault.take","stream":"vault/a","hash":"h"` + more + `}` }
		record(fmt.Sprintf("$command/s%d", i), 1, "received", outcome(`,"body":{}`))
		record("vault/a", uint64(i+1), "paid", `{"N":1}`)
		record(fmt.Sprintf("$command/d%d", i), 1, "accepted", outcome(`,"version":1`))
		record(fmt.Sprintf("$command/r%d", i), 1, "rejected", outcome(`,"code":"no","reason":"no"`))
		record(fmt.Sprintf("$command/s%d", i), 2, "completed", outcome(""))
	}
	if err := errors.Join(s.Import(t.Context(), recs), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// A process is killed between any two steps of a compaction of a file. The next
// one finishes it; the file is sound, a backup of it is, and views are what
// folding the log makes of them.
func TestCompactionSurvivesKills(t *testing.T) {
	const many = 350
	for _, what := range []string{"announce", "compact", "place", "record"} {
		for _, when := range []string{"before ", "after "} {
			t.Run(when+what, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				path, copied := filepath.Join(dir, "deed.db"), filepath.Join(dir, "copy.db")
				aged(t, path, many)
				if out, err := asProgram(t, "DEED_COMPACT", dir, when+what); err == nil {
					t.Fatalf("it was not killed: %s", out)
				}
				soundFile(t, path)
				if out, err := asProgram(t, "DEED_COMPACT", dir, "never"); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if r := soundFile(t, path); r.GivenUp < 4*many {
					t.Errorf("%d events were given up", r.GivenUp)
				}
				if err := sqlite.Backup(t.Context(), path, copied, nil); err != nil {
					t.Fatal(err)
				}
				soundFile(t, copied)
				for _, file := range []string{path, copied} {
					afterCompaction(t, file, many)
				}
			})
		}
	}
}

func soundFile(t *testing.T, path string) sqlite.Report {
	t.Helper()
	r, err := sqlite.Check(t.Context(), path, nil)
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("%s: %v, %v", filepath.Base(path), r.Problems, err)
	}
	return r
}

// afterCompaction checks what a file has: all events of the entity, and nothing
// of its commands, in the log and in views, also if these are folded anew.
func afterCompaction(t *testing.T, path string, many int) {
	t.Helper()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var left []string
	events := 0
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case rec.Stream == "vault/a":
			events++
		case store.Category(rec.Stream) == "$command":
			left = append(left, rec.Stream)
		}
	}
	if events != many || len(left) > 0 {
		t.Errorf("%s: %d events of the entity, and %v", filepath.Base(path), events, left)
	}
	rt, stop := runWith(t, s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, Logger: slog.New(slog.DiscardHandler)})
	defer stop()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	empty := func() {
		t.Helper()
		if err := rt.WaitFor(t.Context(), deed.Receipt{Position: string(head)}); err != nil {
			t.Fatal(err)
		}
		for _, view := range []string{"commands", "command-errors"} {
			if rows, err := rt.Documents(t.Context(), rt, view, store.Query{}); err != nil || len(rows) > 0 {
				t.Errorf("%s: %s has %d documents, %v", filepath.Base(path), view, len(rows), err)
			}
		}
	}
	empty()
	for _, view := range []string{"commands", "command-errors"} {
		was := generation(t, rt, view)
		if err := rt.Followers().Rebuild(t.Context(), view); err != nil {
			t.Fatal(err)
		}
		for generation(t, rt, view) == was {
			time.Sleep(time.Millisecond)
		}
	}
	empty()
}
