package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// What several nodes bring shows in a projection that costs more to compute
// than to store. Each node is a process of its own that may use one core: two
// of them in one process would share what one has.

// jobParts is how many partitions the projection has. Two nodes hold half of
// them each.
const jobParts = 8

// streamsPerPart is how many streams a partition has. All partitions have the
// same: what is measured is nodes, not how names happen to be spread.
const streamsPerPart = 16

// attempts is how often each is measured. The best one counts: other programs,
// the server among them, want the cores as well.
const attempts = 3

// grinds is how often a hash is taken for an event: about a millisecond.
const grinds = 12_000

// Job is the state of an entity that is not looked at.
type Job struct{}

// Done is an event that takes long to project.
type Done struct {
	N int `json:"n"`
}

// Apply implements deed.Event.
func (Done) Apply(*Job) {}

// Ground is the document of the projection.
type Ground struct {
	Events int      `json:"events"`
	Sum    [32]byte `json:"sum"`
}

var jobs = deed.Aggregate[Job]{Name: "job", Events: map[string]deed.Event[Job]{"done": Done{}}}

var ground = deed.Projection[Ground]{
	Name: "ground", Partitions: jobParts,
	On: []deed.Handler[Ground]{deed.On(func(g *Ground, _ Done) {
		g.Events++
		for range grinds {
			g.Sum = sha256.Sum256(g.Sum[:])
		}
	})},
}

func nodeRuntime(s store.Store, name string) (*deed.Runtime, error) {
	return deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "jobs", Parts: []deed.Part{jobs, ground}}}, Logger: quiet, Node: name, Lease: 3 * time.Second})
}

// RunNode is what a process does that is one of the nodes measured, until ctx
// is done.
func RunNode(ctx context.Context, s store.Store, name string) error {
	rt, err := nodeRuntime(s, name)
	if err != nil {
		return err
	}
	return rt.Run(ctx)
}

// nodes measures what one node projects, then what two do together.
func (r *run) nodes(s Server) (err error) {
	looker, err := nodeRuntime(s.Store, "looker") // it never runs
	if err != nil {
		return err
	}
	n := &nodeRun{run: r, store: s.Store, looker: looker}
	var rates [2]float64
	for i := range rates {
		stop, failed := s.Node(r.ctx, fmt.Sprintf("n%d", i+1))
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, stop()) }()
		if err := n.settled(i + 1); err != nil {
			return err
		}
		if _, err := n.project(1); err != nil { // so that nothing is measured that happens once
			return err
		}
		for range attempts {
			rate, err := n.project(max(1, int(r.d.Seconds()*1000)/(jobParts*streamsPerPart)))
			if err != nil {
				return err
			}
			rates[i] = max(rates[i], rate)
		}
	}
	target := 1.5
	if runtime.NumCPU() < 2 {
		target = 0 // two nodes have no more than one has
	}
	r.note("one node projects, 1 ms of one core each", rates[0], "events/s")
	r.ratio("two nodes project", rates[1], "events/s", "one node", rates[0], target)
	return nil
}

// nodeRun is a run with nodes.
type nodeRun struct {
	*run
	store  store.Store
	looker *deed.Runtime
	rounds int
}

// settleTime bounds how long it may take until partitions are shared.
const settleTime = time.Minute

// settled waits until the projection's partitions are shared evenly.
func (n *nodeRun) settled(nodes int) error {
	return n.until(settleTime, func(held []deed.Node) bool {
		even := 0
		for _, node := range held {
			if len(ours(node).Holds) == jobParts/nodes {
				even++
			}
		}
		return even == nodes
	})
}

// ours is a node with the partitions of the projection alone: a runtime has
// followers of its own besides.
func ours(n deed.Node) deed.Node {
	held := n.Holds[:0:0]
	for _, h := range n.Holds {
		if h.Follower == ground.Name {
			held = append(held, h)
		}
	}
	n.Holds = held
	return n
}

// project records so many events in each of many streams, and returns how many
// a second the nodes project.
func (n *nodeRun) project(each int) (float64, error) {
	start := time.Now()
	last, err := n.record(each)
	if err != nil {
		return 0, err
	}
	total := each * jobParts * streamsPerPart
	err = n.until(settleTime+time.Duration(total)*10*time.Millisecond, func(held []deed.Node) bool {
		there := 0
		for _, node := range held {
			for _, h := range ours(node).Holds {
				if h.Cursor.Covers(last[h.Partition]) {
					there++
				}
			}
		}
		return there == jobParts
	})
	return float64(total) / time.Since(start).Seconds(), err
}

// record returns the position of the last event of each partition.
func (n *nodeRun) record(each int) (last [jobParts]store.Position, err error) {
	n.rounds++
	var mu sync.Mutex
	var all sync.WaitGroup
	var counts [jobParts]int
	for i, streams := 0, 0; streams < jobParts*streamsPerPart; i++ {
		stream := fmt.Sprintf("job/%d-%d", n.rounds, i)
		part := store.PartitionOf(stream, jobParts)
		if counts[part] == streamsPerPart {
			continue
		}
		counts[part]++
		streams++
		all.Go(func() {
			events := make([]store.Event, each)
			for i := range events {
				events[i] = store.Event{ID: store.ID(uuid.New()), Type: "done", Data: fmt.Appendf(nil, `{"n":%d}`, i), Meta: []byte(`{"actor":"bench"}`)}
			}
			out, e := n.store.Append(n.ctx, store.Write{Stream: stream, Expect: store.None, Events: events})
			mu.Lock()
			defer mu.Unlock()
			if err = errors.Join(err, e); e == nil && out[0].Position.Seq > last[part].Seq {
				last[part] = out[0].Position
			}
		})
	}
	all.Wait()
	return last, err
}

// until looks at the nodes until they are as they should be.
func (n *nodeRun) until(limit time.Duration, so func([]deed.Node) bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; {
		held, err := n.looker.Nodes(n.ctx)
		if err != nil || so(held) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v the nodes are not done: %+v", limit, held)
		}
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
}
