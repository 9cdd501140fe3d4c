package engine

import (
	"context"
	"strconv"

	"github.com/deed-dev/deed/store"
)

// A Horizon is how far everything that follows the log has come.
type Horizon struct {
	// Cursor is before what anybody has still to handle: all before it was
	// handled by every follower, of whatever program, and no record of a dead
	// letter is among it.
	Cursor store.Cursor
	// Follower is who keeps it from being the head; "" = nobody.
	Follower string
	Letter   string // the id of its dead letter that does; "" = it has not read further
}

// Horizon reads how far everything that follows the log has come, as it is
// saved. A generation that is being built counts, and so does a follower of
// this engine that has never run.
func (e *Engine) Horizon(ctx context.Context) (Horizon, error) {
	var h Horizon
	var err error
	if h.Cursor, err = e.store.Head(ctx); err != nil {
		return h, err
	}
	seen := map[string]bool{} // followers, and their generations
	for d, err := range e.store.List(ctx, cursorColl, "", "") {
		if err != nil {
			return h, err
		}
		c, err := parseCheckpoint(d)
		if err != nil {
			return h, err
		}
		gen, err := generationOfKey(d.Key)
		if err != nil {
			return h, err
		}
		name := followerOfKey(d.Key)
		h.lower(c.Cursor, name, "")
		if of := name + "/" + strconv.FormatUint(gen, 10); !seen[of] {
			seen[name], seen[of] = true, true
			if err := h.lowerByLetters(ctx, e.store, name, gen); err != nil {
				return h, err
			}
		}
	}
	for _, f := range e.list() {
		if !seen[f.Name] {
			h.lower(store.Start, f.Name, "")
		}
	}
	return h, nil
}

// lower notes that a follower has come only so far.
func (h *Horizon) lower(c store.Cursor, follower, letter string) {
	if !c.CoversAll(h.Cursor) {
		h.Cursor, h.Follower, h.Letter = least([]store.Cursor{h.Cursor, c}), follower, letter
	}
}

// lowerByLetters notes the oldest dead letter of a generation.
func (h *Horizon) lowerByLetters(ctx context.Context, s store.Reading, follower string, gen uint64) error {
	for l, err := range letters(ctx, s, follower, gen, "") {
		if err != nil {
			return err
		}
		h.lower(store.CursorAt(store.Position{Shard: l.pos.Shard, Seq: l.pos.Seq - 1}), follower, l.ID)
		return nil
	}
	return nil
}
