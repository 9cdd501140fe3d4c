package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var crashRounds = flag.Int("crashrounds", 1, "how often a process is killed at each place of a stepwise command")

// trek is a command of five steps, each with an effect outside.
type trek struct {
	Name string `json:"name"`
}

const trekSteps = 5

// treks kills its own process at a place: "before-N" an effect, "after-N" it,
// "check", or "never".
func treks(effects, place string) deed.Stepwise[trek] {
	reach := func(at string) {
		if at == place {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	def := deed.Stepwise[trek]{Name: "trek.make", Check: func(context.Context, deed.Reader, string, trek) ([]deed.Finding, error) {
		reach("check")
		return nil, nil
	}}
	for i := range trekSteps {
		def.Steps = append(def.Steps, deed.Step[trek]{
			Name: fmt.Sprintf("step-%d", i),
			Do: func(ctx context.Context, w *deed.Work, c trek) error {
				reach(fmt.Sprintf("before-%d", i))
				// The other side recognises a repetition by its key.
				f, err := os.OpenFile(filepath.Join(effects, w.Key()), os.O_CREATE|os.O_EXCL, 0o600)
				if err == nil {
					err = f.Close()
				}
				if err != nil && !errors.Is(err, os.ErrExist) {
					return err
				}
				if err := w.Ask(ctx, deed.Send(vaults, c.Name, drop{1})); err != nil {
					return err
				}
				reach(fmt.Sprintf("after-%d", i))
				return nil
			},
		})
	}
	return def
}

// The test binary is also the program that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DEED_TREK"); dir != "" {
		if err := trekProgram(dir, os.Getenv("DEED_TREK_PLACE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("DEED_QUERY"); dir != "" {
		if err := queryProgram(dir, os.Getenv("DEED_QUERY_PLACE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("DEED_CART"); dir != "" {
		if err := cartProgram(dir, os.Getenv("DEED_CART_PLACE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("DEED_COMPACT"); dir != "" {
		if err := compactProgram(dir, os.Getenv("DEED_COMPACT_PLACE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("DEED_MESSAGES"); dir != "" {
		if err := messageProgram(dir, os.Getenv("DEED_MESSAGES_PLACE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if given := os.Getenv("DEED_REBUILD"); given != "" {
		var r rebuildRun
		err := json.Unmarshal([]byte(given), &r)
		if err == nil {
			err = rebuildProgram(r)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	code := m.Run()
	if deedBinary.path != "" {
		os.RemoveAll(filepath.Dir(deedBinary.path)) // it is in the folder of the system for such things
	}
	os.Exit(code)
}

// trekProgram stores a command, unless it is stored, and ends when it is over.
func trekProgram(dir, place string) error {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	def := treks(filepath.Join(dir, "effects"), place)
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults, def}}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- rt.Run(running) }()
	if _, err := def.Submit(deed.With(ctx, deed.Call{ID: "k"}), rt, "t", trek{"v"}); err != nil {
		return err
	}
	status, err := rt.Commands().Wait(ctx, "k")
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	if status.State != deed.CommandCompleted {
		return fmt.Errorf("the command is %s: %s", status.State, status.Reason)
	}
	return nil
}

// A process is killed before and after each effect of a command of five steps,
// and before its first record. After the next start the command is completed,
// each effect happened once, and the history reads right.
func TestStepsSurviveKills(t *testing.T) {
	places := []string{"check"}
	for i := range trekSteps {
		places = append(places, fmt.Sprintf("before-%d", i), fmt.Sprintf("after-%d", i))
	}
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			for range *crashRounds {
				dir := t.TempDir()
				if err := os.Mkdir(filepath.Join(dir, "effects"), 0o700); err != nil {
					t.Fatal(err)
				}
				if out, err := asProgram(t, "DEED_TREK", dir, place); err == nil {
					t.Fatalf("it was not killed: %s", out)
				}
				if out, err := asProgram(t, "DEED_TREK", dir, "never"); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				checkTrek(t, dir, place)
			}
		})
	}
}

// asProgram runs this binary as one of its programs, see TestMain, which is named
// by a variable: in a folder, until it is killed at a place or has come to its end.
func asProgram(t *testing.T, name, dir, place string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), name+"="+dir, name+"_PLACE="+place)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.CombinedOutput()
}

// wasKilled reports whether what asProgram returned says that it was killed.
func wasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && !exit.Exited()
}

func checkTrek(t *testing.T, dir, place string) {
	t.Helper()
	effects, err := os.ReadDir(filepath.Join(dir, "effects"))
	if err != nil || len(effects) != trekSteps {
		t.Errorf("%d effects, %v", len(effects), err)
	}
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dropped := 0
	for _, err := range s.Read(t.Context(), "vault/v", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		dropped++
	}
	if dropped != trekSteps {
		t.Errorf("the steps' commands were accepted %d times", dropped)
	}
	var story []string
	for rec, err := range s.Read(t.Context(), "$command/k", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		step := struct{ Step string }{}
		unmarshal(t, rec.Data, &step)
		story = append(story, strings.TrimSpace(rec.Type+" "+step.Step))
	}
	want := []string{"received", "validated"}
	for i := range trekSteps {
		want = append(want, fmt.Sprintf("step-started step-%d", i))
		if strings.HasSuffix(place, fmt.Sprintf("-%d", i)) { // begun again
			want = append(want, fmt.Sprintf("step-started step-%d", i))
		}
		want = append(want, fmt.Sprintf("step-completed step-%d", i))
	}
	want = append(want, "completed")
	if strings.Join(story, ", ") != strings.Join(want, ", ") {
		t.Errorf("the history is\n%s\nwant\n%s", strings.Join(story, ", "), strings.Join(want, ", "))
	}
}
