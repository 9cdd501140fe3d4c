package cli_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/internal/verify"
)

// The suite passes on every store, and leaves nothing behind.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	for name, dsn := range map[string]string{
		"sqlite":    "sqlite:" + filepath.Join(dir, "any.db"),
		"postgres":  pgtest.Start(t).DSN(""),
		"jetstream": natstest.Start(t, t.TempDir(), 1, nil).URL("app") + "?sync=always",
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			code := cli.Run(t.Context(), []string{"verify", "--json", "--store", dsn, "--races", "20", "--histories", "3"}, strings.NewReader(""), &out, t.Output())
			var r verify.Report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			if notHere := map[string]int{"jetstream": 2}[name]; r.NotHere != notHere {
				t.Errorf("%d checks do not apply, want %d: a single server has no other leader: %s", r.NotHere, notHere, out.String())
			}
			if code != 0 || r.Failed > 0 || r.Passed < 80 || r.Warning != "" {
				t.Errorf("exit %d, %d passed, %d failed, %q", code, r.Passed, r.Failed, r.Warning)
			}
			if strings.Contains(r.Store, "app:app") {
				t.Errorf("the report tells a password: %s", r.Store)
			}
		})
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
