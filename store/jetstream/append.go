package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/deed-dev/deed/store"
)

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	if err := store.Check(writes); err != nil {
		return nil, err
	}
	r := &request{writes: clone(writes)} // who gives up may use the bytes for something else
	if err := s.small(r); err != nil {
		return nil, err
	}
	if empty(writes) {
		return s.demand(ctx, writes)
	}
	err := s.submit(ctx, r)
	if _, conflict := errors.AsType[*store.ConflictError](err); conflict {
		written, e := s.repeated(ctx, writes)
		if e != nil {
			return nil, e
		}
		if written != nil {
			return written, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return r.written, nil
}

func clone(writes []store.Write) []store.Write {
	out := slices.Clone(writes)
	for i := range out {
		out[i].Events = slices.Clone(out[i].Events)
		for j := range out[i].Events {
			e := &out[i].Events[j]
			e.Data, e.Meta = bytes.Clone(e.Data), bytes.Clone(e.Meta)
		}
	}
	return out
}

// small reports whether the servers take so much at once.
func (s *Store) small(r *request) error {
	if n, _ := r.size(); n > s.limits.batch {
		return fmt.Errorf("%w: jetstream: an append of %d events and streams: the servers take %d", errors.ErrUnsupported, n, s.limits.batch)
	}
	for _, w := range r.writes {
		for _, e := range w.Events {
			if n := len(e.Data) + len(e.Meta); n > s.limits.payload-headerRoom {
				return fmt.Errorf("%w: jetstream: an event of %d bytes: the servers take %d", errors.ErrUnsupported, n, s.limits.payload-headerRoom)
			}
		}
	}
	return nil
}

// headerRoom is what the headers of a message take, at most.
const headerRoom = 8 << 10

func empty(writes []store.Write) bool {
	for _, w := range writes {
		if len(w.Events) > 0 {
			return false
		}
	}
	return true
}

// demand answers an append without events: does what it expects hold, for all
// its streams at the same moment? Versions only grow: if they are the same
// when looked at twice, they were so between.
func (s *Store) demand(ctx context.Context, writes []store.Write) ([]store.Written, error) {
	var before []uint64
	for {
		now, err := inParallel(writes, func(w store.Write) (uint64, error) {
			p, err := s.lastOf(ctx, w.Stream)
			return p.Version, err
		})
		if err != nil {
			return nil, err
		}
		if len(writes) == 1 || slices.Equal(before, now) {
			return met(writes, now)
		}
		before = now
	}
}

// met says whether streams at these versions are what is expected.
func met(writes []store.Write, versions []uint64) ([]store.Written, error) {
	written := make([]store.Written, len(writes))
	for i, w := range writes {
		if !w.Expect.Met(versions[i]) {
			return nil, &store.ConflictError{Stream: w.Stream, Expect: w.Expect, Version: versions[i]}
		}
		written[i].Version = versions[i]
	}
	return written, nil
}

// repeated returns what an earlier append of exactly these writes returned,
// or nil if there was none. What is recorded stays so: there is no need to do
// this together with the append.
func (s *Store) repeated(ctx context.Context, writes []store.Write) ([]store.Written, error) {
	written := make([]store.Written, len(writes))
	for i, w := range writes {
		if w.Expect < 0 {
			return nil, nil
		}
		written[i] = store.Written{Version: uint64(w.Expect), Repeated: true}
		same, err := s.follows(ctx, w, &written[i])
		if err != nil || !same {
			return nil, err
		}
	}
	return written, nil
}

// follows reports whether exactly the events of a write follow the version it
// expects, and notes where they are.
func (s *Store) follows(ctx context.Context, w store.Write, at *store.Written) (bool, error) {
	if len(w.Events) == 0 {
		p, err := s.lastOf(ctx, w.Stream)
		return p.Version == uint64(w.Expect), err
	}
	n := 0
	for rec, err := range s.Read(ctx, w.Stream, store.Range{From: uint64(w.Expect) + 1, Limit: len(w.Events)}) {
		if err != nil || rec.ID != w.Events[n].ID {
			return false, err
		}
		at.Version, at.Position, at.Time = rec.Version, rec.Position, rec.Time
		n++
	}
	return n == len(w.Events), nil
}
