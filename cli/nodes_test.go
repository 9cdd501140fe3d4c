package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var nodeKills = flag.Int("nodekills", 6, "how often a node is killed")

// A node is a `deed serve` process on a shared store.
type node struct {
	cmd  *exec.Cmd
	base string
}

func serveNode(t *testing.T, dsn, name string) *node {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--store", dsn, "--addr", "127.0.0.1:0", "--node", name, "--lease", "2s")
	cmd.Env = append(os.Environ(), demoEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	base := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			if i := strings.Index(lines.Text(), "http://"); i >= 0 && strings.HasPrefix(lines.Text(), "deed serves") {
				base <- strings.TrimSpace(lines.Text()[i:])
			} else if strings.Contains(lines.Text(), "level=ERROR") {
				fmt.Fprintln(t.Output(), name, lines.Text())
			}
		}
	}()
	select {
	case b := <-base:
		return &node{cmd, b}
	case <-time.After(20 * time.Second):
		t.Fatal("the node does not start")
	}
	return nil
}

// watchEpochs reads checkpoints again and again, and fails the test if one goes
// back, in its cursor or its epoch.
func watchEpochs(ctx context.Context, t *testing.T, s store.Store) {
	type mark struct {
		Cursor store.Cursor `json:"cursor"`
		Epoch  uint64       `json:"epoch"`
	}
	last := map[string]mark{}
	for ctx.Err() == nil {
		for d, err := range s.List(ctx, "$cursor", "", "") {
			if err != nil {
				break
			}
			var now mark
			if err := json.Unmarshal(d.Data, &now); err != nil {
				t.Error(err)
				return
			}
			if was := last[d.Key]; now.Epoch < was.Epoch || !now.Cursor.CoversAll(was.Cursor) {
				t.Errorf("checkpoint %s goes from %+v to %+v", d.Key, was, now)
			}
			last[d.Key] = now
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Two nodes share a database under load. One of them is killed, or frozen for
// three leases, again and again: the other takes over, nothing is lost, doubled
// or taken back, and the views are what the log says.
func TestNodesShareTheWork(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.DSN("nodes")
	s, err := postgres.Open(t.Context(), dsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { watchEpochs(ctx, t, s) })

	nodes := []*node{serveNode(t, dsn, "n0"), serveNode(t, dsn, "n1")}
	var bases [2]atomic.Pointer[string]
	for i, n := range nodes {
		bases[i].Store(&n.base)
	}
	var asked atomic.Int64
	var mu sync.Mutex
	acked := map[string]deed.Receipt{}
	body := []byte(`{"customer":"c","items":[{"product":"p","name":"n","unit_price":{"amount":5,"currency":"EUR"},"quantity":1}]}`)
	create := func(ctx context.Context, base, key string) (deed.Receipt, http.Header, error) {
		var r deed.Receipt
		h, err := client.New(base).Do(ctx, http.MethodPost, "/v1/order/o-"+key+"/create", map[string]string{"Idempotency-Key": key}, body, &r)
		return r, h, err
	}
	for w := range 8 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d", w, n)
				for ctx.Err() == nil { // at the other node, if one does not answer
					within, done := context.WithTimeout(ctx, 3*time.Second)
					r, _, err := create(within, *bases[(w+n)%2].Load(), key)
					done()
					if err == nil {
						mu.Lock()
						acked[key] = r
						mu.Unlock()
						asked.Add(1)
						break
					}
					n++
					key = fmt.Sprintf("%d-%d", w, n)
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	for kill := range *nodeKills {
		time.Sleep(500*time.Millisecond + time.Duration(rand.IntN(1000))*time.Millisecond)
		i := kill % 2
		victim, other := nodes[i], nodes[1-i]
		frozen := kill%3 == 2
		if frozen {
			victim.cmd.Process.Signal(syscall.SIGSTOP)
		} else {
			victim.cmd.Process.Kill()
			victim.cmd.Wait()
		}
		start := time.Now()
		takesOver(t, other.base, fmt.Sprintf("n%d", i))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("round %d: the other node took over after %v", kill, took)
		}
		if frozen {
			time.Sleep(max(0, 6*time.Second-time.Since(start)))
			victim.cmd.Process.Signal(syscall.SIGCONT)
			continue
		}
		nodes[i] = serveNode(t, dsn, fmt.Sprintf("n%d", i))
		bases[i].Store(&nodes[i].base)
	}
	cancel()
	all.Wait()
	t.Logf("%d commands were answered", asked.Load())
	if len(acked) < 500 {
		t.Errorf("only %d commands were acknowledged: that shows nothing", len(acked))
	}
	waitForViews(t, client.New(nodes[0].base))
	n := 0
	for key, first := range acked {
		if n++; n > 300 {
			break
		}
		again, h, err := create(t.Context(), nodes[n%2].base, key)
		if err != nil || h.Get("Idempotent-Replay") != "true" || fmt.Sprint(again) != fmt.Sprint(first) {
			t.Fatalf("command %s: first %+v, then %+v (%v)", key, first, again, err)
		}
	}
	for _, n := range nodes {
		n.cmd.Process.Signal(os.Interrupt)
		if err := n.cmd.Wait(); err != nil {
			t.Errorf("Ctrl-C: %v", err)
		}
	}
	compareFolds(t, s, len(acked))
}

// takesOver waits until a node holds everything and another nothing.
func takesOver(t *testing.T, base, gone string) {
	t.Helper()
	for range 300 {
		var list httpapi.NodeList
		if _, err := client.New(base).Do(t.Context(), http.MethodGet, "/v1/nodes", nil, nil, &list); err == nil {
			held, theirs := 0, 0
			for _, n := range list.Nodes {
				if held += len(n.Holds); n.Name == gone {
					theirs = len(n.Holds)
				}
			}
			if held > 0 && theirs == 0 {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("nobody takes over from %s", gone)
}

// compareFolds folds the log anew and compares that with the views. What was
// still on its way to the store when clients gave up may arrive meanwhile, so
// the views get some time to agree.
func compareFolds(t *testing.T, s store.Store, least int) {
	t.Helper()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{orders.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"order-summaries", "customers"} {
		var kept, folded []byte
		n := 0
		for range 100 {
			head, err0 := s.Head(t.Context())
			now, err1 := rt.Documents(t.Context(), rt, view, store.Query{})
			then, err2 := rt.Documents(t.Context(), rt.AtPosition(head), view, store.Query{})
			if err := errors.Join(err0, err1, err2); err != nil {
				t.Fatal(err)
			}
			n = len(now)
			kept, _ = json.Marshal(now)
			folded, _ = json.Marshal(then)
			if bytes.Equal(kept, folded) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !bytes.Equal(kept, folded) || view == "order-summaries" && n < least {
			t.Errorf("%s: the followers wrote %d documents: %s\na fresh fold gives %s", view, n, clip(kept), clip(folded))
		}
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 300)] }
