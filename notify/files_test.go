package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programEnv makes this test binary a program that writes notifications again
// and again, until it is killed: its value is the folder.
const programEnv = "DEED_NOTIFY_PROGRAM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(programEnv); dir != "" {
		fmt.Fprintln(os.Stderr, write(dir, time.Hour))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// keysOfProgram is how many keys the program has.
const keysOfProgram = 40

// write writes the same notifications again and again, for some time, but once
// at least.
func write(dir string, d time.Duration) error {
	f, err := OpenFolder(filepath.Join(dir, "files"))
	if err != nil {
		return err
	}
	l, err := OpenLines(filepath.Join(dir, "all.jsonl"))
	if err != nil {
		return err
	}
	for end := time.Now().Add(d); ; {
		for i := range keysOfProgram {
			data := fmt.Sprintf(`{"n":%d,"text":%q}`, i, strings.Repeat("x", 100*i))
			err := errors.Join(f.Put(strconv.Itoa(i), []byte(data)), l.Append(Line{strconv.Itoa(i), json.RawMessage(data)}))
			if err != nil {
				return err
			}
		}
		if !time.Now().Before(end) {
			return nil
		}
	}
}

// Two processes write the same, and are killed again and again: in the end
// there is one file and one line for each key, and all of them are whole.
func TestNothingIsDoubled(t *testing.T) {
	dir := t.TempDir()
	for round := range 6 {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), programEnv+"="+dir)
				cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				cmd.Stderr = t.Output()
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				time.AfterFunc(time.Duration(20+7*round)*time.Millisecond, func() { cmd.Process.Kill() })
				if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if round == 3 { // as a power cut leaves it
			f, err := os.OpenFile(filepath.Join(dir, "all.jsonl"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(`{"key":"9","data":{"n"`); errors.Join(err, f.Close()) != nil {
				t.Fatal(err)
			}
		}
	}
	if err := write(dir, time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "all.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var l Line
		if err := json.Unmarshal([]byte(line), &l); err != nil || seen[l.Key] {
			t.Errorf("%.60s: %v", line, err)
		}
		seen[l.Key] = true
	}
	if len(seen) != keysOfProgram {
		t.Errorf("%d lines", len(seen))
	}
	for i := range keysOfProgram {
		data, err := os.ReadFile(Folder(filepath.Join(dir, "files")).Path(strconv.Itoa(i)))
		if err != nil || !json.Valid(data) {
			t.Errorf("%d: %.60s, %v", i, data, err)
		}
	}
}

// A mail in a folder is the first one that was put there under its key.
func TestFolderOfMails(t *testing.T) {
	f, err := OpenFolder(filepath.Join(t.TempDir(), "mails"))
	if err != nil {
		t.Fatal(err)
	}
	first := mailOf("mails/1")
	again := first
	again.Text = "another one"
	if err := errors.Join(f.Send(t.Context(), first), f.Send(t.Context(), again)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Path("mails/1"))
	var got Mail
	if err != nil || json.Unmarshal(data, &got) != nil || got != first {
		t.Errorf("%+v, %v", got, err)
	}
	if err := f.Send(t.Context(), Mail{Key: "k"}); err == nil {
		t.Error("a mail to nobody is there")
	}
}
