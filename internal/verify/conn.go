package verify

import (
	"math"
	"net"
	"sync/atomic"
	"time"
)

// whole is how many bytes a connection has left that is not to break.
const whole = math.MaxInt64

// A conn is a connection of a Net.
type conn struct {
	net.Conn
	net  *Net
	left atomic.Int64 // bytes until it breaks
}

// allow takes n bytes from what is left; it returns how many may pass.
func (c *conn) allow(n int) int {
	for {
		left := c.left.Load()
		if left == whole {
			return n
		}
		pass := max(0, min(int64(n), left))
		if c.left.CompareAndSwap(left, left-pass) {
			return int(pass)
		}
	}
}

func (c *conn) Write(b []byte) (int, error) {
	time.Sleep(c.net.pause())
	pass := c.allow(len(b))
	n, err := c.Conn.Write(b[:pass])
	if pass < len(b) && err == nil {
		c.Close()
		return n, net.ErrClosed
	}
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(c.net.pause())
	if pass := c.allow(n); pass < n {
		c.Close()
		return pass, net.ErrClosed
	}
	return n, err
}

// Close closes the connection.
func (c *conn) Close() error {
	c.net.forget(c)
	return c.Conn.Close()
}
