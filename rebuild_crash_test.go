package deed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var rebuildEvents = flag.Int("rebuildevents", 6_000, "how many events a rebuild under load folds")

// A purse is rebuilt under load. Those of members get a gift: the old code has
// forgotten it.
type purse struct{ Coins int }

type (
	purseOpened struct {
		Member bool `json:"member,omitempty"`
	}
	purseFilled struct {
		N int `json:"n"`
	}
)

func (purseOpened) Apply(*purse)     {}
func (e purseFilled) Apply(p *purse) { p.Coins += e.N }

var purses = deed.Aggregate[purse]{
	Name:   "purse",
	Events: map[string]deed.Event[purse]{"opened": purseOpened{}, "filled": purseFilled{}},
}

// A balance is a document of the view. That of a purse with n coins says n and n,
// with a gift n + 100 and n.
type balance struct {
	Balance int  `json:"balance"`
	Coins   int  `json:"coins"`
	Member  bool `json:"member"`
}

const (
	purseGift    = 100
	purseMembers = 137
)

// balances is the projection, before or after it was mended.
func balances(mended bool, version int, slow time.Duration) deed.Projection[balance] {
	var handled atomic.Int64
	return deed.Projection[balance]{
		Name: "balances", Indexes: []string{"balance"}, Version: version,
		On: []deed.Handler[balance]{
			deed.On(func(b *balance, e purseOpened) {
				if b.Member = e.Member; e.Member && mended {
					b.Balance += purseGift
				}
			}),
			deed.On(func(b *balance, e purseFilled) {
				b.Balance, b.Coins = b.Balance+e.N, b.Coins+e.N
				if slow > 0 && handled.Add(1)%100 == 0 {
					time.Sleep(slow)
				}
			}),
		},
	}
}

// A rebuildRun is what the process that is killed is told.
type rebuildRun struct {
	Dir    string
	Events int
	Kill   float64       // when so much of the rebuild is done; 0 = never
	Slow   time.Duration // so long a break every hundred events
}

func (r rebuildRun) purses() int { return max(r.Events/50, 2*purseMembers) }

// fillPurses records the events there are before anything is rebuilt: all of a
// purse together.
func (r rebuildRun) fillPurses(s store.Store) error {
	n := r.purses()
	var writes []store.Write
	for i := range n {
		events := make([]store.Event, max(r.Events/n, 1))
		for k := range events {
			events[k] = store.Event{ID: store.ID(uuid.New()), Type: "filled", Data: []byte(`{"n":1}`), Meta: []byte(`{"actor":"ann"}`)}
		}
		events[0].Type, events[0].Data = "opened", fmt.Appendf(nil, `{"member":%v}`, i < purseMembers)
		writes = append(writes, store.Write{Stream: fmt.Sprintf("purse/%06d", i), Expect: store.None, Events: events})
		if len(writes) == 100 || i == n-1 {
			if _, err := s.Append(context.Background(), writes...); err != nil {
				return err
			}
			writes = writes[:0]
		}
	}
	return nil
}

// rebuildProgram rebuilds the view of purses under load, and kills itself on the
// way if it is told to.
func rebuildProgram(r rebuildRun) error {
	s, err := sqlite.Open(filepath.Join(r.Dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer s.Close()
	def := balances(true, 0, r.Slow)
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{purses, def}}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(run) }()
	x := &rebuildTrial{rebuildRun: r, rt: rt, def: def}
	loaded, unload := context.WithCancel(ctx)
	defer unload()
	busy := make(chan error, 3)
	go func() { busy <- x.load(loaded) }()
	go func() { busy <- x.read(loaded) }()
	go func() { busy <- x.turn(loaded) }()
	failed := make(chan error, 1)
	go func() { failed <- x.rebuild(ctx) }()
	select {
	case err = <-failed:
	case err = <-busy:
		err = fmt.Errorf("under load: %w", err)
	}
	unload()
	for range 3 {
		err = errors.Join(err, <-busy)
	}
	if err == nil {
		err = x.still(ctx)
	}
	stop()
	return errors.Join(err, <-ended)
}

type rebuildTrial struct {
	rebuildRun
	rt      *deed.Runtime
	def     deed.Projection[balance]
	written atomic.Int64
	took    time.Duration // that events arrived
	looks   atomic.Int64  // how often the whole view was read
	pages   atomic.Int64  // how often it was read page by page
}

// load appends 1,000 events a second, if the machine can: eight at a time append
// five every 40 ms.
func (x *rebuildTrial) load(ctx context.Context) error {
	const writers = 8
	ended := make(chan error, writers)
	begun := time.Now()
	for w := range writers {
		go func() {
			var err error
			for i := 0; ctx.Err() == nil && err == nil; i++ {
				err = x.arrive(ctx, (i*writers+w)*5)
				time.Sleep(time.Until(begun.Add(time.Duration(i+1) * 40 * time.Millisecond)))
			}
			ended <- err
		}()
	}
	var err error
	for range writers {
		err = errors.Join(err, <-ended)
	}
	x.took = time.Since(begun)
	return err
}

// arrive appends five events.
func (x *rebuildTrial) arrive(ctx context.Context, from int) error {
	var writes []store.Write
	for k := range 5 {
		e := store.Event{ID: store.ID(uuid.New()), Type: "filled", Data: []byte(`{"n":1}`), Meta: []byte(`{"actor":"ann"}`)}
		writes = append(writes, store.Write{Stream: fmt.Sprintf("purse/%06d", (from+k)*7919%x.purses()), Expect: store.Any, Events: []store.Event{e}})
	}
	_, err := x.rt.Store().Append(context.WithoutCancel(ctx), writes...)
	x.written.Add(int64(len(writes)))
	return err
}

// read reads the whole view over and over: it is complete, all of it by the old
// code or all of it by the new, and no document is older than it was.
func (x *rebuildTrial) read(ctx context.Context) error {
	last := map[string]int{}
	for ctx.Err() == nil {
		rows, gifts := 0, 0
		for row, err := range x.def.All(context.WithoutCancel(ctx), x.rt) {
			if err != nil {
				return err
			}
			if err := row.Value.check(row.Key, last); err != nil {
				return err
			}
			if rows++; row.Value.gift() {
				gifts++
			}
		}
		if rows != x.purses() || gifts != 0 && gifts != purseMembers {
			return fmt.Errorf("the view has %d documents, %d of them with a gift", rows, gifts)
		}
		x.looks.Add(1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (b balance) gift() bool { return b.Balance == b.Coins+purseGift }

func (b balance) check(key string, last map[string]int) error {
	if b.Balance != b.Coins && !(b.Member && b.gift()) {
		return fmt.Errorf("%s: %+v", key, b)
	}
	if b.Coins < last[key] {
		return fmt.Errorf("%s has %d coins, and had %d before", key, b.Coins, last[key])
	}
	last[key] = b.Coins
	return nil
}

// turn pages through the view with a mark, as HTTP does: it sees each document
// once, whatever is switched on the way.
func (x *rebuildTrial) turn(ctx context.Context) error {
	last := map[string]int{}
	for ctx.Err() == nil {
		q, seen := store.Query{Limit: 100}, 0
		for {
			n := 0
			for row, err := range x.def.Find(context.WithoutCancel(ctx), x.rt, q) {
				if err != nil {
					return err
				}
				if err := row.Value.check(row.Key, last); err != nil {
					return err
				}
				n++
				q.After = &store.Mark{Key: row.Key}
			}
			if seen += n; n < q.Limit {
				break
			}
		}
		if seen != x.purses() {
			return fmt.Errorf("%d documents on the pages, want %d", seen, x.purses())
		}
		x.pages.Add(1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

// rebuild begins a rebuild, or finds it going on, and goes on with it to the end.
func (x *rebuildTrial) rebuild(ctx context.Context) error {
	all := x.rt.Rebuilds()
	st, err := all.Status(ctx, "balances")
	if err != nil {
		return err
	}
	if st.Rebuild == nil {
		if err := all.Begin(ctx, "balances", true); err != nil {
			return err
		}
	}
	head, err := x.rt.Store().Head(ctx)
	if err != nil {
		return err
	}
	begun, first := time.Now(), uint64(0)
	for {
		if st, err = all.Status(ctx, "balances"); err != nil {
			return err
		}
		if st.Rebuild == nil {
			return errors.New("the rebuild is gone")
		}
		if first == 0 {
			first = st.Rebuild.Behind
			fmt.Printf("%d of %d positions to go\n", first, store.Start.Behind(head))
		}
		done := 1 - float64(st.Rebuild.Behind)/float64(store.Start.Behind(head))
		if x.Kill > 0 && done >= x.Kill {
			fmt.Printf("killed at %.0f %%, %.0f positions a second\n", 100*done, float64(first-st.Rebuild.Behind)/time.Since(begun).Seconds())
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if st.Rebuild.State == "ready" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Printf("ready after %v, %.0f positions a second\n", time.Since(begun).Round(time.Millisecond), float64(first)/time.Since(begun).Seconds())
	return x.afterwards(ctx)
}

// afterwards compares, switches, rolls back and forth, all under load.
func (x *rebuildTrial) afterwards(ctx context.Context) error {
	if err := x.differs(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(deed.Rebuilds, context.Context, string) error
		gift bool
	}{{"switch", deed.Rebuilds.Switch, true}, {"roll-back", deed.Rebuilds.RollBack, false}, {"roll-forth", deed.Rebuilds.RollBack, true}} {
		begun := time.Now()
		if err := step.do(x.rt.Rebuilds(), ctx, "balances"); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		for {
			b, err := x.def.Get(ctx, x.rt, "000000")
			if err != nil {
				return err
			}
			if b.gift() == step.gift {
				break
			}
			if time.Since(begun) > time.Minute {
				st, err := x.rt.Rebuilds().Status(ctx, "balances")
				return fmt.Errorf("%s does not happen: %+v %+v, %v", step.name, st, st.Rebuild, err)
			}
			time.Sleep(time.Millisecond)
		}
		fmt.Printf("%s after %v\n", step.name, time.Since(begun).Round(time.Millisecond))
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}

// differs compares the two generations while both go on: exactly the members
// differ.
func (x *rebuildTrial) differs(ctx context.Context) error {
	begun := time.Now()
	d, err := x.rt.Rebuilds().Diff(ctx, "balances", 1000)
	if err != nil {
		return err
	}
	var want, got []string
	for i := range purseMembers {
		want = append(want, fmt.Sprintf("%06d", i))
	}
	for _, s := range d.Samples {
		var before, after balance
		if err := errors.Join(json.Unmarshal(s.Before, &before), json.Unmarshal(s.After, &after)); err != nil {
			return err
		}
		if before.Coins != after.Coins || before.gift() || !after.gift() {
			return fmt.Errorf("%s: %s, %s", s.Key, s.Before, s.After)
		}
		got = append(got, s.Key)
	}
	if !slices.Equal(got, want) || d.Changed != purseMembers || d.Same != uint64(x.purses()-purseMembers) || d.Added+d.Gone > 0 {
		return fmt.Errorf("%d same, %d changed, %d added, %d gone: %q", d.Same, d.Changed, d.Added, d.Gone, got)
	}
	fmt.Printf("diff at %s after %v\n", d.Position, time.Since(begun).Round(time.Millisecond))
	return nil
}

// still checks, when nothing arrives any more, that both generations are what
// folding the log makes of it.
func (x *rebuildTrial) still(ctx context.Context) error {
	fmt.Printf("%d events arrived, %.0f a second; the view was read %d times, and %d times by pages\n", x.written.Load(), float64(x.written.Load())/x.took.Seconds(), x.looks.Load(), x.pages.Load())
	if x.looks.Load() == 0 || x.pages.Load() == 0 || x.written.Load() == 0 {
		return errors.New("there was no load")
	}
	head, err := x.rt.Store().Head(ctx)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		def deed.Projection[balance]
		do  func(deed.Rebuilds, context.Context, string) error
	}{{balances(true, 0, 0), nil}, {balances(false, 0, 0), deed.Rebuilds.RollBack}} {
		if step.do != nil {
			if err := step.do(x.rt.Rebuilds(), ctx, "balances"); err != nil {
				return err
			}
			for st := (deed.Rebuild{Rebuild: nil}); st.Shown.Generation != 1; time.Sleep(5 * time.Millisecond) {
				if st, err = x.rt.Rebuilds().Status(ctx, "balances"); err != nil {
					return err
				}
			}
		}
		if err := x.rt.WaitForView(ctx, "balances", head); err != nil {
			return err
		}
		got, err := documentsOf(ctx, x.def, x.rt)
		if err != nil {
			return err
		}
		fresh, err := deed.New(x.rt.Store(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{purses, step.def}}}})
		if err != nil {
			return err
		}
		want, err := documentsOf(ctx, step.def, fresh.AtPosition(head))
		if err != nil {
			return err
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("the view is not what folding the log makes of it: %d and %d documents", len(got), len(want))
		}
	}
	return nil
}

func documentsOf(ctx context.Context, def deed.Projection[balance], r deed.Reader) (map[string]balance, error) {
	out := map[string]balance{}
	for row, err := range def.All(ctx, r) {
		if err != nil {
			return nil, err
		}
		out[row.Key] = row.Value
	}
	return out, nil
}

// A view is rebuilt by mended code while 1,000 events a second arrive and people
// read it all the time; the process is killed twice on the way. Nobody sees
// anything that is not whole; what differs is known before the switch; there
// is a way back, and forth again.
func TestRebuildUnderLoad(t *testing.T) {
	r := rebuildRun{Dir: t.TempDir(), Events: *rebuildEvents}
	if r.Events <= 100_000 {
		r.Slow = 3 * time.Millisecond // or it would be over before it can be killed
	}
	s, err := sqlite.Open(filepath.Join(r.Dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.fillPurses(s); err != nil {
		t.Fatal(err)
	}
	old := balances(false, 0, 0)
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{purses, old}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	begun := time.Now()
	go func() { ended <- rt.Run(ctx) }()
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.WaitForView(ctx, "balances", head); err != nil {
		t.Fatal(err)
	}
	t.Logf("folded at first: %.0f events a second", float64(r.Events)/time.Since(begun).Seconds())
	if r.Slow == 0 {
		begun = time.Now()
		if err := rt.Rebuilds().Begin(ctx, "balances", false); err != nil {
			t.Fatal(err)
		}
		for st := (deed.Rebuild{}); st.Shown.Generation != 2; time.Sleep(10 * time.Millisecond) {
			if st, err = rt.Rebuilds().Status(ctx, "balances"); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("rebuilt without a load: %.0f events a second", float64(r.Events)/time.Since(begun).Seconds())
		if err := errors.Join(rt.Rebuilds().RollBack(ctx, "balances")); err != nil {
			t.Fatal(err)
		}
		for st := (deed.Rebuild{}); st.Shown.Generation != 1; time.Sleep(10 * time.Millisecond) {
			if st, err = rt.Rebuilds().Status(ctx, "balances"); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	if err := errors.Join(<-ended, s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, r.Kill = range []float64{0.3, 0.7, 0} {
		runRebuild(t, r)
	}
}

// runRebuild runs the program in a process of its own.
func runRebuild(t *testing.T, r rebuildRun) {
	t.Helper()
	given, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(r.Events)*time.Millisecond)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "DEED_REBUILD="+string(given))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // which shows what it waits for
	err = cmd.Run()
	t.Logf("%s", out.String())
	exit, _ := errors.AsType[*exec.ExitError](err)
	killed := exit != nil && !exit.Exited()
	if want := r.Kill > 0; err != nil && !killed || killed != want {
		t.Fatalf("%v, want it killed: %v", err, want)
	}
}
