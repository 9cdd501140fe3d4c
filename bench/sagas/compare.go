package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/pgtest"
)

// compare measures every cell as often as is wanted, one after the other, each
// in a process of its own: what disturbs the machine meanwhile disturbs all.
func compare(ctx context.Context, o options) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "deed-sagas-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, stop, err := pgtest.Run("shared_buffers=128MB") // as by default; tests make do with less
	if err != nil {
		return err
	}
	defer stop()
	r := &report{Started: time.Now().UTC()}
	for round := range o.repeats {
		disk, err := syncTime(dir)
		if err != nil {
			return err
		}
		r.Disk = append(r.Disk, disk)
		for _, c := range o.cells() {
			c.Dir = filepath.Join(dir, fmt.Sprintf("%s-%d", c.name(), round))
			if err := os.Mkdir(c.Dir, 0o755); err != nil {
				return err
			}
			if o.profiles != "" && round == 0 {
				c.Profile = filepath.Join(o.profiles, c.name()+".pprof")
			}
			one, err := c.alone(ctx, self, server, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			fmt.Fprintf(os.Stderr, "%d  %-34s %8.0f sagas/s  p50 %7.2f ms  p99 %7.2f ms\n", round+1, c.name(), one.Rate, one.P50, one.P99)
			r.add(c, one)
			if err := os.RemoveAll(c.Dir); err != nil {
				return err
			}
		}
	}
	r.print(os.Stdout)
	if o.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(data, '\n'), 0o644)
}

// cells are in an order in which those that are compared follow each other.
func (o options) cells() (all []cell) {
	for _, st := range o.stores {
		for _, shape := range o.shapes {
			for _, flight := range o.flights {
				for _, sys := range o.systems {
					n, _ := strconv.Atoi(flight)
					all = append(all, cell{System: sys, Store: st, Shape: shape, Flight: max(n, 1), Warm: o.warm, Measure: o.measure})
				}
			}
		}
	}
	return all
}

// alone measures a cell in a process, and a database, of its own.
func (c cell) alone(ctx context.Context, self string, server *pgtest.Server, round int) (r result, err error) {
	if c.Store == "postgres" {
		name := strings.ReplaceAll(fmt.Sprintf("%s_%d", c.name(), round), "-", "_")
		if c.DSN, err = server.Database(name, ""); err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, server.Exec("DROP DATABASE "+name+" WITH (FORCE)", "CHECKPOINT")) }()
	}
	args, err := json.Marshal(c)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-cell", string(args))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// syncTime is how long the disk takes to append 4 KiB and sync, in milliseconds:
// the median of a second.
func syncTime(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	var took []float64
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return median(took) * 1000, nil
}
