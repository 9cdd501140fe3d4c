package auth

import (
	"crypto/subtle"
	"slices"
	"time"
)

// A Key is what there is to know about an API key. Its secret is not.
type Key struct {
	ID        string    `json:"id"`
	Actor     string    `json:"actor"`
	Roles     []string  `json:"roles"`
	Note      string    `json:"note,omitempty"`
	State     string    `json:"state"` // active, expired or revoked
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	Rotated   time.Time `json:"rotated,omitzero"`   // when it got its present secret, if not when it was created
	OldUntil  time.Time `json:"old_until,omitzero"` // until then the secret before is good as well
	Revoked   time.Time `json:"revoked,omitzero"`
	Used      time.Time `json:"used,omitzero"` // the last time, give or take ten minutes
}

// record is the stored form of a key: a document of the collection "$keys"
// under the key's id.
type record struct {
	Actor     string    `json:"actor"`
	Roles     []string  `json:"roles,omitempty"`
	Note      string    `json:"note,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	Revoked   time.Time `json:"revoked,omitzero"`
	Secrets   []secret  `json:"secrets"` // the present one, then the one before
}

// secret is one secret of a key.
type secret struct {
	Hash    string    `json:"hash"` // SHA-256 of the secret's text, base64url
	Created time.Time `json:"created"`
	Until   time.Time `json:"until,omitzero"` // it is good until then
}

// used is the stored form of when a key was last used: a document of the
// collection "$keys-used" under the key's id. It is apart from the record, so
// that whoever merely uses a key never writes what decides whether it is good.
type used struct {
	At time.Time `json:"at"`
}

// check says whether a secret is the key's at a time. That a key has expired or
// is revoked is told to those only who know its secret.
func (r record) check(text string, now time.Time) error {
	hash := []byte(hashOf(text))
	i := slices.IndexFunc(r.Secrets, func(s secret) bool { return subtle.ConstantTimeCompare([]byte(s.Hash), hash) == 1 })
	switch {
	case i < 0:
		return Invalid
	case !r.Revoked.IsZero():
		return Revoked
	case ended(r.Expires, now), ended(r.Secrets[i].Until, now):
		return Expired
	}
	return nil
}

func ended(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

// rotate gives the key a new secret; the present one is good until a time. A
// key has two secrets at most.
func (r *record) rotate(text string, now, until time.Time) {
	old := r.Secrets[0]
	if old.Until = until; !until.After(now) {
		r.Secrets = nil
	} else {
		r.Secrets = []secret{old}
	}
	r.Secrets = slices.Insert(r.Secrets, 0, secret{Hash: hashOf(text), Created: now})
}

// key is what the record says to people.
func (r record) key(id string, now time.Time) Key {
	k := Key{
		ID: id, Actor: r.Actor, Roles: r.Roles, Note: r.Note, State: "active", Created: r.Created, CreatedBy: r.CreatedBy,
		Expires: r.Expires, Revoked: r.Revoked,
	}
	if k.Roles == nil {
		k.Roles = []string{}
	}
	if s := r.Secrets; len(s) > 0 && s[0].Created.After(r.Created) {
		k.Rotated = s[0].Created
		if len(s) > 1 && !ended(s[1].Until, now) {
			k.OldUntil = s[1].Until
		}
	}
	switch {
	case !r.Revoked.IsZero():
		k.State = "revoked"
	case ended(r.Expires, now):
		k.State = "expired"
	}
	return k
}
