package cli_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/internal/verify"
)

var verifyAll = flag.Bool("verifyall", false, "have servers pass the whole contract by way of deed verify, too")

// The suite passes on every store, and leaves nothing behind. The stores' own
// tests have servers pass the whole contract; here they pass some of it, and all
// that the contract is not.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	part := []string{"--only", "^(contract/(append|durable|import)|races|histories|postgres|failover)"}
	if *verifyAll {
		part = nil
	}
	for name, test := range map[string]struct {
		dsn     string
		args    []string
		passed  int // at least
		notHere int // a single server has no other leader
	}{
		"sqlite":    {dsn: "sqlite:" + filepath.Join(dir, "any.db"), passed: 80},
		"postgres":  {dsn: pgtest.Start(t).DSN(""), args: part, passed: 30},
		"jetstream": {dsn: natstest.Start(t, t.TempDir(), 1, nil).URL("app") + "?sync=always", args: part, passed: 30, notHere: 2},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			args := append([]string{"verify", "--json", "--store", test.dsn, "--races", "5", "--histories", "1"}, test.args...)
			code := cli.Run(t.Context(), args, strings.NewReader(""), &out, t.Output())
			var r verify.Report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			if r.NotHere != test.notHere {
				t.Errorf("%d checks do not apply, want %d: %s", r.NotHere, test.notHere, out.String())
			}
			t.Logf("%d passed", r.Passed)
			if code != 0 || r.Failed > 0 || r.Passed < test.passed || r.Warning != "" {
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
