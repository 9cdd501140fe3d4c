package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// After a compaction the check still tells what is missing from what was given
// up, and readers do.
func TestCheckAfterCompaction(t *testing.T) {
	for name, c := range map[string]struct {
		damage string
		want   string // problem; "" = none
		reads  bool   // whoever reads the log does not notice either
	}{
		"nothing":                       {"", "", true},
		"an event is missing":           {"DELETE FROM events WHERE pos = 8", "position 8: 1 events are missing from here", false},
		"one beside a gap":              {"DELETE FROM events WHERE pos = 200 + 3*7", "position 221: 1 events are missing from here", false},
		"the last one":                  {"DELETE FROM events WHERE pos = (SELECT max(pos) FROM events)", "1 events are missing from here", false},
		"a stream":                      {"DELETE FROM events WHERE stream = 3", "events are missing from here", false},
		"a gap is forgotten":            {"DELETE FROM gone", "position 201: 2 events are missing from here", false},
		"a gap covers an event":         {"UPDATE gone SET bits = x'7f' || substr(bits, 2)", "is among those that were given up", true},
		"a gap is beyond the head":      {"INSERT INTO gone VALUES (77, x'80')", "do not come to the head", true},
		"events come back":              {"INSERT INTO events SELECT 201, 99, 1, kind, id, time, data, meta, sum FROM events WHERE pos = 1", "position 201", false},
		"an event fails its checksum":   {"UPDATE events SET data = x'7b7d' WHERE pos = 8", "does not match its checksum", false},
		"the end of the log is missing": {"UPDATE head SET pos = pos + 5", "5 events are missing from here", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "deed.db")
			s := open(t, path)
			fill(t, s, 40, 5)
			thin(t, s, "order", 40)
			head, _ := s.Head(t.Context())
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			alter(t, path, c.damage)
			report, err := sqlite.Check(t.Context(), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(report.Problems, func(p sqlite.Problem) bool { return strings.Contains(p.String(), c.want) })
			if c.want == "" && len(report.Problems) > 0 || c.want != "" && !found {
				t.Errorf("the check says %v, want %q", report.Problems, c.want)
			}
			if c.want == "" && (report.GivenUp != 80 || report.Events != 240 || report.Head != head.Seq(0)) {
				t.Errorf("%+v", report)
			}
			if s, err = sqlite.Open(path, nil); err == nil {
				_, err = collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
				s.Close()
			}
			if c.reads != (err == nil) || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("reading the log: %v", err)
			}
		})
	}
}

// thin writes streams beside others, and gives them up.
func thin(t *testing.T, s *sqlite.Store, category string, streams int) {
	t.Helper()
	var gone []store.Whole
	for i := range streams {
		w, err := s.Append(t.Context(), store.Write{Stream: fmt.Sprintf("$c/%d", i), Expect: store.None, Events: []store.Event{randomEvent(), randomEvent()}},
			store.Write{Stream: fmt.Sprintf("%s/%d", category, i), Expect: store.Any, Events: []store.Event{randomEvent()}})
		if err != nil {
			t.Fatal(err)
		}
		gone = append(gone, store.Whole{Stream: fmt.Sprintf("$c/%d", i), Last: w[0].Position})
	}
	if n, err := s.Compact(t.Context(), gone...); err != nil || n[0] != 2 {
		t.Fatal(n, err)
	}
}

// alter has SQLite do something to a closed file.
func alter(t *testing.T, path, script string) {
	t.Helper()
	c, err := lib.OpenConn(path, lib.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		t.Fatal(err)
	}
}

// A stream of which an event is missing is not given up: that would make damage
// look like order. Others in the same transaction do not mind.
func TestDamageIsNotCompacted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	s := open(t, path)
	fill(t, s, 3, 3)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alter(t, path, "DELETE FROM events WHERE pos = 5")
	s = open(t, path)
	whole := func(i int) store.Whole {
		return store.Whole{Stream: fmt.Sprintf("order/%d", i), Last: store.Position{Seq: uint64(3*i + 3)}}
	}
	if _, err := s.Compact(t.Context(), whole(0), whole(1), whole(2)); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "order/1") {
		t.Errorf("compacting what is damaged: %v", err)
	}
	for _, i := range []int{0, 2} {
		if n, err := s.Compact(t.Context(), whole(i)); err != nil || n[0] != 3 {
			t.Errorf("compacting order/%d: %v, %v", i, n, err)
		}
	}
}

// Backups have the gaps too, and are compact.
func TestBackupAfterCompaction(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "deed.db"), filepath.Join(dir, "copy.db")
	s := open(t, path)
	fill(t, s, 5, 5)
	thin(t, s, "order", 1000)
	want, err := collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Backup(t.Context(), path, copied, nil); err != nil {
		t.Fatal(err)
	}
	wantSound(t, copied)
	got, err := collect(open(t, copied).ReadAll(t.Context(), store.Start, store.Filter{}))
	if err != nil || len(got) != len(want) || got[len(got)-1].Position != want[len(want)-1].Position {
		t.Errorf("the copy has %d events, want %d (%v)", len(got), len(want), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	after, _ := os.Stat(copied)
	t.Logf("%d bytes, the copy has %d", before.Size(), after.Size())
	if after.Size() >= before.Size() {
		t.Errorf("the copy has %d bytes, the original %d", after.Size(), before.Size())
	}
}

// A process is killed in the middle of compactions: each of them is done or has
// not begun, and the file is sound.
func TestCompactionSurvivesKills(t *testing.T) {
	const rounds, streams = 12, 40
	path := filepath.Join(t.TempDir(), "deed.db")
	c := startChild(t, path)
	before, after := 0, 0
	for round := range rounds {
		var batch []store.Whole
		for i := range streams {
			name := fmt.Sprintf("$c/%d-%d", round, i)
			w, err := c.Append(t.Context(), store.Write{Stream: name, Expect: store.None, Events: []store.Event{randomEvent(), randomEvent()}})
			if err != nil {
				t.Fatal(err)
			}
			batch = append(batch, store.Whole{Stream: name, Last: w[0].Position})
		}
		answered := make(chan error, 1)
		go func() { _, err := c.compact(batch...); answered <- err }()
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		if err := c.Crash(); err != nil {
			t.Fatal(err)
		}
		err := <-answered
		there := 0
		for _, w := range batch {
			recs, e := collect(c.Read(t.Context(), w.Stream, store.Range{}))
			if e != nil || len(recs) != 0 && len(recs) != 2 {
				t.Errorf("%s has %d events, %v", w.Stream, len(recs), e)
			}
			there += len(recs) / 2
		}
		switch {
		case there != 0 && there != streams:
			t.Errorf("%d of %d streams are there", there, streams)
		case err == nil && there > 0:
			t.Error("it was said to be done, and is not")
		case there > 0:
			before++
		default:
			after++
		}
	}
	c.kill()
	wantSound(t, path)
	t.Logf("killed before %d compactions were done, and after %d", before, after)
}
