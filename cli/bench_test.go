package cli_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/bench"
	"github.com/deed-dev/deed/internal/pgtest"
)

// A store on a server is measured, with nodes that are processes of their own.
// How fast it is on a machine that runs tests says nothing.
func TestBenchStore(t *testing.T) {
	t.Setenv(programEnv, "1") // the nodes are this program
	var out bytes.Buffer
	code := cli.Run(t.Context(), []string{"bench", "--json", "--store", pgtest.Start(t).DSN(""), "--seconds", "0.1"}, strings.NewReader(""), &out, t.Output())
	var r bench.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, out.String())
	}
	nodes := false
	for _, f := range r.Figures {
		if f.Value <= 0 || f.Of != "" && f.Ratio <= 0 {
			t.Errorf("%+v", f)
		}
		nodes = nodes || f.Name == "two nodes project"
	}
	if !nodes {
		t.Errorf("nothing was said of two nodes: %+v", r.Figures)
	}
}
