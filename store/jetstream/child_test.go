package jetstream_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/natstest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// The tests run this very binary again as a child that is a server, so that
// they can kill it in the middle of its work.
const childEnv = "DEED_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := childServer(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A child is a server in a process of its own.
type child struct {
	dir   string
	port  int
	sync  string // "always" or "default"
	cmd   *exec.Cmd
	store *jetstream.Store
}

func startChild(t *testing.T) *child {
	t.Helper()
	c := &child{dir: t.TempDir(), port: natstest.FreePorts(t, 1)[0], sync: "always"}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	s, err := jetstream.Open(fmt.Sprintf("nats://127.0.0.1:%d", c.port), &jetstream.Options{Name: "killed", SyncAlways: true, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c.store = s
	return c
}

// start returns when the server listens.
func (c *child) start() error {
	c.cmd = exec.Command(os.Args[0], c.dir, strconv.Itoa(c.port), c.sync)
	c.cmd.Env = append(os.Environ(), childEnv+"=server")
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port)); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("the child does not listen on port %d", c.port)
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	_ = c.cmd.Wait()
}

func (c *child) Log() store.Log { return c.store }

// Crash kills the server, without giving it the time to put anything in order.
func (c *child) Crash() error {
	c.kill()
	return c.start()
}
