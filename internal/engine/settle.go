package engine

import (
	"slices"

	"github.com/deed-dev/deed/store"
)

// A Settler is a Handler that is not done with every record when it has handled
// it: something follows beside it, in a moment. As long as it does not, the
// checkpoint stays before the record, so that whoever takes the partition over
// handles it again. So the handler need not write down what is nearly done. What
// takes longer it should: Flush is called now and then, also while nothing comes
// in.
type Settler interface {
	Handler
	// Settled reports whether what follows from the records that were left open
	// under a key is done, or written down.
	Settled(key string) bool
}

// Open leaves the present record open under a key, see [Settler]. It reports
// false if that cannot be: then the handler has to write down what is to be done.
func (tx *Tx) Open(key string) bool {
	if tx.open == nil {
		return false
	}
	if _, dup := tx.open[key]; !dup {
		tx.open[key] = tx.pos
	}
	return true
}

// leaveOpen keeps in mind what a pass has left open.
func (w *worker) leaveOpen(tx *Tx) {
	for key, p := range tx.open {
		if _, earlier := w.open[key]; !earlier {
			if w.open == nil {
				w.open = map[string]store.Position{}
			}
			w.open[key] = p
		}
	}
}

// settled is the cursor up to which everything is settled, and the keys that need
// not be kept in mind any more when that is saved: what is written down with it
// is lost if it is not.
func (w *worker) settled(c store.Cursor) (store.Cursor, []string) {
	s, ok := w.handler.(Settler)
	if !ok || len(w.open) == 0 {
		return c, nil
	}
	var done []string
	first := map[uint32]uint64{} // by shard
	for key, p := range w.open {
		if s.Settled(key) {
			done = append(done, key)
			continue
		}
		if seq, other := first[p.Shard]; !other || p.Seq < seq {
			first[p.Shard] = p.Seq
		}
	}
	if len(first) == 0 {
		return c, done
	}
	ps := slices.Clone(c.Positions())
	for i := range ps {
		if seq, open := first[ps[i].Shard]; open && seq <= ps[i].Seq {
			ps[i].Seq = seq - 1
		}
	}
	return store.CursorAt(ps...), done
}

// close forgets what was left open under keys.
func (w *worker) close(keys []string) {
	for _, key := range keys {
		delete(w.open, key)
	}
}
