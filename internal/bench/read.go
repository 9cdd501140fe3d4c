package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// perStream is how many events the streams of the log have that is read.
const perStream = 100

// log measures reading, projecting and opening a large log.
func (r *run) log() error {
	path := r.path("log.db")
	if err := r.fill(path); err != nil {
		return err
	}
	start := time.Now()
	s, err := sqlite.Open(path, nil)
	if err != nil {
		return err
	}
	r.atMost("open the log", time.Since(start).Seconds(), "s", 1)
	return errors.Join(r.reads(s), r.follows(s), r.rebuilds(s, r.Events, 150e3), r.together(s), s.Close())
}

func (r *run) streams() int { return max(r.Events/perStream, 1) }

func (r *run) fill(path string) (err error) {
	s, err := sqlite.Open(path, nil)
	if err != nil {
		return err
	}
	return errors.Join(r.fillWith(s, r.streams()), s.Close())
}

// fillWith writes a log: streams of 100 events, ten at a time and interleaved.
func (r *run) fillWith(s store.Store, streams int) error {
	data, err := wire.Marshal(sample)
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(r.ctx)
	const writers = 16
	for w := range writers {
		all.Go(func() error {
			for round := uint64(0); round < perStream/10; round++ {
				for i := w; i < streams; i += writers {
					events := make([]store.Event, 10)
					for j := range events {
						events[j] = store.Event{ID: store.ID(uuid.New()), Type: "entered", Data: data, Meta: []byte(`{"actor":"bench"}`)}
					}
					_, err := s.Append(ctx, store.Write{Stream: fmt.Sprintf("tally/t-%06d", i), Expect: store.Exactly(round * 10), Events: events})
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return all.Wait()
}

func (r *run) reads(s *sqlite.Store) error {
	stream := func() string { return fmt.Sprintf("t-%06d", rand.IntN(r.streams())) }
	n, err := rate(4, r.d, func(int) error {
		for _, err := range s.Read(r.ctx, "tally/"+stream(), store.Range{}) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.atLeast("read streams of 100 events", n*perStream, "events/s", 1e6)
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return err
	}
	n, err = rate(4, r.d, func(int) error {
		_, _, err := tallies.Load(r.ctx, rt, stream())
		return err
	})
	if err != nil {
		return err
	}
	r.atLeast("fold streams of 100 events", n*perStream, "events/s", 400e3)
	return nil
}

// follows measures a projection that catches up and then keeps up.
func (r *run) follows(s *sqlite.Store) error {
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Logger: quiet})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan error, 1)
	memory := watchMemory(ctx)
	head, err := s.Head(ctx)
	if err != nil {
		stop()
		return err
	}
	start := time.Now()
	go func() { ended <- rt.Run(ctx) }()
	err = rt.WaitForView(ctx, "balances", head)
	if err == nil {
		r.atLeast("projection catches up", float64(r.Events)/time.Since(start).Seconds(), "events/s", 150e3)
		err = r.lag(ctx, rt)
	}
	stop()
	r.atMost("memory (RSS) at most", float64(memory())/(1<<20), "MiB", 250)
	return errors.Join(err, <-ended)
}

// lag measures how long after its answer a command shows in the view.
func (r *run) lag(ctx context.Context, rt *deed.Runtime) error { return r.lagAt(ctx, rt, 2000, 20) }

// lagAt is lag at so many commands a second, with a bound in milliseconds.
func (r *run) lagAt(ctx context.Context, rt *deed.Runtime, perSecond int, target float64) error {
	var (
		mu    sync.Mutex
		lags  []time.Duration
		all   sync.WaitGroup
		fails atomic.Pointer[error]
	)
	tick := time.NewTicker(time.Second / time.Duration(perSecond/10))
	defer tick.Stop()
	for end := time.Now().Add(r.d); time.Now().Before(end); <-tick.C {
		for range 10 {
			all.Go(func() {
				receipt, err := tallies.Execute(ctx, rt, "lag-"+strconv.Itoa(rand.IntN(1000)), Enter(sample))
				start := time.Now()
				if err == nil {
					err = rt.WaitForView(ctx, "balances", store.Cursor(receipt.Position))
				}
				if err != nil {
					fails.Store(&err)
					return
				}
				d := time.Since(start)
				mu.Lock()
				defer mu.Unlock()
				lags = append(lags, d)
			})
		}
	}
	all.Wait()
	if err := fails.Load(); err != nil {
		return *err
	}
	slices.Sort(lags)
	at := fmt.Sprintf("append to view, %d/s", perSecond)
	r.note(at+", median", ms(lags[len(lags)/2]), "ms")
	r.atMost(at+", p99", ms(lags[len(lags)*99/100]), "ms", target)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// watchMemory samples how much memory the process has; the function it
// returns says how much that was at most.
func watchMemory(ctx context.Context) func() int64 {
	var most atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			most.Store(max(most.Load(), residentBytes()))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() int64 { <-ended; return most.Load() }
}

// residentBytes is the resident memory of the process; 0 where /proc does
// not tell.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
