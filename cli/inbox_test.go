package cli_test

import (
	"bufio"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A file in the folder of a served inbox becomes a command.
func TestServeInbox(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "serve", "--store", "sqlite:"+filepath.Join(dir, "deed.db"), "--addr", "127.0.0.1:0", "--inbox", filepath.Join(dir, "in"))
	cmd.Env = append(os.Environ(), demoEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	talk, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	base, lines := "", bufio.NewScanner(talk)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "deed takes commands in from") {
		if i := strings.Index(lines.Text(), "http://"); i >= 0 {
			base = strings.TrimSpace(lines.Text()[i:])
		}
	}
	go func() {
		for lines.Scan() {
		}
	}()
	here := filepath.Join(dir, "in", "order.create")
	temp := filepath.Join(here, "k-1.json.tmp")
	text := `{"id":"o-1","actor":"ann","body":{"customer":"ann"}}`
	if err := errors.Join(os.WriteFile(temp, []byte(text), 0o644), os.Rename(temp, filepath.Join(here, "k-1.json"))); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if _, err = os.Stat(filepath.Join(here, "done", "k-1.json")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	var status httpapi.CommandStatus
	if _, err := client.New(base).Do(t.Context(), http.MethodGet, "/v1/commands/k-1", nil, nil, &status); err != nil || status.State != "completed" {
		t.Errorf("%+v, %v", status, err)
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
}
