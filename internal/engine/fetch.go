package engine

import (
	"context"

	"github.com/deed-dev/deed/store"
)

// A Needer is a Handler that can say beforehand which documents records are
// going to need: where documents come from a server, they are then read
// together, and not one after the other.
type Needer interface {
	Needs(recs []store.Record) (keys map[string][]string) // by collection
}

// fetchEvery is for how many records documents are read together.
const fetchEvery = 512

// fetchDocs reads what the handler is going to need of documents, if that helps.
// What it cannot read is read again when it is needed, and may fail then.
func (w *worker) fetchDocs(ctx context.Context, tx *Tx, recs []store.Record) {
	n, ok := w.handler.(Needer)
	if _, many := w.f.store.(store.Getter); !ok || !many || len(recs) < 2 {
		return
	}
	var needs map[string][]string
	if err := safely(func() error { needs = n.Needs(recs); return nil }); err != nil {
		return
	}
	for coll, keys := range needs {
		if len(keys) == 0 {
			continue
		}
		if docs, err := store.GetMany(ctx, w.f.store, coll, keys); err == nil {
			tx.fetched(coll, keys, docs)
		}
	}
}

// fetched gives the transaction documents; those of keys that are not among
// them do not exist.
func (tx *Tx) fetched(coll string, keys []string, docs map[string]store.Doc) {
	if tx.have == nil {
		tx.have = map[docKey]store.Doc{}
	}
	for _, k := range keys {
		tx.have[docKey{coll, k}] = docs[k]
	}
}

// stored returns a document as the store has it.
func (tx *Tx) stored(ctx context.Context, k docKey) (store.Doc, error) {
	d, ok := tx.have[k]
	switch {
	case !ok:
		return tx.store.Get(ctx, k.coll, k.key)
	case d.Rev == 0:
		return store.Doc{Key: k.key}, store.ErrNotFound
	}
	return d, nil
}
