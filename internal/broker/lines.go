package broker

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/deed-dev/deed/internal/engine"
)

// Timing of connections.
const (
	dialTime = 5 * time.Second
	// idleTime is for how long a connection is kept that nobody uses.
	idleTime = time.Minute
)

// A Conn is a connection to a broker.
type Conn interface {
	Close()
	// Broken reports whether it is closed, by whomever, or is to be used no more.
	Broken() bool
}

// Lines are connections to brokers: one for all targets that say the same about
// it, made when it is needed, and closed when nobody has needed it for a while.
// One that is broken is made anew.
type Lines[C Conn] struct {
	dials singleflight.Group
	mu    sync.Mutex
	lines map[string]*line[C]
}

type line[C Conn] struct {
	conn  C
	users int
	idle  *time.Timer
}

// Use does something with the connection of a key, which dial makes. That there
// is none is no fault of what was to be sent: the place is away.
func (l *Lines[C]) Use(ctx context.Context, key string, dial func(context.Context) (C, error), use func(C) error) error {
	n := l.taken(key)
	for n == nil {
		_, err, _ := l.dials.Do(key, func() (any, error) {
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTime)
			defer cancel()
			c, err := dial(within)
			if err == nil {
				l.put(key, c)
			}
			return nil, err
		})
		if err != nil {
			return engine.Away(err, 0)
		}
		n = l.taken(key)
	}
	defer l.release(n)
	return use(n.conn)
}

// taken returns the line of a key for one more user, nil if there is none that
// can be used.
func (l *Lines[C]) taken(key string) *line[C] {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.lines[key]
	if n == nil || n.conn.Broken() {
		return nil
	}
	n.users++
	n.idle.Stop()
	return n
}

// put keeps a new connection, until it is idle.
func (l *Lines[C]) put(key string, c C) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = map[string]*line[C]{}
	}
	n := &line[C]{conn: c}
	n.idle = time.AfterFunc(idleTime, func() { l.hangUp(key, n) })
	l.lines[key] = n
}

// release ends a use of a line.
func (l *Lines[C]) release(n *line[C]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.users--
	switch {
	case n.users > 0:
	case n.conn.Broken():
		n.conn.Close()
	default:
		n.idle.Reset(idleTime)
	}
}

// hangUp closes a line that nobody uses.
func (l *Lines[C]) hangUp(key string, n *line[C]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users > 0 {
		return
	}
	n.conn.Close()
	if l.lines[key] == n {
		delete(l.lines, key)
	}
}
