package deed_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	timers        = flag.Int("timers", 600, "how many timers are pending at once")
	timerRestarts = flag.Int("timer-restarts", 5, "how often a node is restarted while timers go off")
	timerRate     = flag.Int("timer-rate", 300, "how many timers are due in a second")
	timerStore    = flag.String("timer-store", "sqlite", "where the timers are: sqlite, or postgres for two nodes")
	timerLateness = flag.Duration("timer-lateness", 0, "the greatest lateness of 99 in 100 timers, without restarts; 0 = whatever it is")
)

// An alarm rings when it was set to.
type (
	bell   struct{ Rang int }
	set    struct{ At time.Time }
	rang   struct{}
	setIt  struct{ At time.Time }
	ringIt struct{}
)

func (e set) Apply(*bell)    {}
func (e rang) Apply(b *bell) { b.Rang++ }

func (c setIt) Decide(bell) ([]deed.Event[bell], error)  { return []deed.Event[bell]{set(c)}, nil }
func (c ringIt) Decide(bell) ([]deed.Event[bell], error) { return []deed.Event[bell]{rang{}}, nil }

var bells = deed.Aggregate[bell]{
	Name:     "bell",
	Events:   map[string]deed.Event[bell]{"set": set{}, "rang": rang{}},
	Commands: map[string]deed.Command[bell]{"set": setIt{}, "ring": ringIt{}},
}

// alarm is the state of the process that rings the bell.
type alarm struct {
	ID string `json:"id"`
}

var alarms = deed.Process[alarm]{Name: "alarm", On: []deed.ProcessReaction[alarm]{
	deed.Start(func(a *alarm, e deed.Recorded[set]) []deed.Action {
		a.ID = e.ID
		return []deed.Action{deed.At("ring", e.Event.At)}
	}),
	deed.OnTimer("ring", func(a *alarm) []deed.Action {
		return []deed.Action{deed.Send(bells, a.ID, ringIt{}), deed.Done()}
	}),
}}

// A deadline of thirty days takes no longer than one of a second, where time is
// simulated.
func TestThirtyDays(t *testing.T) {
	began := time.Now()
	tell(t, func(p *tale) {
		due := time.Now().Add(30 * 24 * time.Hour)
		_, err := bells.Execute(p.Context(), p.rt, "b", setIt{due})
		p.ok(err)
		time.Sleep(30*24*time.Hour - time.Nanosecond)
		synctest.Wait()
		if b, _, err := bells.Load(p.Context(), p.rt, "b"); err != nil || b.Rang != 0 {
			p.Errorf("it rang %d times before its time, %v", b.Rang, err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if b, _, err := bells.Load(p.Context(), p.rt, "b"); err != nil || b.Rang != 1 {
			p.Errorf("it rang %d times, %v", b.Rang, err)
		}
	}, bells, alarms)
	t.Logf("thirty days took %v", time.Since(began))
}

// Times in the log are whole microseconds. So are those of timers: what happens in
// the instant in which one goes off has not happened before it.
func TestTimersAreWholeMicroseconds(t *testing.T) {
	tell(t, func(p *tale) {
		due := time.Now().Add(time.Second)
		_, err := bells.Execute(p.Context(), p.rt, "b", setIt{due.Add(-999 * time.Nanosecond)})
		p.ok(err)
		for rung, at := range []time.Time{due.Add(-time.Nanosecond), due} {
			time.Sleep(time.Until(at))
			synctest.Wait()
			if b, _, err := bells.Load(p.Context(), p.rt, "b"); err != nil || b.Rang != rung {
				p.Errorf("at %v, it has rung %d times, %v", at, b.Rang, err)
			}
		}
	}, bells, alarms)
}

// Timers go off on one of two nodes, once and at their time, whichever of them
// stops and starts meanwhile.
func TestTimersOnTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		s := sharedStore{mem.New()}
		begin := func(name string) (*deed.Runtime, func()) {
			return runWith(t, s, deed.Config{
				Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{bells, alarms, vaults}}},
				Node:    name, Lease: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
			})
		}
		_, stopA := begin("a")
		b, stopB := begin("b")
		rest := load(t, b, 100*time.Millisecond) // so that there is always something that has to be taken in before a timer
		start := time.Now()
		setTimers(t, s, n, func(i int) time.Time { return start.Add(5*time.Second + time.Duration(i)*100*time.Millisecond) })
		for i := range 5 {
			time.Sleep(5 * time.Second)
			stopA()
			_, stopA = begin(fmt.Sprint("a", i))
		}
		rest()
		stopB()
		time.Sleep(20 * time.Second)
		stopA()
		late := checkTimers(t, s, n)
		if most, worst := late[n*3/4], late[n-1]; most > 200*time.Millisecond || worst > 2*time.Second {
			t.Errorf("3 in 4 timers were up to %v late, and the last one %v: a partition is handed over within a lease", most, worst)
		}
	})
}

// Very many timers are pending, and go off while other commands are handled: no
// one early, no one twice, over restarts of the nodes too.
func TestManyTimers(t *testing.T) {
	s, nodes := openTimers(t)
	n, second := *timers, time.Second/time.Duration(*timerRate)
	take := time.Duration(n)*2*time.Millisecond + time.Second // to take them in, on machines that are slow
	ctx, cancel := context.WithTimeout(t.Context(), take+time.Duration(n)*second+10*time.Minute)
	defer cancel()

	start := time.Now().Add(take)
	began := time.Now()
	setTimers(t, s, n, func(i int) time.Time { return start.Add(time.Duration(i) * second) })
	stops := make([]func(), nodes)
	for i := range stops {
		stops[i] = beginTimers(t, s)
	}
	awaitRecords(ctx, t, s, "event", n)
	pending := time.Since(began)
	if time.Now().After(start) {
		t.Logf("the first ones are due since %v: this machine is slow", time.Since(start).Round(time.Millisecond))
	}
	between := (time.Until(start) + time.Duration(n)*second) / time.Duration(*timerRestarts+1)
	for i := range *timerRestarts {
		time.Sleep(between)
		stops[i%nodes]()
		stops[i%nodes] = beginTimers(t, s)
	}
	awaitRecords(ctx, t, s, "timer", n)
	for _, stop := range stops {
		stop()
	}
	late := checkTimers(t, s, n)
	p99 := late[n*99/100]
	t.Logf("%d timers, pending after %v, %d a second, %d nodes, %d restarts: late by %v (half of them), %v (99 in 100), %v (the last one)", n,
		pending.Round(time.Millisecond), *timerRate, nodes, *timerRestarts, late[n/2].Round(time.Millisecond), p99.Round(time.Millisecond), late[n-1].Round(time.Millisecond))
	if *timerLateness > 0 && p99 > *timerLateness {
		t.Errorf("99 in 100 timers are late by up to %v", p99)
	}
}

// beginTimers begins a node, and commands that it handles meanwhile.
func beginTimers(t *testing.T, s store.Store) (stop func()) {
	rt, end := runWith(t, s, deed.Config{
		Domains: []deed.Domain{{Name: "test", Parts: []deed.Part{bells, alarms, vaults}}}, Logger: slog.New(slog.DiscardHandler),
	})
	rest := load(t, rt, 5*time.Millisecond)
	return func() { rest(); end() }
}

// openTimers opens the store of the timers, and says how many nodes use it.
func openTimers(t *testing.T) (store.Store, int) {
	t.Helper()
	if *timerStore == "postgres" {
		server := pgtest.Start(t)
		s, err := postgres.Open(t.Context(), server.DSN(server.Schema()), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, 2
	}
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, 1
}

// load asks a command every so often, until it is told to stop.
func load(t *testing.T, rt *deed.Runtime, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	vault, ended := uuid.NewString(), make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if _, err := vaults.Execute(ctx, rt, vault, drop{1}); err != nil && ctx.Err() == nil {
				t.Errorf("load: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// setTimers records that n bells are set.
func setTimers(t *testing.T, s store.Store, n int, at func(i int) time.Time) {
	t.Helper()
	for from := 0; from < n; from += 250 {
		var writes []store.Write
		for i := from; i < min(n, from+250); i++ {
			data, err := wireTime(at(i))
			if err != nil {
				t.Fatal(err)
			}
			writes = append(writes, store.Write{Stream: fmt.Sprintf("bell/%06d", i), Events: []store.Event{{ID: store.ID(uuid.New()), Type: "set", Data: data}}})
		}
		if _, err := s.Append(t.Context(), writes...); err != nil {
			t.Fatal(err)
		}
	}
}

func wireTime(at time.Time) ([]byte, error) {
	text, err := at.MarshalJSON()
	return fmt.Appendf(nil, `{"At":%s}`, text), err
}

// awaitRecords waits until there are so many records of a type of processes.
func awaitRecords(ctx context.Context, t *testing.T, s store.Store, typ string, n int) {
	t.Helper()
	from, have := store.Start, 0
	for have < n {
		for rec, err := range s.ReadAll(ctx, from, store.Filter{Categories: []string{"$process"}, Types: []string{typ}}) {
			if err != nil {
				t.Fatalf("%d of %d: %v", have, n, err)
			}
			have++
			from = from.Advance(rec.Position)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d of %d", have, n)
		}
	}
}

// checkTimers checks that each bell rang once, and not before its time. It
// returns how late they were, in order.
func checkTimers(t *testing.T, s store.Store, n int) (late []time.Duration) {
	t.Helper()
	due, rings := map[string]time.Time{}, map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"bell"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type == "set" {
			var e struct{ At time.Time }
			unmarshal(t, rec.Data, &e)
			due[rec.Stream] = e.At
			continue
		}
		if rings[rec.Stream]++; rings[rec.Stream] > 1 {
			t.Errorf("%s rang %d times", rec.Stream, rings[rec.Stream])
		}
		by := rec.Time.Sub(due[rec.Stream].Truncate(time.Microsecond))
		if by < 0 {
			t.Errorf("%s rang %v early", rec.Stream, -by)
		}
		late = append(late, by)
	}
	if len(due) != n || len(late) != n {
		t.Fatalf("%d of %d bells rang", len(late), len(due))
	}
	slices.Sort(late)
	return late
}

// Steps that take long outside do not keep timers waiting, however many they are.
func TestSlowStepsDoNotHoldTimers(t *testing.T) {
	slow := deed.Saga[none]{Name: "slow", Steps: []deed.SagaStep[none]{{
		Name: "call", Timeout: time.Hour, Do: func(ctx context.Context, _ *deed.Work, _ *none) error {
			select {
			case <-time.After(30 * time.Minute):
			case <-ctx.Done():
			}
			return ctx.Err()
		},
	}}}
	tell(t, func(p *tale) {
		for i := range 300 {
			_, err := slow.Start(p.Context(), p.rt, fmt.Sprint(i), none{})
			p.ok(err)
		}
		_, err := bells.Execute(p.Context(), p.rt, "b", setIt{time.Now().Add(time.Minute)})
		p.ok(err)
		time.Sleep(time.Minute + time.Second)
		if b, _, err := bells.Load(p.Context(), p.rt, "b"); err != nil || b.Rang != 1 {
			p.Errorf("it rang %d times, %v", b.Rang, err)
		}
		time.Sleep(2 * time.Hour)
		_, got := p.saga("slow", "299")
		p.expect(got, "completed, call done")
	}, vaults, bells, alarms, slow)
}
