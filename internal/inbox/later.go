package inbox

import (
	"io/fs"
	"sync"
	"time"
)

// Bounds of the waiting for one file.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 10 * time.Second
	maxQueue  = 10_000 // files that are remembered; others are looked at whenever the folder is
)

// A queue remembers the files of a folder that are not to be looked at again
// before some time.
type queue struct {
	mu    sync.Mutex
	round uint64
	files map[string]*waiting
}

type waiting struct {
	wait  time.Duration
	due   time.Time
	round uint64 // of the last reading in which it was there

	size    int64 // of a file that is no JSON yet
	changed time.Time
	since   time.Time // it has looked like this
}

// begin begins a reading of the folder, end ends it: what was not there is forgotten.
func (q *queue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.round++
}

func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, w := range q.files {
		if w.round != q.round {
			delete(q.files, name)
		}
	}
}

// due reports whether it is time to look at a file.
func (q *queue) due(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, ok := q.files[name]
	if ok {
		w.round = q.round
	}
	return !ok || !time.Now().Before(w.due)
}

// next returns how long it is until the first file is due.
func (q *queue) next() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	least := time.Hour
	for _, w := range q.files {
		least = min(least, time.Until(w.due))
	}
	return max(least, gather)
}

// put makes a file wait, longer each time.
func (q *queue) put(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := q.of(name); w != nil {
		w.wait = min(max(2*w.wait, firstWait), lastWait)
		w.due = time.Now().Add(w.wait)
	}
}

// settled reports whether a file has been as it is for some time. Its own
// time stamp may come from another machine's clock, so ours counts too.
func (q *queue) settled(name string, info fs.FileInfo, settle time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(info.ModTime()) >= settle {
		return true
	}
	w := q.of(name)
	if w == nil {
		return false
	}
	if w.since.IsZero() || w.size != info.Size() || !w.changed.Equal(info.ModTime()) {
		w.size, w.changed, w.since = info.Size(), info.ModTime(), now
	}
	w.due = now.Add(min(settle, max(settle/4, firstWait)))
	return now.Sub(w.since) >= settle
}

func (q *queue) of(name string) *waiting {
	w := q.files[name]
	if w == nil && len(q.files) < maxQueue {
		w = &waiting{round: q.round}
		q.files[name] = w
	}
	return w
}

// drop forgets a file: it was moved.
func (q *queue) drop(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.files, name)
}
