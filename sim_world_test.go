package deed

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A simWorld is some nodes on one store, in a bubble of its own time. Whatever a
// node asks of the store waits until it is let through: the world lets through
// one call after the other, in an order and with a fate that a seed decides. What
// happens between two calls settles by itself. So the same seed tells the same
// story, as far as Go lets it.
type simWorld struct {
	*testing.T
	seed  uint64
	rand  *rand.Rand
	store *mem.Store
	out   *simOutside
	nodes []*simNode

	mu      sync.Mutex
	waiting []*simCall
	arrived chan struct{}
	calm    bool // every call is let through at once
	trouble int  // how many of a thousand calls go wrong
	totals  simTotals
	gone    sync.WaitGroup // nodes that are being stopped
	wrong   []string
	folds   map[string]*folded[Instance] // what the records of instances come to
}

// A simCall is a call of the store that waits.
type simCall struct {
	node *simNode
	op   string
	key  string
	fate chan simFate
}

// A simFate is what becomes of a call.
type simFate int

const (
	fateDone simFate = iota
	fateLost         // it is done, and nobody hears of it
	fateGone         // it is not done, and nobody hears of it
	fateAway         // the store cannot do anything
)

// A simNode is a process, with a connection of its own to the store.
type simNode struct {
	world *simWorld
	name  string
	times int // how often it was started
	*simLink
	rt     *Runtime
	cancel context.CancelFunc
	done   chan struct{}
}

func newSimWorld(t *testing.T, seed uint64, nodes int) *simWorld {
	w := &simWorld{T: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 5)), store: mem.New(), arrived: make(chan struct{}, 1), folds: map[string]*folded[Instance]{}}
	w.out = &simOutside{world: w, things: map[string]*simThing{}, requests: map[string]uint64{}}
	for i := range nodes {
		w.nodes = append(w.nodes, &simNode{world: w, name: string(rune('a' + i))})
	}
	return w
}

// wrongly notes that something is not as it must be.
func (w *simWorld) wrongly(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrong) < 10 {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

// pass lets time go by until d has passed, and calls through meanwhile.
func (w *simWorld) pass(d time.Duration) {
	end := time.Now().Add(d)
	for {
		synctest.Wait()
		if calls := w.choose(); calls != nil {
			f := w.fate(calls[0])
			for _, c := range calls {
				c.fate <- f
			}
			continue
		}
		left := time.Until(end)
		if left <= 0 {
			return
		}
		if w.held() { // some calls take longer
			left = min(left, time.Duration(1+w.rand.IntN(400))*time.Millisecond)
		}
		select {
		case <-w.arrived:
		case <-time.After(left):
		}
	}
}

// choose takes one of the calls that wait, and with one that reads all that read
// the same, which nothing tells apart; none: nothing is let through now.
func (w *simWorld) choose() []*simCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	able := w.waiting[:0:0]
	for _, c := range w.waiting {
		if !c.node.frozen {
			able = append(able, c)
		}
	}
	if len(able) == 0 || !w.calm && w.rand.IntN(12) == 0 {
		return nil
	}
	slices.SortStableFunc(able, compareCalls)
	able = slices.CompactFunc(able, func(a, b *simCall) bool { return a.op == "read" && compareCalls(a, b) == 0 })
	c := able[w.rand.IntN(len(able))]
	var chosen []*simCall
	w.waiting = slices.DeleteFunc(w.waiting, func(o *simCall) bool {
		if o == c || c.op == "read" && compareCalls(o, c) == 0 {
			chosen = append(chosen, o)
			return true
		}
		return false
	})
	w.totals.calls += len(chosen)
	return chosen
}

func compareCalls(a, b *simCall) int {
	return cmp.Or(cmp.Compare(a.node.name, b.node.name), cmp.Compare(a.op, b.op), cmp.Compare(a.key, b.key))
}

// held reports whether calls wait that could be let through.
func (w *simWorld) held() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.waiting, func(c *simCall) bool { return !c.node.frozen })
}

func (w *simWorld) fate(c *simCall) simFate {
	if w.calm || w.rand.IntN(1000) >= w.trouble {
		return fateDone
	}
	w.totals.lost++
	if c.op == "read" {
		return fateAway
	}
	return simFate(1 + w.rand.IntN(3))
}

// settle ends all trouble.
func (w *simWorld) settle() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	for _, n := range w.nodes {
		n.thaw()
	}
}

// start starts a node that does not run.
func (n *simNode) start() {
	if n.rt != nil {
		return
	}
	n.times++
	n.simLink = &simLink{Store: n.world.store, node: n}
	cfg := Config{
		Domains: []Domain{simDomain(simSettings{
			service: simServiceAt{n.world.out, n, n.simLink}, broken: func() bool { return !n.world.isCalm() }, wait: 20 * time.Second,
			retry: Retry{Attempts: 3, First: 500 * time.Millisecond, Max: 4 * time.Second},
		})},
		Node: fmt.Sprint(n.name, n.times), Lease: 15 * time.Second, Poll: 15 * time.Second, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	rt, err := New(n.simLink, cfg)
	if err != nil {
		n.world.Fatal(err)
	}
	rt.engine, err = engine.New(rt.simEngine(cfg))
	if err != nil {
		n.world.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.world.mu.Lock()
	n.rt, n.simLink.rt, n.cancel, n.done = rt, rt, cancel, done
	n.world.mu.Unlock()
	go func() {
		defer close(done)
		if err := rt.Run(ctx); err != nil {
			n.world.wrongly("node %s: %v", n.name, err)
		}
	}()
}

// simEngine is the engine without the followers that nothing here depends on:
// views, and the runner of stored commands.
func (rt *Runtime) simEngine(cfg Config) engine.Config {
	c := cfg.node()
	c.Store, c.Logger, c.Poll = rt.store, rt.cfg.Logger, rt.cfg.Poll
	for _, f := range rt.followers {
		if f.Name == instanceRunnerName || f.Kind == "process" || f.Kind == "saga" {
			f.Partitions = min(f.Partitions, 2) // enough to be shared, and handed over
			c.Followers = append(c.Followers, f)
		}
	}
	return c
}

// stop ends a node in order, or as if its process were killed.
func (n *simNode) stop(kill bool) {
	if n.rt == nil {
		return
	}
	n.thaw()
	if kill {
		n.world.totals.kills++
		n.kill()
	} else {
		n.world.totals.stops++
	}
	n.cancel()
	done := n.done
	n.world.mu.Lock()
	n.rt = nil
	n.world.mu.Unlock()
	n.world.gone.Go(func() { <-done })
}

func (w *simWorld) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// A simLink is a node's connection to the store.
type simLink struct {
	*mem.Store
	node   *simNode
	rt     *Runtime
	frozen bool
	dead   bool
}

func (l *simLink) Shared() bool { return true }

func (n *simNode) freeze() {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.simLink != nil {
		n.world.totals.ice++
		n.frozen = true
	}
}

func (n *simNode) thaw() {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.simLink != nil {
		n.frozen = false
	}
}

// kill lets all that a node still asks come to nothing.
func (n *simNode) kill() {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.dead = true
	n.world.waiting = slices.DeleteFunc(n.world.waiting, func(c *simCall) bool {
		if c.node == n {
			c.fate <- fateAway
		}
		return c.node == n
	})
}

// ask waits until a call is let through.
func (l *simLink) ask(ctx context.Context, op, key string) (simFate, error) {
	w := l.node.world
	c := &simCall{l.node, op, key, make(chan simFate, 1)}
	w.mu.Lock()
	if l.dead {
		w.mu.Unlock()
		return fateAway, store.ErrUnavailable
	}
	if w.calm && !l.frozen {
		w.mu.Unlock()
		return fateDone, nil
	}
	w.waiting = append(w.waiting, c)
	w.mu.Unlock()
	poke(w.arrived)
	select {
	case f := <-c.fate:
		if f == fateAway {
			return f, store.ErrUnavailable
		}
		return f, nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(o *simCall) bool { return o == c })
	return fateGone, ctx.Err()
}

func (l *simLink) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	f, err := l.ask(ctx, "append", writes[0].Stream)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	if f == fateGone {
		return nil, store.ErrUnknown
	}
	written, err := l.Store.Append(ctx, writes...)
	if err == nil {
		l.rt.checkTurns(l.node.world, writes, written)
	}
	if f == fateLost {
		return nil, store.ErrUnknown
	}
	return written, err
}

func (l *simLink) Write(ctx context.Context, changes ...store.Change) error {
	f, err := l.ask(ctx, "write", changes[len(changes)-1].Key)
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", store.ErrUnknown, ctx.Err())
	}
	if err != nil {
		return err
	}
	if f == fateGone {
		return store.ErrUnknown
	}
	err = l.Store.Write(ctx, changes...)
	if f == fateLost {
		return store.ErrUnknown
	}
	return err
}

func (l *simLink) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if _, err := l.ask(ctx, "read", strings.Join(f.Categories, " ")); err != nil {
			yield(store.Record{}, err)
			return
		}
		l.Store.ReadAll(ctx, after, f)(yield)
	}
}

func (l *simLink) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.alive(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		l.Store.Read(ctx, stream, r)(yield)
	}
}

func (l *simLink) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	if err := l.alive(ctx); err != nil {
		return store.Doc{}, err
	}
	return l.Store.Get(ctx, coll, key)
}

func (l *simLink) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		if err := l.alive(ctx); err != nil {
			yield(store.Doc{}, err)
			return
		}
		l.Store.List(ctx, coll, prefix, after)(yield)
	}
}

// alive lets a call through whose time does not matter, unless the node is
// frozen or dead.
func (l *simLink) alive(ctx context.Context) error {
	l.node.world.mu.Lock()
	frozen, dead := l.frozen, l.dead
	l.node.world.mu.Unlock()
	switch {
	case dead:
		return store.ErrUnavailable
	case frozen:
		_, err := l.ask(ctx, "read", "")
		return err
	}
	return nil
}

// simOutside is a service outside. Requests take their time, fail before or after
// they have done something, and are refused.
type simOutside struct {
	world *simWorld

	mu       sync.Mutex
	things   map[string]*simThing
	requests map[string]uint64 // how many there were about each thing
}

type simThing struct {
	key      string // of the request to do it
	undoKey  string
	done     bool
	over     bool // it is undone, or was refused: it is never done again
	attempts int
}

// simServiceAt is the service as a node reaches it.
type simServiceAt struct {
	*simOutside
	node *simNode
	link *simLink
}

var errSimDown = fmt.Errorf("the service does not answer")

// reach takes the request there, which takes a while, and says what is to go
// wrong: before, after, or "".
func (s simServiceAt) reach(ctx context.Context, name string) (string, error) {
	r := s.chance(name)
	n, long := r.IntN(100), time.Duration(r.IntN(1500))*time.Millisecond
	if s.world.isCalm() {
		return "", nil
	}
	if n < 5 {
		long = time.Minute // it takes too long
	}
	select {
	case <-time.After(long):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := s.link.alive(context.WithoutCancel(ctx)); err != nil { // nobody is there any more to ask
		return "", err
	}
	switch {
	case n < 15:
		return "before", nil
	case n < 25:
		return "after", nil
	case n < 28:
		return "panic", nil
	}
	return "", nil
}

// chance decides about the next request for a thing, whatever else is asked for.
func (s simServiceAt) chance(name string) *rand.Rand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[name]++
	h := fnv.New64a()
	io.WriteString(h, name)
	return rand.New(rand.NewPCG(s.world.seed^h.Sum64(), s.requests[name]))
}

func (s simServiceAt) thing(name string) *simThing {
	t := s.things[name]
	if t == nil {
		t = &simThing{}
		s.things[name] = t
	}
	t.attempts++
	return t
}

func (s simServiceAt) do(ctx context.Context, name, key string) (string, error) {
	no := s.chance("no to " + name).IntN(12)
	fault, err := s.reach(ctx, name)
	if err != nil || fault == "before" {
		return "", cmp.Or(err, errSimDown)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.thing(name)
	if t.key != "" && t.key != key {
		s.world.wrongly("%s is asked for under two keys", name)
	}
	t.key = key
	if !t.done && !t.over && no == 0 && !s.world.isCalm() {
		t.over = true
	}
	if t.over {
		return "", Reason{"refused", "not for you"}
	}
	t.done = true
	switch fault {
	case "after":
		return "", errSimDown
	case "panic":
		panic("the service is mad")
	}
	return "receipt of " + name, nil
}

func (s simServiceAt) undo(ctx context.Context, name, key string) error {
	fault, err := s.reach(ctx, name)
	if err != nil || fault == "before" {
		return cmp.Or(err, errSimDown)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.thing(name)
	if t.undoKey != "" && t.undoKey != key {
		s.world.wrongly("undoing %s is asked for under two keys", name)
	}
	t.undoKey = key
	t.done, t.over = false, true
	if fault == "after" {
		return errSimDown
	}
	return nil
}
