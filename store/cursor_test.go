package store_test

import (
	"testing"

	"github.com/deed-dev/deed/store"
)

func TestCursor(t *testing.T) {
	at := func(shard uint32, seq uint64) store.Position { return store.Position{Shard: shard, Seq: seq} }
	c := store.CursorAt(at(0, 7), at(3, 2), at(0, 5), at(9, 0))
	if c != "7,3:2" {
		t.Errorf("cursor %q, want 7,3:2", c)
	}
	for p, want := range map[store.Position]bool{at(0, 7): true, at(0, 8): false, at(3, 2): true, at(3, 3): false, at(1, 1): false} {
		if got := c.Covers(p); got != want {
			t.Errorf("%q covers %v: %v, want %v", c, p, got, want)
		}
	}
	for _, tt := range []struct{ got, want store.Cursor }{
		{store.Start.Advance(at(0, 3)), "3"},
		{store.Cursor("3").Advance(at(0, 2)), "3"},
		{store.Cursor("3").Advance(at(2, 2)), "3,2:2"},
		{store.Cursor("3").Join("2,1:4"), "3,1:4"},
		{store.CursorAt(), store.Start},
		{store.CursorAt(at(0, 0)), store.Start},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if n := store.Cursor("3,1:4").Behind("10,1:6,2:1"); n != 7+2+1 {
		t.Errorf("behind %d, want 10", n)
	}
	if !store.Cursor("3,1:4").CoversAll("2,1:4") || store.Cursor("3").CoversAll("1:1") {
		t.Error("CoversAll is wrong")
	}
}

func TestParseCursorRefuses(t *testing.T) {
	for _, s := range []string{"x", "-1", "+1", "1,", ",", "1:", ":1", "9223372036854775808", "1 ", "1:2:3", "4294967296:1", "0x1"} {
		if c, err := store.ParseCursor(s); err == nil {
			t.Errorf("%q was read as %q", s, c)
		}
	}
}

// What comes from outside is refused or read in a canonical form that reads
// as itself.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "17", "7,3:2", "0", "00", "1:0", "3:17,3:18"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := store.ParseCursor(s)
		if err != nil {
			return
		}
		again, err := store.ParseCursor(string(c))
		if err != nil || again != c {
			t.Errorf("%q is read as %q, which is read as %q (%v)", s, c, again, err)
		}
		for _, p := range c.Positions() {
			if !c.Covers(p) || p.Seq == 0 {
				t.Errorf("%q does not cover %v", c, p)
			}
		}
	})
}
