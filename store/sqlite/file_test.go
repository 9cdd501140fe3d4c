package sqlite_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var update = flag.Bool("update", false, "write golden files")

func fill(t *testing.T, s *sqlite.Store, streams, events int) {
	t.Helper()
	for i := range streams {
		w := store.Write{Stream: fmt.Sprintf("order/%d", i), Expect: store.None}
		for range events {
			w.Events = append(w.Events, randomEvent())
		}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	c := startChild(t, path)
	if _, err := sqlite.Open(path, nil); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), path) {
		t.Errorf("opening what another process has open: %v", err)
	}
	c.kill()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatalf("opening after the other was killed: %v", err)
	}
	if _, err := sqlite.Open(path, nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opening twice in one process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The same file under another name is the same file.
func TestOtherNamesAreRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deed.db")
	s := open(t, path)
	fill(t, s, 1, 1)
	hard, soft := filepath.Join(dir, "hard.db"), filepath.Join(dir, "soft.db")
	if err := errors.Join(os.Link(path, hard), os.Symlink(path, soft), os.Remove(path+".lock")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{hard, soft, path} {
		if _, err := sqlite.Open(name, nil); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("opening %s beside the store: %v", filepath.Base(name), err)
		}
	}
}

func TestRemovedFileIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	now := time.Now()
	s, err := sqlite.Open(path, &sqlite.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, 1, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	_, err = s.Append(t.Context(), store.Write{Stream: "a/1", Expect: store.Any, Events: []store.Event{randomEvent()}})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("appending to a file that is gone: %v", err)
	}
}

func TestMustExist(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "typo.db")
	if _, err := sqlite.Open(path, &sqlite.Options{MustExist: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening what is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("a folder was made")
	}
}

// The schema is a stored format: files of every version are out there.
func TestSchemaIsForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deed.db")
	open(t, path).Close()
	got := schemaOf(t, path)
	golden := filepath.Join("testdata", "schema-4.sql")
	if *update {
		os.MkdirAll("testdata", 0o755)
		os.WriteFile(golden, []byte(got), 0o644)
	}
	wantSchema(t, path, golden)
}

func wantSchema(t *testing.T, path, golden string) {
	t.Helper()
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := schemaOf(t, path); got != string(want) {
		t.Errorf("the schema changed: add a migration, and a golden file for its version\ngot:\n%s\nwant:\n%s", got, want)
	}
}

func schemaOf(t *testing.T, path string) string {
	t.Helper()
	c, err := lib.OpenConn(path, lib.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got strings.Builder
	err = sqlitex.ExecuteTransient(c, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'search_*' ORDER BY name", &sqlitex.ExecOptions{
		ResultFunc: func(st *lib.Stmt) error { got.WriteString(st.ColumnText(0) + ";\n"); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return got.String()
}

// What a release has written must open for ever.
func TestOldFilesOpen(t *testing.T) {
	if *update {
		writeGolden(t, filepath.Join("testdata", "version-4.db"))
	}
	for version, gaps := range map[string]bool{"1": false, "2": true, "3": true, "4": true} {
		t.Run(version, func(t *testing.T) {
			path := copied(t, "version-"+version+".db")
			wantSchema(t, path, filepath.Join("testdata", "schema-"+version+".sql"))
			wantSound(t, path) // as it is
			s := open(t, path)
			wantSchema(t, path, filepath.Join("testdata", "schema-4.sql"))
			if version >= "4" {
				docs, err := gather(s.Find(t.Context(), "view/s/1", store.Query{Search: `red trac* "HÄTTE"`, Text: []string{"name", "tags"}}))
				if err != nil || len(docs) != 1 || docs[0].Key != "a" {
					t.Errorf("found %v, %v", docs, err)
				}
			}
			recs, err := collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
			if err != nil || len(recs) != 3 || recs[0].Type != "created" || string(recs[0].Data) != `{"customer":"c"}` || string(recs[0].Meta) != `{"actor":"ann"}` || recs[1].ID != (store.ID{2}) {
				t.Errorf("read %+v, %v", recs, err)
			}
			if d, err := s.Get(t.Context(), "view/v/1", "o-1"); err != nil || string(d.Data) != `{"n":1}` || d.Rev != 1 {
				t.Errorf("document %+v, %v", d, err)
			}
			if recs, err := collect(s.Read(t.Context(), "order/o-1", store.Range{Backward: true})); err != nil || len(recs) != 2 {
				t.Errorf("read %+v, %v", recs, err)
			}
			_, err = s.Append(t.Context(), store.Write{Stream: "order/o-1", Expect: store.Exactly(2), Events: []store.Event{randomEvent()}})
			if err := errors.Join(err, s.Write(t.Context(), store.Change{Coll: "view/v/1", Key: "o-1", Rev: 1, Data: []byte(`{"n":2}`)})); err != nil {
				t.Error(err)
			}
			if last := recs[2].Position.Seq; last != 3 && !gaps || last != 5 && gaps {
				t.Errorf("the last event is at %d", last)
			}
			if n, err := s.Compact(t.Context(), store.Whole{Stream: "$command/k", Last: recs[2].Position}); err != nil || n[0] != 1 {
				t.Errorf("compacting it: %v, %v", n, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			wantSound(t, path)
		})
	}
}

// copied returns a copy of a file in testdata.
func copied(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	path := filepath.Join(t.TempDir(), "deed.db")
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// writeGolden writes a file of the present version. Those of earlier ones are
// as their releases wrote them.
func writeGolden(t *testing.T, path string) {
	t.Helper()
	os.Remove(path)
	s := open(t, path)
	_, err := s.Append(t.Context(), store.Write{Stream: "order/o-1", Events: []store.Event{
		{ID: store.ID{1}, Type: "created", Data: []byte(`{"customer":"c"}`), Meta: []byte(`{"actor":"ann"}`)},
		{ID: store.ID{2}, Type: "submitted", Data: []byte(`{}`)},
	}}, store.Write{Stream: "$command/gone", Events: []store.Event{
		{ID: store.ID{4}, Type: "received", Data: []byte(`{}`)}, {ID: store.ID{5}, Type: "completed", Data: []byte(`{}`)},
	}}, store.Write{Stream: "$command/k", Events: []store.Event{{ID: store.ID{3}, Type: "completed", Data: []byte(`{}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Compact(t.Context(), store.Whole{Stream: "$command/gone", Last: store.Position{Seq: 4}}); err != nil || n[0] != 2 {
		t.Fatal(n, err)
	}
	err = errors.Join(
		s.Write(t.Context(), store.Change{Coll: "view/v/1", Key: "o-1", Data: []byte(`{"n":1}`)}),
		s.EnsureSearch(t.Context(), "view/s/1", []string{"name", "tags"}),
		s.Write(t.Context(), store.Change{Coll: "view/s/1", Key: "a", Data: []byte(`{"name":"Red Tractor","tags":["old","hätte"]}`)}),
		s.Write(t.Context(), store.Change{Coll: "view/s/1", Key: "b", Data: []byte(`{"name":"Red Plough"}`)}),
	)
	if err := errors.Join(err, s.Close(), os.Remove(path+".lock")); err != nil {
		t.Fatal(err)
	}
}

func wantSound(t *testing.T, path string) {
	t.Helper()
	if report, err := sqlite.Check(t.Context(), path, nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("the check says %v, %v", report.Problems, err)
	}
}

func TestOtherFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	alter := func(name string, statements ...string) string {
		path := filepath.Join(dir, name)
		open(t, path).Close()
		c, err := lib.OpenConn(path, lib.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, s := range statements {
			if err := sqlitex.ExecuteTransient(c, s, nil); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign.db")
	c, err := lib.OpenConn(foreign, lib.OpenReadWrite, lib.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	sqlitex.ExecuteTransient(c, "CREATE TABLE t (x)", nil)
	c.Close()
	text := filepath.Join(dir, "text.db")
	os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 100)), 0o644)
	for path, want := range map[string]string{
		alter("newer.db", "PRAGMA user_version = 999"):  "use a newer deed",
		alter("other.db", "PRAGMA application_id = 42"): "another program",
		foreign: "another program",
		text:    "",
	} {
		if s, err := sqlite.Open(path, nil); err == nil {
			s.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestBackupWhileWriting(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "deed.db"), filepath.Join(dir, "copy.db")
	s := open(t, path)
	fill(t, s, 50, 10)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				s.Append(context.Background(), store.Write{Stream: fmt.Sprintf("late/%d", w), Expect: store.Any, Events: []store.Event{randomEvent()}})
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	before, _ := s.Head(t.Context())
	err := sqlite.Backup(t.Context(), path, copied, func(int64, int64) {})
	stop()
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	report, err := sqlite.Check(t.Context(), copied, nil)
	if err != nil || len(report.Problems) > 0 || report.Head < before.Seq(0) {
		t.Errorf("the copy: %+v, %v; the head was %s", report, err, before)
	}
	c := open(t, copied)
	want, _ := collect(s.ReadAll(t.Context(), store.Start, store.Filter{Limit: int(report.Head)}))
	got, err := collect(c.ReadAll(t.Context(), store.Start, store.Filter{}))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d events in the copy, %d in the original, %v", len(got), len(want), err)
	}
	for i := range got {
		if got[i].ID != want[i].ID || got[i].Position != want[i].Position || string(got[i].Data) != string(want[i].Data) {
			t.Fatalf("event %d differs", i)
		}
	}
	if err := sqlite.Backup(t.Context(), path, copied, nil); err == nil {
		t.Error("a backup overwrote a file")
	}
	if err := sqlite.Backup(t.Context(), filepath.Join(dir, "none.db"), copied+"2", nil); err == nil {
		t.Error("a backup of nothing succeeded")
	}
}

func TestCheckSurvivesAnything(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deed.db")
	s := open(t, path)
	fill(t, s, 20, 5)
	s.Close()
	whole, _ := os.ReadFile(path)
	for _, size := range []int{0, 1, 100, 4096, 5000, len(whole) / 2, len(whole) - 1} {
		cut := filepath.Join(dir, "cut.db")
		os.WriteFile(cut, whole[:size], 0o644)
		if report, err := sqlite.Check(t.Context(), cut, nil); err == nil && len(report.Problems) == 0 {
			t.Errorf("a file cut to %d of %d bytes passes", size, len(whole))
		}
	}
	if _, err := sqlite.Check(t.Context(), filepath.Join(dir, "none.db"), nil); err == nil {
		t.Error("a file that is not there passes")
	}
}

// A disk that fills up refuses, keeps what was acknowledged, and goes on when
// there is room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("THE TEST OF A FULL DISK CANNOT RUN HERE: mounting a tmpfs: %v\n%s\nIt needs root.", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	path, ballast := filepath.Join(dir, "deed.db"), filepath.Join(dir, "ballast")
	s := open(t, path)
	acked := map[string]uint64{}
	write := func(round, n int) error {
		name := fmt.Sprintf("full/%d-%d", round, n%10)
		w := []store.Write{
			{Stream: name, Expect: store.Exactly(acked[name]), Events: []store.Event{randomEvent(), randomEvent()}},
			{Stream: fmt.Sprintf("pair/%d-%d", round, n), Expect: store.None, Events: []store.Event{randomEvent()}},
		}
		out, err := s.Append(t.Context(), w...)
		if err == nil {
			acked[name], acked[w[1].Stream] = out[0].Version, 1
		}
		return err
	}
	for round := range 10 {
		fillUp(t, ballast)
		var err error
		for n := 0; n < 5000 && err == nil; n++ {
			err = write(round, n)
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("round %d: a full disk gives %v, want ErrUnavailable", round, err)
		}
		if err := s.Write(t.Context(), store.Change{Coll: "v", Key: "k", Rev: store.AnyRev, Data: []byte(`{"text":"` + strings.Repeat("x", 100_000) + `"}`)}); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("round %d: a document on a full disk: %v", round, err)
		}
		if _, err := collect(s.Read(t.Context(), fmt.Sprintf("full/%d-0", round), store.Range{})); err != nil {
			t.Errorf("round %d: reading on a full disk: %v", round, err)
		}
		os.Remove(ballast)
		if err := write(round, 10_000+round); err != nil {
			t.Fatalf("round %d: after there is room again: %v", round, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := sqlite.Check(t.Context(), path, nil)
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("after ten full disks: %v, %v", report.Problems, err)
	}
	s = open(t, path)
	for stream, version := range acked {
		recs, err := collect(s.Read(t.Context(), stream, store.Range{}))
		if err != nil || uint64(len(recs)) != version {
			t.Errorf("%s has %d events, %d were acknowledged (%v)", stream, len(recs), version, err)
		}
	}
}

// fillUp takes almost all the room there is.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := 0
	for block := make([]byte, 16<<10); ; size += len(block) {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	if err := f.Truncate(int64(max(size-64<<10, 0))); err != nil {
		t.Fatal(err)
	}
}
