package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits that every store enforces, with [ErrInvalid].
const (
	MaxName   = 512      // bytes in the name of a stream, type, collection or key
	MaxData   = 4 << 20  // bytes in the data of one event or document, and in its meta
	MaxEvents = 10_000   // events, and writes, in one append
	MaxAppend = 32 << 20 // bytes of data and meta in one append
)

// Category returns the category of a stream: its name up to the first slash.
func Category(stream string) string {
	c, _, _ := strings.Cut(stream, "/")
	return c
}

// PartitionOf returns the partition, out of n, to which a stream belongs. It
// is part of the stored format of checkpoints: it never changes.
func PartitionOf(stream string, n int) int {
	if n <= 1 {
		return 0
	}
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(stream) {
		h = (h ^ uint64(stream[i])) * 1099511628211
	}
	h ^= h >> 32 // the low bits of FNV alone are weak
	return int(h % uint64(n))
}

// CheckName reports whether s can name a stream, type, collection or key:
// valid UTF-8 of 1 to MaxName bytes without control characters.
func CheckName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", ErrInvalid, what)
	case len(s) > MaxName:
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrInvalid, what, MaxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, what)
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return fmt.Errorf("%w: %s %q has a control character", ErrInvalid, what, s)
	}
	return nil
}

// Check reports whether writes is something a store may be asked to append.
// Every backend calls it first, so that all refuse the same things.
func Check(writes []Write) error {
	if len(writes) == 0 {
		return fmt.Errorf("%w: nothing to append", ErrInvalid)
	}
	if len(writes) > MaxEvents {
		return fmt.Errorf("%w: %d writes in one append, the limit is %d", ErrInvalid, len(writes), MaxEvents)
	}
	events, size := 0, 0
	for i, w := range writes {
		if err := CheckName("stream", w.Stream); err != nil {
			return err
		}
		if w.Expect < Exists {
			return fmt.Errorf("%w: stream %s: expectation %d", ErrInvalid, w.Stream, int64(w.Expect))
		}
		for _, other := range writes[:i] {
			if other.Stream == w.Stream {
				return fmt.Errorf("%w: stream %s occurs twice", ErrInvalid, w.Stream)
			}
		}
		for _, e := range w.Events {
			if err := CheckName("event type", e.Type); err != nil {
				return err
			}
			if e.ID == (ID{}) {
				return fmt.Errorf("%w: stream %s: event without id", ErrInvalid, w.Stream)
			}
			if len(e.Data) > MaxData || len(e.Meta) > MaxData {
				return fmt.Errorf("%w: stream %s: event of more than %d bytes", ErrInvalid, w.Stream, MaxData)
			}
			size += len(e.Data) + len(e.Meta)
		}
		events += len(w.Events)
	}
	if events > MaxEvents {
		return fmt.Errorf("%w: %d events in one append, the limit is %d", ErrInvalid, events, MaxEvents)
	}
	if size > MaxAppend {
		return fmt.Errorf("%w: %d bytes in one append, the limit is %d", ErrInvalid, size, MaxAppend)
	}
	return nil
}

// CheckChanges reports whether changes is something a store may be asked to
// write. Every backend calls it first.
func CheckChanges(changes []Change) error {
	seen := make(map[[2]string]struct{}, len(changes))
	for _, c := range changes {
		if err := CheckName("collection", c.Coll); err != nil {
			return err
		}
		if err := CheckName("key", c.Key); err != nil {
			return err
		}
		if len(c.Data) > MaxData {
			return fmt.Errorf("%w: document %s/%s has more than %d bytes", ErrInvalid, c.Coll, c.Key, MaxData)
		}
		k := [2]string{c.Coll, c.Key}
		if _, twice := seen[k]; twice {
			return fmt.Errorf("%w: document %s/%s occurs twice", ErrInvalid, c.Coll, c.Key)
		}
		seen[k] = struct{}{}
	}
	return nil
}
