package store

import (
	"context"
	"errors"
	"fmt"
)

// A Compactor is a store that can give up streams.
type Compactor interface {
	// Compact removes those of the streams whose last record is where it is
	// said to be, each with all of its records, and returns how many records
	// that were of each; 0 = the stream stays, because it has moved on or is
	// not there. It is one transaction, and durable like Append. A stream of
	// which records are missing is damage (ErrCorrupt): nothing is removed.
	//
	// A stream that was removed is as if it had never been written: it has no
	// records and may begin again, at version 1. Positions are not used again,
	// and Head does not go back. Who is in the middle of Read gets all of the
	// stream or an error (ErrUnavailable); who is in the middle of ReadAll may
	// have seen the first of its records and not get the others.
	Compact(ctx context.Context, streams ...Whole) ([]uint64, error)
}

// A Whole is a stream as somebody has seen it, to its end. A position is never
// used again, so nothing that has happened to the stream since looks like it.
type Whole struct {
	Stream string
	Last   Position // of its last record
}

// Compact removes streams, or returns [errors.ErrUnsupported]. Without any
// streams it only finds out whether the store can do it.
func Compact(ctx context.Context, s Store, streams ...Whole) ([]uint64, error) {
	c, ok := s.(Compactor)
	if !ok {
		return nil, fmt.Errorf("%w: this store gives up no streams", errors.ErrUnsupported)
	}
	return c.Compact(ctx, streams...)
}

// CheckWholes reports whether streams is something a store may be asked to
// remove. Every backend calls it first.
func CheckWholes(streams []Whole) error {
	if len(streams) > MaxEvents {
		return fmt.Errorf("%w: %d streams at once, the limit is %d", ErrInvalid, len(streams), MaxEvents)
	}
	seen := make(map[string]struct{}, len(streams))
	for _, w := range streams {
		if err := CheckName("stream", w.Stream); err != nil {
			return err
		}
		if _, twice := seen[w.Stream]; twice {
			return fmt.Errorf("%w: stream %s occurs twice", ErrInvalid, w.Stream)
		}
		seen[w.Stream] = struct{}{}
	}
	return nil
}
