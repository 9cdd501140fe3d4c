package store

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// A Position is the place of a record in the log. Most stores have a single
// order, shard 0. A store that orders its log per shard only (Cosmos DB, for
// one) numbers the shards.
type Position struct {
	Shard uint32
	Seq   uint64 // from 1, increasing within the shard
}

// String returns "17" for sequence 17 of shard 0, "3:17" for shard 3.
func (p Position) String() string {
	if p.Shard == 0 {
		return strconv.FormatUint(p.Seq, 10)
	}
	return strconv.FormatUint(uint64(p.Shard), 10) + ":" + strconv.FormatUint(p.Seq, 10)
}

// A Cursor says how far a reader of the log has come: for each shard, the
// sequence up to which it has seen everything. It is opaque to people; in a
// store with a single order it happens to be a number.
type Cursor string

// Start is the cursor before the first record.
const Start Cursor = ""

var errCursor = errors.New("store: not a cursor")

// ParseCursor returns the cursor written as s, in canonical form.
func ParseCursor(s string) (Cursor, error) {
	if len(s) > 4096 {
		return Start, errCursor
	}
	ps, err := Cursor(s).positions()
	if err != nil {
		return Start, err
	}
	return CursorAt(ps...), nil
}

// CursorAt returns the cursor that covers exactly the given positions and
// all before them.
func CursorAt(ps ...Position) Cursor {
	if len(ps) == 1 && ps[0].Seq > 0 { // the common case, without sorting
		return Cursor(ps[0].String())
	}
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b Position) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(b.Seq, a.Seq))
	})
	var b strings.Builder
	var last *Position
	for i, p := range ps {
		if p.Seq == 0 || last != nil && last.Shard == p.Shard {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(p.String())
		last = &ps[i]
	}
	return Cursor(b.String())
}

// Positions returns the last position the cursor covers in each shard. A
// cursor that is not one covers nothing.
func (c Cursor) Positions() []Position {
	ps, _ := c.positions()
	return ps
}

func (c Cursor) positions() ([]Position, error) {
	if c == Start {
		return nil, nil
	}
	var ps []Position
	for part := range strings.SplitSeq(string(c), ",") {
		var p Position
		seq := part
		if shard, rest, ok := strings.Cut(part, ":"); ok {
			n, err := strconv.ParseUint(shard, 10, 32)
			if err != nil {
				return nil, errCursor
			}
			p.Shard, seq = uint32(n), rest
		}
		n, err := strconv.ParseUint(seq, 10, 63)
		if err != nil || seq[0] == '+' {
			return nil, errCursor
		}
		p.Seq = n
		ps = append(ps, p)
	}
	return ps, nil
}

// Seq returns the sequence the cursor has reached in a shard.
func (c Cursor) Seq(shard uint32) uint64 {
	if c == Start {
		return 0
	}
	if shard == 0 && strings.IndexByte(string(c), ',') < 0 && strings.IndexByte(string(c), ':') < 0 {
		n, _ := strconv.ParseUint(string(c), 10, 63)
		return n
	}
	for _, p := range c.Positions() {
		if p.Shard == shard {
			return p.Seq
		}
	}
	return 0
}

// Covers reports whether the record at p is at or before the cursor.
func (c Cursor) Covers(p Position) bool { return p.Seq <= c.Seq(p.Shard) }

// CoversAll reports whether everything before other is also before c.
func (c Cursor) CoversAll(other Cursor) bool {
	for _, p := range other.Positions() {
		if !c.Covers(p) {
			return false
		}
	}
	return true
}

// Advance returns the cursor moved past p; it never moves back.
func (c Cursor) Advance(p Position) Cursor {
	if c.Covers(p) {
		return c
	}
	return CursorAt(append(c.Positions(), p)...)
}

// Join returns the least cursor that covers what c and other cover.
func (c Cursor) Join(other Cursor) Cursor {
	if c == other || other == Start {
		return c
	}
	return CursorAt(append(c.Positions(), other.Positions()...)...)
}

// Behind returns how many places c is behind head: an upper bound of the
// number of records between them.
func (c Cursor) Behind(head Cursor) (n uint64) {
	for _, p := range head.Positions() {
		if s := c.Seq(p.Shard); s < p.Seq {
			n += p.Seq - s
		}
	}
	return n
}
