package store_test

import (
	"errors"
	"fmt"
	"strings"
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

func TestCategory(t *testing.T) {
	for stream, want := range map[string]string{"order/o-1": "order", "order": "order", "order/a/b": "order", "/x": "", "$command/x": "$command"} {
		if got := store.Category(stream); got != want {
			t.Errorf("category of %q is %q, want %q", stream, got, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "order/o-1", "$x", "zwölf 🙂", strings.Repeat("n", store.MaxName)} {
		if err := store.CheckName("stream", s); err != nil {
			t.Errorf("%q is refused: %v", s, err)
		}
	}
	for _, s := range []string{"", "a\x00", "a\n", "\x7f", "\u0085", "\xff", "a\xed\xa0\x80", strings.Repeat("ü", store.MaxName/2) + "n"} {
		if err := store.CheckName("stream", s); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", s, err)
		}
	}
}

// What an append may hold at most is allowed, and one more is not.
func TestCheckLimits(t *testing.T) {
	event := func(data, meta int) store.Event {
		return store.Event{ID: store.ID{1}, Type: "x", Data: make([]byte, data), Meta: make([]byte, meta)}
	}
	one := func(events ...store.Event) []store.Write { return []store.Write{{Stream: "a/1", Events: events}} }
	streams := func(n int) (ws []store.Write) {
		for i := range n {
			ws = append(ws, store.Write{Stream: fmt.Sprintf("a/%d", i)})
		}
		return ws
	}
	full := event(store.MaxData, store.MaxData)
	most := []store.Event{full, full, full, full} // of 4 MiB of data and as much of meta
	for name, ws := range map[string][]store.Write{
		"data": one(full), "events": one(asMany(event(0, 0))...), "bytes": one(most...), "writes": streams(store.MaxEvents),
	} {
		if err := store.Check(ws); err != nil {
			t.Errorf("as much as possible of %s is refused: %v", name, err)
		}
	}
	for name, ws := range map[string][]store.Write{
		"data": one(event(store.MaxData+1, 0)), "meta": one(event(0, store.MaxData+1)), "writes": streams(store.MaxEvents + 1),
		"events": one(append(asMany(event(0, 0)), event(0, 0))...), "bytes": one(append(most, event(1, 0))...),
	} {
		if err := store.Check(ws); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("too much of %s: got %v, want ErrInvalid", name, err)
		}
	}
}

func asMany(e store.Event) []store.Event {
	events := make([]store.Event, store.MaxEvents)
	for i := range events {
		events[i] = e
	}
	return events
}

func TestExpect(t *testing.T) {
	for _, tt := range []struct {
		e       store.Expect
		version uint64
		want    bool
	}{
		{store.None, 0, true}, {store.None, 1, false}, {store.Exactly(2), 2, true}, {store.Exactly(2), 1, false}, {store.Exactly(2), 3, false},
		{store.Any, 0, true}, {store.Any, 9, true}, {store.Exists, 0, false}, {store.Exists, 1, true}, {-3, 0, false},
	} {
		if got := tt.e.Met(tt.version); got != tt.want {
			t.Errorf("%v is met by version %d: %v, want %v", tt.e, tt.version, got, tt.want)
		}
	}
}
