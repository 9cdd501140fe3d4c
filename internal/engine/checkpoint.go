package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/deed-dev/deed/store"
)

const (
	cursorColl   = "$cursor"
	followerColl = "$follower"
)

// checkpoint is the document in which a worker keeps its cursor.
type checkpoint struct {
	Cursor store.Cursor `json:"cursor"`
	Past   *past        `json:"past,omitempty"`
}

// past is what a follower had read when it had another number of partitions.
// A record that the old partition's cursor covers is not handled again.
type past struct {
	Partitions int            `json:"partitions"`
	Cursors    []store.Cursor `json:"cursors"` // of each of the old partitions
}

func (p *past) covers(rec store.Record) bool {
	return p != nil && p.Cursors[store.PartitionOf(rec.Stream, p.Partitions)].Covers(rec.Position)
}

// over reports whether a cursor is past everything there is to skip.
func (p *past) over(c store.Cursor) bool {
	for _, old := range p.Cursors {
		if !c.CoversAll(old) {
			return false
		}
	}
	return true
}

func cursorPrefix(follower string, gen uint64) string {
	return follower + "/" + strconv.FormatUint(gen, 10) + "/"
}

func cursorKey(follower string, gen uint64, part, parts int) string {
	return fmt.Sprintf("%s%d-of-%d", cursorPrefix(follower, gen), part, parts)
}

func parseCursorKey(key string) (part, parts int, err error) {
	_, err = fmt.Sscanf(key[strings.LastIndexByte(key, '/')+1:], "%d-of-%d", &part, &parts)
	return part, parts, err
}

// repartition makes sure that each of the follower's partitions has a
// checkpoint, taking over from those of another number of partitions.
func repartition(ctx context.Context, s store.Docs, f *follower, gen uint64) error {
	var changes []store.Change
	old, found := past{}, false
	for d, err := range s.List(ctx, cursorColl, cursorPrefix(f.Name, gen), "") {
		if err != nil {
			return err
		}
		part, parts, err := parseCursorKey(d.Key)
		if err != nil {
			return fmt.Errorf("%w: checkpoint %s", store.ErrCorrupt, d.Key)
		}
		if parts == f.Partitions {
			return nil
		}
		var c checkpoint
		if err := json.Unmarshal(d.Data, &c); err != nil {
			return fmt.Errorf("%w: checkpoint %s: %w", store.ErrCorrupt, d.Key, err)
		}
		if c.Past != nil {
			return fmt.Errorf("engine: follower %s still skips what it read with %d partitions: let it catch up with %d before changing the number again",
				f.Name, c.Past.Partitions, parts)
		}
		if !found {
			old, found = past{Partitions: parts, Cursors: make([]store.Cursor, parts)}, true
		}
		old.Cursors[part] = c.Cursor
		changes = append(changes, store.Change{Coll: cursorColl, Key: d.Key, Rev: d.Rev})
	}
	fresh := checkpoint{}
	if found {
		fresh.Cursor = least(old.Cursors)
		if !old.over(fresh.Cursor) {
			fresh.Past = &old
		}
	}
	data, err := json.Marshal(fresh)
	if err != nil {
		return err
	}
	for part := range f.Partitions {
		changes = append(changes, store.Change{Coll: cursorColl, Key: cursorKey(f.Name, gen, part, f.Partitions), Data: data})
	}
	return s.Write(ctx, changes...)
}

// least is the cursor up to which all of the given have come.
func least(cursors []store.Cursor) store.Cursor {
	if len(cursors) == 0 {
		return store.Start
	}
	var ps []store.Position
	for _, p := range cursors[0].Positions() {
		for _, c := range cursors[1:] {
			p.Seq = min(p.Seq, c.Seq(p.Shard))
		}
		ps = append(ps, p)
	}
	return store.CursorAt(ps...)
}

// intent is the document that says what a follower is meant to do.
type intent struct {
	Generation uint64   `json:"generation"`         // the one readers use
	Building   uint64   `json:"building,omitempty"` // the one that is to take its place; 0 = none
	Last       uint64   `json:"last"`               // the highest generation there ever was
	Retired    []uint64 `json:"retired,omitempty"`  // generations whose remains are still to be removed
	Paused     bool     `json:"paused,omitempty"`
}

func (i intent) next() intent {
	i.Last++
	i.Building = i.Last
	return i
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
// who do so at the same time.
func changeIntent(ctx context.Context, s store.Docs, follower string, change func(*intent) error) (intent, error) {
	for {
		i, rev, err := loadIntent(ctx, s, follower)
		if err != nil {
			return i, err
		}
		if err := change(&i); err != nil {
			return i, err
		}
		data, err := json.Marshal(i)
		if err != nil {
			return i, err
		}
		err = s.Write(ctx, store.Change{Coll: followerColl, Key: follower, Rev: rev, Data: data})
		if _, conflict := errors.AsType[*store.ConflictError](err); !conflict {
			return i, err
		}
	}
}
