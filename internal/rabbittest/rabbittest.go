// Package rabbittest runs RabbitMQ servers for tests: real ones, from Debian's
// package, each with a folder and ports of its own.
package rabbittest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// folder is where Debian's package has the programs. Those in /usr/sbin are run
// by a user of their own.
const folder = "/usr/lib/rabbitmq/bin/"

// A Server is a RabbitMQ server.
type Server struct {
	Port  int // for AMQP
	dir   string
	names int // port of the Erlang port mapper, which is the server's own
	peers int // port for other nodes, which there are none of
	procs []*process
}

// A process is one that was started here.
type process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	dead chan struct{}
}

// Start makes a server and runs it until the test ends. A machine without
// RabbitMQ fails the test. Settings are those of rabbitmq.conf.
func Start(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, stop, err := Run(settings...)
	if err != nil {
		tb.Fatalf("THE RABBITMQ TESTS CANNOT RUN HERE: %v\nThey need Debian's package rabbitmq-server.", err)
	}
	tb.Cleanup(stop)
	return s
}

// Run makes and runs a server for a whole test program.
func Run(settings ...string) (*Server, func(), error) {
	if _, err := os.Stat(folder + "rabbitmq-server"); err != nil {
		return nil, nil, err
	}
	s := &Server{}
	var err error
	if s.dir, err = os.MkdirTemp("", "deed-rabbitmq-"); err != nil {
		return nil, nil, err
	}
	stop := func() {
		s.Kill()
		os.RemoveAll(s.dir)
	}
	if err = s.configure(settings); err == nil {
		err = s.Restart()
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return s, stop, nil
}

// configure writes the files of the server.
func (s *Server) configure(settings []string) error {
	for _, port := range []*int{&s.Port, &s.names, &s.peers} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		*port = ln.Addr().(*net.TCPAddr).Port
	}
	conf := append([]string{
		"listeners.tcp.default = 127.0.0.1:" + strconv.Itoa(s.Port), "distribution.listener.interface = 127.0.0.1", "log.console.level = warning",
	}, settings...)
	for name, text := range map[string]string{"rabbitmq.conf": strings.Join(conf, "\n") + "\n", "plugins": "[].\n", "env": ""} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// environment is that of the server and of its tools.
func (s *Server) environment() []string {
	in := func(name string) string { return filepath.Join(s.dir, name) }
	return append(os.Environ(),
		"HOME="+s.dir, "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_EPMD_PORT="+strconv.Itoa(s.names),
		"RABBITMQ_NODENAME=deed@localhost", "RABBITMQ_DIST_PORT="+strconv.Itoa(s.peers), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+strconv.Itoa(s.Port),
		"RABBITMQ_MNESIA_BASE="+in("data"), "RABBITMQ_LOG_BASE="+in("log"), "RABBITMQ_LOGS=-", "RABBITMQ_PID_FILE="+in("pid"),
		"RABBITMQ_CONFIG_FILE="+in("rabbitmq"), "RABBITMQ_CONF_ENV_FILE="+in("env"), "RABBITMQ_ENABLED_PLUGINS_FILE="+in("plugins"),
		"RUNNING_UNDER_SYSTEMD=true", // the script becomes the server, so that its process can be killed
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
	)
}

// run starts a program that ends with this one.
func (s *Server) run(name string, args ...string) error {
	p := &process{cmd: exec.Command(name, args...), dead: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = s.environment(), s.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.cmd.Wait(); close(p.dead) }()
	s.procs = append(s.procs, p)
	return nil
}

// Restart starts a server that does not run, and waits until it answers.
func (s *Server) Restart() error {
	if err := s.run("epmd", "-port", strconv.Itoa(s.names), "-address", "127.0.0.1"); err != nil {
		return err
	}
	if err := s.run(folder + "rabbitmq-server"); err != nil {
		return err
	}
	p := s.procs[len(s.procs)-1]
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		c, err := amqp.Dial(s.URL())
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.dead:
			return fmt.Errorf("the server ended: %s", p.out.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("the server does not answer")
}

// URL is the address of the server, for its first user.
func (s *Server) URL() string { return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d", s.Port) }

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	for i := len(s.procs) - 1; i >= 0; i-- {
		s.procs[i].cmd.Process.Kill()
		<-s.procs[i].dead
	}
	s.procs = nil
}

// Control runs rabbitmqctl.
func (s *Server) Control(args ...string) error {
	cmd := exec.Command(folder+"rabbitmqctl", append([]string{"-q", "-n", "deed@localhost"}, args...)...)
	cmd.Env = s.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("rabbitmqctl %v: %w\n%s", args, err, out)
	}
	return nil
}
