package postgres_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// A store with a reader who waits for events asks the server for little.
func TestIdleLoad(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := openWith(t, server.DSN(server.Schema()), &postgres.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &counted{c, &asked}, err
	}})
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	head := must[store.Cursor](t)(s.Head(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			store.Wait(ctx, s, head, 5*time.Second)
		}
	}()
	// What it did when it was opened may go on for a while on a busy machine.
	const during = 4 * time.Second
	rate := 0.0
	for range 4 {
		before := asked.Load()
		time.Sleep(during) // this is what is measured
		rate = float64(asked.Load()-before) / during.Seconds()
		if t.Logf("%.2f questions/s", rate); rate < 2 {
			break
		}
	}
	stop()
	<-ended
	if rate >= 2 {
		t.Errorf("an idle store with one waiting reader asks %.1f questions/s", rate)
	}
}

// A counted connection counts what is sent: a question is one packet.
type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.sent.Add(1)
	return c.Conn.Write(b)
}
