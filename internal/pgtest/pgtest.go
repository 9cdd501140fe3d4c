// Package pgtest runs PostgreSQL servers for tests: real ones, from the
// binaries of this machine, each in a folder of its own.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is a PostgreSQL server.
type Server struct {
	Port int
	dir  string
	bin  string
	cmd  *exec.Cmd
	dead chan struct{}
}

// Start makes a server and runs it until the test ends. A machine without
// PostgreSQL fails the test: a store nobody has checked is none.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, stop, err := Run(settings...)
	if err != nil {
		tb.Fatalf("THE POSTGRESQL TESTS CANNOT RUN HERE: %v\nThey need Debian's package postgresql (apt-get install postgresql).", err)
	}
	tb.Cleanup(stop)
	return s
}

// Run makes and runs a server for a whole test program. Settings are those of
// postgresql.conf, for example "max_connections=200".
func Run(settings ...string) (*Server, func(), error) {
	s := &Server{}
	var err error
	if s.bin, err = binaries(); err != nil {
		return nil, nil, err
	}
	if s.dir, err = os.MkdirTemp("", "deed-pg-"); err != nil {
		return nil, nil, err
	}
	stop := func() {
		s.Kill()
		os.RemoveAll(s.dir)
	}
	if err := s.create(settings); err != nil {
		stop()
		return nil, nil, err
	}
	if err := s.Restart(); err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}

func binaries() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Sort(dirs)
	for _, dir := range slices.Backward(dirs) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	path, err := exec.LookPath("initdb")
	return filepath.Dir(path), err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// create makes the folder of the database.
func (s *Server) create(settings []string) error {
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(s.data(), 0o700); err != nil {
		return err
	}
	if err := own(s.data()); err != nil {
		return err
	}
	if err := s.initialize(); err != nil {
		return err
	}
	return s.Configure(append([]string{
		"listen_addresses='127.0.0.1'", "unix_socket_directories=''", "max_connections=100", "shared_buffers=64MB", "logging_collector=off",
	}, settings...)...)
}

// Configure adds settings; they count from the next start.
func (s *Server) Configure(settings ...string) error {
	return s.Append("postgresql.conf", strings.Join(settings, "\n")+"\n")
}

// Append adds text to a file of the data folder.
func (s *Server) Append(file, text string) error {
	f, err := os.OpenFile(filepath.Join(s.data(), file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if who := servant(); who != nil {
		err = errors.Join(err, f.Chown(int(who.Uid), int(who.Gid)))
	}
	return errors.Join(err, f.Close())
}

// servant is who runs the server: it refuses to be run by root.
func servant() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: servant(), Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *Server) tool(name string, args ...string) error {
	out, err := s.command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Restart starts a server that does not run, on the port it had, and waits
// until it answers.
func (s *Server) Restart() error {
	if s.Port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.Port = port
	}
	var out bytes.Buffer
	s.cmd = s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.Port))
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	dead := make(chan struct{})
	s.dead = dead
	cmd := s.cmd
	go func() { cmd.Wait(); close(dead) }()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.DSN(""))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-dead:
			return fmt.Errorf("the server ended: %s", out.String())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w\n%s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// Kill ends the server as a crash would.
func (s *Server) Kill() { s.signal(syscall.SIGQUIT) }

// Stop ends the server in order, disconnecting everybody.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	select {
	case <-s.dead:
	case <-time.After(30 * time.Second):
		s.cmd.Process.Kill()
		<-s.dead
	}
	s.cmd = nil
}

var schemas atomic.Int64

// DSN returns an address whose schema is the given one.
func (s *Server) DSN(schema string) string {
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
	if schema != "" {
		dsn += "&schema=" + schema
	}
	return dsn
}

// Schema returns the name of a schema nobody has used.
func (s *Server) Schema() string { return fmt.Sprintf("t%d_%d", os.Getpid(), schemas.Add(1)) }
