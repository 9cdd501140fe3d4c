package deed

import (
	"container/heap"
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// A workQueue is work that is to be done: items that can be done at once, and
// those that have to wait until a certain time. An item is in one pair of hands
// at most.
type workQueue struct {
	wake  chan struct{} // something may have come
	ended chan struct{} // something may have been done

	mu    sync.Mutex
	ready []string // in the order of their coming
	later delays
	state map[string]workItem
}

func newWorkQueue() workQueue {
	return workQueue{wake: make(chan struct{}, 1), ended: make(chan struct{}, 1), state: map[string]workItem{}}
}

// A workItem is something to be done that is in the queue or in somebody's hands.
type workItem struct {
	taken    bool
	again    bool      // it was put into the queue again meanwhile
	at       time.Time // it waits until then
	version  uint64    // of the stream, of which it follows
	failures int
}

// latest is the version of a stream of which only the store knows.
const latest = math.MaxUint64

// put adds an item to the queue that follows from a version of its stream, to be
// done at a certain time; zero: at once.
func (q *workQueue) put(id string, at time.Time, version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, known := q.state[id]
	e.version = max(e.version, version)
	switch {
	case known && e.taken:
		e.again = true
	case known && e.at.IsZero(): // it is there
		q.state[id] = e
		return
	case at.IsZero():
		e.at = at
		q.ready = append(q.ready, id)
	default:
		e.at = at
		q.wait(id, at)
	}
	q.state[id] = e
	poke(q.wake)
}

// wait lets an item wait. What is left of times that were moved does not pile up.
func (q *workQueue) wait(id string, at time.Time) {
	heap.Push(&q.later, delay{at, id})
	if len(q.later) <= 2*len(q.state)+64 {
		return
	}
	q.later = slices.DeleteFunc(q.later, func(t delay) bool {
		if t.id == id {
			return !t.at.Equal(at)
		}
		e, ok := q.state[t.id]
		return !ok || !e.at.Equal(t.at)
	})
	heap.Init(&q.later)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// take returns an item that can be done now and the version it follows from, or
// "" and how long to wait.
func (q *workQueue) take(now time.Time) (id string, version uint64, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		t := heap.Pop(&q.later).(delay)
		if e, ok := q.state[t.id]; ok && !e.taken && e.at.Equal(t.at) { // else it was moved
			e.at = time.Time{}
			q.state[t.id] = e
			q.ready = append(q.ready, t.id)
		}
	}
	if len(q.ready) == 0 {
		wait = time.Minute
		if len(q.later) > 0 {
			wait = q.later[0].at.Sub(now)
		}
		return "", 0, wait
	}
	id = q.ready[0]
	q.ready = q.ready[1:]
	e := q.state[id]
	version, e.version = e.version, 0
	e.taken = true
	q.state[id] = e
	return id, version, 0
}

// work does what is in the queue and what comes, so many items at once, until
// ctx is done. It asks what time it is when something comes, and after a while
// at the latest.
func (q *workQueue) work(ctx context.Context, atOnce int, now func() time.Time, atLatest time.Duration, do func(id string, version uint64)) {
	var all sync.WaitGroup
	defer all.Wait()
	hands := make(chan struct{}, atOnce)
	for {
		id, version, wait := q.take(now())
		if id == "" {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
			case <-time.After(min(wait, atLatest)):
			}
			continue
		}
		select {
		case hands <- struct{}{}:
		case <-ctx.Done():
			q.done(id, now(), false, 0) // it is not: it stays in the queue, so that Flush notes it
			return
		}
		all.Go(func() {
			defer func() { <-hands }()
			do(id, version)
		})
	}
}

// failed counts a failure and returns how long to wait.
func (q *workQueue) failed(id string) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.state[id]
	e.failures++
	q.state[id] = e
	return trouble.Wait(e.failures)
}

// failing reports whether the item failed the last time.
func (q *workQueue) failing(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state[id].failures > 0
}

// done ends the work on an item; it comes back at a certain time, unless that is
// zero, or at once if it was put into the queue meanwhile because of a later
// version than was seen.
func (q *workQueue) done(id string, next time.Time, well bool, seen uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.state[id]
	if e.taken = false; well {
		e.failures = 0
	}
	again := e.again && e.version > seen
	e.again = false
	switch {
	case again:
		e.at = time.Time{}
		q.ready = append(q.ready, id)
	case !next.IsZero():
		e.at = next
		q.wait(id, next)
	default:
		delete(q.state, id)
		poke(q.ended)
		return
	}
	q.state[id] = e
	poke(q.wake)
}

// drop takes an item away that nobody has in hand.
func (q *workQueue) drop(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.state[id]; ok && !e.taken && !e.at.IsZero() {
		delete(q.state, id)
	}
}

// has reports whether an item is in the queue or in somebody's hands.
func (q *workQueue) has(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, there := q.state[id]
	return there
}

// forgetDone takes away from ids what is not in the queue any more.
func (q *workQueue) forgetDone(ids map[string]bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range ids {
		if _, there := q.state[id]; !there {
			delete(ids, id)
		}
	}
}

// A delay is an item that waits until a certain time.
type delay struct {
	at time.Time
	id string
}

// delays is a heap, the earliest first.
type delays []delay

func (t delays) Len() int           { return len(t) }
func (t delays) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t delays) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *delays) Push(x any)        { *t = append(*t, x.(delay)) }
func (t *delays) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}
