// Package faulty is for tests of what happens when a store does not take what it
// is given.
package faulty

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Store refuses appends when it is told to.
type Store struct {
	store.Store
	Why error // what it says then; nil: that the disk is full

	// After, if not nil, is called when something was appended, before anybody
	// hears of it. It is set before the store is used.
	After func(writes []store.Write)

	mu    sync.Mutex
	what  string
	times int
}

// New makes a Store of another one, which refuses nothing yet.
func New(s store.Store) *Store { return &Store{Store: s} }

// Always is more times than any test tries.
const Always = 1_000_000_000

// Fail makes the store refuse the next appends to a stream, so many of them, and
// none to any other. A name that ends with a slash means all streams of that
// category.
func (s *Store) Fail(what string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.what, s.times = what, times
}

// Repair makes the store take everything.
func (s *Store) Repair() { s.Fail("", 0) }

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	for _, w := range writes {
		if s.refuses(w.Stream) {
			return nil, cmp.Or(s.Why, fmt.Errorf("the disk of %s is full", w.Stream))
		}
	}
	w, err := s.Store.Append(ctx, writes...)
	if err == nil && s.After != nil {
		s.After(writes)
	}
	return w, err
}

func (s *Store) refuses(stream string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == 0 || stream != s.what && store.Category(stream)+"/" != s.what {
		return false
	}
	s.times--
	return true
}

// Wait makes what wraps a store as quick as the store. How long to wait at most,
// the caller knows.
func (s *Store) Wait(ctx context.Context, after store.Cursor) error {
	return store.Wait(ctx, s.Store, after, 24*time.Hour)
}

// Shared makes it one of as many partitions.
func (s *Store) Shared() bool { return store.IsShared(s.Store) }
