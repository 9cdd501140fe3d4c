package deed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// A brittle store kills its process before or after the n-th write that removes a
// dead letter, or writes how far a redrive has come, for example "before letter 2".
type brittle struct {
	*sqlite.Store
	place        string
	letter, jobs atomic.Int64
}

func (s *brittle) Write(ctx context.Context, changes ...store.Change) error {
	what, n := "", int64(0)
	for _, c := range changes {
		switch {
		case c.Coll == "$dead/carter" && c.Data == nil:
			what, n = "letter", s.letter.Add(1)
		case c.Coll == "$redrive":
			what, n = "job", s.jobs.Add(1)
		}
	}
	reach := func(when string) {
		if fmt.Sprintf("%s %s %d", when, what, n) == s.place {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	reach("before")
	err := s.Store.Write(ctx, changes...)
	reach("after")
	return err
}

// Crates that are carted away, and how many events each has.
const (
	cartedCrates = 20
	cartedEach   = 2
)

// carter is an event handler that says what it was given, and can bear nothing until
// it is cured.
func carter(cured *atomic.Bool, partitions int, given func(string) error) deed.EventHandler {
	return deed.EventHandler{Name: "carter", Partitions: partitions, On: []deed.Reaction{deed.Handle(func(_ context.Context, _ *deed.Tx, e deed.Recorded[shipped]) error {
		if !cured.Load() {
			return deed.Permanent(errors.New("the cart is broken"))
		}
		return given(fmt.Sprintf("%s:%d", e.ID, e.Version))
	})}}
}

// cartProgram has dead letters, unless it has had, and redrives them all.
func cartProgram(dir, place string) error {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	given, err := os.OpenFile(filepath.Join(dir, "given"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer given.Close()
	cured := &atomic.Bool{}
	rt, err := deed.New(&brittle{Store: s, place: place}, deed.Config{
		Domains: []deed.Domain{crates(carter(cured, 2, func(id string) error { _, err := fmt.Fprintln(given, id); return err }))}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	running, end := context.WithCancel(ctx)
	defer end()
	jobs, err := rt.DeadLetters().Jobs(ctx, 0)
	if err != nil {
		return err
	}
	cured.Store(len(jobs) > 0)
	go func() { ended <- rt.Run(running) }()
	if len(jobs) == 0 {
		j, err := breakCart(ctx, rt, cured)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	j, err := jobOver(ctx, rt, jobs[0])
	for err == nil { // what waited behind one that was handled follows by itself
		var left []deed.DeadLetter
		if left, _, err = rt.DeadLetters().List(ctx, deed.LetterFilter{}, "", 1); len(left) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	end()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	if j.State != deed.JobDone || j.Failed != 0 || j.Letters != cartedCrates {
		return fmt.Errorf("%+v", j)
	}
	return nil
}

// breakCart makes dead letters, mends the cart, and begins to redrive them.
func breakCart(ctx context.Context, rt *deed.Runtime, cured *atomic.Bool) (deed.LetterJob, error) {
	var last deed.Receipt
	for range cartedEach {
		for i := range cartedCrates {
			var err error
			if last, err = crateAggregate().Execute(ctx, rt, fmt.Sprint("c-", i), ship{"Cork"}); err != nil {
				return deed.LetterJob{}, err
			}
		}
	}
	if err := rt.WaitFor(ctx, last); err != nil {
		return deed.LetterJob{}, err
	}
	cured.Store(true)
	return rt.DeadLetters().Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "carter"}, First: true, Rate: 200})
}

// jobOver waits until a job is over.
func jobOver(ctx context.Context, rt *deed.Runtime, j deed.LetterJob) (deed.LetterJob, error) {
	for j.State == deed.JobRunning {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return j, fmt.Errorf("%w: %+v", ctx.Err(), j)
		}
		var err error
		if j, err = rt.DeadLetters().Job(ctx, j.ID); err != nil {
			return j, err
		}
	}
	return j, nil
}

// A process is killed in the middle of redriving many. After the next start all is
// redriven that was not, in order; nothing is lost, and nothing is given twice but
// what was in hand when the process ended.
func TestRedriveOfAKilledProcess(t *testing.T) {
	places := []string{"before job 1", "after job 1", "after job 2", "before job 3", "after job 4"}
	for _, n := range []int{1, 2, 3, 17, 40} {
		places = append(places, fmt.Sprint("before letter ", n), fmt.Sprint("after letter ", n))
	}
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if out, err := asProgram(t, "DEED_CART", dir, place); !wasKilled(err) {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			before := linesOf(t, filepath.Join(dir, "given"))
			if place == "before job 1" { // it was never begun: nothing is to be done
				if len(before) != 0 {
					t.Errorf("%q", before)
				}
				return
			}
			if out, err := asProgram(t, "DEED_CART", dir, "never"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkCart(t, linesOf(t, filepath.Join(dir, "given")), 2)
		})
	}
}

// checkCart fails unless all was given, in order, and no more than so many twice.
func checkCart(t *testing.T, given []string, twice int) {
	t.Helper()
	seen := map[string]int{}
	for i, id := range given {
		crate, version, _ := strings.Cut(id, ":")
		if version == "2" && !slices.Contains(given[:i], crate+":1") {
			t.Errorf("%s came before the first of its crate", id)
		}
		seen[id]++
	}
	if len(seen) != cartedCrates*cartedEach {
		t.Errorf("%d of %d were given", len(seen), cartedCrates*cartedEach)
	}
	if len(given) > len(seen)+twice {
		t.Errorf("%d were given twice: %q", len(given)-len(seen), given)
	}
}

func linesOf(t *testing.T, path string) (lines []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		lines = append(lines, scan.Text())
	}
	return lines
}

// holderOf is who has the one job for itself that is stored; "" = nobody.
func holderOf(t *testing.T, s store.Store) string {
	var job struct {
		Node  string    `json:"node"`
		Until time.Time `json:"until"`
	}
	for doc, err := range s.List(t.Context(), "$redrive", "", "") {
		if err == nil {
			err = json.Unmarshal(doc.Data, &job)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if job.Until.IsZero() {
		return ""
	}
	return job.Node
}

// On every backend many are redriven, once and in order; where nodes share one, by
// whichever is there: one begins, and ends before it is done.
func TestRedriveOnEveryBackend(t *testing.T) {
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		cured := &atomic.Bool{}
		var mu sync.Mutex
		var given []string
		node := func(s store.Store) (*deed.Runtime, func()) {
			rt, err := deed.New(s, deed.Config{
				Domains: []deed.Domain{crates(carter(cured, 4, func(id string) error {
					mu.Lock()
					defer mu.Unlock()
					given = append(given, id)
					return nil
				}))}, Logger: slog.New(slog.DiscardHandler), Poll: 200 * time.Millisecond, Lease: 2 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var end sync.WaitGroup
			end.Go(func() { rt.Run(ctx) })
			stop := sync.OnceFunc(func() { cancel(); end.Wait() })
			t.Cleanup(stop)
			return rt, stop
		}
		s := open(t)
		one, stop := node(s)
		two := one
		if store.IsShared(s) {
			two, _ = node(open(t))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		j, err := breakCart(ctx, one, cured)
		if err != nil {
			t.Fatal(err)
		}
		if j.Letters != cartedCrates || j.Blocks != cartedCrates*(cartedEach-1) {
			t.Errorf("%+v", j)
		}
		if two != one {
			begun := holderOf(t, s)
			stop()
			if begun != "" && begun == holderOf(t, s) {
				t.Error("a node that has stopped keeps the job for itself")
			}
		}
		if j, err = jobOver(ctx, two, j); err != nil || j.State != deed.JobDone || j.Failed != 0 {
			t.Fatalf("%+v, %v", j, err)
		}
		mu.Lock()
		defer mu.Unlock()
		checkCart(t, given, 4) // what was in hand when a partition changed hands
		if left, _, err := two.DeadLetters().List(ctx, deed.LetterFilter{}, "", 0); err != nil || len(left) != 0 {
			t.Errorf("%+v, %v", left, err)
		}
		t.Logf("%d given, %d of them twice", len(given), len(given)-cartedCrates*cartedEach)
	})
}
