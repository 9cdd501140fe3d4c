package cli_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/internal/copylog"
	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var copyEvents = flag.Int("copyevents", 20_000, "events in the log that is copied")

// A log goes from a file to PostgreSQL to JetStream to a file, and stays the
// same; each copy is killed half way and goes on.
func TestCopyAround(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "first.db")
	makeLog(t, first, *copyEvents)
	hops := []string{
		"sqlite:" + first, pgtest.Start(t).DSN("copied"),
		natstest.Start(t, t.TempDir(), 1, nil).URL("app") + "?sync=always", "sqlite:" + filepath.Join(dir, "last.db"),
	}
	var sum string
	for i := range len(hops) - 1 {
		from, to := hops[i], hops[i+1]
		killed := copyAndKill(t, from, to)
		start := time.Now()
		var out bytes.Buffer
		if code := cli.Run(t.Context(), []string{"copy", "--json", "--from", from, "--to", to}, strings.NewReader(""), &out, t.Output()); code != 0 {
			t.Fatalf("hop %d: exit %d: %s", i, code, out.String())
		}
		var r copylog.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("hop %d: %d records, %d found after the kill (%v), in %v", i, r.Records, r.Found, killed, time.Since(start))
		if r.Records != uint64(*copyEvents) || sum != "" && r.Checksum != sum {
			t.Errorf("hop %d: %+v, want %d records with checksum %s", i, r, *copyEvents, sum)
		}
		sum = r.Checksum
	}
}

func makeLog(t *testing.T, path string, n int) {
	t.Helper()
	clock := time.Now().Add(-1000 * time.Hour)
	s, err := sqlite.Open(path, &sqlite.Options{Relaxed: true, Now: func() time.Time { clock = clock.Add(time.Second); return clock }})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 10 {
		w := store.Write{Stream: fmt.Sprintf("thing/%d", i/10%97), Expect: store.Any}
		for j := range 10 {
			e := store.Event{Type: "counted", Data: fmt.Appendf(nil, `{"n":%d,"text":"some text"}`, i+j), Meta: []byte(`{"actor":"a"}`)}
			rand.Read(e.ID[:])
			w.Events = append(w.Events, e)
		}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyAndKill begins to copy in a process of its own, and kills that after a
// while. It reports whether it got that far.
func copyAndKill(t *testing.T, from, to string) bool {
	t.Helper()
	cmd := command(t, "copy", "--from", from, "--to", to)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-time.After(time.Duration(*copyEvents) * 10 * time.Microsecond):
		cmd.Process.Kill()
		<-ended
		return true
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
}
