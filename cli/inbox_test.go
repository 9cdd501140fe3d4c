package cli_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A file in the folder of a served inbox becomes a command.
func TestServeInbox(t *testing.T) {
	dir := t.TempDir()
	ready := make(chan struct{})
	cmd, base := serve(t, func(line string) {
		if strings.HasPrefix(line, "deed takes commands in from") {
			close(ready)
		}
	}, "--store", "sqlite:"+filepath.Join(dir, "deed.db"), "--inbox", filepath.Join(dir, "in"))
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		t.Fatal("it takes no commands in")
	}
	here := filepath.Join(dir, "in", "order.create")
	temp := filepath.Join(here, "k-1.json.tmp")
	text := `{"id":"o-1","actor":"ann","body":{"customer":"ann"}}`
	if err := errors.Join(os.WriteFile(temp, []byte(text), 0o644), os.Rename(temp, filepath.Join(here, "k-1.json"))); err != nil {
		t.Fatal(err)
	}
	var err error
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
