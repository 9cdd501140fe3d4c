package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/deed-dev/deed/store"
)

const cursorColl = "$cursor"

// checkpoint is the document in which a worker keeps its cursor.
type checkpoint struct {
	Cursor store.Cursor `json:"cursor"`
	Past   []past       `json:"past,omitempty"`
	Node   string       `json:"node,omitempty"`  // who holds the partition, if several may
	Epoch  uint64       `json:"epoch,omitempty"` // grows with every holder, and never begins again
}

// past is what a follower had read when it had another number of partitions.
// A record that the old partition's cursor covers is not handled again.
type past struct {
	Partitions int            `json:"partitions"`
	Cursors    []store.Cursor `json:"cursors"` // of each of the old partitions
}

func (p past) covers(rec *store.Record) bool {
	return p.Cursors[store.PartitionOf(rec.Stream, p.Partitions)].Covers(rec.Position)
}

// over reports whether a cursor is past everything there is to skip.
func (p past) over(c store.Cursor) bool {
	return !slices.ContainsFunc(p.Cursors, func(old store.Cursor) bool { return !c.CoversAll(old) })
}

func (p past) equal(other past) bool {
	return p.Partitions == other.Partitions && slices.Equal(p.Cursors, other.Cursors)
}

// skips reports whether a record was handled under an earlier number of
// partitions.
func skips(pasts []past, rec *store.Record) bool {
	for _, p := range pasts {
		if p.covers(rec) {
			return true
		}
	}
	return false
}

// remaining returns the pasts that a worker at a cursor still needs.
func remaining(pasts []past, c store.Cursor) (out []past) {
	for _, p := range pasts {
		if !p.over(c) {
			out = append(out, p)
		}
	}
	return out
}

func cursorPrefix(follower string, gen uint64) string {
	return follower + "/" + strconv.FormatUint(gen, 10) + "/"
}

func cursorKey(follower string, gen uint64, part, parts int) string {
	return fmt.Sprintf("%s%d-of-%d", cursorPrefix(follower, gen), part, parts)
}

func followerOfKey(key string) string { return key[:strings.IndexByte(key, '/')] }

func generationOfKey(key string) (uint64, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return 0, fmt.Errorf("%w: checkpoint %s", store.ErrCorrupt, key)
	}
	gen, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: checkpoint %s: %w", store.ErrCorrupt, key, err)
	}
	return gen, nil
}

func parseCursorKey(key string) (part, parts int, err error) {
	_, err = fmt.Sscanf(key[strings.LastIndexByte(key, '/')+1:], "%d-of-%d", &part, &parts)
	if err != nil || part < 0 || part >= parts {
		return 0, 0, fmt.Errorf("%w: checkpoint %s", store.ErrCorrupt, key)
	}
	return part, parts, nil
}

func parseCheckpoint(d store.Doc) (c checkpoint, err error) {
	if err := json.Unmarshal(d.Data, &c); err != nil {
		return c, fmt.Errorf("%w: checkpoint %s: %w", store.ErrCorrupt, d.Key, err)
	}
	for _, p := range c.Past {
		if p.Partitions < 1 || len(p.Cursors) != p.Partitions {
			return c, fmt.Errorf("%w: checkpoint %s: %d partitions with %d cursors", store.ErrCorrupt, d.Key, p.Partitions, len(p.Cursors))
		}
	}
	return c, nil
}

// checkpoints is all checkpoints of one generation of a follower.
type checkpoints struct {
	past         // the number of partitions and their cursors
	pasts []past // what any of the partitions still has to skip
	epoch uint64 // the highest of any partition
	docs  []store.Doc
}

func loadCheckpoints(ctx context.Context, s store.Reading, follower string, gen uint64) (all checkpoints, err error) {
	for d, err := range s.List(ctx, cursorColl, cursorPrefix(follower, gen), "") {
		if err != nil {
			return all, err
		}
		part, parts, err := parseCursorKey(d.Key)
		if err != nil {
			return all, err
		}
		c, err := parseCheckpoint(d)
		if err != nil {
			return all, err
		}
		if all.Partitions == 0 {
			all.Partitions, all.Cursors = parts, make([]store.Cursor, parts)
		}
		if parts != all.Partitions {
			return all, fmt.Errorf("%w: checkpoint %s beside those of %d partitions", store.ErrCorrupt, d.Key, all.Partitions)
		}
		all.Cursors[part] = c.Cursor
		all.epoch = max(all.epoch, c.Epoch)
		for _, p := range c.Past {
			if !slices.ContainsFunc(all.pasts, p.equal) {
				all.pasts = append(all.pasts, p)
			}
		}
		all.docs = append(all.docs, d)
	}
	return all, nil
}

// repartition makes sure that each of the follower's partitions has a
// checkpoint, taking over from those of another number of partitions: the new
// ones begin where the slowest of the old had come to, and skip what the
// others had handled beyond that.
func repartition(ctx context.Context, s store.Docs, f *follower, gen uint64) error {
	old, err := loadCheckpoints(ctx, s, f.Name, gen)
	if err != nil || old.Partitions == f.Partitions {
		return err
	}
	fresh := checkpoint{Epoch: old.epoch}
	var changes []store.Change
	if old.Partitions > 0 {
		fresh.Cursor = least(old.Cursors)
		fresh.Past = remaining(append(old.pasts, old.past), fresh.Cursor)
	} else if fresh.Cursor = f.From; f.FromNow {
		if fresh.Cursor, err = f.store.Head(ctx); err != nil {
			return err
		}
	}
	for _, d := range old.docs {
		changes = append(changes, store.Change{Coll: cursorColl, Key: d.Key, Rev: d.Rev})
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
	switch len(cursors) {
	case 0:
		return store.Start
	case 1:
		return cursors[0]
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
