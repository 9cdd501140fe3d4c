package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// demo runs `deed demo` on a free port and returns its address.
func demo(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := command(t, append([]string{"demo", "--addr", "127.0.0.1:0"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the demo did not print its address: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the address came after %v", took)
	}
	return cmd, strings.TrimSpace(line)
}

// The demo is killed in mid-traffic and started again, five times: every
// acknowledged command is there, once, and the views are what the log says.
func TestDemoSurvivesKills(t *testing.T) {
	data := t.TempDir()
	acked := map[string]deed.Receipt{} // by command id
	var mu sync.Mutex
	for round := range 5 {
		cmd, base := demo(t, "--data", data, "--rate", "200")
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() {
				c := client.New(base)
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprintf("%d-%d-%d", round, i, n)
					var r deed.Receipt
					body := fmt.Sprintf(`{"customer":"c-%d","items":[{"product":"p","name":"n","unit_price":{"amount":5,"currency":"EUR"},"quantity":1}]}`, i)
					_, err := c.Do(ctx, http.MethodPost, "/v1/order/mine-"+key+"/create", map[string]string{"Idempotency-Key": key}, []byte(body), &r)
					if err != nil {
						return // killed
					}
					mu.Lock()
					acked[key] = r
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(300+150*round) * time.Millisecond)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			mu.Lock()
			enough := len(acked) > 10*(round+1)
			mu.Unlock()
			if enough {
				break
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		cancel()
		clients.Wait()
	}
	if len(acked) < 50 {
		t.Errorf("only %d commands were acknowledged: that shows nothing", len(acked))
	}
	cmd, base := demo(t, "--data", data, "--no-visitors")
	c := client.New(base)
	for key, first := range acked {
		var again deed.Receipt
		body := fmt.Sprintf(`{"customer":"c-%c","items":[{"product":"p","name":"n","unit_price":{"amount":5,"currency":"EUR"},"quantity":1}]}`, key[2])
		h, err := c.Do(t.Context(), http.MethodPost, "/v1/order/mine-"+key+"/create", map[string]string{"Idempotency-Key": key}, []byte(body), &again)
		if err != nil || h.Get("Idempotent-Replay") != "true" || fmt.Sprint(again) != fmt.Sprint(first) {
			t.Fatalf("command %s: first %+v, then %+v (%v)", key, first, again, err)
		}
	}
	waitForViews(t, c)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	compareViews(t, filepath.Join(data, "deed.db"))
}

// waitForViews returns when every follower has read everything.
func waitForViews(t *testing.T, c *client.Client) {
	t.Helper()
	for range 600 {
		var list httpapi.FollowerList
		if _, err := c.Do(t.Context(), http.MethodGet, "/v1/followers", nil, nil, &list); err != nil {
			t.Fatal(err)
		}
		behind := uint64(0)
		for _, f := range list.Followers {
			if f.Head == "" || f.Dead+f.Retrying > 0 {
				behind++
			}
			behind += f.Behind
		}
		if behind == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the views do not catch up")
}

// compareViews folds the log anew and compares that with what the followers
// have written.
func compareViews(t *testing.T, path string) {
	t.Helper()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{orders.Domain}})
	if err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"order-summaries", "customers"} {
		kept, err1 := rt.Documents(t.Context(), rt, view, store.Query{})
		folded, err2 := rt.Documents(t.Context(), rt.AtPosition(head), view, store.Query{})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(kept)
		b, _ := json.Marshal(folded)
		if string(a) != string(b) || len(kept) == 0 {
			t.Errorf("%s: the followers wrote %d documents, a fresh fold gives %d, or they differ", view, len(kept), len(folded))
		}
	}
	report, err := sqlite.Check(t.Context(), path, nil)
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("the file: %v, %v", report.Problems, err)
	}
}
