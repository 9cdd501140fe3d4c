package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// A wire is a node's connection to the store. While it is cut, the node hears
// and says nothing, as if it had been stopped: calls wait until it is mended.
type wire struct {
	store.Store
	mu     sync.Mutex
	mended chan struct{} // nil = not cut
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mended == nil {
		w.mended = make(chan struct{})
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mended != nil {
		close(w.mended)
		w.mended = nil
	}
}

// wait lets a call pass that was begun while the wire was whole.
func (w *wire) wait() {
	w.mu.Lock()
	mended := w.mended
	w.mu.Unlock()
	if mended != nil {
		<-mended
	}
}

func (w *wire) Write(ctx context.Context, changes ...store.Change) error {
	w.wait()
	return w.Store.Write(context.WithoutCancel(ctx), changes...)
}

func (w *wire) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	w.wait()
	return w.Store.Get(ctx, coll, key)
}

func (w *wire) Head(ctx context.Context) (store.Cursor, error) {
	w.wait()
	return w.Store.Head(ctx)
}

// A member is an engine that shares its store.
type member struct {
	*Engine
	wire *wire
	stop func()
}

const testLease = 3 * time.Second

func join(t *testing.T, s store.Store, name string, followers ...Follower) *member {
	t.Helper()
	return joinAs(t, s, Config{Node: name, Followers: followers})
}

func joinAs(t *testing.T, s store.Store, cfg Config) *member {
	t.Helper()
	m := &member{wire: &wire{Store: s}}
	cfg.Store, cfg.Lease, cfg.Logger = m.wire, testLease, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	var err error
	if m.Engine, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	m.stop = sync.OnceFunc(func() { m.wire.mend(); cancel(); <-done })
	return m
}

// holders returns who holds each partition, as a node sees it.
func (m *member) holders(t *testing.T) map[string]int {
	t.Helper()
	nodes, err := m.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, n := range nodes {
		if len(n.Holds) > 0 {
			out[n.Name] = len(n.Holds)
		}
	}
	return out
}

func ledgerOf(t *testing.T, s store.Store, stream string) (versions []uint64) {
	t.Helper()
	d, err := s.Get(t.Context(), ledgerColl(1), stream)
	if err != nil {
		t.Fatalf("%s: %v", stream, err)
	}
	if err := json.Unmarshal(d.Data, &versions); err != nil {
		t.Fatal(err)
	}
	return versions
}

func expectLedgers(t *testing.T, s store.Store, streams int, last uint64) {
	t.Helper()
	var want []uint64
	for v := uint64(1); v <= last; v++ {
		want = append(want, v)
	}
	for i := range streams {
		if got := ledgerOf(t, s, fmt.Sprintf("a/%d", i)); !slices.Equal(got, want) {
			t.Errorf("a/%d has %v, want 1 to %d", i, got, last)
		}
	}
}

// soon waits until a node shows everything up to a cursor.
func soon(t *testing.T, m *member, c store.Cursor) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*testLease)
	defer cancel()
	err := m.WaitFor(ctx, "ledger", store.Position{Seq: c.Seq(0)})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, m.Status()[0])
	}
	return nil
}

func split(parts int) Follower {
	f := effectful(nil)
	f.Partitions = parts
	return f
}

// Nodes share the partitions, hand them over when they come and go, and take
// over from one that has died; each waits for what another handles.
func TestNodesShare(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		a := join(t, s, "a", split(6))
		defer a.stop()
		settle := func() { time.Sleep(4 * testLease) }
		settle()
		if got := a.holders(t); got["a"] != 6 {
			t.Errorf("alone: %v", got)
		}
		b := join(t, s, "b", split(6))
		defer b.stop()
		c := join(t, s, "c", split(6))
		defer c.stop()
		settle()
		for _, m := range []*member{a, b, c} {
			if got := m.holders(t); got["a"] != 2 || got["b"] != 2 || got["c"] != 2 {
				t.Errorf("three: %v", got)
			}
		}
		for i := range 12 {
			add(t, s, fmt.Sprintf("a/%d", i), 3)
		}
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*member{a, b, c} {
			if err := soon(t, m, head); err != nil {
				t.Error(err)
			}
			if st := m.Status()[0]; st.Behind > 0 || st.State != StateRunning || slices.Contains(st.Nodes, "") {
				t.Errorf("%+v", st)
			}
		}
		expectLedgers(t, s, 12, 3)
		b.stop()
		settle()
		if got := a.holders(t); got["a"] != 3 || got["c"] != 3 {
			t.Errorf("two: %v", got)
		}
		c.wire.cut()
		start := time.Now()
		for a.holders(t)["a"] != 6 {
			if time.Since(start) > 3*testLease {
				t.Fatalf("nobody takes over: %v", a.holders(t))
			}
			time.Sleep(testLease / 10)
		}
		for i := range 12 {
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		settle()
		expectLedgers(t, s, 12, 4)
		c.wire.mend()
		settle()
		if got := a.holders(t); got["a"] != 3 || got["c"] != 3 {
			t.Errorf("two again: %v", got)
		}
		expectLedgers(t, s, 12, 4)
	})
}

// onlyGrow fails the test if a checkpoint is accepted from a holder that was
// replaced.
func onlyGrow(t *testing.T, s *shelf) {
	epochs := map[string]uint64{}
	s.failWrites(func(_ int, changes []store.Change) (before, after error) { // called under the shelf's mutex
		for _, c := range changes {
			var now checkpoint
			if c.Coll != cursorColl || json.Unmarshal(c.Data, &now) != nil {
				continue
			}
			if d, err := s.Store.Get(context.Background(), c.Coll, c.Key); err != nil || d.Rev != c.Rev {
				continue // it will be refused
			}
			if now.Epoch < epochs[c.Key] {
				t.Errorf("the epoch of %s goes from %d to %d", c.Key, epochs[c.Key], now.Epoch)
			}
			epochs[c.Key] = now.Epoch
		}
		return nil, nil
	})
}

// A node that is stopped in the middle of its work and wakes up later has none
// of its writes accepted.
func TestZombieIsFenced(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		onlyGrow(t, s)
		for round := range 30 {
			name := fmt.Sprintf("z%d", round)
			zombie := join(t, s, name, split(1))
			time.Sleep(3 * testLease) // it holds the partition
			zombie.wire.cut()
			add(t, s, "a/0", 1) // it reads this, decides, and is stopped before it writes
			time.Sleep(testLease)
			heir := join(t, s, name+"-heir", split(1))
			time.Sleep(3 * testLease)
			expectLedgers(t, s, 1, uint64(round+1))
			zombie.wire.mend()
			time.Sleep(testLease / 10)
			zombie.stop()
			heir.stop()
			expectLedgers(t, s, 1, uint64(round+1))
		}
	})
}

// Nodes come, go, freeze and wake at random while events are recorded: each is
// taken in once and in order, epochs only grow.
func TestNodesAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		within(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newShelf()
			onlyGrow(t, s)
			nodes := map[string]*member{}
			added := uint64(0)
			for step := range 60 {
				name := fmt.Sprintf("n%d", rng.IntN(4))
				m := nodes[name]
				switch rng.IntN(4) {
				case 0:
					if m == nil {
						nodes[name] = join(t, s, name, split(3))
					}
				case 1:
					if m != nil && len(nodes) > 1 {
						m.stop()
						delete(nodes, name)
					}
				case 2:
					if m != nil {
						m.wire.cut()
					}
				case 3:
					if m != nil {
						m.wire.mend()
					}
				}
				if step%3 == 0 {
					added++
					for i := range 5 {
						add(t, s, fmt.Sprintf("a/%d", i), 1)
					}
				}
				time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			}
			last := join(t, s, "last", split(3))
			for _, m := range nodes {
				m.wire.mend()
			}
			time.Sleep(5 * testLease)
			head, err := s.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := soon(t, last, head); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			expectLedgers(t, s, 5, added)
			for _, m := range nodes {
				m.stop()
			}
			last.stop()
		})
	}
}

// A node whose partition was taken, and given up again, by one that did not
// know of it notices, also if it has nothing to record.
func TestIdleHolderNotices(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		a := join(t, s, "a", split(1))
		defer a.stop()
		time.Sleep(2 * testLease)
		key := cursorKey("ledger", 1, 0, 1)
		d, err := s.Get(t.Context(), cursorColl, key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseCheckpoint(d)
		if err != nil || c.Node != "a" {
			t.Fatalf("%+v, %v", c, err)
		}
		c.Node, c.Epoch = "", c.Epoch+1
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(t.Context(), store.Change{Coll: cursorColl, Key: key, Rev: d.Rev, Data: data}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(testLease)
		if got := a.holders(t); got["a"] != 1 {
			t.Errorf("it holds %v", got)
		}
	})
}

// A node that fails to hand a partition over, or does not hear that it has taken
// one, does not leave it with nobody.
func TestLostHandover(t *testing.T) {
	for _, fault := range []string{"release lost", "release fails", "claim lost"} {
		t.Run(fault, func(t *testing.T) {
			within(t, func(t *testing.T) {
				s := &handovers{Store: newShelf(), fault: fault}
				a := join(t, s, "a", split(6))
				defer a.stop()
				time.Sleep(4 * testLease)
				b := join(t, s, "b", split(6))
				defer b.stop()
				time.Sleep(8 * testLease)
				if got := a.holders(t); got["a"] != 3 || got["b"] != 3 {
					t.Errorf("%v", got)
				}
				for i := range 12 {
					add(t, s, fmt.Sprintf("a/%d", i), 3)
				}
				head, err := s.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := soon(t, a, head); err != nil {
					t.Error(err)
				}
				expectLedgers(t, s, 12, 3)
				if s.done < 3 {
					t.Errorf("only %d handovers went wrong", s.done)
				}
			})
		})
	}
}

// handovers is a store in which the first handover of each partition goes wrong.
type handovers struct {
	store.Store
	fault string

	mu   sync.Mutex
	seen map[string]bool
	done int
}

func (s *handovers) Shared() bool { return true }

func (s *handovers) Write(ctx context.Context, changes ...store.Change) error {
	c := changes[len(changes)-1]
	var after checkpoint
	if c.Coll != cursorColl || json.Unmarshal(c.Data, &after) != nil {
		return s.Store.Write(ctx, changes...)
	}
	s.mu.Lock()
	which := after.Node == "" && s.fault != "claim lost" || after.Node == "b" && s.fault == "claim lost"
	wrong := which && c.Rev > 1 && !s.seen[c.Key]
	if wrong {
		if s.seen == nil {
			s.seen = map[string]bool{}
		}
		s.seen[c.Key], s.done = true, s.done+1
	}
	s.mu.Unlock()
	switch {
	case !wrong:
		return s.Store.Write(ctx, changes...)
	case s.fault == "release fails":
		return store.ErrUnavailable
	}
	if err := s.Store.Write(ctx, changes...); err != nil {
		return err
	}
	return store.ErrUnknown
}

// People who redrive dead letters of one partition by way of different nodes take
// the partition from each other, and hear nothing of that.
func TestRedriveByManyNodes(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		m := badly()
		const streams = 12
		for i := range streams {
			m.dislike(fmt.Sprintf("a/%d@1", i))
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		nodes := make([]*member, 3)
		for i := range nodes {
			nodes[i] = join(t, s, fmt.Sprint("n", i), pure(func(h *ledger) { h.fail = m.fail }))
			defer nodes[i].stop()
		}
		time.Sleep(3 * testLease)
		m.relent()
		var all sync.WaitGroup
		for i := range streams {
			all.Go(func() {
				if n, err := nodes[i%len(nodes)].Redrive(t.Context(), fmt.Sprintf("ledger.%d", i+1)); n != 1 || err != nil {
					t.Errorf("letter %d: %d, %v", i+1, n, err)
				}
			})
		}
		all.Wait()
		expectLedgers(t, s, streams, 1)
	})
}
