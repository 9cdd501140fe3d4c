package cli_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/verify"
)

var stepDowns = flag.Int("stepdowns", 3, "rounds of each kind of failover")

// On a cluster, leaders step down and servers are really stopped and started
// again, by commands as an operator gives them.
func TestVerifyFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	c := natstest.Start(t, t.TempDir(), 3, nil)
	h := serveHooks(t, c)
	r := verifyFailover(t, c.URL("app")+"?replicas=3&sync=always", "--kill", h.command("stop"), "--restart", h.command("start"))
	if r.Passed != 2 || r.Failed+r.NotHere > 0 {
		t.Errorf("%+v", r)
	}
	if stops := strings.Count(h.did(), "stop"); stops != *stepDowns {
		t.Errorf("servers were stopped %d times, want %d: this shows nothing", stops, *stepDowns)
	}
}

// A single server is killed and started again; that nobody can take over is
// said, not passed over.
func TestVerifyFailoverOfOne(t *testing.T) {
	c := natstest.Start(t, t.TempDir(), 1, nil)
	h := serveHooks(t, c)
	r := verifyFailover(t, c.URL("app")+"?sync=always", "--kill", h.command("stop"), "--restart", h.command("start"))
	if r.Passed != 1 || r.NotHere != 1 || !strings.Contains(r.Results[0].NotHere, "one replica") {
		t.Errorf("%+v", r)
	}
}

func TestVerifyFlagsOfFailover(t *testing.T) {
	for _, args := range [][]string{
		{"--store", "sqlite:" + filepath.Join(t.TempDir(), "any.db"), "--kill", "true"},
		{"--store", "nats://localhost:1", "--restart", "true"},
	} {
		var out bytes.Buffer
		if code := cli.Run(t.Context(), append([]string{"verify"}, args...), strings.NewReader(""), &out, &out); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, out.String())
		}
	}
}

func verifyFailover(t *testing.T, dsn string, args ...string) (r verify.Report) {
	t.Helper()
	var out bytes.Buffer
	args = append([]string{"verify", "--json", "--store", dsn, "--only", "^failover", "--failovers", fmt.Sprint(*stepDowns)}, args...)
	cli.Run(t.Context(), args, strings.NewReader(""), &out, t.Output())
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	for _, res := range r.Results {
		t.Logf("%s: %s%s%s", res.Name, res.Note, res.Error, res.NotHere)
	}
	return r
}

// hooks does to the servers what commands of a shell ask for:
// a command leaves a file, and waits until it is gone.
type hooks struct {
	t   *testing.T
	c   *natstest.Cluster
	dir string
}

func serveHooks(t *testing.T, c *natstest.Cluster) *hooks {
	h := &hooks{t: t, c: c, dir: t.TempDir()}
	go func() {
		for t.Context().Err() == nil {
			asked, _ := filepath.Glob(filepath.Join(h.dir, "*.ask")) // fails only for bad patterns
			for _, path := range asked {
				h.do(path)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return h
}

// command is one that asks for something, and returns when it is done.
func (h *hooks) command(what string) string {
	path := filepath.Join(h.dir, what+".{server}")
	return fmt.Sprintf("echo %s >> %s; touch %s.ask; while [ -e %s.ask ]; do sleep 0.02; done", what, filepath.Join(h.dir, "did"), path, path)
}

func (h *hooks) do(path string) {
	what, name, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".ask"), ".")
	i := h.c.Index(name)
	switch {
	case i < 0:
		h.t.Errorf("there is no server %q", name)
	case what == "stop":
		h.c.StopNode(i)
	default:
		if err := h.c.Run(i); err != nil {
			h.t.Error(err)
		}
	}
	if err := os.Remove(path); err != nil {
		h.t.Error(err)
	}
}

func (h *hooks) did() string {
	b, err := os.ReadFile(filepath.Join(h.dir, "did"))
	if err != nil {
		h.t.Error(err)
	}
	return string(b)
}
