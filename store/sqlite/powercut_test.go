package sqlite_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/powercut"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var powercuts = flag.Int("powercuts", 10, "power cuts under the store")

// A power cut loses nothing that was acknowledged.
func TestPowerCut(t *testing.T) {
	d := newDisk(t, 192<<20)
	total := 0
	for round := range *powercuts {
		acked := d.cut(t, "full", time.Duration(300+100*(round%5))*time.Millisecond)
		lost, problems := d.examine(t, acked)
		if lost > 0 || len(problems) > 0 {
			t.Fatalf("round %d: %d acknowledged appends are lost; problems: %v", round, lost, problems)
		}
		total += len(acked)
	}
	if total < 100*min(*powercuts, 10) {
		t.Errorf("only %d appends were acknowledged: that shows nothing", total)
	}
	t.Logf("%d power cuts, %d acknowledged appends, none lost", *powercuts, total)
}

// The same with synchronous=NORMAL must lose something, or the test above is
// blind.
func TestPowerCutIsSeen(t *testing.T) {
	d := newDisk(t, 192<<20)
	for round := range 20 {
		acked := d.cut(t, "relaxed", 500*time.Millisecond)
		if lost, _ := d.examine(t, acked); lost > 0 {
			t.Logf("round %d: %d of %d acknowledged appends are lost, as they must be", round, lost, len(acked))
			return
		}
	}
	t.Error("a store that does not wait for the disk lost nothing in 20 power cuts: the test cannot see losses")
}

// appendForEver appends from four writers and prints each append after it is
// acknowledged.
func appendForEver(path string, relaxed bool) error {
	s, err := sqlite.Open(path, &sqlite.Options{Relaxed: relaxed})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		all.Go(func() {
			for n := uint64(0); ; n++ {
				own, other := fmt.Sprintf("own/%d-%d", os.Getpid(), w), fmt.Sprintf("pair/%d-%d-%d", os.Getpid(), w, n)
				writes := []store.Write{{Stream: own, Expect: store.Exactly(n), Events: []store.Event{randomEvent()}}}
				if n%3 == 0 {
					writes = append(writes, store.Write{Stream: other, Expect: store.None, Events: []store.Event{randomEvent(), randomEvent()}})
				}
				if _, errs[w] = s.Append(context.Background(), writes...); errs[w] != nil {
					return
				}
				mu.Lock()
				for _, wr := range writes {
					fmt.Printf("%s %d\n", wr.Stream, uint64(wr.Expect)+uint64(len(wr.Events)))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func randomEvent() store.Event {
	e := store.Event{Type: "done", Data: []byte(`{"text":"` + strings.Repeat("x", 200) + `"}`), Meta: []byte(`{"actor":"powercut"}`)}
	rand.Read(e.ID[:])
	return e
}

// disk is where the database is.
type disk struct{ *powercut.Disk }

func newDisk(t *testing.T, size int64) disk { t.Helper(); return disk{powercut.NewDisk(t, size)} }

func (d disk) db() string { return filepath.Join(d.Dir, "deed.db") }

// cut lets a child append for a while, cuts the power, and mounts the disk
// again. It returns what the child had acknowledged: streams and versions.
func (d disk) cut(t *testing.T, mode string, after time.Duration) map[string]uint64 {
	t.Helper()
	acks, err := os.Create(filepath.Join(t.TempDir(), "acks"))
	if err != nil {
		t.Fatal(err)
	}
	defer acks.Close()
	cmd := exec.Command(os.Args[0], d.db(), mode)
	cmd.Env = append(os.Environ(), childEnv+"=append")
	cmd.Stdout = acks
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	for range 200 { // a slow machine: let it acknowledge enough first
		if info, err := acks.Stat(); err == nil && info.Size() > 16_000 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	before, err := acks.Stat() // see Disk.Cut
	if err != nil {
		t.Fatal(err)
	}
	d.Cut(t)
	cmd.Process.Kill()
	cmd.Wait()
	d.Unmount(t)
	d.Mount(t)
	if _, err := acks.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	acked := map[string]uint64{}
	for lines := bufio.NewScanner(io.LimitReader(acks, before.Size())); lines.Scan(); {
		var stream string
		var version uint64
		if n, err := fmt.Sscanf(lines.Text(), "%s %d", &stream, &version); n != 2 || err != nil {
			continue // the last line may be cut too
		}
		acked[stream] = max(acked[stream], version)
	}
	return acked
}

// examine opens the database and compares it with what was acknowledged.
func (d disk) examine(t *testing.T, acked map[string]uint64) (lost int, problems []sqlite.Problem) {
	t.Helper()
	start := time.Now()
	s, err := sqlite.Open(d.db(), nil)
	if err != nil {
		t.Fatalf("opening after the power cut: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("opening after the power cut took %v", took)
	}
	have := map[string]uint64{}
	for r, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Version != have[r.Stream]+1 {
			t.Fatalf("a gap: %s@%d comes after version %d", r.Stream, r.Version, have[r.Stream])
		}
		have[r.Stream] = r.Version
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for stream, version := range acked {
		if have[stream] < version {
			lost++
		}
	}
	report, err := sqlite.Check(t.Context(), d.db(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return lost, report.Problems
}
