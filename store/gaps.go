package store

import (
	"maps"
	"math/bits"
	"slices"
)

// GapBlock is how many positions a block of [Gaps] covers: block n those from
// n*GapBlock to n*GapBlock+GapBlock-1. It is part of stored formats.
const GapBlock = 4096

// Gaps are positions whose records were given up, for backends whose log has
// no other gaps: they keep them, and so can tell what is missing from what was
// removed. A block has a bit for each position, the first one in the highest
// bit of the first byte: an eighth of a byte for what was a record.
type Gaps map[uint64][]byte

// Add notes that the record at a position was given up.
func (g Gaps) Add(pos uint64) {
	b := g[pos/GapBlock]
	if b == nil {
		b = make([]byte, GapBlock/8)
		g[pos/GapBlock] = b
	}
	b[pos%GapBlock/8] |= 0x80 >> (pos % 8)
}

// Join takes in a block as it is stored.
func (g Gaps) Join(block uint64, stored []byte) {
	b := g[block]
	if b == nil {
		b = make([]byte, GapBlock/8)
		g[block] = b
	}
	for i := range min(len(b), len(stored)) {
		b[i] |= stored[i]
	}
}

// Has reports whether the record at a position was given up.
func (g Gaps) Has(pos uint64) bool {
	b := g[pos/GapBlock]
	return b != nil && b[pos%GapBlock/8]&(0x80>>(pos%8)) != 0
}

// Missing returns the first position from one to another, both included, whose
// record was not given up; 0 if there is none.
func (g Gaps) Missing(from, to uint64) uint64 {
	for pos := from; pos <= to; {
		b := g[pos/GapBlock]
		switch {
		case b == nil:
			return pos
		case pos%8 == 0 && b[pos%GapBlock/8] == 0xff:
			pos += 8
		case b[pos%GapBlock/8]&(0x80>>(pos%8)) == 0:
			return pos
		default:
			pos++
		}
	}
	return 0
}

// Next returns the first position from one to another, both included, whose
// record was given up; 0 if there is none.
func (g Gaps) Next(from, to uint64) uint64 {
	for _, block := range slices.Sorted(maps.Keys(g)) {
		for pos := max(from, block*GapBlock); pos/GapBlock == block && pos <= to; pos++ {
			if g.Has(pos) {
				return pos
			}
		}
	}
	return 0
}

// Len is how many positions there are.
func (g Gaps) Len() (n uint64) {
	for _, b := range g {
		for _, x := range b {
			n += uint64(bits.OnesCount8(x))
		}
	}
	return n
}
