package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A cell is one thing to measure. It is measured in a process of its own.
type cell struct {
	System  string        `json:"system"`
	Store   string        `json:"store"`
	Shape   string        `json:"shape"`
	Flight  int           `json:"flight"` // sagas on their way at a time
	Warm    time.Duration `json:"warm"`
	Measure time.Duration `json:"measure"`
	Dir     string        `json:"dir"`     // for a database file
	DSN     string        `json:"dsn"`     // of a database on the server
	Profile string        `json:"profile"` // a file to write a CPU profile to
}

func (c cell) name() string {
	return fmt.Sprintf("%s-%s-%s-%d", c.System, c.Store, c.Shape, c.Flight)
}

// A result is what a cell came to.
type result struct {
	Sagas   int     `json:"sagas"`
	Rate    float64 `json:"rate"`     // sagas a second
	P50     float64 `json:"p50_ms"`   // from the beginning to the durable end
	P99     float64 `json:"p99_ms"`   //
	CPU     float64 `json:"cpu_ms"`   // of the program, per saga
	Server  float64 `json:"pg_ms"`    // CPU of the PostgreSQL server, per saga
	Settled float64 `json:"settle_s"` // after the end: until views and the like have caught up
	Per     counts  `json:"per_saga"`
}

var systems = map[string]func(context.Context, cell) (system, error){"deed": openDeed, "dbos": openDBOS, "go-workflows": openWorkflows}

func (c cell) measure(ctx context.Context) (r result, err error) {
	open, ok := systems[c.System]
	if !ok {
		return r, fmt.Errorf("there is no system %q", c.System)
	}
	server, err := watch(ctx, c.DSN)
	if err != nil {
		return r, err
	}
	defer server.close()
	s, err := open(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := load(ctx, s, c.Flight, c.Warm); err != nil {
		return r, err
	}
	stop, err := c.profile()
	if err != nil {
		return r, err
	}
	before, err := c.usage(ctx, s, server)
	if err != nil {
		return r, err
	}
	start := time.Now()
	took, err := load(ctx, s, c.Flight, c.Measure)
	if err != nil {
		return r, err
	}
	seconds := time.Since(start).Seconds()
	after, err := c.usage(ctx, s, server)
	if err != nil {
		return r, err
	}
	stop()
	start = time.Now()
	if err := s.settle(ctx); err != nil {
		return r, err
	}
	n := float64(len(took))
	slices.Sort(took)
	return result{
		Sagas: len(took), Rate: n / seconds, P50: quantile(took, 0.5), P99: quantile(took, 0.99), Settled: time.Since(start).Seconds(),
		CPU: 1000 * (after.cpu - before.cpu) / n, Server: 1000 * (after.server - before.server) / n, Per: after.counts.minus(before.counts).per(n),
	}, nil
}

// load keeps so many sagas on their way for some time, and returns how many
// seconds each of them took.
func load(ctx context.Context, s system, flight int, d time.Duration) ([]float64, error) {
	var (
		mu     sync.Mutex
		all    []float64
		failed error
		wait   sync.WaitGroup
	)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	end := time.Now().Add(d)
	for range flight {
		wait.Go(func() {
			var mine []float64
			var err error
			for err == nil && time.Now().Before(end) {
				start := time.Now()
				err = s.saga(ctx, newOrder())
				mine = append(mine, time.Since(start).Seconds())
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if err != nil {
				failed = cmp.Or(failed, err)
				stop()
			}
		})
	}
	wait.Wait()
	return all, failed
}

// quantile is in milliseconds.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return 1000 * sorted[int(q*float64(len(sorted)-1))]
}

// profile begins a CPU profile, if one is wanted.
func (c cell) profile() (stop func(), err error) {
	if c.Profile == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.Profile), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(c.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// usage is what has been used so far.
type usage struct {
	cpu, server float64 // seconds
	counts      counts
}

func (c cell) usage(ctx context.Context, s system, server *watcher) (u usage, err error) {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	u.cpu = seconds(self.Utime) + seconds(self.Stime)
	u.counts = s.counts()
	return u, server.add(ctx, &u)
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
