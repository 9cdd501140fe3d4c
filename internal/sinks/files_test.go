package sinks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

func readRecord(t *testing.T, dir, id string) (r deed.CommandError) {
	t.Helper()
	data, err := os.ReadFile(folder(dir).path(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil || r.ID != id {
		t.Fatalf("%s: %v", data, err)
	}
	return r
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func files(t *testing.T, dir string, start Start) deed.Part {
	t.Helper()
	h, err := Files(dir, start)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on demand")
	r, _ := start(t, mem.New(), nil, files(t, dir, Beginning))
	r.reject("../etc/passwd")
	r.reject("k")
	if _, err := purses.Execute(t.Context(), r.rt, "p", move{1}); err != nil {
		t.Fatal(err)
	}
	r.settled()
	if got := fmt.Sprint(names(t, dir)); got != "[%2E.%2Fetc%2Fpasswd.json k.json]" {
		t.Errorf("files %s", got)
	}
	if rec := readRecord(t, dir, "k"); rec.Code != "too_few" || rec.Command != "purse.move" || rec.Stream != "purse/p" || rec.Actor != "ann" || rec.State != deed.CommandRejected {
		t.Errorf("%+v", rec)
	}

	r.block(true)
	r.submit(deed.Call{ID: "trip", Actor: "ann"}, trip{"sea"})
	r.becomes("trip", deed.CommandFailed)
	r.settled()
	if rec := readRecord(t, dir, "trip"); rec.State != deed.CommandFailed || rec.Step != "go" || rec.Attempts != 2 || rec.Resolved {
		t.Errorf("%+v", rec)
	}
	if err := r.rt.Commands().Resume(t.Context(), "trip"); err != nil {
		t.Fatal(err)
	}
	r.eventually("a second failure", func() bool { return readRecord(t, dir, "trip").Times == 2 })
	r.block(false)
	if err := r.rt.Commands().Resume(t.Context(), "trip"); err != nil {
		t.Fatal(err)
	}
	r.becomes("trip", deed.CommandCompleted)
	r.settled()
	if rec := readRecord(t, dir, "trip"); !rec.Resolved || rec.Resolution != "completed" {
		t.Errorf("%+v", rec)
	}
}

// A file that somebody has taken away does not come back because the error is
// resolved.
func TestTakenFilesStayAway(t *testing.T) {
	dir := t.TempDir()
	r, _ := start(t, mem.New(), nil, files(t, dir, Beginning))
	r.submit(deed.Call{ID: "trip"}, trip{})
	r.becomes("trip", deed.CommandInvalid)
	r.settled()
	if err := os.Remove(folder(dir).path("trip")); err != nil {
		t.Fatal(err)
	}
	if err := r.rt.Commands().Cancel(t.Context(), "trip", ""); err != nil {
		t.Fatal(err)
	}
	r.becomes("trip", deed.CommandCancelled)
	r.settled()
	if all := names(t, dir); len(all) != 0 {
		t.Errorf("files %v", all)
	}
}

func TestFilesFromNow(t *testing.T) {
	s, dir := mem.New(), t.TempDir()
	r, stop := start(t, s, nil)
	r.reject("before")
	stop()
	r, stop = start(t, s, nil, files(t, dir, Now))
	r.eventually("the follower runs", func() bool {
		r.reject(fmt.Sprint("try-", time.Now().UnixNano()))
		return len(names(t, dir)) > 0
	})
	stop()
	r, _ = start(t, s, nil)
	r.reject("meanwhile") // the sink is off
	r, _ = start(t, s, nil, files(t, dir, Now))
	r.settled()
	all := strings.Join(names(t, dir), " ")
	if strings.Contains(all, "before") || !strings.Contains(all, "meanwhile") {
		t.Errorf("files %s", all)
	}
}

// The same record again changes nothing, and neither does an older one.
func TestSaveIsIdempotent(t *testing.T) {
	f := folder(t.TempDir())
	for i, c := range []struct{ version, want uint64 }{{3, 3}, {3, 3}, {2, 3}, {5, 5}} {
		before, _ := os.Stat(f.path("k"))
		if err := f.save(deed.CommandError{ID: "k", Version: c.version}); err != nil {
			t.Fatal(err)
		}
		if got := readRecord(t, string(f), "k").Version; got != c.want {
			t.Errorf("%d: version %d", i, got)
		}
		after, err := os.Stat(f.path("k"))
		if err != nil || before != nil && os.SameFile(before, after) == (c.version == 5) {
			t.Errorf("%d: the file was written again, or was not (%v)", i, err)
		}
	}
	if err := os.WriteFile(f.path("k"), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.save(deed.CommandError{ID: "k", Version: 1}); err != nil || readRecord(t, string(f), "k").Version != 1 {
		t.Errorf("a damaged file stays: %v", err)
	}
}

func TestUnfinishedFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".deed-1.tmp": time.Hour, ".deed-2.tmp": time.Second, "k.json": time.Hour} {
		path := filepath.Join(dir, name)
		then := time.Now().Add(-age)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	files(t, dir, Beginning)
	if got := fmt.Sprint(names(t, dir)); got != "[.deed-2.tmp k.json]" {
		t.Error(got)
	}
}
