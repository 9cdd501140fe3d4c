package store_test

import (
	"fmt"
	"testing"

	"github.com/deed-dev/deed/store"
)

// The partition of a stream is part of what checkpoints mean: these values
// must never change.
func TestPartitionOfIsForEver(t *testing.T) {
	for _, c := range []struct {
		stream string
		n      int
		want   int
	}{
		{"order/o-1", 16, 8}, {"order/o-1", 3, 2}, {"account/ann", 16, 6}, {"account/ann", 3, 0},
		{"$command/x", 16, 0}, {"a/zwölf", 16, 12}, {"order/o-1", 1, 0}, {"order/o-1", 0, 0},
	} {
		if got := store.PartitionOf(c.stream, c.n); got != c.want {
			t.Errorf("%q of %d: %d, want %d", c.stream, c.n, got, c.want)
		}
	}
}

func TestPartitionsAreEven(t *testing.T) {
	for _, n := range []int{2, 3, 4, 16} {
		counts := make([]int, n)
		for i := range 16_000 {
			counts[store.PartitionOf(fmt.Sprintf("order/%d", i), n)]++
		}
		for p, c := range counts {
			if want := 16_000 / n; c < want*8/10 || c > want*12/10 {
				t.Errorf("partition %d of %d has %d streams, want about %d", p, n, c, want)
			}
		}
	}
}
