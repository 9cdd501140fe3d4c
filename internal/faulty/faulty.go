// Package faulty is for tests of what happens when a store does not take what it
// is given.
package faulty

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Store refuses appends when it is told to.
type Store struct {
	store.Store

	mu     sync.Mutex
	stream string
	times  int
}

// New makes a Store of another one, which refuses nothing yet.
func New(s store.Store) *Store { return &Store{Store: s} }

// Fail makes the store refuse the next appends to a stream, so many of them, and
// none to any other.
func (s *Store) Fail(stream string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.times = stream, times
}

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	for _, w := range writes {
		if s.refuses(w.Stream) {
			return nil, fmt.Errorf("the disk of %s is full", w.Stream)
		}
	}
	return s.Store.Append(ctx, writes...)
}

func (s *Store) refuses(stream string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream != s.stream || s.times == 0 {
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
