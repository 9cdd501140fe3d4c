package deed

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
)

var (
	killSagas = flag.Int("sagas", 60, "how many sagas, and as many processes, programs have that are killed")
	kills     = flag.Int("kills", 3, "how often one of them is killed")
	killStore = flag.String("kill-store", "sqlite postgres", "where the sagas are; on postgres there are three nodes")
)

// Programs with many sagas and processes are killed again and again, before and
// after they write to their store and ask a service outside. In the end
// everything adds up: TestSimulations checks the same.
func TestSagasSurviveKills(t *testing.T) {
	for name := range strings.FieldsSeq(*killStore) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			k := &killer{T: t, dir: t.TempDir(), nodes: 1, rand: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)), ended: make(chan simEnd)}
			if name == "postgres" {
				server := pgtest.Start(t)
				k.dsn, k.nodes = server.DSN(server.Schema()), 3
			}
			start := time.Now()
			k.run()
			t.Logf("%d sagas and %d processes on %d nodes, killed %d times, over after %v", *killSagas, *killSagas, k.nodes, k.killed, time.Since(start).Round(10*time.Millisecond))
			k.check()
		})
	}
}

// A killer runs programs, and sees to it that they are killed.
type killer struct {
	*testing.T
	dir    string
	dsn    string // "": SQLite
	nodes  int
	rand   *rand.Rand
	ended  chan simEnd
	killed int
}

// A simEnd is what became of a program.
type simEnd struct {
	node int
	out  []byte
	err  error
}

// simPlaces are where a program is killed, and how often it comes there for each
// ten times that it appends.
var simPlaces = []struct {
	name  string
	often int
}{
	{"append-after", 10}, {"do-after", 3}, {"write-before", 1}, {"append-before", 10}, {"undo-after", 1}, {"do-before", 3}, {"write-after", 1}, {"undo-before", 1},
}

func (k *killer) run() {
	programs := make([]*exec.Cmd, k.nodes)
	for node := range programs {
		programs[node] = k.start(node)
	}
	for running := k.nodes; running > 0; {
		select {
		case e := <-k.ended:
			if e.err == nil {
				running--
				continue
			}
			if exit, ok := errors.AsType[*exec.ExitError](e.err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				k.failed(e, running-1)
			}
			if k.killed++; k.killed == *kills {
				k.calmDown()
			}
			programs[e.node] = k.start(e.node)
		case <-time.After(k.patience()):
			programs[k.rand.IntN(k.nodes)].Process.Kill()
		}
	}
}

// failed tells what a program says that has failed. The others may be about to say
// why: it may have waited for them.
func (k *killer) failed(e simEnd, others int) {
	k.Errorf("program %d: %v: %s", e.node, e.err, e.out)
	soon := time.After(20 * time.Second)
	for range others {
		select {
		case e := <-k.ended:
			k.Errorf("program %d: %v: %s", e.node, e.err, e.out)
		case <-soon:
			k.FailNow()
		}
	}
	k.FailNow()
}

// patience is how long to wait until somebody is killed, wherever they are.
func (k *killer) patience() time.Duration {
	if k.killed >= *kills {
		return time.Hour
	}
	return 3*time.Second + time.Duration(*killSagas)*time.Millisecond
}

// calmDown ends all trouble.
func (k *killer) calmDown() {
	if err := os.WriteFile(filepath.Join(k.dir, simCalmFile), nil, 0o600); err != nil {
		k.Fatal(err)
	}
}

func (k *killer) start(node int) *exec.Cmd {
	place := simPlaces[k.rand.IntN(len(simPlaces))]
	most := 8 * *killSagas / max(1, *kills) / k.nodes * place.often / 10
	cmd := exec.CommandContext(k.Context(), os.Args[0], "-test.run=^TestKilledProgram$", "-test.timeout=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "DEED_SIM="+k.dir, "DEED_SIM_STORE="+k.dsn, "DEED_SIM_SAGAS="+strconv.Itoa(*killSagas),
		fmt.Sprintf("DEED_SIM_NODE=%d/%d", node, k.nodes), "DEED_SIM_PLACE="+place.name, "DEED_SIM_AFTER="+strconv.Itoa(1+k.rand.IntN(max(most, 10))))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	go func() {
		err := cmd.Wait()
		select {
		case k.ended <- simEnd{node, out.Bytes(), err}:
		case <-k.Context().Done():
		}
	}()
	return cmd
}

// check takes the log apart.
func (k *killer) check() {
	s, err := openSimStore(k.Context(), k.dir, k.dsn, &simFuse{})
	if err != nil {
		k.Fatal(err)
	}
	defer s.Close()
	rt, err := New(s, Config{Domains: []Domain{simDomain(simSettings{})}})
	if err != nil {
		k.Fatal(err)
	}
	service, err := openSimFile(k.dir, &simFuse{})
	if err != nil {
		k.Fatal(err)
	}
	defer service.file.Close()
	wrong := 0
	l := readSimLog(k.T, rt, func(format string, args ...any) {
		if wrong++; wrong < 20 {
			k.Errorf(format, args...)
		}
	})
	things, states := simThings{}, map[InstanceState]int{}
	for name, thing := range service.things {
		things.note(name, thing.done)
	}
	l.check(things)
	top := 0
	for stream, story := range l.instances {
		states[story.inst.State]++
		if !strings.HasPrefix(stream, "$saga/errand/") {
			top++
		}
	}
	if top != 2**killSagas || wrong > 0 {
		k.Errorf("%d of %d instances, %d things are wrong", top, 2**killSagas, wrong)
	}
	k.Logf("%d instances: %v; %d commands accepted, %d things done or undone outside, %d tasks", len(l.instances), states, len(l.commands), len(service.things), len(l.tasks))
	if states[InstanceCompleted] == 0 || states[InstanceUndone] == 0 {
		k.Error("nothing was completed, or undone: nothing is shown")
	}
}
