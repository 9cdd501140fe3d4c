package jetstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// A wire stands between a store and its server. When it is armed, it swallows
// the next acknowledgement of something written, and breaks.
type wire struct {
	net.Listener
	server string
	armed  atomic.Bool
	broken atomic.Int64
}

func openByWire(t *testing.T) (*jetstream.Store, *wire) {
	t.Helper()
	c := startCluster(t, t.TempDir(), 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &wire{Listener: l, server: fmt.Sprintf("127.0.0.1:%d", c.Port(0))}
	go w.serve()
	s, err := jetstream.Open("nats://app:app@"+l.Addr().String(), &jetstream.Options{Name: "lost", SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, w
}

func (w *wire) serve() {
	for {
		client, err := w.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.server)
		if err != nil {
			client.Close()
			continue
		}
		go func() { io.Copy(server, client); server.Close() }()
		go w.answers(client, server)
	}
}

// answers passes on what the server says.
func (w *wire) answers(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte(`{"stream":"lost-`)) && w.armed.CompareAndSwap(true, false) {
			w.broken.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// An append whose answer is lost has happened once, and is answered, also if
// the caller expected nothing and so could not ask again.
func TestLostAnswers(t *testing.T) {
	s, w := openByWire(t)
	ctx := bounded(t)
	version := map[string]uint64{}
	for i := range 8 {
		for _, streams := range [][]string{{"a/1"}, {"a/1", "b/1"}} {
			var writes []store.Write
			for j, name := range streams {
				write := store.Write{Stream: name, Expect: store.Exactly(version[name]), Events: []store.Event{{ID: idOf(10*i+j, uint64(len(streams))), Type: "x"}}}
				if i%2 == 1 {
					write.Expect = store.Any
				}
				version[name]++
				writes = append(writes, write)
			}
			w.armed.Store(true)
			out, err := s.Append(ctx, writes...)
			if err != nil {
				t.Fatalf("append %d to %v: %v", i, streams, err)
			}
			for j, name := range streams {
				if out[j].Version != version[name] {
					t.Errorf("append %d to %s: version %d, want %d", i, name, out[j].Version, version[name])
				}
			}
		}
	}
	if n := w.broken.Load(); n != 16 {
		t.Errorf("%d answers were lost, want 16: this test proves nothing", n)
	}
	recs := all(ctx, t, s, store.Start, store.Filter{})
	inOrder(t, recs)
	if len(recs) != 24 {
		t.Errorf("%d records, want 24", len(recs))
	}
}

// The same for documents.
func TestLostAnswersOfDocs(t *testing.T) {
	s, w := openByWire(t)
	ctx := bounded(t)
	for i := range uint64(6) {
		w.armed.Store(true)
		changes := []store.Change{{Coll: "v", Key: "a", Rev: i, Data: []byte("1")}}
		if i%2 == 1 {
			changes = append(changes, store.Change{Coll: "v", Key: "b", Rev: store.AnyRev, Data: []byte("1")})
		}
		if err := s.Write(ctx, changes...); err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if n := w.broken.Load(); n != 6 {
		t.Errorf("%d answers were lost, want 6: this test proves nothing", n)
	}
	for key, rev := range map[string]uint64{"a": 6, "b": 3} {
		if d, err := s.Get(ctx, "v", key); err != nil || d.Rev != rev {
			t.Errorf("%s is at %d, %v, want %d", key, d.Rev, err, rev)
		}
	}
}

// While the servers are away the store says so, and goes on when they are back.
func TestServersAway(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	s, err := jetstream.Open(c.URL("app"), &jetstream.Options{Name: "away", SyncAlways: true, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := bounded(t)
	write := store.Write{Stream: "a/1", Expect: store.None, Events: []store.Event{{ID: idOf(0, 0), Type: "x"}}}
	c.StopNode(0)
	_, err = s.Append(ctx, write)
	_, headErr := s.Head(ctx)
	docErr := s.Write(ctx, store.Change{Coll: "v", Key: "k", Data: []byte("1")})
	for what, err := range map[string]error{"append": err, "head": headErr, "write": docErr} {
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s while the server is away: %v", what, err)
		}
	}
	c.StartNode(t, 0)
	for try := 0; ; try++ {
		if _, err = s.Append(ctx, write); err == nil {
			break
		}
		if try == 50 {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
