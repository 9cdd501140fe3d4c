package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Where keys are kept.
const (
	keysColl = "$keys"
	usedColl = "$keys-used"
)

// Errors about keys.
var (
	ErrNoKey    = errors.New("auth: there is no key of that id")
	ErrKeyEnded = errors.New("auth: the key has expired or been revoked: create another")
	ErrInput    = errors.New("auth: invalid") // what a key should be like is malformed
)

// Keys are the API keys in a store. All processes that share the store know
// the same keys; what one of them changes, the others know within [MaxAge].
// What is done to keys is recorded in the stream "$audit/keys".
type Keys struct {
	store store.Store
	known *lru.Cache[string, known]
	marks *lru.Cache[string, time.Time] // when the use of a key was last noted
}

// MaxAge is how old the knowledge about a key may be that is gone by: so long
// after it was revoked elsewhere, a key may still be taken.
const MaxAge = 2 * time.Second

// NewKeys returns the keys in a store.
func NewKeys(s store.Store) *Keys {
	k := &Keys{store: s}
	k.known, _ = lru.New[string, known](maxKnown) // fails for sizes below 1 only
	k.marks, _ = lru.New[string, time.Time](maxKnown)
	return k
}

// A NewKey is what a key is to be like.
type NewKey struct {
	Actor   string    // whoever has the key acts as this one
	Roles   []string  // what it may do
	Expires time.Time // zero = never
	Note    string    // for people: what it is for, up to 500 bytes
}

func (n NewKey) check(now time.Time) error {
	if err := checkActor(n.Actor); err != nil {
		return err
	}
	if len(n.Roles) > maxRoles {
		return fmt.Errorf("%w: a key has at most %d roles", ErrInput, maxRoles)
	}
	for _, role := range n.Roles {
		if role == "" || len(role) > 64 || !plain(role) || strings.ContainsAny(role, ", ") {
			return fmt.Errorf("%w: a role is 1 to 64 bytes of printable UTF-8 without blanks and commas", ErrInput)
		}
	}
	if len(n.Note) > 500 || !plain(n.Note) {
		return fmt.Errorf("%w: the note must be at most 500 bytes of printable UTF-8", ErrInput)
	}
	if ended(n.Expires, now) {
		return fmt.Errorf("%w: the key would have expired already", ErrInput)
	}
	return nil
}

const maxRoles = 50

// Create makes a key and returns its text, which cannot be had again. Nobody
// gets to know the text of a key whose making could not be recorded.
func (k *Keys) Create(ctx context.Context, by By, n NewKey) (Key, string, error) {
	now := now()
	if err := n.check(now); err != nil {
		return Key{}, "", err
	}
	id, text := randomText(idBytes), randomText(secretBytes)
	roles := slices.Compact(slices.Sorted(slices.Values(n.Roles)))
	r := record{
		Actor: n.Actor, Roles: roles, Note: n.Note, Created: now, CreatedBy: by.Actor, Secrets: []secret{{Hash: hashOf(text), Created: now}},
	}
	if !n.Expires.IsZero() {
		r.Expires = n.Expires.UTC()
	}
	if err := k.write(ctx, id, 0, r); err != nil {
		return Key{}, "", err
	}
	err := k.audit(ctx, by, "key-created", act{Key: id, Actor: r.Actor, Roles: r.Roles, Expires: r.Expires})
	if err != nil {
		return Key{}, "", err
	}
	return r.key(id, now), keyText(id, text), nil
}

// List returns up to limit keys after an id, in the order of their ids, and
// where to go on ("" = there are no more).
func (k *Keys) List(ctx context.Context, after string, limit int) (keys []Key, next string, err error) {
	keys = []Key{}
	for d, err := range k.store.List(ctx, keysColl, "", after) {
		if err != nil {
			return nil, "", err
		}
		if len(keys) == limit {
			return keys, keys[limit-1].ID, nil
		}
		var r record
		if err := wire.Unmarshal(d.Data, &r); err != nil {
			return nil, "", corrupt(d.Key, err)
		}
		key := r.key(d.Key, now())
		if key.Used, err = k.used(ctx, d.Key); err != nil {
			return nil, "", err
		}
		keys = append(keys, key)
	}
	return keys, "", nil
}

// used is when a key was last used, as far as that was noted.
func (k *Keys) used(ctx context.Context, id string) (time.Time, error) {
	d, err := k.store.Get(ctx, usedColl, id)
	if errors.Is(err, store.ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	var u used
	if err := wire.Unmarshal(d.Data, &u); err != nil {
		return time.Time{}, corrupt(id, err)
	}
	return u.At, nil
}

// Revoke makes a key useless, for ever. That it is already is fine.
func (k *Keys) Revoke(ctx context.Context, by By, id, reason string) (Key, error) {
	if len(reason) > 500 || !plain(reason) {
		return Key{}, fmt.Errorf("%w: the reason must be at most 500 bytes of printable UTF-8", ErrInput)
	}
	now := now()
	r, err := k.change(ctx, id, func(r *record) error {
		if r.Revoked.IsZero() {
			r.Revoked = now
		}
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	if r.Revoked.Equal(now) { // not by somebody else before
		err = k.audit(ctx, by, "key-revoked", act{Key: id, Actor: r.Actor, Reason: reason})
	}
	return r.key(id, now), err
}

// Longest and usual time for which the secret before is good.
const (
	MaxOverlap     = 30 * 24 * time.Hour
	DefaultOverlap = 24 * time.Hour
)

// Rotate gives a key a new secret and returns its new text. The present text
// is good for the overlap; 0 = no longer.
func (k *Keys) Rotate(ctx context.Context, by By, id string, overlap time.Duration) (Key, string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return Key{}, "", fmt.Errorf("%w: the overlap must be from 0s to %v", ErrInput, MaxOverlap)
	}
	now, text := now(), randomText(secretBytes)
	r, err := k.change(ctx, id, func(r *record) error {
		if !r.Revoked.IsZero() || ended(r.Expires, now) {
			return ErrKeyEnded
		}
		r.rotate(text, now, now.Add(overlap))
		return nil
	})
	if err != nil {
		return Key{}, "", err
	}
	key := r.key(id, now)
	if err := k.audit(ctx, by, "key-rotated", act{Key: id, Actor: r.Actor, OldUntil: key.OldUntil}); err != nil {
		return Key{}, "", err
	}
	return key, keyText(id, text), nil
}

// change changes a key as f says, however many others do so at once.
func (k *Keys) change(ctx context.Context, id string, f func(*record) error) (record, error) {
	for try := 1; ; try++ {
		r, rev, err := k.read(ctx, id)
		if err != nil {
			return r, err
		}
		if err := f(&r); err != nil {
			return r, err
		}
		err = k.write(ctx, id, rev, r)
		if _, overtaken := errors.AsType[*store.ConflictError](err); !overtaken || try == 10 {
			return r, err
		}
	}
}

// read returns a key and its revision.
func (k *Keys) read(ctx context.Context, id string) (r record, rev uint64, err error) {
	if !isText(id, idBytes) {
		return r, 0, ErrNoKey
	}
	d, err := k.store.Get(ctx, keysColl, id)
	if errors.Is(err, store.ErrNotFound) {
		return r, 0, ErrNoKey
	}
	if err != nil {
		return r, 0, err
	}
	if err := wire.Unmarshal(d.Data, &r); err != nil {
		return r, 0, corrupt(id, err)
	}
	return r, d.Rev, nil
}

func (k *Keys) write(ctx context.Context, id string, rev uint64, r record) error {
	data, err := wire.Marshal(r)
	if err != nil {
		return err
	}
	err = k.store.Write(ctx, store.Change{Coll: keysColl, Key: id, Rev: rev, Data: data})
	k.known.Remove(id) // also if the outcome is unknown
	return err
}

func corrupt(id string, err error) error {
	return fmt.Errorf("%w: document %s/%s: %w", store.ErrCorrupt, keysColl, id, err)
}

// now is the time, as exact as stores keep it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
