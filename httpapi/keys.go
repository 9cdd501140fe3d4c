package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/store"
)

// KeyPage is some API keys.
type KeyPage struct {
	Keys []auth.Key `json:"keys"`
	Next string     `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

// IssuedKey is an API key together with its text, which is told once.
type IssuedKey struct {
	auth.Key
	Text string `json:"key"`
}

// NewKey is the body of POST /v1/keys.
type NewKey struct {
	Actor   string    `json:"actor"`
	Roles   []string  `json:"roles"`
	Expires time.Time `json:"expires,omitzero"` // zero = never
	Note    string    `json:"note,omitempty"`
}

// keys returns the keys that the API looks after.
func (a *api) keys() (*auth.Keys, error) {
	if a.opts.Keys == nil {
		return nil, problem(http.StatusNotFound, CodeNotFound, "this server has no keys: start it with --auth keys")
	}
	return a.opts.Keys, nil
}

func (a *api) listKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := a.keys()
	if err != nil {
		return err
	}
	q, err := query(r, "after", "limit")
	if err != nil {
		return err
	}
	limit, err := limitParam(q)
	if err != nil {
		return err
	}
	if after := q.Get("after"); after != "" {
		if err := store.CheckName("after", after); err != nil {
			return err
		}
	}
	list, next, err := keys.List(r.Context(), q.Get("after"), limit)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, KeyPage{list, next})
}

func (a *api) createKey(w http.ResponseWriter, r *http.Request) error {
	var body NewKey
	keys, by, err := a.keyAct(w, r, &body)
	if err != nil {
		return err
	}
	key, text, err := keys.Create(r.Context(), by, auth.NewKey{Actor: body.Actor, Roles: body.Roles, Expires: body.Expires, Note: body.Note})
	return issue(w, http.StatusCreated, key, text, err)
}

func (a *api) rotateKey(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Overlap string `json:"overlap"`
	}
	keys, by, err := a.keyAct(w, r, &body)
	if err != nil {
		return err
	}
	overlap := auth.DefaultOverlap
	if body.Overlap != "" {
		if overlap, err = time.ParseDuration(body.Overlap); err != nil {
			return deed.Invalid{Field: "overlap", Detail: "must be a duration, for example 24h"}
		}
	}
	key, text, err := keys.Rotate(r.Context(), by, r.PathValue("id"), overlap)
	return issue(w, http.StatusOK, key, text, err)
}

func (a *api) revokeKey(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Reason string `json:"reason"`
	}
	keys, by, err := a.keyAct(w, r, &body)
	if err != nil {
		return err
	}
	key, err := keys.Revoke(r.Context(), by, r.PathValue("id"), body.Reason)
	if err != nil {
		return keyError(err)
	}
	return answer(w, http.StatusOK, key)
}

// keyAct is how every act on keys begins: what it says, and who does it.
func (a *api) keyAct(w http.ResponseWriter, r *http.Request, body any) (*auth.Keys, auth.By, error) {
	keys, err := a.keys()
	if err != nil {
		return nil, auth.By{}, err
	}
	if _, err := query(r); err != nil {
		return nil, auth.By{}, err
	}
	call, err := callOf(r)
	if err != nil {
		return nil, auth.By{}, err
	}
	return keys, auth.By{Actor: call.Actor, Correlation: call.Correlation, Source: call.Source}, a.decode(w, r, body)
}

// issue answers a key with its text. Nobody on the way may keep it.
func issue(w http.ResponseWriter, status int, key auth.Key, text string, err error) error {
	if err != nil {
		return keyError(err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return answer(w, status, IssuedKey{key, text})
}

// keyError says what to do about an answer that was lost: acts on keys have no
// command id under which they could be asked again.
func keyError(err error) error {
	if errors.Is(err, store.ErrUnknown) {
		return problem(http.StatusGatewayTimeout, CodeOutcomeUnknown, "the store's answer was lost: GET /v1/keys shows what became of it")
	}
	return err
}
