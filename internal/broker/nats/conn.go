package nats

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/engine"
)

// pingEvery is how often a server is asked whether it is there: without an
// answer to two, the connection is closed.
const pingEvery = 10 * time.Second

// maxPending is how many messages may be on their way by one connection: all
// that 64 deliveries of 1000 events have.
const maxPending = 64_000

// A conn is a connection to a NATS server. It is not made anew by the library,
// but by those who want to use it.
type conn struct {
	nc     *natsgo.Conn
	js     jetstream.JetStream
	closed chan struct{}
	denied atomic.Pointer[error] // what the server has said last of what is not allowed
	worn   atomic.Bool           // the library waits for something that nobody waits for any more

	rows rows

	mu    sync.Mutex
	takes map[string]takes // what streams take, by what they are found by
}

// takes is what a stream takes besides messages one by one.
type takes struct {
	rows   bool // messages in a row, of which it says once that it has them
	wholes bool // messages of which it takes all or none
}

// dialing lets the library connect only to where it may.
type dialing struct {
	ctx   context.Context
	hosts *broker.Hosts
}

// Dial implements nats.CustomDialer.
func (d dialing) Dial(network, address string) (net.Conn, error) {
	return d.hosts.DialContext(d.ctx, network, address)
}

// dial connects to one of the servers.
func (s *servers) dial(ctx context.Context, hosts *broker.Hosts) (*conn, error) {
	secured, err := s.TLS.Config()
	if err != nil {
		return nil, err
	}
	c := &conn{closed: make(chan struct{}), takes: map[string]takes{}}
	opts := []natsgo.Option{
		natsgo.Name("deed"), natsgo.NoReconnect(), natsgo.Timeout(5 * time.Second), natsgo.PingInterval(pingEvery), natsgo.MaxPingsOutstanding(2),
		natsgo.SetCustomDialer(dialing{ctx, hosts}), natsgo.SkipHostLookup(), natsgo.SkipSubjectValidation(),
		natsgo.ClosedHandler(func(*natsgo.Conn) { close(c.closed) }),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			if errors.Is(err, natsgo.ErrPermissionViolation) {
				c.denied.Store(&err)
			}
		}),
	}
	if secured != nil {
		opts = append(opts, natsgo.Secure(secured))
	}
	switch {
	case s.User != "":
		opts = append(opts, natsgo.UserInfo(s.User, s.Password))
	case s.Token != "":
		opts = append(opts, natsgo.Token(s.Token))
	case s.Creds != "":
		opts = append(opts, natsgo.UserCredentialBytes([]byte(s.Creds)))
	}
	if c.nc, err = natsgo.Connect(s.URL, opts...); err != nil {
		return nil, err
	}
	if err := c.rows.listen(c.nc); err != nil {
		c.nc.Close()
		return nil, err
	}
	c.js, err = jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(maxPending))
	return c, err
}

// Close implements broker.Conn.
func (c *conn) Close() { c.nc.Close() }

// Broken implements broker.Conn.
func (c *conn) Broken() bool { return c.worn.Load() || c.nc.IsClosed() }

// fits reports whether the server takes a message of that size: if not, it
// would close the connection.
func (c *conn) fits(m *natsgo.Msg) error {
	if int64(m.Size()) > c.nc.MaxPayload() {
		return engine.Permanent(natsgo.ErrMaxPayload)
	}
	return nil
}

// takenBy says what the stream takes that a target publishes to. It is asked
// once; a stream of which that is not known takes messages one by one.
func (c *conn) takenBy(ctx context.Context, t *target) takes {
	by := t.Stream + " " + t.pattern()
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.takes[by]; ok {
		return known
	}
	var is takes
	if name := c.streamOf(ctx, t); name != "" {
		if s, err := c.js.Stream(ctx, name); err == nil {
			cfg := s.CachedInfo().Config
			is = takes{rows: cfg.AllowBatchPublish, wholes: cfg.AllowAtomicPublish}
		}
	}
	c.takes[by] = is
	return is
}

// streamOf returns the name of the one stream that a target publishes to, "" if
// that is not known.
func (c *conn) streamOf(ctx context.Context, t *target) string {
	if t.Stream != "" {
		return t.Stream
	}
	var names []string
	list := c.js.StreamNames(ctx, jetstream.WithStreamListSubject(t.pattern()))
	for name := range list.Name() {
		names = append(names, name)
	}
	if list.Err() != nil || len(names) != 1 {
		return ""
	}
	return names[0]
}
