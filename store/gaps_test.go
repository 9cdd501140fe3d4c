package store_test

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/deed-dev/deed/store"
)

func TestGaps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		g, has := store.Gaps{}, map[uint64]bool{}
		const end = 3 * store.GapBlock
		for range r.IntN(200) {
			from, n := 1+r.Uint64N(end), r.Uint64N(100)
			for pos := from; pos < min(from+n, end); pos++ {
				g.Add(pos)
				has[pos] = true
			}
		}
		stored := store.Gaps{}
		for block, b := range g {
			stored.Join(block, b)
			stored.Join(block, make([]byte, len(b)))
		}
		if n := stored.Len(); n != uint64(len(has)) {
			t.Fatalf("%d positions, want %d", n, len(has))
		}
		for range 200 {
			from := 1 + r.Uint64N(end)
			to, want := from+r.Uint64N(300), uint64(0)
			for pos := from; pos <= to && want == 0; pos++ {
				if !has[pos] {
					want = pos
				}
			}
			if got := stored.Missing(from, to); got != want {
				t.Fatalf("from %d to %d: %d is missing, want %d", from, to, got, want)
			}
			next := uint64(0)
			for pos := from; pos <= to && next == 0; pos++ {
				if has[pos] {
					next = pos
				}
			}
			if got := stored.Next(from, to); got != next {
				t.Fatalf("from %d to %d: %d is next, want %d", from, to, got, next)
			}
			if stored.Has(from) != has[from] {
				t.Fatalf("%d: %v", from, stored.Has(from))
			}
		}
	}
}

// Blocks are stored: their form is for ever.
func TestGapsAreForEver(t *testing.T) {
	g := store.Gaps{}
	for _, pos := range []uint64{1, 8, 15, 4095, 4096, 12289} {
		g.Add(pos)
	}
	for block, want := range map[uint64]string{0: "4081...01", 1: "8000...00", 3: "4000...00"} {
		text := hex.EncodeToString(g[block])
		if got := text[:4] + "..." + text[len(text)-2:]; got != want || len(g[block]) != 512 {
			t.Errorf("block %d is %s, %d bytes", block, got, len(g[block]))
		}
	}
	if len(g) != 3 {
		t.Errorf("%d blocks", len(g))
	}
}
