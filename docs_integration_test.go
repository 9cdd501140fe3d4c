package deed_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The receivers that the guide shows hear of what happens: in Python, in Go, and
// in a shell that takes its work from a queue.
func TestIntegrationGuide(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	text, err := os.ReadFile("docs/guide-integration.md")
	if err != nil {
		t.Fatal(err)
	}
	guide, dir := string(text), t.TempDir()
	receiver, err := os.ReadFile("examples/receiver/main.go")
	if err != nil || !strings.Contains(guide, string(receiver)[strings.Index(string(receiver), "package main"):]) {
		t.Errorf("the guide does not show examples/receiver as it is, %v", err)
	}
	deed := deedProgram(t)
	_, base, found := strings.Cut(run(t, nil, deed, "serve", "--addr", "127.0.0.1:0", "--store", "mem:", "--webhook-hosts", "127.0.0.1").until(t, "deed serves"), "on ")
	if !found {
		t.Fatal("the server does not say where it is")
	}
	ask := func(args ...string) []byte {
		out, err := exec.CommandContext(t.Context(), deed, append(args, "--json", "--server", strings.TrimSpace(base))...).Output()
		if err != nil {
			t.Fatalf("deed %q: %v", args, err)
		}
		return out
	}
	hook := func(name, port string) []string {
		var made struct {
			Once map[string]string `json:"once"`
		}
		if err := json.Unmarshal(ask("subscription", "put", "domain-events", name, "--webhook", "http://127.0.0.1:"+port, "--start", "beginning", "--retry", "100ms,100ms,1s,1s,1s,1s,1s,1s"), &made); err != nil || made.Once["secret"] == "" {
			t.Fatalf("%v, %v", made, err)
		}
		return []string{"SECRET=" + made.Once["secret"], "PORT=" + port}
	}
	write(t, dir, "receiver.py", block(t, guide, "python"))
	write(t, dir, "consumer.sh", strings.Replace(block(t, guide, "sh"), "http://localhost:8080", strings.TrimSpace(base), 1))
	command(t, ".", "build", "-o", filepath.Join(dir, "receiver"), "./examples/receiver")
	ask("subscription", "put", "domain-events", "work", "--target", `{"kind":"queue","ordered":true}`, "--start", "beginning")
	receivers := map[string]*speaker{
		"Python": run(t, hook("python", freePort(t)), "python3", filepath.Join(dir, "receiver.py")),
		"Go":     run(t, hook("go", freePort(t)), filepath.Join(dir, "receiver")),
		"shell":  run(t, nil, "sh", filepath.Join(dir, "consumer.sh")),
	}
	ask("exec", "order", "o-17", "create", `{"customer":"ann"}`)
	for name, r := range receivers {
		if line := r.until(t, "o-17"); name != "shell" && !strings.Contains(line, "order.created.v1") {
			t.Errorf("%s: %s", name, line)
		}
	}
}

// freePort is a port on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
}

// A speaker is a program that says something, until the test ends.
type speaker struct {
	name string
	mu   sync.Mutex
	said []string
}

func run(t *testing.T, env []string, path string, args ...string) *speaker {
	t.Helper()
	s := &speaker{name: filepath.Base(path)}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with what it has begun
		cmd.Wait()
		in.Close()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.mu.Lock()
			s.said = append(s.said, lines.Text())
			s.mu.Unlock()
		}
	}()
	return s
}

// until waits for a line with a text.
func (s *speaker) until(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		for _, line := range s.said {
			if strings.Contains(line, text) {
				s.mu.Unlock()
				return line
			}
		}
		s.mu.Unlock()
	}
	t.Fatalf("%s says nothing of %q:\n%s", s.name, text, strings.Join(s.said, "\n"))
	return ""
}
