package deed

import (
	"container/heap"
	"sync"
	"time"
)

// A desk is the work that lies before somebody: errands that can be done at
// once, and those that have to wait until a certain time. An errand is in one
// pair of hands at most.
type desk struct {
	wake  chan struct{} // something may have come
	ended chan struct{} // something may have been done

	mu    sync.Mutex
	ready []string // in the order of their coming
	later delays
	state map[string]errand
}

// An errand is something to be done that is on the desk or in somebody's hands.
type errand struct {
	taken    bool
	again    bool      // it was put on the desk again meanwhile
	at       time.Time // it waits until then
	failures int
}

// put lays an errand on the desk, to be done at a certain time; zero: at once.
func (d *desk) put(id string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.state[id]
	switch {
	case known && e.taken:
		e.again = true
	case known && e.at.IsZero(): // it lies there
		return
	case at.IsZero():
		e.at = at
		d.ready = append(d.ready, id)
	default:
		e.at = at
		heap.Push(&d.later, delay{at, id})
	}
	d.state[id] = e
	poke(d.wake)
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// take returns an errand that can be done now, or "" and how long to wait.
func (d *desk) take(now time.Time) (string, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.later) > 0 && !d.later[0].at.After(now) {
		t := heap.Pop(&d.later).(delay)
		if e, ok := d.state[t.id]; ok && !e.taken && e.at.Equal(t.at) { // else it was moved
			e.at = time.Time{}
			d.state[t.id] = e
			d.ready = append(d.ready, t.id)
		}
	}
	if len(d.ready) == 0 {
		wait := time.Minute
		if len(d.later) > 0 {
			wait = d.later[0].at.Sub(now)
		}
		return "", wait
	}
	id := d.ready[0]
	d.ready = d.ready[1:]
	e := d.state[id]
	e.taken = true
	d.state[id] = e
	return id, 0
}

// failed counts a failure and returns how long to wait.
func (d *desk) failed(id string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.state[id]
	e.failures++
	d.state[id] = e
	return trouble.Wait(e.failures)
}

// failing reports whether the errand failed the last time.
func (d *desk) failing(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state[id].failures > 0
}

// done puts an errand down; it comes back at a certain time, unless that is
// zero, or at once if it was put on the desk meanwhile.
func (d *desk) done(id string, next time.Time, well bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.state[id]
	if e.taken = false; well {
		e.failures = 0
	}
	switch {
	case e.again:
		e.again, e.at = false, time.Time{}
		d.ready = append(d.ready, id)
	case !next.IsZero():
		e.at = next
		heap.Push(&d.later, delay{next, id})
	default:
		delete(d.state, id)
		poke(d.ended)
		return
	}
	d.state[id] = e
	poke(d.wake)
}

// drop takes an errand away that nobody has in hand.
func (d *desk) drop(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.state[id]; ok && !e.taken && !e.at.IsZero() {
		delete(d.state, id)
	}
}

// forgetDone takes away from ids what is not on the desk any more.
func (d *desk) forgetDone(ids map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range ids {
		if _, there := d.state[id]; !there {
			delete(ids, id)
		}
	}
}

// A delay is an errand that waits until a certain time.
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
