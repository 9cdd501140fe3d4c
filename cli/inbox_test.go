package cli_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A file in the folder of a served inbox becomes a command.
func TestServeInbox(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
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

// A folder that cannot be one to take commands in from is told before anything
// is started.
func TestServeWithoutAnInbox(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"none": "there is no folder", "file": "is a file: name a folder", "file/in": "not a directory"} {
		path, db := filepath.Join(dir, name), filepath.Join(dir, "deed.db")
		var talk strings.Builder
		code := cli.Run(t.Context(), []string{"serve", "--store", "sqlite:" + db, "--addr", "127.0.0.1:0", "--inbox", path}, strings.NewReader(""), io.Discard, &talk, orders.Domain)
		if code != 2 || !strings.Contains(talk.String(), "--inbox: ") || !strings.Contains(talk.String(), want) || !strings.Contains(talk.String(), path) {
			t.Errorf("%s: %d %s", name, code, talk.String())
		}
		if _, err := os.Stat(db); err == nil {
			t.Errorf("%s: a store was made", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("the folder was made")
	}
}
