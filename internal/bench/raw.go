package bench

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// recordSize is what one event takes on the disk, about.
const recordSize = 470

// rate calls f from so many goroutines for some time and returns how often it
// was called in a second.
func rate(workers int, d time.Duration, f func(worker int) error) (float64, error) {
	var (
		calls  atomic.Int64
		failed atomic.Pointer[error]
		all    sync.WaitGroup
	)
	start := time.Now()
	end := start.Add(d)
	for w := range workers {
		all.Go(func() {
			for time.Now().Before(end) && failed.Load() == nil {
				if err := f(w); err != nil {
					failed.Store(&err)
					return
				}
				calls.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(calls.Load()) / time.Since(start).Seconds(), nil
}

// rawSingle is how often a second one writer can append and sync.
func rawSingle(dir string, d time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "raw-single"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	record := make([]byte, recordSize)
	return rate(1, d, func(int) error {
		if _, err := f.Write(record); err != nil {
			return err
		}
		return datasync(f)
	})
}

// rawGroup is how many appends a second many writers get done when all that
// wait share a sync: the most that any store could do on this disk.
func rawGroup(dir string, writers int, d time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "raw-group"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	queue := make(chan chan error, writers)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var waiting []chan error
		buf := make([]byte, 0, writers*recordSize)
		for first := range queue {
			waiting = append(waiting[:0], first)
			for more := true; more; {
				select {
				case next, ok := <-queue:
					if more = ok; ok {
						waiting = append(waiting, next)
					}
				default:
					more = false
				}
			}
			_, err := f.Write(buf[:len(waiting)*recordSize])
			if err == nil {
				err = datasync(f)
			}
			for _, w := range waiting {
				w <- err
			}
		}
	}()
	answers := make([]chan error, writers)
	for i := range answers {
		answers[i] = make(chan error, 1)
	}
	n, err := rate(writers, d, func(w int) error {
		queue <- answers[w]
		return <-answers[w]
	})
	close(queue)
	<-ended
	return n, err
}
