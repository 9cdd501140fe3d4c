package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Tool runs one of PostgreSQL's programs and returns what it prints.
func (s *Server) Tool(stdin string, name string, args ...string) (string, error) {
	cmd := s.command(name, args...)
	var problems strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &problems
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, problems.String())
	}
	return string(out), nil
}

// Standby copies the server and runs the copy, which follows the original; on a
// port, or on a free one if that is 0. The function that is returned ends it.
func (s *Server) Standby(port int) (*Server, func(), error) {
	copied := &Server{Port: port, bin: s.bin}
	var err error
	if copied.dir, err = os.MkdirTemp("", "deed-pg-"); err != nil {
		return nil, nil, err
	}
	stop := func() {
		copied.Kill()
		os.RemoveAll(copied.dir)
	}
	if err = os.Chmod(copied.dir, 0o755); err == nil {
		err = own(copied.dir)
	}
	if err == nil {
		err = s.tool("pg_basebackup", "-D", copied.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync",
			"-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres")
	}
	if err == nil {
		err = copied.Restart()
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return copied, stop, nil
}

// own gives a file to who runs the server.
func own(path string) error {
	if who := servant(); who != nil {
		return os.Chown(path, int(who.Uid), int(who.Gid))
	}
	return nil
}

// Promote makes a standby a server of its own.
func (s *Server) Promote() error {
	return s.tool("pg_ctl", "promote", "-D", s.data(), "-w", "-t", "30")
}

// Exec runs statements on the server, one after the other.
func (s *Server) Exec(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.DSN(""))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, sql := range statements {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// Database makes a database and returns a server's address with it.
func (s *Server) Database(name, schema string) (string, error) {
	err := s.Exec("CREATE DATABASE " + name + " TEMPLATE template0")
	return strings.Replace(s.DSN(schema), "/postgres?", "/"+name+"?", 1), err
}

// Pooler runs PgBouncer in transaction mode before the server. It returns the
// address of a schema by way of it, and a function that ends it.
func (s *Server) Pooler(schema string) (string, func(), error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		if bin = "/usr/sbin/pgbouncer"; !exists(bin) {
			return "", nil, fmt.Errorf("the tests of the pooler need Debian's package pgbouncer: %w", err)
		}
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "deed-pgbouncer-")
	if err != nil {
		return "", nil, err
	}
	conf := fmt.Sprintf("[databases]\npostgres = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n"+
		"auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 500\nuser = postgres\n", s.Port, port)
	conf = strings.Replace(conf, "port="+strconv.Itoa(s.Port), "port="+strconv.Itoa(s.Port)+" user=postgres", 1)
	file := filepath.Join(dir, "pgbouncer.ini")
	if os.Getuid() != 0 {
		conf = strings.Replace(conf, "user = postgres\n", "", 1)
	}
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(bin, "-q", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: servant(), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop := func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	}
	for range 100 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
			return (&Server{Port: port}).DSN(schema), stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("pgbouncer does not answer on port %d", port)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
