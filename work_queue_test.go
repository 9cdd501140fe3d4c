package deed

import (
	"fmt"
	"testing"
	"time"
)

// Items that are moved again and again leave nothing behind, and come when they
// are due.
func TestWorkQueueForgetsWhatWasMoved(t *testing.T) {
	q := newWorkQueue()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := range 10_000 {
		q.put(fmt.Sprint(n%10), start.Add(time.Duration(10_000+n)*time.Hour), 1)
	}
	if len(q.later) > 100 {
		t.Errorf("%d times are kept for 10 items", len(q.later))
	}
	for n := range 10 {
		at := start.Add(time.Duration(19_990+n) * time.Hour)
		if id, _, wait := q.take(at.Add(-time.Second)); id != "" || wait != time.Second {
			t.Errorf("%q is taken early, or %v are waited", id, wait)
		}
		if id, _, _ := q.take(at); id != fmt.Sprint(n) {
			t.Errorf("%q is taken, wanted %d", id, n)
		} else {
			q.done(id, time.Time{}, true, 1)
		}
	}
	if len(q.later) > 0 || len(q.state) > 0 {
		t.Errorf("left: %d times, %d items", len(q.later), len(q.state))
	}
}
