package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// Several processes, nodes, may run the same followers on one store. Each
// partition of a follower is held by one of them, whose name is in the
// partition's checkpoint beside an epoch that grows with every new holder.
// Taking a partition over moves the checkpoint, so whatever its last holder
// still commits is refused: that is what makes it safe. Who ought to hold what
// follows from who is alive, and that is only a matter of speed: each node
// counts in a document of its own, and one whose count has not moved for a
// lease, by the clock of whoever looks, counts as dead.

const nodeColl = "$node"

// beatsPerLease is how often a node counts within a lease.
const beatsPerLease = 3

// nodeDoc is the document of a node.
type nodeDoc struct {
	Node      string         `json:"node"`
	Host      string         `json:"host,omitempty"`
	PID       int            `json:"pid,omitempty"`
	Started   time.Time      `json:"started"`
	Beat      uint64         `json:"beat"`
	Followers map[string]int `json:"followers"`          // what it can run, and in how many partitions
	Versions  map[string]int `json:"versions,omitempty"` // of these; 0 if not there
}

// A peer is a node as this process sees it.
type peer struct {
	nodeDoc
	since time.Time // when its count was last seen to move
}

// membership is what a process knows of the nodes of its store.
type membership struct {
	store store.Store
	log   *slog.Logger
	lease time.Duration
	guest bool // others need not reckon with this node

	mu     sync.Mutex
	self   nodeDoc
	heard  time.Time // when it was last written
	peers  map[string]*peer
	joined bool
	epochs map[string]uint64 // of each checkpoint, as it was at the last beat
}

func newMembership(cfg Config) *membership {
	return &membership{
		store: cfg.Store, log: cmp.Or(cfg.Logger, slog.Default()), lease: cmp.Or(cfg.Lease, 6*time.Second), guest: cfg.Guest, peers: map[string]*peer{},
		self: nodeDoc{Node: cfg.Node, Host: cfg.Host, PID: cfg.PID, Started: time.Now().UTC(), Followers: map[string]int{}},
	}
}

// run counts until ctx is done, then leaves.
func (m *membership) run(ctx context.Context) {
	tick := time.NewTicker(m.lease / beatsPerLease)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.part(ctx)
			return
		case <-tick.C:
		}
		m.join(ctx)
	}
}

// join says that this node is alive.
func (m *membership) join(ctx context.Context) {
	if err := m.beat(ctx); err != nil && ctx.Err() == nil {
		m.log.Error("node cannot say that it is alive", "node", m.self.Node, "error", err)
	}
}

// beat counts, and looks at the others.
func (m *membership) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.lease)
	defer cancel()
	m.mu.Lock()
	m.self.Beat++
	self := m.self
	if m.guest {
		self.Followers = map[string]int{}
	}
	data, err := json.Marshal(self)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.store.Write(ctx, store.Change{Coll: nodeColl, Key: m.self.Node, Rev: store.AnyRev, Data: data}); err != nil {
		return err
	}
	now := time.Now()
	seen := map[string]bool{}
	var gone []store.Change
	for d, err := range m.store.List(ctx, nodeColl, "", "") {
		if err != nil {
			return err
		}
		if d.Key != m.self.Node {
			seen[d.Key] = true
			gone = append(gone, m.see(d, now)...)
		}
	}
	epochs := map[string]uint64{}
	for d, err := range m.store.List(ctx, cursorColl, "", "") {
		if err != nil {
			return err
		}
		if c, err := parseCheckpoint(d); err == nil {
			epochs[d.Key] = c.Epoch
		}
	}
	m.mu.Lock()
	m.heard, m.joined, m.epochs = now, true, epochs
	maps.DeleteFunc(m.peers, func(name string, _ *peer) bool { return !seen[name] })
	m.mu.Unlock()
	for _, c := range gone {
		if err := m.store.Write(ctx, c); err != nil && !isConflict(err) {
			return err
		}
	}
	return nil
}

// see takes in the document of another node. One that has been dead for long
// is to be removed.
func (m *membership) see(d store.Doc, now time.Time) []store.Change {
	var doc nodeDoc
	if err := json.Unmarshal(d.Data, &doc); err != nil {
		m.log.Error("a node's document cannot be read", "node", d.Key, "error", err)
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[d.Key]
	if p == nil || p.Beat != doc.Beat || !p.Started.Equal(doc.Started) {
		m.peers[d.Key] = &peer{nodeDoc: doc, since: now}
		return nil
	}
	if now.Sub(p.since) > 20*m.lease {
		return []store.Change{{Coll: nodeColl, Key: d.Key, Rev: d.Rev}}
	}
	return nil
}

// part says goodbye, so that the others need not wait.
func (m *membership) part(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.lease)
	defer cancel()
	if err := m.store.Write(ctx, store.Change{Coll: nodeColl, Key: m.self.Node, Rev: store.AnyRev}); err != nil {
		m.log.Debug("node could not say goodbye", "error", err)
	}
}

// overtaken reports whether somebody has taken a partition since this node did.
// One that has nothing to record would not notice by itself.
func (m *membership) overtaken(key string, epoch uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epochs[key] > epoch
}

// sane reports whether others know that this node is alive. One that could
// not say so for a lease has lost what it held.
func (m *membership) sane() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joined && time.Since(m.heard) < m.lease
}

// alive reports whether a node is, as far as is known.
func (m *membership) alive(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return node == m.self.Node || m.aliveLocked(m.peers[node], time.Now())
}

func (m *membership) aliveLocked(p *peer, now time.Time) bool {
	return p != nil && now.Sub(p.since) < m.lease
}

// ought returns the node that should hold a partition. All nodes that see the
// same others agree on it: the partitions of all followers are dealt out to
// the nodes, in the order of their names.
func (m *membership) ought(follower string, part int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.peers) == 0 && !m.guest {
		return m.self.Node // who is alone need not sort names to find that out
	}
	place := part
	for _, name := range slices.Sorted(maps.Keys(m.self.Followers)) {
		if name == follower {
			break
		}
		place += m.self.Followers[name]
	}
	able := []string{m.self.Node}
	if m.guest {
		able = nil
	}
	now := time.Now()
	for name, p := range m.peers {
		same := p.Followers[follower] == m.self.Followers[follower] && p.Versions[follower] == m.self.Versions[follower]
		if m.aliveLocked(p, now) && same {
			able = append(able, name)
		}
	}
	if len(able) == 0 {
		return m.self.Node
	}
	slices.Sort(able)
	return able[place%len(able)]
}

// runs reports whether another process that has a version of a follower is
// alive, or may be.
func (m *membership) runs(follower string, version int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for name, p := range m.peers {
		if name != m.self.Node && m.aliveLocked(p, now) && p.Followers[follower] > 0 && p.Versions[follower] == version {
			return true
		}
	}
	return !m.joined
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*store.ConflictError](err)
	return ok
}

// A Node is a process that runs followers.
type Node struct {
	Name    string    `json:"name"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started"`
	Alive   bool      `json:"alive"`
	Self    bool      `json:"self"` // the process that answers
	Holds   []Holding `json:"holds"`
}

// A Holding is a partition of a follower that a node holds.
type Holding struct {
	Follower   string       `json:"follower"`
	Partition  int          `json:"partition"`
	Partitions int          `json:"partitions"`
	Epoch      uint64       `json:"epoch"` // how often the partition has changed hands
	Cursor     store.Cursor `json:"cursor"`
}

// Nodes reports who holds what. An engine that shares its store with nobody
// has no nodes.
func (e *Engine) Nodes(ctx context.Context) ([]Node, error) {
	out := []Node{}
	if e.members == nil {
		return out, nil
	}
	holds := map[string][]Holding{}
	for d, err := range e.store.List(ctx, cursorColl, "", "") {
		if err != nil {
			return nil, err
		}
		c, err := parseCheckpoint(d)
		if err != nil {
			return nil, err
		}
		part, parts, err := parseCursorKey(d.Key)
		if err != nil {
			return nil, err
		}
		holds[c.Node] = append(holds[c.Node], Holding{followerOfKey(d.Key), part, parts, c.Epoch, c.Cursor})
	}
	for d, err := range e.store.List(ctx, nodeColl, "", "") {
		if err != nil {
			return nil, err
		}
		var doc nodeDoc
		if err := json.Unmarshal(d.Data, &doc); err != nil {
			return nil, fmt.Errorf("%w: node %s: %w", store.ErrCorrupt, d.Key, err)
		}
		n := Node{Name: doc.Node, Host: doc.Host, PID: doc.PID, Started: doc.Started, Alive: e.members.alive(doc.Node), Holds: holds[doc.Node]}
		n.Self = n.Name == e.members.self.Node
		if n.Holds == nil {
			n.Holds = []Holding{}
		}
		out = append(out, n)
	}
	return out, nil
}
