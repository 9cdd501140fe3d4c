package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed/store"
)

// loadWriters is how many writers a load has.
const loadWriters = 8

// A load is writers that each keep appending to two streams at once, and
// changing a document, and remember what was acknowledged. What is not certain
// they ask again until it is.
type load struct {
	ctx     context.Context
	cancel  context.CancelFunc
	enough  atomic.Bool
	running sync.WaitGroup
	writers [loadWriters]loadWriter
	err     atomic.Pointer[error]
}

// A loadWriter is one of them.
type loadWriter struct {
	n     int
	store store.Store
	acked atomic.Int64 // appends
	docs  atomic.Int64 // changes of its document
}

func (l *load) begin(ctx context.Context, stores []store.Store) {
	l.ctx, l.cancel = context.WithCancel(ctx)
	for i := range l.writers {
		w := &l.writers[i]
		w.n, w.store = i, stores[i%len(stores)]
		l.running.Go(func() {
			for !l.enough.Load() && l.ctx.Err() == nil {
				err := w.append(l.ctx)
				if err == nil {
					err = w.change(l.ctx)
				}
				if err != nil && l.ctx.Err() == nil {
					l.err.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
}

// end has the writers finish what they are about.
func (l *load) end() error {
	l.enough.Store(true)
	giveUp := time.AfterFunc(goOn, l.cancel)
	l.running.Wait()
	if !giveUp.Stop() {
		return errors.New("the last appends are not answered")
	}
	l.cancel()
	return l.failure()
}

func (l *load) failure() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *load) appends() (n int64) {
	for i := range l.writers {
		n += l.writers[i].acked.Load()
	}
	return n
}

func (l *load) changes() (n int64) {
	for i := range l.writers {
		n += l.writers[i].docs.Load()
	}
	return n
}

// goesOn returns when every writer has been answered twice: the first may have
// been on its way.
func (l *load) goesOn(ctx context.Context) error {
	var before [loadWriters]int64
	for i := range before {
		before[i] = l.writers[i].docs.Load()
	}
	for end := time.Now().Add(goOn); ; time.Sleep(2 * time.Millisecond) {
		slowest := -1
		for i := range before {
			if l.writers[i].docs.Load() < before[i]+2 {
				slowest = i
			}
		}
		switch {
		case l.failure() != nil:
			return l.failure()
		case ctx.Err() != nil:
			return ctx.Err()
		case slowest < 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("appends do not go on within %v: writer %d waits", goOn, slowest)
		}
	}
}

// settled calls f until it neither says that nobody knows nor that the store
// is away.
func settled(ctx context.Context, f func(again bool) error) error {
	for again := false; ; again = true {
		err := f(again)
		if !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// append appends to both streams of the writer: the same ids settle an append
// whose answer was lost.
func (w *loadWriter) append(ctx context.Context) error {
	n := uint64(w.acked.Load())
	var writes []store.Write
	for i, stream := range w.streams() {
		e := store.Event{ID: loadID(w.n, i, n), Type: "done", Data: []byte(`{}`)}
		writes = append(writes, store.Write{Stream: stream, Expect: store.Exactly(n), Events: []store.Event{e}})
	}
	err := settled(ctx, func(bool) error {
		out, err := w.store.Append(ctx, writes...)
		if err == nil && (out[0].Version != n+1 || out[1].Version != n+1) {
			return fmt.Errorf("writer %d: append %d was answered with versions %d and %d", w.n, n+1, out[0].Version, out[1].Version)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("writer %d, append %d: %w", w.n, n+1, err)
	}
	w.acked.Add(1)
	return nil
}

// change changes the writer's document: its revision settles a change whose
// answer was lost.
func (w *loadWriter) change(ctx context.Context) error {
	n := uint64(w.docs.Load())
	c := store.Change{Coll: "load", Key: w.key(), Rev: n, Data: fmt.Appendf(nil, `{"n":%d}`, n+1)}
	err := settled(ctx, func(again bool) error {
		err := w.store.Write(ctx, c)
		if conflict, ok := errors.AsType[*store.ConflictError](err); ok && again && conflict.Version == n+1 {
			return nil // it was written before, nobody else does
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("writer %d, change %d: %w", w.n, n+1, err)
	}
	w.docs.Add(1)
	return nil
}

func (w *loadWriter) streams() []string {
	return []string{fmt.Sprintf("load/a-%d", w.n), fmt.Sprintf("load/b-%d", w.n)}
}

func (w *loadWriter) key() string { return fmt.Sprintf("w-%d", w.n) }

func loadID(writer, stream int, n uint64) (id store.ID) {
	copy(id[:], fmt.Sprintf("%02d%02d%012d", writer+1, stream, n))
	return id
}

// check finds what was acknowledged, and nothing else, in order.
func (l *load) check(ctx context.Context, s store.Store) error {
	if err := l.checkLog(ctx, s); err != nil {
		return err
	}
	for i := range l.writers {
		w := &l.writers[i]
		for j, stream := range w.streams() {
			n := uint64(0)
			for r, err := range s.Read(ctx, stream, store.Range{}) {
				if err != nil {
					return err
				}
				if n++; r.Version != n || r.ID != loadID(w.n, j, n-1) {
					return fmt.Errorf("%s@%d is not the event that was acknowledged there", stream, n)
				}
			}
			if acked := uint64(w.acked.Load()); n != acked {
				return fmt.Errorf("%s: %d appends were acknowledged, %d are there", stream, acked, n)
			}
		}
		d, err := s.Get(ctx, "load", w.key())
		if acked := uint64(w.docs.Load()); err != nil || d.Rev != acked || string(d.Data) != fmt.Sprintf(`{"n":%d}`, acked) {
			return fmt.Errorf("document %s: %d changes were acknowledged, it is at revision %d: %s, %v", w.key(), acked, d.Rev, d.Data, err)
		}
	}
	return nil
}

// checkLog checks what must hold of every log, and that all is in it.
func (l *load) checkLog(ctx context.Context, s store.Store) error {
	versions := map[string]uint64{}
	var last store.Record
	n := int64(0)
	for r, err := range s.ReadAll(ctx, store.Start, store.Filter{}) {
		if err != nil {
			return err
		}
		n++
		versions[r.Stream]++
		if r.Version != versions[r.Stream] || r.Position.Seq <= last.Position.Seq || r.Time.Before(last.Time) {
			return fmt.Errorf("in the log %s@%d at %v, %v comes after %s@%d at %v, %v",
				r.Stream, r.Version, r.Position, r.Time, last.Stream, last.Version, last.Position, last.Time)
		}
		last = r
	}
	if want := 2 * l.appends(); n != want {
		return fmt.Errorf("%d events in the log, %d were acknowledged", n, want)
	}
	return nil
}
