package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// maxKnown is how many keys are kept in memory, those that do not exist
// included: whoever tries ids cannot make it grow.
const maxKnown = 4096

// known is what the store said about a key, and when it was asked.
type known struct {
	record
	err error // nil or ErrNoKey
	at  time.Time
}

// Authenticate implements [Authenticator]: it takes keys from the header
// Authorization, as a bearer token, or from X-Api-Key.
func (k *Keys) Authenticate(r *http.Request) (Principal, error) {
	text, err := credentials(r)
	if err != nil {
		return Principal{}, err
	}
	if !looksLikeKey(text) {
		return Principal{}, Missing
	}
	id, secret, err := parseKey(text)
	if err != nil {
		return Principal{}, err
	}
	rec, err := k.lookup(r.Context(), id)
	if errors.Is(err, ErrNoKey) {
		return Principal{}, Invalid
	}
	if err != nil {
		return Principal{}, err
	}
	if err := rec.check(secret, time.Now()); err != nil {
		return Principal{}, err
	}
	k.note(r.Context(), id)
	return Principal{Actor: rec.Actor, Roles: rec.Roles, Via: "key:" + id}, nil
}

// lookup returns a key as it was at most MaxAge ago. If the store cannot say,
// the key is not taken: it may have been revoked.
func (k *Keys) lookup(ctx context.Context, id string) (record, error) {
	start := time.Now()
	if known, ok := k.known.Get(id); ok && start.Sub(known.at) < MaxAge {
		return known.record, known.err
	}
	r, _, err := k.read(ctx, id)
	if err == nil || errors.Is(err, ErrNoKey) {
		k.known.Add(id, known{r, err, start})
	}
	return r, err
}

// noteEvery is how coarsely it is noted when a key was last used.
const noteEvery = 10 * time.Minute

// note notes that a key is used. It is for people who wonder whether a key is
// still needed, so nothing depends on it and it may fail.
func (k *Keys) note(ctx context.Context, id string) {
	now := now()
	if last, ok := k.marks.Get(id); ok && now.Sub(last) < noteEvery {
		return
	}
	k.marks.Add(id, now)
	data, err := wire.Marshal(used{now})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = k.store.Write(ctx, store.Change{Coll: usedColl, Key: id, Rev: store.AnyRev, Data: data})
}
