package postgres_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy is between a store and its server. It counts what passes, and can
// break in the middle of it.
type proxy struct {
	ln     net.Listener
	server string
	pace   int           // bytes a second to the server; 0 = as fast as they come
	stall  bool          // instead of cutting connections, let nothing pass any more
	hold   time.Duration // instead, let what follows pass so much later

	mu    sync.Mutex
	up    int // bytes to the server since the count began
	down  int
	upTo  int // break when that many have passed; negative = never
	dnTo  int
	broke bool
	conns map[net.Conn]bool
	over  chan struct{} // closed in the end
}

func startProxy(t testing.TB, server string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, server: server, upTo: -1, dnTo: -1, conns: map[net.Conn]bool{}, over: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		close(p.over)
		p.cut()
		all.Wait()
	})
	return p
}

// dial connects by way of the proxy, whatever the address.
func (p *proxy) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, p.ln.Addr().String())
}

func (p *proxy) serve(c net.Conn) {
	s, err := net.Dial("tcp", p.server)
	if err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(s, c, &p.up, &p.upTo) })
	both.Go(func() { p.pass(c, s, &p.down, &p.dnTo) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, s)
	p.mu.Unlock()
}

// pass copies until the limit is reached, to the byte.
func (p *proxy) pass(to, from net.Conn, count, limit *int) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	var due time.Time // when all that came so far is to have passed
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		pass, cut, hold := n, false, time.Duration(0)
		switch over := *limit >= 0 && *count+n >= *limit; {
		case over && p.hold > 0:
			hold, *limit = p.hold, -1
		case over:
			pass, cut = max(*limit-*count, 0), true
		}
		*count += pass
		frozen := p.stall && p.broke
		p.broke = p.broke || cut
		pace, stall := p.pace, p.stall
		p.mu.Unlock()
		time.Sleep(hold)
		switch {
		case frozen && err == nil:
			continue
		case frozen: // the other end does not hear of it
			<-p.over
			return
		}
		if pace > 0 && limit == &p.upTo {
			if time.Since(due) > 250*time.Millisecond { // there was nothing to pass; less is a machine that wakes us late
				due = time.Now()
			}
			due = due.Add(time.Duration(pass) * time.Second / time.Duration(pace))
			time.Sleep(time.Until(due))
		}
		if _, e := to.Write(buf[:pass]); e != nil || err != nil {
			return
		}
		if cut && !stall {
			p.cut()
			return
		}
	}
}

// arm breaks all connections when so many bytes have passed from now on, and
// returns how many have passed since it was called last. Negative is never.
func (p *proxy) arm(up, down int) (int, int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, d, broke := p.up, p.down, p.broke
	p.up, p.down, p.upTo, p.dnTo, p.broke = 0, 0, up, down, false
	return u, d, broke
}

func (p *proxy) setPace(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = bytesPerSecond
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
