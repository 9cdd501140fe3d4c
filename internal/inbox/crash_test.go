package inbox

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	inboxFiles = flag.Int("inboxfiles", 1000, "files that are dropped while the process is killed")
	inboxKills = flag.Int("inboxkills", 4, "how often it is killed")
)

// childEnv makes the test binary a process that looks after an inbox.
const childEnv = "DEED_TEST_INBOX"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child runs an inbox on a SQLite file until it is interrupted.
func child(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{tickets}})
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	in, err := New(filepath.Join(dir, "inbox"), Commands(rt.Describe()), Dispatcher{rt}, Options{Logger: log, Report: time.Second, Settle: time.Second})
	if err != nil {
		return err
	}
	return in.Run(ctx)
}

func startChild(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// What a file of the crash test is to become.
func expectation(i int) (text, code string) {
	switch i % 10 {
	case 3:
		return fmt.Sprintf(`{"id":"t-%d","body":{"title":"no"}}`, i), "rejected"
	case 7:
		return fmt.Sprintf(`{"id":"t-%d","body":{}}`, i), "invalid"
	case 9:
		return fmt.Sprintf(`{"id":"t-%d","bo`, i), "invalid"
	}
	return fmt.Sprintf(`{"id":"t-%d","body":{"title":"one"}}`, i), ""
}

// Files arrive while the process is killed, again and again: each is handled
// once and ends in done, or in failed with its problem; none is lost.
func TestKilledAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "inbox", "ticket.open")
	if err := os.MkdirAll(here, 0o755); err != nil {
		t.Fatal(err)
	}
	n, kills := *inboxFiles, *inboxKills
	began := time.Now()
	dropped := 0
	for kill := range kills {
		cmd := startChild(t, dir)
		for until := n * (kill + 1) / kills; dropped < until; dropped++ {
			text, _ := expectation(dropped)
			drop(t, here, fmt.Sprintf("c-%d.json", dropped), text)
		}
		// In the middle: some of what arrived is handled, some is not.
		for before, limit := left(here), time.Now().Add(10*time.Second); left(here) > before*(1+rand.IntN(8))/10 && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		cmd.Process.Kill()
		cmd.Wait()
		t.Logf("kill %d: %d of %d files dropped so far wait", kill+1, left(here), dropped)
	}
	cmd := startChild(t, dir)
	for limit := time.Now().Add(60 * time.Second); left(here) > 0 && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond)
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it did not end well: %v", err)
	}
	t.Logf("%d files, %d kills, %v", n, kills, time.Since(began).Round(time.Millisecond))
	lookAtFiles(t, here, n)
	lookAtLog(t, filepath.Join(dir, "deed.db"), n)
}

// left is how many files wait.
func left(dir string) (n int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			n++
		}
	}
	return n
}

func lookAtFiles(t *testing.T, here string, n int) {
	t.Helper()
	r := &rig{t: t, dir: here}
	want := 0
	for i := range n {
		name := fmt.Sprintf("c-%d", i)
		text, code := expectation(i)
		where := "done"
		if want++; code != "" {
			want++
			where = "failed"
			if !r.has("failed/" + name + ".problem.json") {
				t.Errorf("%s has no problem", name)
			} else if p := r.problem(name); p.Code != code {
				t.Errorf("the problem of %s is %+v", name, p)
			}
		}
		if data, err := os.ReadFile(filepath.Join(here, where, name+suffix)); err != nil || string(data) != text {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	got := 0
	for _, path := range list(here) {
		if !hidden(filepath.Base(path)) { // a problem that was being written when the process died
			got++
		}
	}
	if got != want {
		t.Errorf("%d files and problems, want %d", got, want)
	}
}

func lookAtLog(t *testing.T, path string, n int) {
	t.Helper()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count := map[string]int{}
	for _, rec := range events(t, s, "ticket") {
		count[rec.Stream]++
	}
	outcomes := map[string]int{}
	for _, rec := range events(t, s, "$command") {
		outcomes[rec.Stream]++
	}
	for i := range n {
		_, code := expectation(i)
		events, outcome := 0, 0
		if code == "" {
			events = 1
		}
		if code == "" || code == "rejected" {
			outcome = 1
		}
		if got := count[fmt.Sprintf("ticket/t-%d", i)]; got != events {
			t.Errorf("file %d made %d events, want %d", i, got, events)
		}
		if got := outcomes[fmt.Sprintf("$command/c-%d", i)]; got != outcome {
			t.Errorf("file %d has %d outcomes, want %d", i, got, outcome)
		}
		delete(count, fmt.Sprintf("ticket/t-%d", i))
	}
	if len(count) > 0 {
		t.Errorf("nobody asked for %v", count)
	}
	if report, err := sqlite.Check(t.Context(), path, nil); err != nil || len(report.Problems) > 0 {
		t.Errorf("the file: %v, %v", report.Problems, err)
	}
}
