package cli_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/cli"
	"github.com/deed-dev/deed/examples/conference"
	"github.com/deed-dev/deed/examples/farm"
	"github.com/deed-dev/deed/examples/league"
	"github.com/deed-dev/deed/examples/orders"
)

// programEnv makes this test binary the real program, for tests that kill it.
const programEnv = "DEED_TEST_PROGRAM"

func program() {
	domains := []deed.Domain{orders.Domain, conference.Domain, farm.Domain, league.Domain, shipping}
	if dir := os.Getenv(relayEnv); dir != "" {
		domains = append(domains, relay(dir))
	}
	cli.Main(domains...)
}

// command is the program as a process of its own, which ends with the test at
// the latest.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
			cmd.Wait() // it may have been waited for before
		}
	})
	return cmd
}

// serve runs `deed serve` on a free port and returns its address as soon as it
// says it. Whatever it says is heard, line by line.
func serve(t *testing.T, heard func(line string), args ...string) (cmd *exec.Cmd, base string) {
	t.Helper()
	cmd = command(t, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	talk, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	serves := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(talk); lines.Scan(); {
			if i := strings.Index(lines.Text(), "http://"); i >= 0 && strings.HasPrefix(lines.Text(), "deed serves") {
				serves <- strings.TrimSpace(lines.Text()[i:])
			}
			heard(lines.Text())
		}
	}()
	select {
	case base = <-serves:
	case <-time.After(30 * time.Second):
		t.Fatal("the server does not start")
	}
	return cmd, base
}

// unheard is for servers whose talk does not matter.
func unheard(string) {}
