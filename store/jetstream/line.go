package jetstream

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A line ends what waits for an answer when the connection breaks: the answer
// is not going to come by another one.
type line struct {
	nc     *nats.Conn
	events chan nats.Status

	mu     sync.Mutex
	ctx    context.Context // of the connection there is
	broken context.CancelFunc
}

func watch(nc *nats.Conn) *line {
	l := &line{nc: nc, events: nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)}
	l.ctx, l.broken = context.WithCancel(context.Background())
	go func() {
		for range l.events {
			l.renew()
		}
	}()
	return l
}

func (l *line) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken()
	l.ctx, l.broken = context.WithCancel(context.Background())
}

// attempt returns a context for one question: it ends after some time, or
// when the connection breaks.
func (l *line) attempt(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	within, cancel := context.WithTimeout(ctx, d)
	l.mu.Lock()
	defer l.mu.Unlock()
	stop := context.AfterFunc(l.ctx, cancel)
	return within, func() { stop(); cancel() }
}

// leave stops watching.
func (l *line) leave() {
	l.nc.RemoveStatusListener(l.events)
	l.renew()
}
