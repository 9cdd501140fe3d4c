package verify

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Net makes connections that can be made to stall and to break: in the middle
// of a request, between a request and its answer, or in the middle of that.
type Net struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	stall float64 // the probability that a write or a read waits
	most  time.Duration
	conns map[*conn]bool
}

// NewNet returns a Net that disturbs nothing yet.
func NewNet(seed uint64) *Net {
	return &Net{rnd: rand.New(rand.NewPCG(seed, 7)), conns: map[*conn]bool{}}
}

// Stall makes some of what is sent and received wait for up to most.
func (n *Net) Stall(probability float64, most time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stall, n.most = probability, most
}

// Cut breaks all connections, each after it has sent and received some more
// bytes.
func (n *Net) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.left.Store(int64(n.rnd.IntN(600)))
	}
}

// Dial connects to an address.
func (n *Net) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	inner, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, net: n}
	c.left.Store(whole)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = true
	return c, nil
}

// pause is how long something waits.
func (n *Net) pause() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stall == 0 || n.rnd.Float64() >= n.stall {
		return 0
	}
	return time.Duration(n.rnd.Int64N(int64(n.most) + 1))
}

func (n *Net) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}
