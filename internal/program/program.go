// Package program lets tests run the parts of a system as processes of their
// own, and kill them.
package program

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/internal/faulty"
	"github.com/deed-dev/deed/internal/sinks"
	"github.com/deed-dev/deed/internal/webhook"
	"github.com/deed-dev/deed/store"
)

// serverEnv makes a test binary a server: its value is the Server, as JSON.
const serverEnv = "DEED_PROGRAM_SERVER"

// A Server serves the domains of a test as a process of its own.
type Server struct {
	Place string // of the store, see backends.EachPlace
	Addr  string // to listen on; "" = any that is free
	Arg   string // for the domains

	// DieAfter is a type of event: the process is killed as soon as one was
	// appended, before anybody hears of it. "" = it lives.
	DieAfter string
}

// Main runs the tests of a package, or is a server of domains, if this process
// was started to be one. Call it from TestMain.
func Main(m *testing.M, domains func(arg string) []deed.Domain) {
	if text := os.Getenv(serverEnv); text != "" {
		var s Server
		err := json.Unmarshal([]byte(text), &s)
		if err == nil {
			err = s.serve(context.Background(), domains(s.Arg))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	for _, path := range built {
		os.RemoveAll(filepath.Dir(path)) // it is in the folder of the system for such things
	}
	os.Exit(code)
}

// lease is after which a server takes over what a killed one has left.
const lease = 2 * time.Second

func (s Server) serve(ctx context.Context, domains []deed.Domain) error {
	opened, err := backends.Open(ctx, s.Place)
	if err != nil {
		return err
	}
	st := faulty.New(opened)
	if s.DieAfter != "" {
		st.After = s.die
	}
	rt, err := deed.New(st, deed.Config{
		Domains: domains, Logger: slog.New(slog.DiscardHandler), Lease: lease,
		Targets: map[string]deed.TargetKind{"webhook": webhook.New(sinks.NewHosts([]string{"127.0.0.1"}, false), "deed.example")},
	})
	if err != nil {
		return err
	}
	addr := s.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go rt.Run(ctx)
	fmt.Println("http://" + ln.Addr().String())
	return httpapi.NewServer(httpapi.New(rt, httpapi.Options{Logger: slog.New(slog.DiscardHandler)})).Serve(ln)
}

// die kills this process if an event of some type is among what was appended.
func (s Server) die(writes []store.Write) {
	for _, w := range writes {
		for _, e := range w.Events {
			if e.Type == s.DieAfter {
				Die()
			}
		}
	}
}

// Die kills this process, as kill -9 does.
func Die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// Start runs a server, until the test ends at the latest.
func (s Server) Start(t *testing.T) *Process {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return Start(t, []string{serverEnv + "=" + string(text)}, os.Args[0])
}

// A Process is one that a test has started.
type Process struct {
	Base string // its address, for example "http://127.0.0.1:4711"
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs a program until the test ends at the latest. The first line that
// it prints is where it is reached, or why it is not.
func Start(t *testing.T, env []string, path string, args ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				said <- lines.Text()
			}
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	select {
	case p.Base = <-said:
	case <-p.done:
		t.Fatalf("%s has ended: %v", filepath.Base(path), p.err)
	case <-time.After(time.Minute):
		t.Fatalf("%s does not say where it is", filepath.Base(path))
	}
	return p
}

// Kill kills the process as kill -9 does, if it is still there.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Killed waits until the process was killed: by itself, that is.
func (p *Process) Killed(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		if !strings.Contains(fmt.Sprint(p.err), "killed") {
			t.Fatalf("the program has ended: %v", p.err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the program is not killed")
	}
}

// Addr is the address of the process without its scheme, for another one to take
// its place.
func (p *Process) Addr() string { return strings.TrimPrefix(p.Base, "http://") }

var (
	building sync.Mutex
	built    = map[string]string{}
)

// Build builds a program, once for all tests of a package, and returns where it
// is. The package is given as to go build; the program is gone when [Main] ends.
func Build(t *testing.T, pkg string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if path := built[pkg]; path != "" {
		return path
	}
	dir, err := os.MkdirTemp("", "deed-program-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	built[pkg] = path
	return path
}

// FreeAddr is an address on which nobody listens, for a program whose address has
// to be known before it is started.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
