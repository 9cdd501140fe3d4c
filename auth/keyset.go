package auth

import (
	"context"
	"crypto/rsa"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// When an issuer's keys are fetched again.
const (
	keysFresh = time.Hour        // after so long, so that keys taken back are forgotten
	keysStale = 24 * time.Hour   // if they could not be fetched for so long, they are not gone by
	keysPause = 10 * time.Second // between two fetches, whatever tokens come in

	keysPatience = 10 * time.Second // for one fetch
)

// A keySet is an issuer's public keys. A token with a key id that it does not
// know makes it fetch them anew, since issuers change their keys, but not so
// often that strangers could make it a burden.
type keySet struct {
	fetch func(context.Context) ([]jose.JSONWebKey, error)

	fetching sync.Mutex // held while keys are fetched
	mu       sync.Mutex // guards what follows
	keys     []jose.JSONWebKey
	fetched  time.Time // when these keys were had
	tried    time.Time // when they were asked for last
	failure  error     // of the last attempt
}

// find returns the keys of an id. A token without an id is checked with the
// keys without one.
func (s *keySet) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	keys, age := s.current()
	if found := byID(keys, id); len(found) > 0 && (age < keysFresh || s.busy()) {
		return found, nil
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	keys, _ = s.current()
	if found := byID(keys, id); len(found) > 0 {
		return found, nil
	}
	return nil, Invalid
}

// busy reports whether somebody fetches keys at the moment.
func (s *keySet) busy() bool {
	if !s.fetching.TryLock() {
		return true
	}
	s.fetching.Unlock()
	return false
}

func byID(keys []jose.JSONWebKey, id string) (found []jose.JSONWebKey) {
	for _, k := range keys {
		if k.KeyID == id {
			found = append(found, k)
		}
	}
	return found
}

// current returns the keys there are, and how long ago they were fetched.
func (s *keySet) current() ([]jose.JSONWebKey, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.fetched)
	if s.keys == nil || age >= keysStale {
		return nil, age
	}
	return s.keys, age
}

// load fetches the keys, unless that was tried a moment ago. It fails only if
// there are none to go by.
func (s *keySet) load(ctx context.Context) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	s.mu.Lock()
	wait := time.Since(s.tried) < keysPause
	s.mu.Unlock()
	if !wait {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysPatience) // others wait for the same answer
		keys, err := s.fetch(ctx)
		cancel()
		s.mu.Lock()
		if s.tried, s.failure = time.Now(), err; err == nil {
			s.keys, s.fetched = slices.Clip(keys), s.tried
		}
		s.mu.Unlock()
	}
	if keys, _ := s.current(); keys == nil {
		return fmt.Errorf("%w: %v", ErrUnavailable, s.failure)
	}
	return nil
}

// strong reports whether a key is long enough. Elliptic ones always are.
func strong(k jose.JSONWebKey) bool {
	r, ok := k.Key.(*rsa.PublicKey)
	return !ok || r.N.BitLen() >= 2048
}
