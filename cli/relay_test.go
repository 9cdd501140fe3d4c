package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// relayEnv names the folder in which the steps of a relay leave traces.
const relayEnv = "DEED_TEST_RELAY"

const legs = 4

// A baton counts the legs it was carried over.
type baton struct{ Legs int }

type carried struct{ Leg int }
type carry carried

func (carried) Apply(b *baton) { b.Legs++ }
func (c carry) Decide(baton) ([]deed.Event[baton], error) {
	return []deed.Event[baton]{carried(c)}, nil
}

var batons = deed.Aggregate[baton]{Name: "baton", Events: map[string]deed.Event[baton]{"carried": carried{}}}

// A track is the folder in which the steps of a relay leave traces.
type track string

func (d track) file(name string) string { return filepath.Join(string(d), name) }

// held is a file: while it is there, steps get no further than to its place.
const held = "held"

// wait waits as long as steps are held.
func (d track) wait(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := os.Stat(d.file(held)); err != nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// leg does a step: something outside, known by its key, and a command. Half of
// the steps are held before that, the others after.
func (d track) leg(ctx context.Context, w *deed.Work, n int) error {
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(d.file(w.Key()+".begun."+pid), nil, 0o600); err != nil {
		return err
	}
	before := strings.ContainsAny(w.Key()[:1], "01234567")
	if before {
		if err := d.wait(ctx); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(d.file(w.Key()+".done"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(pid)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if !before {
		if err := d.wait(ctx); err != nil {
			return err
		}
	}
	return w.Ask(ctx, deed.Send(batons, w.ID, carry{n}))
}

// relay has a command of several steps.
func relay(dir string) deed.Domain {
	run := deed.Stepwise[struct{}]{Name: "relay.run", Doc: "Carries a baton over several legs."}
	for n := range legs {
		run.Steps = append(run.Steps, deed.Step[struct{}]{
			Name: fmt.Sprintf("leg-%d", n),
			Do:   func(ctx context.Context, w *deed.Work, _ struct{}) error { return track(dir).leg(ctx, w, n) },
		})
	}
	return deed.Domain{Name: "relay", Parts: []deed.Part{batons, run}}
}

// traces are what the steps of a relay have left.
type traces struct {
	begun map[string][]string // by key: the processes that have begun the step
	done  map[string]string   // by key: the process that did what it does outside
}

func (d track) traces(t *testing.T) traces {
	t.Helper()
	all := traces{map[string][]string{}, map[string]string{}}
	files, err := os.ReadDir(string(d))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		key, what, ofStep := strings.Cut(f.Name(), ".")
		if !ofStep {
			continue
		}
		if pid, begun := strings.CutPrefix(what, "begun."); begun {
			all.begun[key] = append(all.begun[key], pid)
			continue
		}
		by, err := os.ReadFile(d.file(f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.done[key] = string(by)
	}
	return all
}

// of counts the steps of a process: those that are held before what they do
// outside, and those that are held after it.
func (all traces) of(pid string) (before, after int) {
	for key, by := range all.begun {
		switch {
		case by[0] != pid:
		case all.done[key] == "":
			before++
		default:
			after++
		}
	}
	return before, after
}

// Two nodes have stored commands in progress. One of them is killed in the
// middle of steps: the other takes over and finishes each, and every step has
// its effects once.
func TestStepsSurviveTheirNode(t *testing.T) {
	d, dsn := track(t.TempDir()), pgtest.Start(t).DSN("relay")
	t.Setenv(relayEnv, string(d))
	if err := os.WriteFile(d.file(held), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	victim, heir := serveNode(t, dsn, "n0"), serveNode(t, dsn, "n1")
	shareRunners(t, heir.base)

	const commands = 40
	for i := range commands {
		to := []*node{victim, heir}[i%2]
		id := fmt.Sprint("r-", i)
		if _, err := client.New(to.base).Do(t.Context(), http.MethodPost, "/v1/relay/"+id+"/run", map[string]string{"Idempotency-Key": id}, []byte("{}"), nil); err != nil {
			t.Fatal(err)
		}
	}
	pid := strconv.Itoa(victim.cmd.Process.Pid)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if before, after := d.traces(t).of(pid); before > 1 && after > 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the node is not in the middle of steps")
		}
	}
	victim.cmd.Process.Kill()
	victim.cmd.Wait()
	killed := time.Now()
	if err := os.Remove(d.file(held)); err != nil {
		t.Fatal(err)
	}

	c := client.New(heir.base)
	for i := range commands {
		var s httpapi.CommandStatus
		if _, err := c.Do(t.Context(), http.MethodGet, fmt.Sprintf("/v1/commands/r-%d?wait=60s", i), nil, nil, &s); err != nil || s.State != deed.CommandCompleted {
			t.Errorf("r-%d is %s: %s, %v", i, s.State, s.Reason, err)
		}
		completed := 0
		for _, e := range s.History {
			if e.Type == "step-completed" {
				completed++
			}
		}
		if completed != legs {
			t.Errorf("r-%d: %d steps were completed, want %d", i, completed, legs)
		}
	}
	took := time.Since(killed)

	all, again, known := d.traces(t), 0, 0
	if len(all.begun) != commands*legs || len(all.done) != commands*legs {
		t.Errorf("%d steps have begun and %d were done outside, want %d", len(all.begun), len(all.done), commands*legs)
	}
	for key, by := range all.begun {
		if len(by) > 1 {
			again++
			if all.done[key] == pid {
				known++
			}
		}
	}
	t.Logf("the other node finished %d commands within %v; %d steps were done again, %d of which were known outside", commands, took, again, known)
	if known == 0 || known == again {
		t.Error("that shows nothing: steps have to be interrupted before and after what they do outside")
	}
	checkBatons(t, dsn, commands)
}

// checkBatons looks for what the commands that steps asked have recorded.
func checkBatons(t *testing.T, dsn string, commands int) {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	legsOf := map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"baton"}}) {
		if err != nil {
			t.Fatal(err)
		}
		legsOf[rec.Stream]++
	}
	if len(legsOf) != commands {
		t.Errorf("%d batons were carried, want %d", len(legsOf), commands)
	}
	for stream, n := range legsOf {
		if n != legs {
			t.Errorf("%s was carried over %d legs, want %d", stream, n, legs)
		}
	}
}

// shareRunners waits until two nodes each handle stored commands.
func shareRunners(t *testing.T, base string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var list httpapi.NodeList
		if _, err := client.New(base).Do(t.Context(), http.MethodGet, "/v1/nodes", nil, nil, &list); err != nil {
			t.Fatal(err)
		}
		handling := 0
		for _, n := range list.Nodes {
			for _, h := range n.Holds {
				if h.Follower == "command-runner" {
					handling++
					break
				}
			}
		}
		if handling == 2 {
			return
		}
	}
	t.Fatal("the nodes do not share the stored commands")
}
