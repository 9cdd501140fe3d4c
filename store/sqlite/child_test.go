package sqlite_test

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// The tests run this very binary again as a child that serves a database, so
// that they can kill it in the middle of its work.
const childEnv = "DEED_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "serve":
		exitOn(serveChild(os.Args[1]))
	case "append":
		exitOn(appendForEver(os.Args[1], os.Args[2] == "relaxed"))
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A call goes to the child, an answer comes back.
type call struct {
	N      uint64
	Method string // append, read, log, head or compact
	Writes []store.Write
	Stream string
	Range  store.Range
	After  store.Cursor
	Filter store.Filter
	Wholes []store.Whole
}

type reply struct {
	N        uint64
	Written  []store.Written
	Records  []store.Record
	Cursor   store.Cursor
	Removed  []uint64
	Conflict *store.ConflictError
	Err      string
}

// serveChild answers calls until its input ends or somebody kills it.
func serveChild(path string) error {
	s, err := sqlite.Open(path, nil)
	if err != nil {
		return err
	}
	calls, out := gob.NewDecoder(bufio.NewReader(os.Stdin)), gob.NewEncoder(os.Stdout)
	var mu sync.Mutex
	mu.Lock()
	err = out.Encode(reply{}) // ready
	mu.Unlock()
	for err == nil {
		var c call
		if err = calls.Decode(&c); err != nil {
			break
		}
		go func() {
			r := answerCall(s, c)
			mu.Lock()
			defer mu.Unlock()
			if err := out.Encode(r); err != nil {
				os.Exit(1)
			}
		}()
	}
	if err == io.EOF {
		return s.Close()
	}
	return err
}

func answerCall(s *sqlite.Store, c call) reply {
	ctx := context.Background()
	r := reply{N: c.N}
	var err error
	switch c.Method {
	case "append":
		r.Written, err = s.Append(ctx, c.Writes...)
	case "compact":
		r.Removed, err = s.Compact(ctx, c.Wholes...)
	case "head":
		r.Cursor, err = s.Head(ctx)
	case "read":
		r.Records, err = collect(s.Read(ctx, c.Stream, c.Range))
	case "log":
		r.Records, err = collect(s.ReadAll(ctx, c.After, c.Filter))
	}
	if !errors.As(err, &r.Conflict) && err != nil {
		r.Err = err.Error()
	}
	return r
}

func collect(seq iter.Seq2[store.Record, error]) (out []store.Record, err error) {
	for r, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// A child is a database served by another process. It is a store.Log whose
// calls fail with ErrUnknown when the process dies under them.
type child struct {
	path string

	mu    sync.Mutex
	life  *life
	calls uint64
}

// A life is one process.
type life struct {
	cmd     *exec.Cmd
	in      *gob.Encoder
	pending map[uint64]chan reply
	dead    bool
	ended   chan struct{}
}

func startChild(t testing.TB, path string) *child {
	t.Helper()
	c := &child{path: path}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) start() error {
	cmd := exec.Command(os.Args[0], c.path)
	cmd.Env = append(os.Environ(), childEnv+"=serve")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l := &life{cmd: cmd, in: gob.NewEncoder(in), pending: map[uint64]chan reply{}, ended: make(chan struct{})}
	replies := gob.NewDecoder(bufio.NewReader(out))
	var ready reply
	if err := replies.Decode(&ready); err != nil {
		cmd.Wait()
		return fmt.Errorf("the child did not start: %w", err)
	}
	go c.receive(l, replies)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = l
	return nil
}

// receive hands out replies until the process dies, and then the news of its
// death.
func (c *child) receive(l *life, replies *gob.Decoder) {
	defer close(l.ended)
	for {
		var r reply
		err := replies.Decode(&r)
		c.mu.Lock()
		if err != nil {
			l.dead = true
			for _, ch := range l.pending {
				close(ch)
			}
			l.pending = nil
			c.mu.Unlock()
			l.cmd.Wait()
			return
		}
		ch := l.pending[r.N]
		delete(l.pending, r.N)
		c.mu.Unlock()
		ch <- r
	}
}

func (c *child) kill() {
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	l.cmd.Process.Kill()
	<-l.ended
}

// Crash kills the process and starts another on the same file.
func (c *child) Crash() error {
	c.kill()
	return c.start()
}

func (c *child) Log() store.Log { return c }

func (c *child) do(what call) (reply, error) {
	c.mu.Lock()
	l := c.life
	if l.dead {
		c.mu.Unlock()
		return reply{}, store.ErrUnavailable
	}
	c.calls++
	what.N = c.calls
	ch := make(chan reply, 1)
	l.pending[what.N] = ch
	err := l.in.Encode(what)
	c.mu.Unlock()
	if err != nil {
		return reply{}, store.ErrUnknown // it may have got through before the pipe broke
	}
	r, ok := <-ch
	switch {
	case !ok:
		return reply{}, store.ErrUnknown
	case r.Conflict != nil:
		return r, r.Conflict
	case r.Err != "":
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (c *child) Append(_ context.Context, ws ...store.Write) ([]store.Written, error) {
	r, err := c.do(call{Method: "append", Writes: ws})
	return r.Written, err
}

func (c *child) compact(streams ...store.Whole) ([]uint64, error) {
	r, err := c.do(call{Method: "compact", Wholes: streams})
	return r.Removed, err
}

func (c *child) Head(context.Context) (store.Cursor, error) {
	r, err := c.do(call{Method: "head"})
	return r.Cursor, err
}

func (c *child) Read(_ context.Context, stream string, rg store.Range) iter.Seq2[store.Record, error] {
	return c.records(call{Method: "read", Stream: stream, Range: rg})
}

func (c *child) ReadAll(_ context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return c.records(call{Method: "log", After: after, Filter: f})
}

func (c *child) records(what call) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		r, err := c.do(what)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for _, rec := range r.Records {
			if !yield(rec, nil) {
				return
			}
		}
	}
}
