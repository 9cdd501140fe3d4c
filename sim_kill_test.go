package deed

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	killSagas = flag.Int("sagas", 300, "how many sagas, and as many processes, a program has that is killed")
	kills     = flag.Int("kills", 4, "how often it is killed")
)

// A program with many sagas and processes is killed again and again, before and
// after it writes to its store and asks a service outside. In the end everything
// adds up: TestSimulations checks the same.
func TestSagasSurviveKills(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	run := func(place string, after int) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProgram$")
		cmd.Env = append(os.Environ(), "DEED_SIM="+dir, "DEED_SIM_SAGAS="+strconv.Itoa(*killSagas), "DEED_SIM_PLACE="+place, "DEED_SIM_AFTER="+strconv.Itoa(after))
		return cmd.CombinedOutput()
	}
	start := time.Now()
	killed := 0
	for n := range *kills {
		place := simPlaces[n%len(simPlaces)]
		most := max(10, 2**killSagas / *kills)
		if strings.HasPrefix(place, "undo") || strings.HasPrefix(place, "write") {
			most /= 8
		}
		if out, err := run(place, 1+r.IntN(max(most, 1))); err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%v: %s", err, out)
			}
			killed++
		}
	}
	out, err := run("never", 0)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d sagas and %d processes, killed %d times, over after %v", *killSagas, *killSagas, killed, time.Since(start).Round(10*time.Millisecond))
	checkKilled(t, dir)
}

// simPlaces are where a program is killed.
var simPlaces = []string{"append-after", "do-after", "write-before", "append-before", "undo-after", "do-before", "write-after", "undo-before"}

func checkKilled(t *testing.T, dir string) {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rt, err := New(s, Config{Domains: []Domain{simDomain(simSettings{})}})
	if err != nil {
		t.Fatal(err)
	}
	service, err := openSimFile(dir, &simFuse{})
	if err != nil {
		t.Fatal(err)
	}
	defer service.file.Close()
	wrong := 0
	l := readSimLog(t, rt, func(format string, args ...any) {
		if wrong++; wrong < 20 {
			t.Errorf(format, args...)
		}
	})
	things, states := simThings{}, map[InstanceState]int{}
	for name, thing := range service.things {
		things.note(name, thing.done)
	}
	l.check(things)
	top := 0
	for stream, story := range l.instances {
		states[story.inst.State]++
		if !strings.HasPrefix(stream, "$saga/errand/") {
			top++
		}
	}
	if top != 2**killSagas || wrong > 0 {
		t.Errorf("%d of %d instances, %d things are wrong", top, 2**killSagas, wrong)
	}
	t.Logf("%d instances: %v; %d commands accepted, %d things done or undone outside, %d tasks", len(l.instances), states, len(l.commands), len(service.things), len(l.tasks))
	if states[InstanceCompleted] == 0 || states[InstanceUndone] == 0 {
		t.Error("nothing was completed, or undone: nothing is shown")
	}
}

// The program that is killed is this test, run by another one.
func TestKilledProgram(t *testing.T) {
	dir := os.Getenv("DEED_SIM")
	if dir == "" {
		t.Skip("it is run by TestSagasSurviveKills")
	}
	n, _ := strconv.Atoi(os.Getenv("DEED_SIM_SAGAS"))
	after, _ := strconv.Atoi(os.Getenv("DEED_SIM_AFTER"))
	fuse := &simFuse{place: os.Getenv("DEED_SIM_PLACE")}
	fuse.left.Store(int64(after))
	p := &simProgram{T: t, n: n, calm: fuse.place == "never"}
	db, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	service, err := openSimFile(dir, fuse)
	if err != nil {
		t.Fatal(err)
	}
	p.rt, err = New(&simFused{db, fuse}, Config{
		Domains: []Domain{simDomain(simSettings{
			service: service, broken: func() bool { return !p.calm }, wait: time.Second + time.Duration(n)*time.Millisecond/2,
			retry: Retry{Attempts: 3, First: 20 * time.Millisecond, Max: time.Second},
		})},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), CachedStates: 100_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.run()
}

// A simFuse kills the process when a place is reached for the last of so many
// times.
type simFuse struct {
	place string
	left  atomic.Int64
}

func (f *simFuse) reach(place string) {
	if place == f.place && f.left.Add(-1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// simFused is a store with a fuse.
type simFused struct {
	*sqlite.Store
	fuse *simFuse
}

func (s *simFused) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s.fuse.reach("append-before")
	defer s.fuse.reach("append-after")
	return s.Store.Append(ctx, writes...)
}

func (s *simFused) Write(ctx context.Context, changes ...store.Change) error {
	s.fuse.reach("write-before")
	defer s.fuse.reach("write-after")
	return s.Store.Write(ctx, changes...)
}

// simFile is a service that survives the program: a file with a line for each
// thing that was done, undone or refused. It fails a thing at the first attempt
// now and then, before or after it has done it.
type simFile struct {
	fuse *simFuse
	file *os.File

	mu     sync.Mutex
	things map[string]*simThing
}

func openSimFile(dir string, fuse *simFuse) (*simFile, error) {
	file, err := os.OpenFile(filepath.Join(dir, "service.txt"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &simFile{fuse: fuse, file: file, things: map[string]*simThing{}}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		key, name, _ := strings.Cut(rest, " ")
		s.take(verb, key, name)
	}
	return s, nil
}

func (s *simFile) take(verb, key, name string) *simThing {
	t := s.things[name]
	if t == nil {
		t = &simThing{}
		s.things[name] = t
	}
	switch verb {
	case "done":
		t.done, t.key = true, key
	case "undone":
		t.done, t.over, t.undoKey = false, true, key
	case "refused":
		t.over, t.key = true, key
	}
	return t
}

func (s *simFile) record(verb, key, name string) error {
	s.take(verb, key, name)
	_, err := fmt.Fprintf(s.file, "%s %s %s\n", verb, key, name)
	return err
}

// chance is a number below 100 that belongs to a name.
func chance(name string) int {
	h := fnv.New32a()
	io.WriteString(h, name)
	return int(h.Sum32() % 100)
}

func (s *simFile) do(_ context.Context, name, key string) (string, error) {
	s.fuse.reach("do-before")
	defer s.fuse.reach("do-after")
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.take("", key, name)
	t.attempts++
	if t.key != "" && t.key != key {
		return "", Permanent(fmt.Errorf("%s is asked for under two keys", name))
	}
	c := chance(name)
	switch {
	case t.over:
		return "", Reason{"refused", "not for you"}
	case t.attempts == 1 && c < 10:
		return "", errSimDown
	case c >= 96 && !t.done:
		return "", cmp.Or(s.record("refused", key, name), error(Reason{"refused", "not for you"}))
	case t.done:
		return "receipt", nil
	}
	if err := s.record("done", key, name); err != nil {
		return "", err
	}
	if t.attempts == 1 && c < 20 {
		return "", errSimDown
	}
	return "receipt", nil
}

func (s *simFile) undo(_ context.Context, name, key string) error {
	s.fuse.reach("undo-before")
	defer s.fuse.reach("undo-after")
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.take("", key, name)
	if t.undoKey != "" && t.undoKey != key {
		return Permanent(fmt.Errorf("undoing %s is asked for under two keys", name))
	}
	if t.undoKey != "" {
		return nil
	}
	return s.record("undone", key, name)
}
