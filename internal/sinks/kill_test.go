package sinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// programEnv makes this test binary a program that is killed.
const programEnv = "DEED_SINKS_PROGRAM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(programEnv); dir != "" {
		if err := program(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// program asks commands that are rejected, as fast as it can, until it is
// killed, and writes the records beside the database.
func program(dir string) error {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	h, err := Files(filepath.Join(dir, "errors"), Beginning)
	if err != nil {
		return err
	}
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{purses, h}}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	go rt.Run(context.Background())
	for i := 0; ; i++ {
		_, err := purses.Execute(context.Background(), rt, fmt.Sprint("p", i%7), move{-1})
		if _, ok := errors.AsType[deed.Rejected](err); !ok {
			return err
		}
	}
}

// A process is killed again and again while it writes files: in the end each
// rejected command has exactly one, and it is whole.
func TestFilesSurviveKills(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "errors")
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), programEnv+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// However slow the machine, some files come in each round.
		for have, end := len(written(folder)), time.Now().Add(time.Minute); len(written(folder)) < have+30; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the program writes nothing")
			}
		}
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the program ended by itself: %v", err)
		}
	}
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, stop := start(t, s, nil, files(t, folder, Beginning))
	defer stop()
	r.settled()
	rejected := 0
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Types: []string{"rejected"}}) {
		if err != nil {
			t.Fatal(err)
		}
		rejected++
		id := strings.TrimPrefix(rec.Stream, "$command/")
		if got := readRecord(t, folder, id); got.Version != 1 || got.Code != "too_few" || !got.Time.Equal(rec.Time) {
			t.Fatalf("%+v", got)
		}
	}
	files, all := len(written(folder)), len(names(t, folder))
	t.Logf("%d rejected commands, %d files, %d left unfinished by kills", rejected, files, all-files)
	if files != rejected || rejected < 180 || all-files > 6 {
		t.Errorf("%d rejected commands, %d files, %d unfinished", rejected, files, all-files)
	}
	if l, _, err := r.rt.Followers().DeadLetters(t.Context(), "", "", 10); err != nil || len(l) > 0 {
		t.Errorf("%v, %v", l, err)
	}
}

// written are the files of a folder that are whole.
func written(dir string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, "*.json")) // the pattern is good
	return all
}
