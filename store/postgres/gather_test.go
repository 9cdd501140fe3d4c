package postgres

import "testing"

// A transaction carries so much, whoever waits.
func TestBatchesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		each request
		want int
	}{
		"rows":  {request{rows: 1000}, 5},
		"bytes": {request{rows: 1, bytes: 5 << 20}, 4},
		"small": {request{rows: 1, bytes: 100}, 100},
	} {
		got, isFull := 1, full[*request]()
		for got < 100 && !isFull(&c.each) {
			got++
		}
		if got != c.want {
			t.Errorf("%s: %d in a transaction, want %d", name, got, c.want)
		}
	}
}
