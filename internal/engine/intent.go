package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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

	Former   uint64         `json:"former,omitempty"`   // the one readers used before, kept for a roll-back; 0 = none
	Versions map[uint64]int `json:"versions,omitempty"` // of the definitions that generations are made by; 0 if not there
	Asked    bool           `json:"asked,omitempty"`    // Building waits to be asked before it takes its place
	Halted   bool           `json:"halted,omitempty"`   // Building is not worked on for now
	Back     bool           `json:"back,omitempty"`     // Building was Former, and is so again if it is cancelled
	Declined *int           `json:"declined,omitempty"` // no program begins this version by itself: it was cancelled, or rolled back from
	Begun    time.Time      `json:"begun,omitzero"`     // when Building was
	Switched time.Time      `json:"switched,omitzero"`  // when Generation took its place
}

// A rebuild is an intent with a generation that is to take the place of the
// present one. It has begun, waits or goes on, and is then switched or
// cancelled. The methods below are its steps.

// rebuild makes a new generation the one to be built. The former one goes.
func (i *intent) rebuild(version int, asked bool, now time.Time) {
	i.retire(i.Building)
	i.retire(i.Former)
	i.Last++
	i.build(i.Last, now)
	i.Former, i.Asked = 0, asked
	i.setVersion(i.Building, version)
	if i.Declined != nil && *i.Declined == version {
		i.Declined = nil
	}
}

// goBack makes the former generation the one to be built.
func (i *intent) goBack(now time.Time) error {
	switch {
	case i.Building > 0:
		return ErrRebuilding
	case i.Former == 0:
		return ErrNoFormer
	}
	i.build(i.Former, now)
	i.Former, i.Back = 0, true
	return nil
}

func (i *intent) build(gen uint64, now time.Time) {
	i.Building, i.Begun = gen, now.UTC().Truncate(time.Millisecond)
	i.Asked, i.Halted, i.Back = false, false, false
}

// take puts the generation that is built in the place of the present one,
// which is kept.
func (i *intent) take(now time.Time) {
	i.retire(i.Former)
	i.Generation, i.Former = i.Building, i.Generation
	i.Switched = now.UTC().Truncate(time.Millisecond)
	i.built()
}

// cancel gives the generation up that is built.
func (i *intent) cancel() error {
	if i.Building == 0 {
		return ErrNoRebuild
	}
	i.decline(i.Building)
	if i.Back {
		i.Former = i.Building
	} else {
		i.retire(i.Building)
	}
	i.built()
	return nil
}

func (i *intent) built() {
	i.Building, i.Asked, i.Halted, i.Back, i.Begun = 0, false, false, false, time.Time{}
}

// discard gives the former generation up.
func (i *intent) discard() error {
	if i.Former == 0 {
		return ErrNoFormer
	}
	i.retire(i.Former)
	i.Former = 0
	return nil
}

// decline notes that no program is to begin a generation's version by itself,
// if it is another one than that of what readers see.
func (i *intent) decline(gen uint64) {
	if v := i.version(gen); v != i.version(i.Generation) {
		i.Declined = &v
	}
}

func (i *intent) retire(gen uint64) {
	if gen > 0 {
		i.Retired = append(i.Retired, gen)
		delete(i.Versions, gen)
	}
}

func (i *intent) version(gen uint64) int { return i.Versions[gen] }

func (i *intent) setVersion(gen uint64, version int) {
	if version == 0 {
		return
	}
	if i.Versions == nil {
		i.Versions = map[uint64]int{}
	}
	i.Versions[gen] = version
}

// has reports whether a generation is one of those that are worked on.
func (i *intent) has(gen uint64) bool {
	return gen == i.Generation || gen == i.Building || gen == i.Former
}

// errUnchanged says that there is nothing to change.
var errUnchanged = errors.New("engine: nothing to change")

// loadIntent returns what a follower is meant to do and the revision of the
// document, 0 if nobody has ever said.
func loadIntent(ctx context.Context, s store.Reading, follower string) (intent, uint64, error) {
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
			if errors.Is(err, errUnchanged) {
				return i, rev, nil
			}
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
