package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/store"
)

const followerColl = "$follower"

// intent is the document that says what a follower is meant to do.
type intent struct {
	Generation uint64   `json:"generation"`         // the one readers use
	Building   uint64   `json:"building,omitempty"` // the one that is to take its place; 0 = none
	Last       uint64   `json:"last"`               // the highest generation there ever was
	Retired    []uint64 `json:"retired,omitempty"`  // generations whose remains are still to be removed
	Paused     bool     `json:"paused,omitempty"`
}

// rebuild makes a new generation the one to be built.
func (i *intent) rebuild() {
	if i.Building > 0 {
		i.Retired = append(i.Retired, i.Building)
	}
	i.Last++
	i.Building = i.Last
}

// loadIntent returns what a follower is meant to do and the revision of the
// document, 0 if nobody has ever said.
func loadIntent(ctx context.Context, s store.Docs, follower string) (intent, uint64, error) {
	d, err := s.Get(ctx, followerColl, follower)
	if errors.Is(err, store.ErrNotFound) {
		return intent{Generation: 1, Last: 1}, 0, nil
	}
	if err != nil {
		return intent{}, 0, err
	}
	var i intent
	if err := json.Unmarshal(d.Data, &i); err != nil {
		return intent{}, 0, fmt.Errorf("%w: follower %s: %w", store.ErrCorrupt, follower, err)
	}
	return i, d.Rev, nil
}

// changeIntent changes what a follower is meant to do, against all others
// who do so at the same time. It returns the intent and its revision.
func changeIntent(ctx context.Context, s store.Docs, follower string, change func(*intent) error) (intent, uint64, error) {
	for {
		i, rev, err := loadIntent(ctx, s, follower)
		if err != nil {
			return i, 0, err
		}
		if err := change(&i); err != nil {
			return i, 0, err
		}
		data, err := json.Marshal(i)
		if err != nil {
			return i, 0, err
		}
		err = s.Write(ctx, store.Change{Coll: followerColl, Key: follower, Rev: rev, Data: data})
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict {
			return i, rev + 1, err
		}
	}
}
