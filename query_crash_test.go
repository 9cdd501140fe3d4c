package deed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// A fragile store kills its process before or after the n-th append to the stream
// of a run, for example "before 2".
type fragile struct {
	*sqlite.Store
	place   string
	appends int
}

func (s *fragile) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	ours := slices.ContainsFunc(writes, func(w store.Write) bool { return strings.HasPrefix(w.Stream, "$query/") })
	reach := func(when string) {
		if ours && fmt.Sprintf("%s %d", when, s.appends) == s.place {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if ours {
		s.appends++
	}
	reach("before")
	out, err := s.Store.Append(ctx, writes...)
	reach("after")
	return out, err
}

const queryParts = 6

// queryProgram asks a query, unless it was asked, and ends when it is answered.
func queryProgram(dir, place string) error {
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	q := newHerdQueries()
	q.report.Parallel = 2
	// Each part that is answered leaves a line.
	q.slow = func(_ context.Context, what string) error {
		f, err := os.OpenFile(filepath.Join(dir, "answered"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, what)
		return errors.Join(err, f.Close())
	}
	rt, err := deed.New(&fragile{Store: s, place: place}, deed.Config{Domains: []deed.Domain{q.domain()}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- rt.Run(running) }()
	if _, err := rt.Queries().Get(ctx, "r"); errors.Is(err, deed.ErrNotFound) {
		for i := range queryParts {
			if _, err := herd.Execute(ctx, rt, fmt.Sprintf("a-%d", i), beBorn{"f"}); err != nil {
				return err
			}
		}
		if _, err := rt.Queries().Start(deed.With(ctx, deed.Call{ID: "r"}), "herd-report", []byte(`{"field":"f"}`), deed.Asking{}); err != nil {
			return err
		}
	} else if _, err := herd.Execute(ctx, rt, "a-0", moveTo{"elsewhere"}); err != nil { // too late to matter
		return err
	}
	run, err := rt.Queries().Wait(ctx, "r")
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	if want := fmt.Sprintf(`{"animals":{"f":%d},"eaten":0}`, queryParts); string(run.Result) != want || run.Inexact {
		return fmt.Errorf("%s, want %s: %+v", run.Result, want, run)
	}
	return nil
}

// A process is killed before and after each record of a query. After the next
// start it is answered, as of when it was asked; what was recorded of its parts is
// not answered again.
func TestQueryOfAKilledProcess(t *testing.T) {
	places := []string{"after 1"}
	for n := 2; n <= 4; n++ {
		places = append(places, fmt.Sprintf("before %d", n), fmt.Sprintf("after %d", n))
	}
	for _, place := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if out, err := asProgram(t, "DEED_QUERY", dir, place); !wasKilled(err) {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			recorded := partsOf(t, dir)
			if out, err := asProgram(t, "DEED_QUERY", dir, "never"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			lines, err := os.ReadFile(filepath.Join(dir, "answered"))
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range recorded {
				if n := strings.Count(string(lines), key+"\n"); n != 1 {
					t.Errorf("the part %s was recorded, and answered %d times", key, n)
				}
			}
			if all := partsOf(t, dir); len(all) != queryParts {
				t.Errorf("recorded: %v", all)
			}
		})
	}
}

// partsOf are the parts that are recorded as answered.
func partsOf(t *testing.T, dir string) (keys []string) {
	t.Helper()
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for rec, err := range s.Read(t.Context(), "$query/r", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			Parts []struct{ Key string }
		}
		unmarshal(t, rec.Data, &e)
		for _, p := range e.Parts {
			keys = append(keys, p.Key)
		}
	}
	return keys
}

// Recorded queries are given up with the commands, if they are over and old.
func TestRunsAreGivenUp(t *testing.T) {
	answer := func(_ context.Context, _ deed.Reader, p struct{ Fail bool }) (*int, error) {
		if p.Fail {
			return nil, errLine
		}
		return nil, nil
	}
	q := deed.Query[struct{ Fail bool }, *int]{Name: "q", Retry: deed.Retry{Attempts: 1}, Answer: answer}
	never := deed.Query[struct{}, int]{Name: "never", Retry: deed.Retry{Attempts: 1_000_000, First: time.Hour, Max: time.Hour}, Answer: func(context.Context, deed.Reader, struct{}) (int, error) { return 0, errLine }}
	inAtticWith(t, func(p *attic) {
		ask := func(id, name, params string, stored bool) {
			p.Helper()
			ctx := deed.With(p.Context(), deed.Call{ID: id})
			f := p.rt.Queries().Ask
			if stored {
				f = p.rt.Queries().Start
			}
			_, err := f(ctx, name, []byte(params), deed.Asking{})
			p.want("ask "+id, err, nil)
		}
		ask("at-once", "q", `{}`, false)
		ask("stored", "q", `{}`, true)
		ask("failed", "q", `{"Fail":true}`, true)
		ask("waiting", "never", `{}`, true)
		for _, id := range []string{"stored", "failed"} {
			run, err := p.rt.Queries().Wait(p.Context(), id)
			p.want("over", fmt.Sprint(run.State, err), map[string]string{"stored": "completed<nil>", "failed": "failed<nil>"}[id])
			if id == "stored" {
				p.want("nothing is an answer too", string(run.Result), "null")
			}
		}
		p.later(month + time.Hour)
		ask("young", "q", `{}`, false)
		p.settled()
		time.Sleep(2 * time.Second)
		p.want("given up", p.compact().Streams, map[string]uint64{"$query": 3})
		p.want("documents", p.documents("query-runs"), []string{"waiting retrying", "young completed"})
		for id, want := range map[string]bool{"at-once": false, "stored": false, "failed": false, "waiting": true, "young": true} {
			_, err := p.rt.Queries().Get(p.Context(), id)
			p.want(id, err == nil, want)
		}
		p.sameAnew("query-runs")
	}, q, never)
}
