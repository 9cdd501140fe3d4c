package sqlite

import (
	"cmp"
	"context"
	"errors"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Compact implements [store.Compactor]. The room is used again by what is
// written next; the file does not get smaller.
func (s *Store) Compact(ctx context.Context, streams ...store.Whole) ([]uint64, error) {
	if err := store.CheckWholes(streams); err != nil {
		return nil, err
	}
	if len(streams) == 0 {
		return nil, s.usable(ctx)
	}
	r := &request{wholes: streams}
	if err := s.submit(ctx, r); err != nil {
		return nil, err
	}
	return r.removed, nil
}

// A removal is a stream that is to be removed.
type removal struct {
	at        int // which of those that were asked for
	name      string
	id        int64
	positions []uint64 // of its events
}

// compact removes streams and notes which positions that were. That one is
// damaged is found before anything is removed.
func (w *writer) compact(streams []store.Whole) (removed []uint64, damaged, err error) {
	removed = make([]uint64, len(streams))
	var all []removal
	for i, whole := range streams {
		r, err := w.removal(whole)
		switch {
		case errors.Is(err, store.ErrCorrupt):
			return nil, err, nil
		case err != nil:
			return nil, nil, err
		case r.id > 0:
			r.at = i
			all = append(all, r)
		}
	}
	gone := store.Gaps{}
	for _, r := range all {
		if err := w.remove(r); err != nil {
			return nil, nil, err
		}
		for _, pos := range r.positions {
			gone.Add(pos)
		}
		removed[r.at] = uint64(len(r.positions))
	}
	return removed, nil, w.note(gone)
}

// removal returns what there is to remove; its id is 0 if there is no such stream
// or it has moved on.
func (w *writer) removal(whole store.Whole) (r removal, err error) {
	h, err := w.find(whole.Stream)
	if err != nil || h.id == 0 {
		return r, err
	}
	positions, err := w.positions(whole.Stream, h)
	if err == nil && positions[h.version-1] == whole.Last.Seq {
		r = removal{name: whole.Stream, id: h.id, positions: positions}
	}
	return r, err
}

// remove deletes a stream and its events.
func (w *writer) remove(r removal) error {
	w.streams.Remove(r.name)
	for _, st := range []*lib.Stmt{w.st.dropEvents, w.st.dropStream} {
		st.BindInt64(1, r.id)
		if err := run(st); err != nil {
			return err
		}
	}
	return nil
}

// positions are those of a stream's events, in their order. Each is verified:
// a damaged index would have another stream's event removed.
func (w *writer) positions(name string, h streamHead) (out []uint64, err error) {
	st := w.st.positions
	defer st.Reset()
	st.BindInt64(1, h.id)
	var r reader
	for version := range h.version {
		rec, err := w.s.next(&r, st, name, version+1)
		if err != nil {
			return nil, err
		}
		out = append(out, rec.Position.Seq)
	}
	if more, err := st.Step(); err != nil || more {
		return nil, cmp.Or(err, w.s.damaged("stream %s has more events than the %d up to its end", name, h.version))
	}
	return out, nil
}

// note adds to the table of positions that were given up.
func (w *writer) note(gone store.Gaps) error {
	for block := range gone {
		w.st.gone.BindInt64(1, int64(block))
		ok, err := w.st.gone.Step()
		if ok && err == nil {
			gone.Join(block, bytesOf(w.st.gone, 0))
		}
		if e := w.st.gone.Reset(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		w.st.setGone.BindInt64(1, int64(block))
		w.st.setGone.BindBytes(2, gone[block])
		if err := run(w.st.setGone); err != nil {
			return err
		}
	}
	return nil
}

// A gapReader tells gaps that were made from damage, as long as a connection
// sees one moment of the database.
type gapReader struct {
	*reader
	block uint64
	gone  store.Gaps // what is known: of this block, if it is not nil
}

// missing returns the first position between two that has not been given up;
// 0 if all have.
func (g *gapReader) missing(from, to uint64) (uint64, error) {
	for from <= to {
		end := min(to, from-from%store.GapBlock+store.GapBlock-1)
		if block := from / store.GapBlock; g.gone == nil || g.block != block {
			if err := g.load(block); err != nil {
				return 0, err
			}
		}
		if at := g.gone.Missing(from, end); at > 0 {
			return at, nil
		}
		from = end + 1
	}
	return 0, nil
}

func (g *gapReader) load(block uint64) error {
	st, err := g.conn.Prepare("SELECT bits FROM gone WHERE block = ?")
	if err != nil {
		return err
	}
	defer st.Reset()
	st.BindInt64(1, int64(block))
	g.block, g.gone = block, store.Gaps{}
	ok, err := st.Step()
	if ok && err == nil {
		g.gone.Join(block, bytesOf(st, 0))
	}
	return err
}
